"""Slow feeds, downloads, uploads and health checks do not take each other's connections to CouchDB."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from raw_http import Answer, Upstream, Wire, answering

from couchdal.backends.slots import Slot, Slots, has_room

ServeProxy = Callable[..., Wire]
LONG = 32 * 1024 * 1024


def never(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.recv(1)


def open_feed(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n")
    never(connection)


def long_answer(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LONG)
        for _ in range(LONG // 65536):
            connection.sendall(b"x" * 65536)


def within(seconds: float, found: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not found():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def health(wire: Wire) -> int:
    return wire.ask("GET /_couchdal/health HTTP/1.1").status


@pytest.fixture
def open_wires() -> Iterator[list[Wire]]:
    wires: list[Wire] = []
    yield wires
    for wire in wires:
        wire.close()


def start(wire: Wire, upstream: Upstream, opened: list[Wire], target: str, count: int) -> None:
    for _ in range(count):
        before = len(upstream.received)
        opened.append(Wire(wire.port).send(f"GET {target} HTTP/1.1\nHost: x\n\n"))
        assert within(5, lambda before=before: len(upstream.received) > before)  # type: ignore[misc]


@pytest.mark.parametrize("target", ["/db/_changes?feed=continuous", "/db/_%63hanges/x?a;f%65ed=live"])
def test_feeds_take_no_connection_of_requests(
    target: str, serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    upstream.script = [open_feed]
    wire = serve_proxy(max_connections="2", connect_timeout="0.3", health_interval="0.1")
    start(wire, upstream, open_wires, target, 10)
    upstream.script = [answering()]
    assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    assert health(wire) == 200


def test_unread_downloads_take_no_connection_of_requests(
    serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    upstream.script = [long_answer]
    wire = serve_proxy(max_connections="3", connect_timeout="0.3", health_interval="0.1", retries="0")
    start(wire, upstream, open_wires, "/db/doc/file", 6)
    # Three are under way. The others were refused, before their clients got a part of the answer.
    assert sorted(answer_head(other) for other in open_wires) == [200, 200, 200, 503, 503, 503]
    upstream.script = [answering()]
    for _ in range(3):
        assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    assert health(wire) == 200
    for other in open_wires:
        other.close()
    # Their connections are free again.
    upstream.script = [long_answer]
    assert within(5, lambda: len(download(wire.port).body) == LONG)


def answer_head(wire: Wire) -> int:
    return int(wire.read_until(b"\r\n").split()[1])


def download(port: int) -> Answer:
    wire = Wire(port)
    try:
        return wire.ask("GET /db/doc/file HTTP/1.1")
    finally:
        wire.close()


def test_slow_uploads_take_no_connection_of_requests(
    serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    wire = serve_proxy(max_connections="2", connect_timeout="0.3", health_interval="0.1", retries="0")
    for _ in range(2):
        other = Wire(wire.port)
        other.send(b"PUT /db/doc/file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        open_wires.append(other)
    assert within(5, lambda: upstream.accepted >= 3)
    assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    assert health(wire) == 200


def test_health_checks_need_no_connection_of_requests(
    serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    upstream.script = [never]
    wire = serve_proxy(max_connections="2", connect_timeout="0.2", health_interval="0.1", retries="0", timeout="5")
    start(wire, upstream, open_wires, "/db/doc", 2)
    assert wire.ask("GET /db/doc HTTP/1.1").status == 503
    checks = threading.Event()
    upstream.health = lambda connection: (connection.sendall(answering()), checks.set())
    assert checks.wait(3)
    assert health(wire) == 200


def test_slow_requests_of_one_client_leave_connections_to_others(
    serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    upstream.script = [never]
    wire = serve_proxy(max_connections="8", connect_timeout="0.3", health_interval="0.1", retries="0")
    for _ in range(12):
        open_wires.append(Wire(wire.port).send("GET /db/doc HTTP/1.1\nHost: x\n\n"))
    assert within(5, lambda: len(upstream.received) == 6)
    upstream.script = [answering()]
    assert health(wire) == 200
    refused = wire.ask("GET /db/doc HTTP/1.1")
    assert (refused.status, refused.json()["error"]) == (503, "service_unavailable")
    # So do those that wait for a slot.
    assert [answer_head(other) for other in open_wires[6:]] == [503] * 6
    assert len(upstream.received) == 6
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", wire.port), source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET /db/doc HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
    # A client that disconnects frees its slot.
    open_wires.pop(0).close()
    assert within(5, lambda: wire.ask("GET /db/doc HTTP/1.1").status == 200)


def ask_from(address: str, port: int) -> socket.socket:
    """Send a request for a document from another address. The answer may never come."""
    other = socket.create_connection(("127.0.0.1", port), source_address=(address, 0), timeout=5)
    other.sendall(b"GET /db/doc HTTP/1.1\r\nHost: x\r\n\r\n")
    return other


def test_slow_requests_of_several_clients_leave_connections_to_others(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [never]
    wire = serve_proxy(max_connections="16", connect_timeout="0.3", health_interval="0.1", retries="0")
    with ExitStack() as opened:
        slow = [
            opened.enter_context(ask_from(f"127.0.0.{address}", wire.port)) for address in (2, 3) for _ in range(20)
        ]
        # All but these are refused.
        assert within(5, lambda: len(select.select(slow, [], [], 0)[0]) == len(slow) - len(upstream.received))
        assert 12 <= len(upstream.received) < 16
        upstream.script = [answering()]
        assert health(wire) == 200
        for address in range(4, 10):
            with ask_from(f"127.0.0.{address}", wire.port) as other:
                assert other.recv(12) == b"HTTP/1.1 200"


def test_places_are_shared_among_the_clients_that_wait_for_one() -> None:
    async def run() -> None:
        slots = Slots(16)

        async def take(client: str) -> Slot:
            return await slots.take(client, 1.0, feed=False, transfer=False)

        first = [await take("a") for _ in range(12)]
        waiting = {client: [asyncio.create_task(take(client)) for _ in range(20)] for client in "abc"}
        await asyncio.sleep(0)
        for slot in first:
            slot.release()
        await asyncio.sleep(0)
        assert [sum(task.done() for task in tasks) for tasks in waiting.values()] == [4, 4, 4]
        # A cancelled task frees its slot, or stops waiting for one.
        for task in [*waiting["a"], *waiting["b"]]:
            task.cancel()
        await asyncio.wait([*waiting["a"], *waiting["b"]])
        for task in [*waiting["a"], *waiting["b"]]:
            if not task.cancelled():
                task.result().release()
        await asyncio.sleep(0)
        assert sum(task.done() for task in waiting["c"]) == 12
        with pytest.raises(TimeoutError):
            await slots.take("c", 0.01, feed=False, transfer=False)
        (await take("d")).release()

    asyncio.run(run())


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 16, 100, 1000])
def test_last_places_are_for_clients_that_hold_few(limit: int) -> None:
    taken = []
    for _ in range(10):
        held = 0
        while has_room(limit, sum(taken) + held, held):
            held += 1
        taken.append(held)
    assert taken[0] == limit - limit // 4
    # The next clients get at least one slot each, until all are taken.
    assert sum(taken) <= limit
    assert sum(taken) < limit or sum(map(bool, taken)) == 1 + limit // 4


def test_feeds_of_one_client_are_limited_and_take_nothing_from_its_requests(
    serve_proxy: ServeProxy, upstream: Upstream, open_wires: list[Wire]
) -> None:
    upstream.script = [open_feed]
    wire = serve_proxy(max_client_feeds="3", max_client_requests="2")
    start(wire, upstream, open_wires, "/db/_changes?feed=continuous", 3)
    for target in ("/db/_changes?feed=longpoll", "/db/_%63hanges?f%65ed=live", "/db/_changes/x?a;FEED=continuous"):
        refused = Wire(wire.port).ask(f"GET {target} HTTP/1.1")
        assert refused.status == 503
        assert refused.json() == {
            "error": "service_unavailable",
            "reason": "the server allows no more open feeds to this client",
        }
    upstream.script = [answering()]
    assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    # Another address still has its own.
    with socket.create_connection(("127.0.0.1", wire.port), source_address=("127.0.0.2", 0)) as other:
        upstream.script = [open_feed]
        other.sendall(b"GET /db/_changes?feed=continuous HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"
    open_wires.pop().close()
    assert within(5, lambda: one_more_feed(wire.port))


def one_more_feed(port: int) -> bool:
    wire = Wire(port).send("GET /db/_changes?feed=continuous HTTP/1.1\nHost: x\n\n")
    status = answer_head(wire)
    wire.close()
    return status == 200


SECOND = answering(200, {"stolen": True})


@pytest.mark.parametrize("first", [
    answering(200, {"own": True}),
    answering(404, {"own": True}),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nc\r\n{\"own\":true}\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
])  # fmt: skip
@pytest.mark.parametrize("behind", [SECOND, SECOND * 3, b"\r\n\r\n", b"x", SECOND[:20]])
def test_bytes_behind_an_answer_are_no_answer(
    first: bytes, behind: bytes, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [first + behind, answering(200, {"own": True})]
    wire = serve_proxy()
    assert b"stolen" not in wire.ask("GET /db/doc HTTP/1.1").body
    before = upstream.accepted
    for _ in range(3):
        answer = wire.ask("GET /db/doc HTTP/1.1")
        assert (answer.status, answer.json()) == (200, {"own": True})
    assert len(upstream.received) == 4
    # The connection was closed.
    assert upstream.accepted == before + 1


def test_bytes_behind_an_answer_to_head_are_no_answer(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(200, {"stolen": True}), answering(200, {"own": True})]
    wire = serve_proxy()
    assert wire.ask("HEAD /db/doc HTTP/1.1").status == 200
    assert wire.ask("GET /db/doc HTTP/1.1").json() == {"own": True}


def test_bytes_behind_a_long_answer_are_no_answer(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + b"y" * 300_000
    upstream.script = [long + SECOND, answering(200, {"own": True})]
    wire = serve_proxy()
    assert wire.ask("GET /db/doc HTTP/1.1").body == b"y" * 300_000
    assert wire.ask("GET /db/doc HTTP/1.1").json() == {"own": True}
