"""``CouchBackend``: configuration, credentials, connections, and errors without a usable answer."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import sys
import threading
import time
import weakref
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from raw_http import Upstream, answering

from couchdal import (
    AsyncCouchBackend,
    AsyncCouchDAL,
    BackendError,
    CouchBackend,
    CouchDAL,
    CouchError,
    NotConfigured,
    NotJSON,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from couchdal.backends.authentication import CookieAuthentication, has_credentials
from couchdal.backends.couch_server import Connections
from couchdal.config import read_settings
from couchdal.http.messages import Request, Response
from couchdal.transcripts.scenario import RECORDED_ADMIN

PASSWORD = "p@ss/w:rd"
ENCODED = "p%40ss%2Fw%3Ard"


@contextmanager
def raw_server(*answers: bytes, hold: bool = False, requests: int = 1) -> Iterator[tuple[str, list[bytes]]]:
    """Serve each answer to one connection, for up to ``requests`` requests.

    Yield its address, and the data of each connection. With ``hold``, connections stay open until the client closes
    them.
    """
    received: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def run() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    received.append(b"")
                    for _ in range(requests):
                        received[-1] += (brought := connection.recv(65536))
                        if brought:
                            connection.sendall(answer)
                    if hold:
                        connection.recv(1)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
        # Not every test uses every answer.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def http_answer(
    body: bytes, status: str = "200 OK", kind: str = "application/json", connection: str = "close"
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: {connection}"
    return f"{head}\r\n\r\n".encode() + body


def run_both(url: str, **options: object) -> list[Callable[[], object]]:
    """Return the same request for the blocking and for the asynchronous client."""
    arguments = {"user": "u", "password": PASSWORD, "database": "db", "timeout": 0.3, **options}
    return [
        lambda: CouchBackend(url, **arguments).handle_request("/"),  # type: ignore[arg-type]
        lambda: asyncio.run(AsyncCouchBackend(url, **arguments).handle_request("/")),  # type: ignore[arg-type]
    ]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_unreachable_server_is_named_without_its_password() -> None:
    address = f"127.0.0.1:{free_port()}"
    for attempt in run_both(f"http://u:{ENCODED}@{address}", user=None, password=None):
        with pytest.raises(Unreachable, match=f"http://{address} cannot be reached: ") as caught:
            attempt()
        assert caught.value.server == f"http://{address}"
        assert_no_password(caught.value)


def test_slow_server_times_out() -> None:
    for number in (0, 1):
        with raw_server(b"", hold=True) as (url, _):
            begun = time.monotonic()
            with pytest.raises(TimedOut, match=r"did not answer within 0.3 s") as caught:
                run_both(url)[number]()
            assert time.monotonic() - begun < 3
            assert_no_password(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("200 OK", "text/html", b"<html>Welcome</html>"),
        ("200 OK", "application/json", b'{"cut": "sho'),
        ("502 Bad Gateway", "text/html", b"<h1>502</h1>"),
        ("200 OK", "application/json", b"\xff\xfe"),
    ],
)
def test_answer_that_is_not_json_raises_not_json(status: str, kind: str, body: bytes) -> None:
    for number in (0, 1):
        with raw_server(http_answer(body, status, kind)) as (url, _):
            with pytest.raises(NotJSON, match=f"{url} answered {status[:3]}") as caught:
                run_both(url)[number]()
            assert kind in str(caught.value)
            assert_no_password(caught.value)


def test_truncated_answer_and_answer_that_is_not_http_are_unreachable() -> None:
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"SSH-2.0-OpenSSH\r\n\r\n", b""):
        for number in (0, 1):
            with raw_server(answer) as (url, _), pytest.raises(Unreachable, match=url):
                run_both(url)[number]()


def test_error_status_without_a_body_raises() -> None:
    with raw_server(http_answer(b"", "404 Object Not Found")) as (url, _), pytest.raises(CouchError) as caught:
        run_both(url)[0]()
    assert (caught.value.status, caught.value.error) == (404, "not_found")


def test_request_still_returns_an_answer_that_is_not_json() -> None:
    with raw_server(http_answer(b"<html>", "502 Bad Gateway", "text/html")) as (url, _):
        response = CouchDAL(CouchBackend(url, database="db")).request("GET", "/")
    assert (response.status, response.value()) == (502, "<html>")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:5984",
        "ftp://host",
        "http://",
        f"http://u:{PASSWORD}@host:5984",
        "http://host:port",
        "http://host:99999",
        "http://host/?x=1",
        "http://host/#x",
        "http://u:a?b@host",
        "",
    ],
)
def test_unusable_address_is_refused_without_repeating_it(url: str) -> None:
    for make in (CouchBackend, AsyncCouchBackend):
        with pytest.raises(NotConfigured, match="CouchDB") as caught:
            make(url)
        assert_no_password(caught.value)
        assert "a?b" not in str(caught.value)


def test_user_without_password_is_refused() -> None:
    with pytest.raises(NotConfigured, match="COUCHDB_PASSWORD"):
        CouchBackend("http://u@host")


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "inf"])
def test_bad_timeout_is_refused(monkeypatch: pytest.MonkeyPatch, timeout: str) -> None:
    monkeypatch.setenv("COUCHDB_TIMEOUT", timeout)
    with pytest.raises(NotConfigured, match="COUCHDB_TIMEOUT"):
        CouchBackend("http://host")


def test_arguments_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "COUCHDB_URL": "http://u:from-url@env:1/prefix/",
        "COUCHDB_PASSWORD": "from-variable",
        "COUCHDB_DATABASE": "db",
        "COUCHDB_TIMEOUT": "7.5",
    }.items():
        monkeypatch.setenv(name, value)
    backend = CouchBackend()
    assert (backend.name, backend.database) == ("http://env:1/prefix", "db")
    assert CouchBackend(database="argument").database == "argument"
    assert CouchBackend("http://[::1]:5984").name == "http://[::1]:5984"
    assert read_settings().timeout_s == 7.5


def test_credentials_of_the_environment_are_not_sent_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_URL", "http://known")
    monkeypatch.setenv("COUCHDB_USER", "u")
    monkeypatch.setenv("COUCHDB_PASSWORD", PASSWORD)
    with raw_server(http_answer(b"{}")) as (url, received):
        CouchBackend(url, database="db").handle_request("/")
    assert b"authorization" not in received[0].lower()


def test_no_password_in_reprs_and_logs(caplog: pytest.LogCaptureFixture, served_address: str) -> None:
    caplog.set_level(logging.DEBUG)
    user, password = RECORDED_ADMIN
    url = served_address.replace("://", f"://{user}:{password}@")
    for auth in ("basic", "cookie"):
        backend = CouchBackend(url, database="db", auth=auth)  # type: ignore[arg-type]
        assert backend.handle_request("/_session")["userCtx"]["name"] == user  # type: ignore[index,call-overload]
        for shown in (backend, CouchDAL(backend), AsyncCouchDAL(backend), backend._server.authentication):
            assert password not in repr(shown)
    assert password not in caplog.text
    assert b64encode(f"{user}:{password}".encode()).decode() not in caplog.text
    # The cookie was given, and the HTTP client logged the header.
    assert re.findall(r"AuthSession=(.)", caplog.text) == ["*"]


def test_prefix_of_a_gateway_is_kept() -> None:
    with raw_server(http_answer(b"{}")) as (url, received):
        CouchBackend(url + "/couch/", database="d/b").handle_request("/a%2Fb?x=1")
    assert received[0].startswith(b"GET /couch/d%2Fb/a%2Fb?x=1 HTTP/1.1\r\n")


def test_session_without_an_account_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUCHDB_USER", raising=False)
    with pytest.raises(NotConfigured, match="needs an account: set COUCHDB_USER and COUCHDB_PASSWORD"):
        CouchBackend("http://localhost:5984", auth="cookie")


@pytest.mark.parametrize("auth", ["basic", "cookie"])
def test_credentials_are_those_of_the_user(couch: Callable[..., CouchBackend], auth: str) -> None:
    backend = couch(auth=auth)
    session = backend.handle_request("/_session")
    assert session["userCtx"]["name"] == RECORDED_ADMIN[0]  # type: ignore[index,call-overload]
    assert session["info"]["authenticated"] == {"basic": "default"}.get(auth, auth)  # type: ignore[index,call-overload]


@pytest.mark.parametrize("auth", ["basic", "cookie"])
def test_wrong_password_is_unauthorized(couch: Callable[..., CouchBackend], auth: str) -> None:
    with pytest.raises(Unauthorized):
        couch(auth=auth, user=f"nobody-{auth}", password="wrong").handle_request("/_all_dbs")


def test_request_that_brings_credentials_keeps_them(couch: Callable[..., CouchBackend]) -> None:
    answer = CouchDAL(couch()).request("GET", "/_session", headers={"Authorization": "Basic eDp5"})
    assert answer.status == 401


def test_connection_is_kept_alive_and_reopened_after_a_close() -> None:
    with raw_server(*[http_answer(b"{}", connection="keep-alive")] * 2, requests=2) as (url, received):
        backend = CouchBackend(url, database="db")
        for _ in range(2):
            backend.handle_request("/")
        assert len(received) == 1
        backend.close()
        backend.handle_request("/")
        assert len(received) == 2
        backend.close()


def test_threads_share_a_backend(couch: Callable[..., CouchBackend]) -> None:
    backend = couch(auth="cookie")
    names: list[object] = []
    threads = [
        threading.Thread(target=lambda: names.append(backend.handle_request("/_session")["userCtx"]["name"]))  # type: ignore[index,call-overload]
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [RECORDED_ADMIN[0]] * 20


def test_one_async_backend_serves_one_event_loop_after_another(couch: Callable[..., CouchBackend]) -> None:
    backend = couch().for_event_loop()
    for _ in range(3):
        assert asyncio.run(backend.handle_request("/_up")) == {"status": "ok", "seeds": {}}


@pytest.mark.filterwarnings("error")
def test_async_backend_releases_an_ended_event_loop(served_address: str) -> None:
    dal = AsyncCouchDAL(AsyncCouchBackend(served_address))
    loops = []

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await dal.request("GET", "/_up")
        await asyncio.gather(*(dal.request("GET", "/_up") for _ in range(3)))

    with pytest.MonkeyPatch.context() as patch:
        unraisable: list[object] = []
        patch.setattr(sys, "unraisablehook", unraisable.append)
        # What earlier tests left open does not count.
        gc.collect()
        unraisable.clear()
        for _ in range(2):
            asyncio.run(ask())
            # A socket that is still open warns when it is collected.
            gc.collect()
    assert unraisable == []
    assert [loop() for loop in loops] == [None, None]


def test_closed_async_backend_reopens(served_address: str) -> None:
    dal = AsyncCouchDAL(AsyncCouchBackend(served_address))

    async def ask() -> list[int]:
        statuses = []
        for _ in range(2):
            statuses.append((await dal.request("GET", "/_up")).status)
            await dal.aclose()
            await dal.aclose()
        return statuses

    assert asyncio.run(ask()) == [200, 200]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def logged_in(cookie: str, life_s: int = 600) -> Response:
    return Response(200, {"set-cookie": f"AuthSession={cookie}; Version=1; Max-Age={life_s}; Path=/; HttpOnly"})


def exchanged(authentication: CookieAuthentication, *answers: Response) -> tuple[list[str], Response]:
    """Run one flow over canned answers. Return what was sent, as path and cookie, and the answer."""
    flow = authentication.flow(Request("GET", "/db/a"))
    sent, request = [], next(flow)
    for answer in answers:
        sent.append(f"{request.path} {request.headers.get('cookie', '-')}")
        try:
            request = flow.send(answer)
        except StopIteration as done:
            return sent, done.value
    raise AssertionError(f"one more request: {request}")


class TestCookie:
    def test_is_fetched_once_and_sent_with_every_request(self) -> None:
        authentication = CookieAuthentication("u", "p", Clock())
        assert exchanged(authentication, logged_in("one"), Response(200))[0] == [
            "/_session -",
            "/db/a AuthSession=one",
        ]
        assert exchanged(authentication, Response(200))[0] == ["/db/a AuthSession=one"]

    def test_is_renewed_before_it_expires(self) -> None:
        clock = Clock()
        authentication = CookieAuthentication("u", "p", clock)
        exchanged(authentication, logged_in("one", life_s=100), Response(200))
        clock.now = 79
        assert exchanged(authentication, Response(200))[0] == ["/db/a AuthSession=one"]
        clock.now = 81
        assert exchanged(authentication, logged_in("two"), Response(200))[0][1] == "/db/a AuthSession=two"

    def test_is_renewed_when_it_is_refused_but_only_once(self) -> None:
        authentication = CookieAuthentication("u", "p", Clock())
        exchanged(authentication, logged_in("one"), Response(200))
        sent, answer = exchanged(authentication, Response(401), logged_in("two"), Response(401))
        assert sent == ["/db/a AuthSession=one", "/_session -", "/db/a AuthSession=two"]
        assert answer.status == 401

    def test_is_replaced_by_the_cookie_of_an_answer(self) -> None:
        authentication = CookieAuthentication("u", "p", Clock())
        exchanged(authentication, logged_in("one"), logged_in("two"))
        assert exchanged(authentication, Response(200))[0] == ["/db/a AuthSession=two"]

    def test_refusal_of_the_login_is_the_answer(self) -> None:
        authentication = CookieAuthentication("u", "p", Clock())
        sent, answer = exchanged(authentication, Response(401))
        assert (sent, answer.status) == (["/_session -"], 401)


def test_requests_with_their_own_credentials_are_recognised() -> None:
    assert has_credentials(Request("GET", "/", headers={"authorization": "Basic x"}))
    assert has_credentials(Request("GET", "/", headers={"cookie": "a=b; AuthSession=x"}))
    assert not has_credentials(Request("GET", "/", headers={"cookie": "a=b"}))


def assert_no_password(error: BackendError) -> None:
    shown = f"{error} {error!r} {error.server} {error.__cause__!r}"
    assert not any(text in shown for text in (PASSWORD, ENCODED, "ss/w", "ss%2Fw"))


@pytest.mark.parametrize(("limit", "kept"), [(None, 10), (3, 3), (100, 10)])
def test_few_idle_connections_are_kept(limit: int | None, kept: int) -> None:
    limits = Connections(limit=limit).limits(feeds=False)
    assert (limits.max_connections, limits.max_keepalive_connections) == (limit, kept)


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
@pytest.mark.parametrize("first", [
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
])  # fmt: skip
def test_bytes_behind_an_answer_are_no_answer(kind: str, first: bytes) -> None:
    own = answering(200, {"own": True})
    upstream = Upstream(first + answering(200, {"stolen": True}), own, own)
    requests = [Request("GET", f"/db/{n}") for n in range(3)]

    async def ask() -> list[Response]:
        backend = AsyncCouchBackend(upstream.url, user="u", password="p")
        try:
            return [await backend.send(request) for request in requests]
        finally:
            await backend.aclose()

    if kind == "asynchronous":
        answers = asyncio.run(ask())
    else:
        with closing(CouchBackend(upstream.url, user="u", password="p")) as backend:
            answers = [backend.send(request) for request in requests]
    assert [answer.value() for answer in answers[1:]] == [{"own": True}] * 2
    # The connection was closed.
    assert upstream.accepted == 2
    upstream.stop()
