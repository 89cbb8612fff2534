"""What comes in parts: feeds while others write, uploads, downloads, time-outs, and answers that break off."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import pickle
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

import couchdal

HOST = "couchdb.example:5984"
ADDRESS = f"http://{HOST}"
BIG = bytes(range(256)) * 20_000
FEED = f"{ADDRESS}/db/_changes?feed=continuous&heartbeat=60000"


@pytest.fixture
def db() -> Iterator[couchdal.CouchDAL]:
    backend = couchdal.MemoryBackend()
    handle = couchdal.CouchDAL(backend, database="db", create=True)
    handle.put_document("first", {})
    with couchdal.intercept(ADDRESS, backend=backend):
        yield handle


def parts() -> Iterator[bytes]:
    for start in range(0, len(BIG), 100_000):
        yield BIG[start : start + 100_000]


# --- blocking clients -------------------------------------------------------------------------------------------------


def requests_lines(timeout: float | None = None) -> Iterator[bytes]:
    with requests.get(FEED, stream=True, timeout=timeout) as answer:
        yield from answer.iter_lines(chunk_size=1)


def httpx_lines(timeout: float | None = None, module: Any = httpx) -> Iterator[bytes]:
    with module.stream("GET", FEED, timeout=timeout) as answer:
        for line in answer.iter_lines():
            yield line.encode()


def httpx2_lines(timeout: float | None = None) -> Iterator[bytes]:
    return httpx_lines(timeout, httpx2)


def urllib3_lines(timeout: float | None = None) -> Iterator[bytes]:
    answer = urllib3.request("GET", FEED, preload_content=False, timeout=timeout, retries=False)
    rest = b""
    for chunk in answer.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    answer.close()


def http_client_lines(timeout: float | None = None) -> Iterator[bytes]:
    connection = http.client.HTTPConnection(HOST, timeout=timeout)  # type: ignore[arg-type]
    connection.request("GET", FEED.removeprefix(ADDRESS))
    with connection.getresponse() as answer:
        while line := answer.readline():
            yield line.strip()
    connection.close()


BLOCKING = [requests_lines, httpx_lines, httpx2_lines, urllib3_lines, http_client_lines]
TIMEOUTS: dict[Any, type[Exception]] = {
    requests_lines: requests.ConnectionError,
    httpx_lines: httpx.ReadTimeout,
    httpx2_lines: httpx2.ReadTimeout,
    urllib3_lines: urllib3.exceptions.ReadTimeoutError,
    http_client_lines: TimeoutError,
}


def rows(lines: Iterator[bytes]) -> Iterator[str]:
    return (json.loads(line)["id"] for line in lines if line.strip())


@pytest.mark.parametrize("lines", BLOCKING)
def test_feed_is_read_line_by_line_while_a_thread_writes(lines: Callable[..., Iterator[bytes]], db: Any) -> None:
    feed = rows(lines(30))
    assert next(feed) == "first"
    for number in range(3):
        writing = threading.Timer(0.02, db.put_document, (f"new{number}", {}))
        writing.start()
        assert next(feed) == f"new{number}"
        writing.join()
    feed.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("lines", BLOCKING)
def test_feed_ends_when_its_database_is_deleted(lines: Callable[..., Iterator[bytes]], db: Any) -> None:
    feed = lines(30)
    while b"first" not in next(feed):
        pass
    threading.Timer(0.05, db.delete_database).start()
    assert b"last_seq" in b"".join(feed)


@pytest.mark.parametrize("lines", BLOCKING)
def test_silent_feed_times_out(lines: Callable[..., Iterator[bytes]], db: Any) -> None:
    feed = rows(lines(0.1))
    assert next(feed) == "first"
    start = time.monotonic()
    with pytest.raises(TIMEOUTS[lines]):
        next(feed)
    assert 0.05 < time.monotonic() - start < 5


@pytest.mark.parametrize("lines", BLOCKING)
def test_advanced_clock_ends_the_wait_at_once(lines: Callable[..., Iterator[bytes]], db: Any) -> None:
    feed = rows(lines(30))
    assert next(feed) == "first"
    start = time.monotonic()
    threading.Timer(0.1, db.clock.advance, (40,)).start()
    with pytest.raises(TIMEOUTS[lines]):
        next(feed)
    assert time.monotonic() - start < 10


def send_with_requests(body: Any) -> tuple[int, bytes]:
    with requests.Session() as session:
        made = session.put(f"{ADDRESS}/db/a/big", data=body).status_code
        with session.get(f"{ADDRESS}/db/a/big", stream=True) as answer:
            return made, b"".join(answer.iter_content(50_000))


def send_with_httpx(body: Any, module: Any = httpx) -> tuple[int, bytes]:
    with module.Client() as client:
        made = client.put(f"{ADDRESS}/db/a/big", content=body).status_code
        with client.stream("GET", f"{ADDRESS}/db/a/big") as answer:
            return made, b"".join(answer.iter_bytes(50_000))


def send_with_httpx2(body: Any) -> tuple[int, bytes]:
    return send_with_httpx(body, httpx2)


def send_with_urllib3(body: Any) -> tuple[int, bytes]:
    pool = urllib3.PoolManager()
    made = pool.request("PUT", f"{ADDRESS}/db/a/big", body=body).status
    answer = pool.request("GET", f"{ADDRESS}/db/a/big", preload_content=False)
    return made, b"".join(answer.stream(50_000))


def send_with_http_client(body: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST)
    connection.request("PUT", "/db/a/big", body, {"expect": "100-continue"})
    with connection.getresponse() as answer:
        made = answer.status
        answer.read()
    connection.request("GET", "/db/a/big")
    with connection.getresponse() as answer:
        return made, b"".join(iter(lambda: answer.read(50_000), b""))


SENDING = [send_with_requests, send_with_httpx, send_with_httpx2, send_with_urllib3, send_with_http_client]


@pytest.mark.parametrize("send", SENDING)
@pytest.mark.parametrize("body", [lambda: BIG, parts, lambda: io.BytesIO(BIG)], ids=["whole", "parts", "file"])
def test_large_attachment_goes_in_and_out(send: Any, body: Any, db: Any) -> None:
    assert send(body()) == (201, BIG)
    assert db.get("/a")["_attachments"]["big"]["length"] == len(BIG)


def read_with_requests() -> object:
    return requests.get(f"{ADDRESS}/db", timeout=0.1).json()


def read_with_httpx(module: Any = httpx) -> object:
    return module.get(f"{ADDRESS}/db", timeout=0.1).json()


def read_with_httpx2() -> object:
    return read_with_httpx(httpx2)


def read_with_urllib3() -> object:
    return urllib3.request("GET", f"{ADDRESS}/db", timeout=0.1, retries=False).json()


def read_with_http_client() -> object:
    connection = http.client.HTTPConnection(HOST, timeout=0.1)
    connection.request("GET", "/db")
    return json.loads(connection.getresponse().read())


async def read_with_async_httpx(module: Any = httpx) -> object:
    async with module.AsyncClient(timeout=0.1) as client:
        return (await client.get(f"{ADDRESS}/db")).json()


async def read_with_async_httpx2() -> object:
    return await read_with_async_httpx(httpx2)


async def read_with_aiohttp() -> object:
    timeout = aiohttp.ClientTimeout(sock_read=0.1)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.get(f"{ADDRESS}/db") as answer:
        return await answer.json()


READING: dict[Any, dict[str, type[Exception]]] = {
    read_with_requests: {
        "refuse": requests.ConnectionError,
        "reset": requests.ConnectionError,
        "drop": requests.ConnectionError,
        "cut": requests.exceptions.ChunkedEncodingError,
        "delay": requests.ReadTimeout,
        "garble": requests.JSONDecodeError,
    },
    read_with_urllib3: {
        "refuse": urllib3.exceptions.NewConnectionError,
        "reset": urllib3.exceptions.ProtocolError,
        "drop": urllib3.exceptions.ProtocolError,
        "cut": urllib3.exceptions.ProtocolError,
        "delay": urllib3.exceptions.ReadTimeoutError,
        "garble": json.JSONDecodeError,
    },
    read_with_http_client: {
        "refuse": ConnectionRefusedError,
        "reset": ConnectionResetError,
        "drop": http.client.RemoteDisconnected,
        "cut": http.client.IncompleteRead,
        "delay": TimeoutError,
        "garble": json.JSONDecodeError,
    },
    read_with_aiohttp: {
        "refuse": aiohttp.ClientConnectorError,
        "reset": aiohttp.ClientOSError,
        "drop": aiohttp.ServerDisconnectedError,
        "cut": aiohttp.ClientPayloadError,
        "delay": aiohttp.SocketTimeoutError,
        "garble": json.JSONDecodeError,
    },
    **{
        read: {
            "refuse": module.ConnectError,
            "reset": module.ReadError,
            "drop": module.RemoteProtocolError,
            "cut": module.RemoteProtocolError,
            "delay": module.ReadTimeout,
            "garble": json.JSONDecodeError,
        }
        for read, module in (
            (read_with_httpx, httpx),
            (read_with_httpx2, httpx2),
            (read_with_async_httpx, httpx),
            (read_with_async_httpx2, httpx2),
        )
    },
}


def whole(read: Callable[[], Any]) -> Any:
    made = read()
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


@pytest.mark.parametrize("kind", ["refuse", "reset", "drop", "lose_answer", "cut", "delay", "garble"])
@pytest.mark.parametrize("read", READING)
def test_fault_raises_the_exception_of_the_library(read: Any, kind: str, db: Any) -> None:
    arguments = (60,) if kind == "delay" else ()

    start = time.monotonic()
    expected = READING[read]["drop" if kind == "lose_answer" else kind]
    with getattr(db.faults, kind)(*arguments, required=True), pytest.raises(expected):
        whole(read)
    assert time.monotonic() - start < 10
    assert whole(read)["doc_count"] == 1


@pytest.mark.parametrize("read", READING)
def test_time_out_of_a_client_ends_the_wait_for_a_live_server(read: Any) -> None:
    # It takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with (
            couchdal.CouchDAL(couchdal.CouchBackend(address, database="db")) as handle,
            couchdal.intercept(ADDRESS, backend=handle.backend),
            pytest.raises(READING[read]["delay"]),
        ):
            whole(read)
        assert time.monotonic() - start < 10


def _closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def get_with_aiohttp(url: str) -> object:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return await answer.read()


def get_with_http_client(url: str) -> object:
    connection = http.client.HTTPConnection(url.split("/")[2])
    connection.request("GET", "/_up")
    return connection.getresponse().read()


@pytest.mark.parametrize("kind", ["refuse", "reset", "drop", "cut"])
def test_same_exceptions_come_over_a_socket(kind: str, served_emulator: Any, served_address: str) -> None:
    """A fault raises the same exception, with the same message, as over a connection to the served emulator."""

    def messages(address: str) -> list[str]:
        found = []
        for make in (
            requests.get,
            httpx.get,
            httpx2.get,
            lambda url: urllib3.request("GET", url, retries=False),
            get_with_http_client,
            lambda url: asyncio.run(get_with_aiohttp(url)),
        ):
            with pytest.raises(Exception) as caught:
                make(f"{address}/_up")
            found.append(re.sub("0x[0-9a-f]+", "...", repr(caught.value)))
        return found

    address = _closed_port() if kind == "refuse" else served_address
    with getattr(couchdal.Faults(served_emulator.server_key), kind)(endpoint="/_up"):
        over_socket = messages(address)
        with couchdal.intercept(address, backend=served_emulator):
            assert messages(address) == over_socket


def test_retries_of_an_adapter_are_made(db: Any) -> None:
    retry = urllib3.Retry(3, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    with requests.Session() as session:
        session.mount(ADDRESS, HTTPAdapter(max_retries=retry))
        with db.faults.answer(503, times=2) as unavailable:
            assert session.get(f"{ADDRESS}/db").status_code == 200
        assert unavailable.injected == 2
        with db.faults.drop(times=2) as dropped:
            assert session.put(f"{ADDRESS}/db/a", json={}).status_code == 201
        assert dropped.injected == 2
        with db.faults.answer(503), pytest.raises(requests.exceptions.RetryError):
            session.get(f"{ADDRESS}/db")
    with db.expect(requests=3, statuses={503, 200}), db.faults.answer(503, times=2):
        assert urllib3.request("GET", f"{ADDRESS}/db", retries=retry).status == 200


def test_session_cookie_redirect_and_compressed_attachment_work() -> None:
    backend = couchdal.MemoryBackend(admin=("admin", "secret"))
    account = {"name": "admin", "password": "secret"}
    with couchdal.intercept(ADDRESS, backend=backend):
        for session in (requests.Session(), httpx.Client(follow_redirects=True), httpx2.Client(follow_redirects=True)):
            with session as client:
                assert client.put(f"{ADDRESS}/db").status_code == 401
                assert client.post(f"{ADDRESS}/_session", json=account).json()["ok"]
                assert client.put(f"{ADDRESS}/db").status_code == 201
                text = b"text " * 1000
                assert client.put(f"{ADDRESS}/db/a/f", headers={"content-type": "text/plain"}, **_body(client, text))
                answer = client.get(f"{ADDRESS}/db/a/f")
                assert answer.content == text
                assert answer.headers["content-encoding"] == "gzip"
                assert client.get(f"{ADDRESS}/_utils").url.__str__().startswith(f"{ADDRESS}/_utils")
                assert client.delete(f"{ADDRESS}/_session").status_code == 200
                assert client.delete(f"{ADDRESS}/db").status_code == 401
                assert client.delete(f"{ADDRESS}/db", auth=("admin", "secret")).status_code == 200


def _body(client: Any, content: bytes) -> dict[str, bytes]:
    return {"data" if isinstance(client, requests.Session) else "content": content}


# --- clients on an event loop -----------------------------------------------------------------------------------------


async def async_httpx_lines(timeout: float | None = None, module: Any = httpx) -> AsyncIterator[bytes]:
    async with module.AsyncClient(timeout=timeout) as client, client.stream("GET", FEED) as answer:
        async for line in answer.aiter_lines():
            yield line.encode()


def async_httpx2_lines(timeout: float | None = None) -> AsyncIterator[bytes]:
    return async_httpx_lines(timeout, httpx2)


async def aiohttp_lines(timeout: float | None = None) -> AsyncIterator[bytes]:
    limits = aiohttp.ClientTimeout(sock_read=timeout)
    async with aiohttp.ClientSession(timeout=limits) as client, client.get(FEED) as answer:
        async for line in answer.content:
            yield line


ASYNCHRONOUS = [async_httpx_lines, async_httpx2_lines, aiohttp_lines]
ASYNC_TIMEOUTS: dict[Any, type[Exception]] = {
    async_httpx_lines: httpx.ReadTimeout,
    async_httpx2_lines: httpx2.ReadTimeout,
    aiohttp_lines: aiohttp.SocketTimeoutError,
}


async def next_row(lines: AsyncIterator[bytes]) -> str:
    async for line in lines:
        if line.strip():
            return str(json.loads(line)["id"])
    return ""


@pytest.mark.parametrize("lines", ASYNCHRONOUS)
def test_feed_is_read_while_a_task_writes(lines: Any, db: Any) -> None:
    async def work() -> None:
        feed = lines(30)
        assert await next_row(feed) == "first"
        async with httpx.AsyncClient() as client:
            for number in range(3):
                writing = asyncio.create_task(client.put(f"{ADDRESS}/db/new{number}", json={}))
                assert await next_row(feed) == f"new{number}"
                assert (await writing).status_code == 201
        await feed.aclose()

    asyncio.run(work())


@pytest.mark.parametrize("advance", [False, True])
@pytest.mark.parametrize("lines", ASYNCHRONOUS)
def test_silent_feed_times_out_on_an_event_loop(lines: Any, advance: bool, db: Any) -> None:
    async def work() -> None:
        feed = lines(30 if advance else 0.1)
        assert await next_row(feed) == "first"
        if advance:
            asyncio.get_running_loop().call_later(0.05, db.clock.advance, 40)
        with pytest.raises(ASYNC_TIMEOUTS[lines]):
            await next_row(feed)

    start = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - start < 10


def test_large_attachment_goes_in_and_out_on_an_event_loop(db: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in parts():
            yield part

    async def work() -> None:
        url = f"{ADDRESS}/db/a/big"
        async with aiohttp.ClientSession() as session:
            async with session.put(url, data=chunks(), expect100=True) as made:
                assert made.status == 201
            async with session.get(url) as answer:
                assert b"".join([part async for part in answer.content.iter_chunked(50_000)]) == BIG
        for module in (httpx, httpx2):
            async with module.AsyncClient() as client:
                rev = (await client.get(f"{ADDRESS}/db/a")).json()["_rev"]
                assert (await client.put(url, content=chunks(), params={"rev": rev})).status_code == 201
                async with client.stream("GET", url) as answer:
                    assert b"".join([part async for part in answer.aiter_bytes()]) == BIG

    asyncio.run(work(), debug=True)


def test_trio_is_answered(db: Any) -> None:
    import trio

    async def work() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.put(f"{ADDRESS}/db/a", json={})).status_code == 201
            async with client.stream("GET", FEED) as answer:
                lines = answer.aiter_lines()
                assert await next_row(line.encode() async for line in lines) == "first"

    trio.run(work)


# --- plain answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_answer_can_be_read_in_every_way(module: Any, db: Any) -> None:
    url = f"{ADDRESS}/db/first"
    whole = module.get(url)
    assert pickle.loads(pickle.dumps(whole)).content == whole.content
    assert whole.elapsed.total_seconds() >= 0
    assert whole.read() == whole.content == b"".join(whole.iter_bytes()) == b"".join(whole.iter_bytes(3))
    for name in ("iter_raw", "iter_bytes", "iter_text", "iter_lines"):
        with module.stream("GET", url) as answer:
            parts = list(getattr(answer, name)())
            joined = "".join(parts) if isinstance(parts[0], str) else b"".join(parts).decode()
            assert joined.strip() == whole.text.strip(), name
            assert answer.num_bytes_downloaded == len(whole.content)
        with module.stream("GET", url) as answer:
            list(answer.iter_bytes())
            with pytest.raises(module.StreamConsumed):
                list(answer.iter_bytes())

    async def read() -> bytes:
        async with module.AsyncClient() as client, client.stream("GET", url) as answer:
            parts = [part async for part in answer.aiter_bytes(2)]
            assert max(map(len, parts)) == 2
            return b"".join(parts) + (await client.get(url)).content

    assert asyncio.run(read()) == whole.content * 2


def test_passwords_of_a_netrc_file_are_sent(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine couchdb.example login admin password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for host, names in (("couchdb.example:5984", ["admin"] * 2), ("other.example", [None] * 2)):
        url = f"http://{host}/_session"
        with couchdal.intercept(
            url.removesuffix("/_session"), backend=couchdal.MemoryBackend(admin=("admin", "secret"))
        ):
            assert [requests.get(url).json()["userCtx"]["name"] for _ in range(2)] == names


@pytest.mark.parametrize("target", ["", "?limit=1", "#part", "/?a=b/c", "//", "/_all_dbs?limit=1#x", "/a%2Fb?x=//y"])
def test_address_is_split_as_over_a_socket(target: str, served_emulator: Any, served_address: str) -> None:
    over_socket = requests.get(served_address + target)
    with couchdal.intercept(served_address, backend=served_emulator):
        intercepted = requests.get(served_address + target)
    assert (intercepted.status_code, intercepted.text) == (over_socket.status_code, over_socket.text)
    assert intercepted.url == over_socket.url
