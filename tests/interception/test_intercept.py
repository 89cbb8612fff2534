"""Which requests an interception answers, and for how long."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import requests
import urllib3
from http_clients import CLIENTS
from targets import CLIENT_NAMES

import couchdal
from couchdal.http.messages import Request
from couchdal.http.origins import parse_origin

ADDRESS = "http://couchdb.example:5984"


@pytest.fixture
def emulator() -> couchdal.MemoryBackend:
    return couchdal.MemoryBackend()


def test_every_client_has_a_name() -> None:
    assert (*CLIENTS,) == CLIENT_NAMES


@pytest.fixture(params=CLIENTS)
def make_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = []

    def make(address: str = ADDRESS) -> Any:
        made.append(CLIENTS[request.param](address))
        return made[-1]

    yield make
    for client in made:
        client.close()


def put(client: Any, path: str, value: Any = None) -> int:
    headers = {"content-type": "application/json"}
    return client.exchange(Request("PUT", path, headers=headers, body=json.dumps(value or {}).encode())).status  # type: ignore[no-any-return]


def is_lost(client: Any) -> bool:
    """Return whether a request finds no server: no name of the domain ``.example`` exists."""
    with pytest.raises(Exception) as caught:
        client.exchange(Request("GET", "/_up"))
    return not isinstance(caught.value, AssertionError)


def test_client_that_exists_already_is_answered_within_the_block(make_client: Any, emulator: Any) -> None:
    client = make_client()
    assert is_lost(client)
    with couchdal.intercept(ADDRESS, backend=emulator):
        assert put(client, "/db") == 201
        assert put(client, "/db/a", {"n": 1}) == 201
        answer = client.exchange(Request("GET", "/db/a"))
        assert (answer.status, json.loads(answer.body)["n"]) == (200, 1)
    assert is_lost(client)
    assert couchdal.CouchDAL(emulator, database="db").get("/a")["n"] == 1


def test_inner_block_wins_and_ends_first(make_client: Any) -> None:
    outer, inner = couchdal.MemoryBackend(), couchdal.MemoryBackend()
    client = make_client()
    with couchdal.intercept(ADDRESS, backend=outer):
        assert put(client, "/db") == 201
        with couchdal.intercept(ADDRESS, backend=inner):
            assert put(client, "/db") == 201
            assert put(client, "/inner") == 201
        assert put(client, "/db") == 412
        assert put(client, "/inner") == 201
    assert set(outer.server.databases) == set(couchdal.MemoryBackend().server.databases) | {"db", "inner"}


def test_block_that_raises_ends(make_client: Any, emulator: Any) -> None:
    with pytest.raises(KeyError), couchdal.intercept(ADDRESS, backend=emulator):
        raise KeyError
    assert is_lost(make_client())


def test_several_origins_and_any_port_are_answered(emulator: Any) -> None:
    with couchdal.intercept("http://one.example:5984", "https://two.example:*", backend=emulator):
        for address in ("http://one.example:5984", "https://two.example", "https://two.example:6984"):
            for client in (requests.get, httpx.get):
                assert client(f"{address}/_up").status_code == 200
            assert urllib3.request("GET", f"{address}/_up", retries=False).status == 200
        for address in ("http://one.example:5985", "https://one.example:5984", "http://two.example"):
            with pytest.raises(requests.ConnectionError) as caught:
                requests.get(address)
            note = f"{parse_origin(address)} is not among them"
            assert "https://two.example:*" in caught.value.__notes__[0]
            assert note in caught.value.__notes__[0]


def test_other_servers_are_reached(served_emulator: Any, served_address: str, emulator: Any) -> None:
    with couchdal.intercept(ADDRESS, backend=emulator):
        for make in CLIENTS.values():
            client = make(served_address)
            assert client.exchange(Request("GET", "/_up")).status == 200
            client.close()


def test_connection_to_a_real_server_is_not_used_within_the_block(served_address: str, emulator: Any) -> None:
    emulator.admins = {}
    with requests.Session() as session, httpx.Client() as client:
        pool = urllib3.PoolManager()
        connection = http.client.HTTPConnection(served_address.removeprefix("http://"))

        def welcomes() -> list[str]:
            connection.request("GET", "/none")
            return [
                session.get(f"{served_address}/none").json()["reason"],
                client.get(f"{served_address}/none").json()["reason"],
                pool.request("GET", f"{served_address}/none").json()["reason"],
                json.loads(connection.getresponse().read())["reason"],
            ]

        real = welcomes()
        for name in ("a", "b"):
            with couchdal.intercept(served_address, backend=emulator):
                emulator.send(Request("PUT", "/none"))
                assert requests.get(f"{served_address}/none").json()["db_name"] == "none"
                assert pool.request("PUT", f"{served_address}/none/{name}", json={}).status == 201
                connection.request("GET", f"/none/{name}")
                assert json.loads(connection.getresponse().read())["_id"] == name
            assert welcomes() == real
        connection.close()


def test_default_origin_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, emulator: Any) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://admin:secret@configured.example:5984")
    with couchdal.intercept(backend=emulator) as on:
        assert requests.get("http://configured.example:5984/_up").json()["status"] == "ok"
        assert "secret" not in repr(on)
    monkeypatch.delenv("COUCHDB_URL")
    with couchdal.intercept(backend=emulator):
        assert requests.get("http://localhost:5984/_up").json()["status"] == "ok"


def test_backend_is_the_shared_memory_server_by_default(dal_backend: str) -> None:
    with couchdal.intercept(ADDRESS):
        assert requests.put(f"{ADDRESS}/seen").status_code == 201
    assert couchdal.CouchDAL("memory", database="seen").info()["doc_count"] == 0


@pytest.mark.parametrize("text", ["couchdb:5984", "", "ftp://couchdb", "http://", "http://*:5984", "http://a:x", "*"])
def test_text_that_is_not_an_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must look like http://couchdb:5984"):
        couchdal.intercept(text)


def test_origin_with_a_path_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match=r"write http://couchdb:5984\Z"):
        couchdal.intercept("http://me:secret@couchdb:5984/db")


def test_wrong_arguments_are_refused(emulator: Any) -> None:
    with pytest.raises(TypeError, match="pass backend= by name"):
        couchdal.intercept(ADDRESS, emulator)
    with pytest.raises(TypeError, match="backend must be a BaseBackend"):
        couchdal.intercept(ADDRESS, backend="memory")  # type: ignore[arg-type]


def test_interception_is_on_only_once(emulator: Any) -> None:
    with couchdal.intercept(ADDRESS, backend=emulator) as on:
        with pytest.raises(RuntimeError, match="it is on already"), on:
            pass
        assert requests.get(f"{ADDRESS}/_up").status_code == 200
    with on:
        assert requests.get(f"{ADDRESS}/_up").status_code == 200


def test_blocks_that_end_in_the_wrong_order_end_each_its_own() -> None:
    first, second = couchdal.MemoryBackend(), couchdal.MemoryBackend()
    outer, inner = couchdal.intercept(ADDRESS, backend=first), couchdal.intercept(ADDRESS, backend=second)
    other = couchdal.intercept("http://other.example:5984", backend=first)
    for block in (outer, inner, other):
        block.__enter__()
    outer.__exit__(None, None, None)
    assert requests.put(f"{ADDRESS}/inner").status_code == 201
    inner.__exit__(None, None, None)
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(f"{ADDRESS}/_up")
    assert "couchdal.intercept answers http://other.example:5984" in caught.value.__notes__[0]
    other.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert "inner" in second.server.databases
    assert requests.adapters.HTTPAdapter.send.__module__ == "requests.adapters"


FORKING = """
    import os
    import signal
    import threading
    import couchdal
    import requests

    HERE, OTHER = "http://couchdb.example:5984", "http://other.example:5984"
    stop = threading.Event()

    def begin_and_end():
        while not stop.is_set():
            with couchdal.intercept(OTHER):
                pass

    def child():
        signal.alarm(20)
        with couchdal.intercept(OTHER):
            assert requests.get(f"{HERE}/db").json()["db_name"] == "db"
            assert requests.put(f"{OTHER}/of-child").status_code == 201

    threads = [threading.Thread(target=begin_and_end, daemon=True) for _ in range(3)]
    with couchdal.intercept(HERE):
        assert requests.put(f"{HERE}/db").status_code == 201
        for thread in threads:
            thread.start()
        for _ in range(20):
            process = os.fork()
            if process == 0:
                child()
                os._exit(0)
            assert os.waitpid(process, 0)[1] == 0
        stop.set()
        assert requests.get(f"{HERE}/of-child").status_code == 404
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX has fork")
def test_forked_process_is_answered_by_its_own_copy() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKING)], capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_interception_without_a_block_warns(emulator: Any) -> None:
    with pytest.warns(RuntimeWarning, match="was never on: write `with couchdal.intercept"):
        couchdal.intercept(ADDRESS, backend=emulator)


def test_threads_are_answered(emulator: Any) -> None:
    with couchdal.intercept(ADDRESS, backend=emulator), requests.Session() as session:
        session.put(f"{ADDRESS}/db")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: session.put(f"{ADDRESS}/db/{n}", json={}).status_code, range(100)))
        assert answers == [201] * 100
        assert session.get(f"{ADDRESS}/db").json()["doc_count"] == 100


def test_blocks_of_several_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(4)

    def work(number: int) -> list[int]:
        address = f"http://thread{number}.example:5984"
        found = []
        for _ in range(20):
            with couchdal.intercept(address, backend=couchdal.MemoryBackend()):
                found.append(requests.put(f"{address}/db").status_code)
            barrier.wait(30)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[201] * 20] * 4
    assert requests.adapters.HTTPAdapter.send.__module__ == "requests.adapters"


def test_methods_are_put_back(emulator: Any) -> None:
    owners = [
        (requests.adapters.HTTPAdapter, "send"),
        (requests.Session, "merge_environment_settings"),
        (httpx.HTTPTransport, "handle_request"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (http.client.HTTPConnection, "putrequest"),
        (http.client.HTTPSConnection, "connect"),
        (urllib3.connection.HTTPConnection, "connect"),
    ]
    before = [vars(owner)[name] for owner, name in owners]
    finders = list(sys.meta_path)
    with couchdal.intercept(ADDRESS, backend=emulator), couchdal.intercept(ADDRESS, backend=emulator):
        assert not any(vars(owner)[name] is original for (owner, name), original in zip(owners, before, strict=True))
    assert [vars(owner)[name] for owner, name in owners] == before
    assert sys.meta_path == finders


def test_library_without_the_replaced_method_is_named(monkeypatch: pytest.MonkeyPatch, emulator: Any) -> None:
    monkeypatch.delattr(httpx.HTTPTransport, "handle_request")
    with (
        pytest.raises(RuntimeError, match=r"this version of httpx: HTTPTransport\.handle_request is missing"),
        couchdal.intercept(ADDRESS, backend=emulator),
    ):
        pass
    assert vars(requests.adapters.HTTPAdapter)["send"].__qualname__ == "HTTPAdapter.send"


def test_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch, make_client: Any, emulator: Any) -> None:
    def refused(*arguments: Any) -> Any:
        raise AssertionError("a socket was connected")

    client = make_client()
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    with couchdal.intercept(ADDRESS, backend=emulator):
        assert put(client, "/db") == 201


def test_couchdals_own_client_is_answered_too(emulator: Any) -> None:
    """The network guard lets the origin pass, because no request leaves the process."""
    with couchdal.intercept(ADDRESS, backend=emulator):
        backend = couchdal.CouchBackend(ADDRESS)
        with couchdal.CouchDAL(backend, database="db", create=True) as db:
            assert db.put_document("a", {"n": 1})["ok"]
            assert db.find({"n": 1})["docs"][0]["_id"] == "a"

        async def read() -> Any:
            async with couchdal.AsyncCouchDAL(couchdal.AsyncCouchBackend(ADDRESS), database="db") as asynchronous:
                return await asynchronous.get_document("a")

        assert asyncio.run(read())["n"] == 1
    with pytest.raises(couchdal.HostRefused):
        backend.send(Request("GET", "/"))


PROGRAM = """
    import sys
    import couchdal
    LIBRARIES = ("requests", "urllib3", "httpx", "httpx2", "aiohttp", "http.client", "h11", "asyncio")

    def loaded():
        return [name for name in LIBRARIES if name in sys.modules]

    assert not loaded(), loaded()
    with couchdal.intercept("http://couchdb.example:5984"):
        assert not loaded(), loaded()
        import {library}
        {use}
        found = loaded()
    {afterwards}
    print(*found)
"""


@pytest.mark.parametrize(
    ("library", "use", "loads"),
    [
        (
            "urllib.request",
            "assert urllib.request.urlopen('http://couchdb.example:5984/_up').status == 200",
            "http.client h11",
        ),
        (
            "requests",
            "assert requests.get('http://couchdb.example:5984/_up').status_code == 200",
            "requests urllib3 http.client h11",
        ),
        ("httpx", "assert httpx.get('http://couchdb.example:5984/_up').status_code == 200", None),
        ("httpx2", "assert httpx2.get('http://couchdb.example:5984/_up').status_code == 200", None),
    ],
)
def test_library_that_is_imported_later_is_answered_and_no_other_is_imported(
    library: str, use: str, loads: str | None
) -> None:
    afterwards = "assert type(sys.modules['http.client'].__spec__.loader).__name__ == 'SourceFileLoader'"
    if "http.client" not in (loads or ""):
        afterwards = f"assert type({library}.__loader__).__name__ == 'SourceFileLoader'"
    text = textwrap.dedent(PROGRAM).format(library=library, use=use, afterwards=afterwards)
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = set(ended.stdout.split())
    others = {"requests", "urllib3", "httpx", "httpx2", "aiohttp"} - {library, *(loads or "").split()}
    assert not found & others
    if loads is not None:
        assert found == set(loads.split())


def test_urllib_is_answered(emulator: Any) -> None:
    with couchdal.intercept(ADDRESS, backend=emulator):
        made = urllib.request.Request(f"{ADDRESS}/db", method="PUT")
        with urllib.request.urlopen(made) as answer:
            assert (answer.status, json.load(answer)) == (201, {"ok": True})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{ADDRESS}/none")
        assert (caught.value.code, json.load(caught.value)["error"]) == (404, "not_found")
