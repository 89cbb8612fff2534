"""Servers that fail: repeated requests, circuit breakers, other nodes, and the answers that clients get."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from raw_http import Upstream, Wire, answering

from couchdal.backends.base import AsyncBackend
from couchdal.errors import NotConnected, Unavailable
from couchdal.http.messages import Request, Response
from couchdal.proxy.breaker import Breaker
from couchdal.proxy.nodes import Node, Nodes
from couchdal.proxy.retries import Retries

ServeProxy = Callable[..., Wire]
BUSY = answering(503, {"error": "service_unavailable"})
CLOSES = socket.socket.close


def statuses_of(wire: Wire, request: str, body: bytes = b"", count: int = 1) -> list[int]:
    return [wire.ask(request, body).status for _ in range(count)]


@pytest.mark.parametrize("trouble", [BUSY, answering(429), CLOSES])
@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("GET /db/doc", ""),
        ("HEAD /db/doc", ""),
        ("POST /db/_find", '{"selector": {}}'),
        ("POST /db/_bulk_get", '{"docs": []}'),
        ("POST /db/_revs_diff", "{}"),
        ("POST /db/_changes", "{}"),
        ("POST /db/_bulk_docs", '{"docs": [], "new_edits": false}'),
        ("POST /db/_bulk_docs", '{"docs": [{"_id": "a", "_rev": "1-a"}], "new_edits": false}'),
        ("PUT /db/doc?new_edits=false", '{"_rev": "1-a"}'),
        ("PUT /db/doc?new_edits=false&rev=1-a", "{}"),
        ("PUT /db/doc?new_edits=true;new_%65dits=false", '{"_revisions": {"start": 1, "ids": ["a"]}}'),
        ("PUT /db/_design/d?new_edits=false", '{"_rev": "1-a"}'),
        ("POST /db/_partition/p/_find", "{}"),
    ],
)
def test_repeatable_request_is_repeated(
    trouble: bytes, request_line: str, body: str, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [trouble, trouble, answering()]
    answer = serve_proxy().ask(f"{request_line} HTTP/1.1\nContent-Type: application/json", body.encode())
    assert answer.status == 200
    assert [received.body.decode() for received in upstream.received] == [body] * 3


@pytest.mark.parametrize(("trouble", "status"), [(BUSY, 503), (answering(429), 429), (CLOSES, 502)])
@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("PUT /db/doc", "{}"),
        ("POST /db", "{}"),
        ("POST /db?new_edits=false", '{"_id": "a", "_rev": "1-a"}'),
        ("POST /db/_bulk_docs?new_edits=false", '{"docs": [{"_id": "a", "_rev": "1-a"}]}'),
        ("POST /db/_bulk_docs", '{"docs": [{"_id": "a"}], "new_edits": false}'),
        ("POST /db/_bulk_docs", '{"docs": [{"_rev": "1-a"}], "new_edits": false}'),
        ("POST /db/_bulk_docs", '{"docs": [{"_id": "_local/a", "_rev": "0-1"}], "new_edits": false}'),
        ("POST /db/_bulk_docs", '{"docs": {}, "new_edits": false}'),
        ("PUT /db/doc?new_edits=false", "{}"),
        ("PUT /db/doc?NEW_EDITS=false", '{"_rev": "1-a"}'),
        ("PUT /db/doc?new_edits=FALSE", '{"_rev": "1-a"}'),
        ("PUT /db/doc?new_edits=false&new_edits=true", '{"_rev": "1-a"}'),
        ("PUT /db/doc?new_edits=false&batch=ok", '{"_rev": "1-a"}'),
        ("PUT /db/doc/a.txt?new_edits=false&rev=1-a", "{}"),
        ("PUT /db/_local/c?new_edits=false", '{"_rev": "0-1"}'),
        ("DELETE /db/doc?new_edits=false&rev=1-a", ""),
        ("COPY /db/doc?new_edits=false&rev=1-a", ""),
        ("POST /db/_purge?new_edits=false", '{"a": ["1-a"]}'),
        ("POST /db/_design/d/_update/f?new_edits=false", "{}"),
        ("GET /db/_design/d/_update/f", ""),
        ("GET /db/_design/d/_rewrite/x", ""),
        ("DELETE /db/doc?rev=1-a", ""),
        ("POST /db/_bulk_docs", '{"docs": []}'),
        ("POST /db/_bulk_docs", '{"docs": [], "new_edits": true}'),
        ("PUT /db/_local/c", "{}"),
        ("COPY /db/doc", ""),
        ("POST /db/_index", "{}"),
        ("POST /db/_partition/p/_index", "{}"),
    ],
)
def test_other_writes_are_sent_once(
    trouble: bytes, status: int, request_line: str, body: str, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [trouble, answering()]
    wire = serve_proxy(allow=["/{db}/{rest...}"])
    answer = wire.ask(f"{request_line} HTTP/1.1\nContent-Type: application/json", body.encode())
    assert answer.status == status
    assert len(upstream.received) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 500, 502, 504])
def test_other_answers_go_to_the_client(status: int, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(status, {"error": "said", "reason": "so"})]
    answer = serve_proxy().ask("GET /db/doc HTTP/1.1")
    assert (answer.status, answer.json()) == (status, {"error": "said", "reason": "so"})
    assert len(upstream.received) == 1


def test_long_body_is_sent_once_because_it_is_not_kept(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [BUSY, answering()]
    body = b'{"selector": {"x": "%s"}}' % (b"x" * 200_000)
    assert serve_proxy().ask("POST /db/_find HTTP/1.1", body).status == 503
    assert [len(received.body) for received in upstream.received] == [len(body)]


def test_retries_end(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [BUSY]
    assert serve_proxy(retries="1").ask("GET /db/doc HTTP/1.1").status == 503
    assert len(upstream.received) == 2
    assert serve_proxy(retries="0").ask("GET /db/doc HTTP/1.1").status == 503
    assert len(upstream.received) == 3


def test_pauses_are_random_within_doubling_limits_and_as_long_as_the_server_asks() -> None:
    retries = Retries(first_s=0.1, longest_s=1.0)
    assert all(0 <= retries.pause_s(1, None) <= 0.2 for _ in range(100))
    assert max(retries.pause_s(3, None) for _ in range(1000)) > 0.4
    assert all(retries.pause_s(9, None) <= 1.0 for _ in range(100))
    asked = Response(503, {"retry-after": "1"})
    assert retries.pause_s(1, asked) == 1.0
    assert retries.pause_s(1, Response(503, {"retry-after": "3600"})) == 1.0
    assert retries.pause_s(1, Response(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})) <= 0.2


def unused_url() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_unreachable_server_is_a_bad_gateway(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.url = unused_url()
    answer = serve_proxy(upstream).ask("GET /db/doc HTTP/1.1")
    assert (answer.status, answer.json()["error"]) == (502, "bad_gateway")  # type: ignore[call-overload, index]
    assert answer.headers["content-type"] == "application/json"


def test_server_that_does_not_answer_is_a_gateway_timeout_without_a_retry(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [lambda _: time.sleep(2)]
    answer = serve_proxy(timeout="0.2").ask("GET /db/doc HTTP/1.1")
    assert (answer.status, answer.json()["error"]) == (504, "gateway_timeout")  # type: ignore[call-overload, index]
    assert len(upstream.received) == 1


def test_number_of_connections_is_limited(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [lambda connection: (time.sleep(1), connection.sendall(answering()))]
    wire = serve_proxy(max_connections="1", connect_timeout="0.2", retries="0")
    other = Wire(wire.port)
    wire.send("GET /db/a HTTP/1.1\nHost: x\n\n")
    while not upstream.received:
        time.sleep(0.01)
    answer = other.ask("GET /db/b HTTP/1.1")
    assert (answer.status, answer.json()["error"]) == (503, "service_unavailable")  # type: ignore[call-overload, index]
    assert answer.headers["retry-after"] == "1"
    assert wire.answer().status == 200


def test_open_breaker_sends_nothing(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [CLOSES]
    wire = serve_proxy(breaker_failures="3", breaker_pause="60", retries="0")
    assert statuses_of(wire, "GET /db/doc HTTP/1.1", count=3) == [502, 502, 502]
    answer = wire.ask("GET /db/doc HTTP/1.1")
    assert (answer.status, answer.json()["error"]) == (503, "service_unavailable")  # type: ignore[call-overload, index]
    assert len(upstream.received) == 3


def test_breaker_allows_one_request_after_its_pause() -> None:
    now = 0.0
    breaker = Breaker(2, 5.0, monotonic=lambda: now)
    breaker.fail()
    assert not breaker.is_open
    breaker.fail()
    assert (breaker.is_open, breaker.wait_s()) == (True, 5.0)
    now = 5.0
    assert breaker.wait_s() == 0
    breaker.begin()
    # The next request waits for the result of that one.
    assert breaker.wait_s() == 5.0
    breaker.succeed()
    assert (breaker.is_open, breaker.wait_s()) == (False, 0.0)
    breaker.fail()
    assert not breaker.is_open


def test_breaker_closes_when_the_server_is_back(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [CLOSES, CLOSES, answering()]
    wire = serve_proxy(breaker_failures="2", breaker_pause="0.2", retries="0")
    assert statuses_of(wire, "GET /db/doc HTTP/1.1", count=3) == [502, 502, 503]
    time.sleep(0.3)
    assert statuses_of(wire, "GET /db/doc HTTP/1.1", count=3) == [200, 200, 200]


@pytest.fixture
def second() -> Upstream:
    return Upstream(answering(200, {"node": 2}))


def test_nodes_take_turns(serve_proxy: ServeProxy, upstream: Upstream, second: Upstream) -> None:
    assert statuses_of(serve_proxy(upstream, second), "GET /db/doc HTTP/1.1", count=6) == [200] * 6
    assert (len(upstream.received), len(second.received)) == (3, 3)


@pytest.mark.parametrize("request_line", ["GET /db/doc", "PUT /db/doc", "POST /db/_bulk_docs"])
def test_request_goes_to_another_node_if_one_refuses_the_connection(
    request_line: str, serve_proxy: ServeProxy, upstream: Upstream, second: Upstream
) -> None:
    upstream.url = unused_url()
    # Nothing was sent, so even a write may go to the other node.
    assert statuses_of(serve_proxy(upstream, second), f"{request_line} HTTP/1.1", b"{}", count=6) == [200] * 6
    assert len(second.received) == 6


def test_write_that_may_have_been_applied_is_not_sent_to_another_node(
    serve_proxy: ServeProxy, upstream: Upstream, second: Upstream
) -> None:
    upstream.script = [CLOSES]
    wire = serve_proxy(upstream, second)
    assert sorted(statuses_of(wire, "PUT /db/doc HTTP/1.1", b"{}", count=4)) == [200, 200, 502, 502]
    assert len(second.received) == 2


def nodes_of(*answers: int | None, interval_s: float = 1.0) -> tuple[Nodes, list[list[str]]]:
    """Nodes with these answers (None for no answer), and the requests that each got."""
    asked: list[list[str]] = [[] for _ in answers]

    class Answering(AsyncBackend):
        def __init__(self, place: int) -> None:
            self.place = place
            self.name = f"node {place}"

        async def send(self, request: Request) -> Response:
            asked[self.place].append(request.path)
            status = answers[self.place]
            if status is None:
                raise NotConnected("there is nobody", self.name)
            return Response(status, json={"status": "maintenance_mode" if status == 404 else "ok"})

    return Nodes([Node(Answering(place), Breaker(2, 60.0)) for place in range(len(answers))]), asked


def test_health_checks_find_nodes_that_are_down_or_in_maintenance() -> None:
    nodes, asked = nodes_of(200, 404, 503, None, 401)

    async def check() -> None:
        passed = 0

        async def pause(_: float) -> None:
            nonlocal passed
            passed += 1
            if passed > 0:
                raise asyncio.CancelledError

        nodes.pause = pause
        with pytest.raises(asyncio.CancelledError):
            await nodes.attend()
        assert [node.healthy for node in nodes.nodes] == [True, False, False, False, True]
        assert nodes.count_up() == 2
        for _ in range(10):
            await nodes.send(Request("GET", "/db"), lambda: True)

    asyncio.run(check())
    assert [len(paths) for paths in asked] == [6, 1, 1, 1, 6]
    assert all(paths[0] == "/_up" for paths in asked)


def test_request_fails_if_all_breakers_are_open() -> None:
    nodes, asked = nodes_of(None, None)
    nodes.retries = Retries(5, first_s=0.0)

    async def send() -> None:
        with pytest.raises(NotConnected):
            await nodes.send(Request("PUT", "/db/doc"), lambda: False)
        with pytest.raises(Unavailable, match=r"node 0, node 1 failed repeatedly"):
            await nodes.send(Request("PUT", "/db/doc"), lambda: False)

    asyncio.run(send())
    assert [len(paths) for paths in asked] == [2, 2]


@pytest.mark.parametrize(
    ("script", "status"),
    [(None, 502), (CLOSES, 502), (lambda _: time.sleep(1), 504), (b"nonsense\r\n\r\n", 502), ("open", 503)],
)
def test_only_the_log_names_the_server(
    script: object,
    status: int,
    serve_proxy: ServeProxy,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = unused_url() if script is None or script == "open" else upstream.url
    upstream.url = address.replace("//", "//user:hunter2@")
    upstream.script = [script]  # type: ignore[list-item]
    wire = serve_proxy(upstream, timeout="0.2", retries="0", breaker_failures="1" if script == "open" else "9")
    if script == "open":
        wire.ask("GET /db/doc HTTP/1.1")
    answer = wire.ask("GET /db/doc HTTP/1.1")
    assert answer.status == status
    said = json.dumps([answer.json(), answer.headers])
    assert "127.0.0.1" not in said
    assert address.rpartition(":")[2] not in said
    assert address in caplog.text
    assert "hunter2" not in caplog.text
