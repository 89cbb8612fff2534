"""Memory of the served emulator: hostile bodies and abandoned answers do not make it grow."""

from __future__ import annotations

import gc
import gzip
import json
import os
import random
import re
import socket
import sys
import time
import weakref
from base64 import b64encode
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from processes import couchdal_serve
from raw_http import Answer, Served, Wire

from couchdal import AsyncBackend, BadRequest, BaseBackend, MemoryBackend, TooLarge
from couchdal.emulator.engine.auth import users
from couchdal.emulator.engine.auth.sessions import Failures, count_failure, failure_key
from couchdal.emulator.engine.collation import collation, root_collation
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.documents import attachment, document
from couchdal.emulator.engine.erlang import external_term
from couchdal.emulator.engine.mango import bookmark, regex
from couchdal.http.messages import ANONYMOUS_BODY, INFLATED_BODY, Request, Response, decompress
from couchdal.middleware.chain import Steps, install
from couchdal.middleware.index_watch import find_watch, watch_indexes
from couchdal.server import application, framing, listener, protocol
from couchdal.server.application import Application, RequestCycle
from couchdal.server.framing import Limits, headers_of
from couchdal.server.operational import Service

MIB = 1024 * 1024
AS_JSON = "Content-Type: application/json"
AS_JSON_HEADER = {"content-type": "application/json"}
ADMIN, WRONG = (f"Authorization: Basic {b64encode(one).decode()}" for one in (b"root:secret", b"root:wrong"))
TOO_LARGE = {"error": "too_large", "reason": "the request entity is too large"}


def bomb(size: int) -> bytes:
    """Return the gzip of a JSON string of ``size`` letters, in members of 8 MiB."""
    return gzip.compress(b'{"name":"') + gzip.compress(b"a" * 8 * MIB) * (size // (8 * MIB)) + gzip.compress(b'"}')


def peak_of(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    return memory_of(pid, "VmHWM")


def memory_of(pid: int, figure: str = "VmRSS") -> int:
    found = re.search(rf"{figure}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_gzip_bomb_takes_little_memory() -> None:
    packed = bomb(1024 * MIB)
    assert len(packed) < 1.2 * MIB
    with couchdal_serve("--admin", "root:secret") as (url, process):
        port = int(url.rpartition(":")[2])
        assert Wire(port).ask(f"PUT /db HTTP/1.1\n{ADMIN}").status == 201
        before = peak_of(process.pid)
        for head in ("POST /_session", "PUT /db/a"):
            for credentials in ("X-None: 1", ADMIN, WRONG):
                answer = send(port, f"{head} HTTP/1.1\n{credentials}\n{AS_JSON}\nContent-Encoding: gzip", packed)
                assert answer.status in (401, 413)
                # The body of an administrator may be large.
                grown = INFLATED_BODY * 2.5 if credentials == ADMIN and head.startswith("PUT") else 20 * MIB
                assert peak_of(process.pid) - before < grown, (head, credentials)
                before = peak_of(process.pid)


def send(port: int, head: str, body: bytes) -> Answer:
    """Send a request whose body the server may refuse to receive, and return the answer."""
    wire = Wire(port)
    wire.send(f"{head}\nHost: x\nContent-Length: {len(body)}\n\n")
    with suppress(ConnectionError):
        wire.send(body)
    answer = wire.answer()
    wire.close()
    return answer


@pytest.mark.parametrize("chunked", [True, False])
def test_anonymous_clients_send_small_bodies(chunked: bool) -> None:
    port = Served(MemoryBackend(admin=("root", "secret"))).port

    def answer_to(head: str, size: int) -> Answer:
        body = b'{"x":"' + b"a" * (size - 8) + b'"}'
        if not chunked:
            return send(port, f"{head}\n{AS_JSON}", body)
        wire = Wire(port).send(f"{head}\n{AS_JSON}\nHost: x\nTransfer-Encoding: chunked\n\n")
        wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        return wire.answer()

    assert Wire(port).ask(f"PUT /db HTTP/1.1\n{ADMIN}").status == 201
    assert answer_to("PUT /db/a HTTP/1.1", ANONYMOUS_BODY).status == 401
    assert answer_to("POST /_session HTTP/1.1", ANONYMOUS_BODY).status == 400
    for head in ("PUT /db/a HTTP/1.1", "POST /_session HTTP/1.1", f"POST /_session HTTP/1.1\n{ADMIN}"):
        refused = answer_to(head, ANONYMOUS_BODY + 1)
        assert (refused.status, refused.json(), refused.closed) == (413, TOO_LARGE, True)
    assert answer_to(f"PUT /db/a HTTP/1.1\n{WRONG}", ANONYMOUS_BODY + 1).status == 401
    assert answer_to(f"PUT /db/a HTTP/1.1\n{ADMIN}", 2 * ANONYMOUS_BODY).status == 201


@pytest.mark.parametrize("split", [0, 1, 10, ANONYMOUS_BODY, ANONYMOUS_BODY + 1])
@pytest.mark.parametrize("last", ["with the end", "before the end", "split chunk"])
def test_large_body_of_an_anonymous_client_is_refused_however_it_arrives(split: int, last: str) -> None:
    wire = Wire(Served(MemoryBackend(admin=("root", "secret"))).port)
    body = b'{"x":"' + b"a" * (ANONYMOUS_BODY - 7) + b'"}'
    assert len(body) == ANONYMOUS_BODY + 1
    head = b"PUT /db/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:split], body[split:]) if part]
    pieces = {
        "with the end": [head, *chunks[:-1], chunks[-1] + b"0\r\n\r\n"],
        "before the end": [head, *chunks, b"0\r\n\r\n"],
        "split chunk": [head + chunks[0][:-5], chunks[0][-5:] + b"".join(chunks[1:]) + b"0\r\n\r\n"],
    }
    with suppress(ConnectionError):
        for piece in pieces[last]:
            wire.send(piece)
            time.sleep(0.02)
    answer = wire.answer()
    assert (answer.status, answer.json(), answer.closed) == (413, TOO_LARGE, True)
    wire.close()


def test_without_an_administrator_only_logins_are_small() -> None:
    port = Served(MemoryBackend()).port
    assert Wire(port).ask("PUT /db HTTP/1.1").status == 201
    body = json.dumps({"name": "x" * 2 * ANONYMOUS_BODY}).encode()
    assert send(port, "PUT /db/a HTTP/1.1", body).status == 201
    assert send(port, f"POST /_session HTTP/1.1\n{AS_JSON}", body).json() == TOO_LARGE


def test_gzip_is_inflated_as_couchdb_does() -> None:
    one, two = gzip.compress(b"one"), gzip.compress(b"two" * 100_000)
    assert decompress(one + two, "gzip") == b"one" + b"two" * 100_000
    for malformed in (b"", b"garbage", one[:-1], one + b"\0", one + b"garbage", one + two[:-3]):
        with pytest.raises(BadRequest, match="not properly gzipped"):
            decompress(malformed, "gzip")


def test_gzip_is_inflated_up_to_a_limit() -> None:
    one = gzip.compress(b"12345")
    assert decompress(one + one, "gzip", 10) == b"1234512345"
    for packed in (one + one, one + one + b"garbage", gzip.compress(b"1" * 10_000_000)):
        with pytest.raises(TooLarge):
            decompress(packed, "gzip", 9)


def eventually(holds: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch) -> Iterator[weakref.WeakSet[RequestCycle]]:
    """The requests of this test that are in memory, without the help of a garbage collection."""
    alive: weakref.WeakSet[RequestCycle] = weakref.WeakSet()

    class Watched(RequestCycle):
        __slots__ = ("__weakref__",)

        def __init__(self, request: Request, *, complete: bool = False, crowded: bool = False) -> None:
            super().__init__(request, complete=complete, crowded=crowded)
            alive.add(self)

    for module in (protocol, application):
        monkeypatch.setattr(module, "RequestCycle", Watched)
    gc.disable()
    yield alive
    gc.enable()


LONG = "GET /db/_all_docs?include_docs=true"
FEED = "GET /db/_changes?feed=continuous&heartbeat=60000"
# A feed has no end, and too little data to fill a connection.
ABANDONED = [(LONG, leave) for leave in ("close", "reset", "read nothing", "read all")]
ABANDONED += [(FEED, leave) for leave in ("close", "reset")]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("head", "leave"), ABANDONED)
def test_abandoned_answers_leave_memory_at_once(
    cycles: weakref.WeakSet[RequestCycle], head: str, leave: str, version: str
) -> None:
    # With a short timeout, the first of several may have left before the last begins.
    count = 1 if leave == "read nothing" else 5
    port = Served(MemoryBackend(), Limits(send_timeout_s=1 if leave == "read nothing" else 300)).port
    wire = Wire(port)
    wire.ask("PUT /db HTTP/1.1")
    for number in range(6):
        wire.ask(f"PUT /db/{number} HTTP/1.1", b'{"x":"' + b"a" * 2 * MIB + b'"}')
    wires = [Wire(port).send(f"{head} HTTP/{version}\nHost: x\n\n") for _ in range(count)]
    assert eventually(lambda: len(cycles) >= count)
    for left in wires:
        if leave == "reset":
            left.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        if leave == "read all":
            # The connection stays open, and must not keep the answer.
            assert len(left.answer().body) > 12 * MIB
        elif leave != "read nothing":
            left.close()
    assert eventually(lambda: not cycles), f"{len(cycles)} requests are still in memory"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.random
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_abandoned_downloads_stay_bounded_and_leave_memory(leave: str) -> None:
    clients, size = (90, 30) if os.environ.get("SOAK") else (30, 10)
    with couchdal_serve() as (url, process):
        port = int(url.rpartition(":")[2])
        wire = Wire(port)
        wire.ask("PUT /db HTTP/1.1")
        for number in range(size):
            wire.ask(f"PUT /db/{number} HTTP/1.1", b'{"x":"' + b"a" * 1_000_000 + b'"}')
        base = memory_of(process.pid)
        begun = time.monotonic()
        wires = [Wire(port, receive_buffer=16384).send(f"{LONG} HTTP/1.1\nHost: x\n\n") for _ in range(clients)]
        assert [one.socket.recv(12)[-3:] in (b"200", b"503") for one in wires] == [True] * clients
        peak = peak_of(process.pid) - base
        for one in wires:
            if leave == "reset":
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            one.close()
        # An answer is counted when it is complete. While it is made, its parts and its text are in memory.
        assert peak < 128 * MIB + 4 * size * 1_000_000
        assert eventually(lambda: memory_of(process.pid) < base + 2 * size * 1_000_000)
        print(  # noqa: T201  (CI shows the figures)
            f"{clients} downloads of {size} MB: {base // MIB} MB, at most {(base + peak) // MIB} MB,"
            f" then {memory_of(process.pid) // MIB} MB, in {time.monotonic() - begun:.1f} s"
        )


@pytest.mark.parametrize("limit", ["requests", "client_requests"])
def test_full_server_answers_probes(limit: str) -> None:
    served = Served(MemoryBackend(), Limits(**{limit: 1}))  # type: ignore[arg-type]
    served.application.service = Service(lambda: ("ok", {}))
    upload = Wire(served.port).send("PUT /db HTTP/1.1\nHost: x\nContent-Length: 2\n\n{")
    assert eventually(lambda: served.application.requests == 1)
    wire = Wire(served.port)
    refused = wire.ask("GET /_all_dbs HTTP/1.1")
    assert (refused.status, refused.json()["error"]) == (503, "service_unavailable")  # type: ignore[index,call-overload]
    for probe in ("/_up", "/_couchdal/health"):
        assert wire.ask(f"GET {probe} HTTP/1.1").status == 200
    upload.send("}")
    assert upload.answer().status == 201
    assert eventually(lambda: wire.ask("GET /_all_dbs HTTP/1.1").status == 200)


def test_one_client_does_not_use_up_the_requests_of_others() -> None:
    served = Served(MemoryBackend(), Limits(requests=10, client_requests=3))
    greedy = [Wire(served.port).send("PUT /db HTTP/1.1\nHost: x\nContent-Length: 2\n\n{") for _ in range(10)]
    assert [one.answer().status for one in greedy[3:]] == [503] * 7
    other = socket.create_connection(("127.0.0.1", served.port), timeout=5, source_address=("127.0.0.2", 0))
    other.sendall(b"GET /_all_dbs HTTP/1.1\r\nHost: x\r\n\r\n")
    assert other.recv(12) == b"HTTP/1.1 200"
    other.close()


@pytest.fixture(params=[False, True], ids=["plain", "middleware"])
def served_with(request: pytest.FixtureRequest, no_middleware: None) -> Iterator[Callable[[Limits], Served]]:
    """A function that serves a backend with few bytes in socket buffers, with and without middleware."""
    served: list[Served] = []
    removals: list[Callable[[], None]] = []

    def serve(limits: Limits) -> Served:
        served.append(Served(MemoryBackend(), limits, send_buffer=32 * 1024))
        if request.param:
            removals.append(install(forward, served[-1].application.backend.server_key))
        return served[-1]

    yield serve
    for remove in removals:
        remove()


def forward(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
    return (yield request)


def slow(served: Served, head: str, address: str = "127.0.0.1") -> Wire:
    """Send a request over a connection that takes in little of the answer."""
    wire = Wire(served.port, receive_buffer=16 * 1024, address=address)
    return wire.send(f"{head}\nHost: x\n\n")


def unread(served: Served) -> int:
    return sum(size for _, size in served.application._clients.busy.values())


def store(served: Served, size: int) -> Wire:
    wire = Wire(served.port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    assert wire.ask("PUT /db/a HTTP/1.1", b'{"x":"' + b"a" * size + b'"}').status == 201
    return wire


# Both are longer than what a connection takes in. The shorter one is sent in one part.
@pytest.mark.parametrize("size", [300_000, 2 * MIB])
def test_unread_answers_of_one_client_are_limited(served_with: Callable[[Limits], Served], size: int) -> None:
    served = served_with(Limits(client_unread=size + size // 2))
    wire = store(served, size)
    first = slow(served, "GET /db/a HTTP/1.1")
    assert eventually(lambda: size < unread(served) < size * 1.5)
    assert wire.ask("GET /db HTTP/1.1").status == 200
    second = slow(served, "GET /db/a HTTP/1.1")
    assert eventually(lambda: unread(served) > 2 * size)
    for target in ("/db", "/db/a", "/_all_dbs"):
        refused = wire.ask(f"GET {target} HTTP/1.1")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    # Others are served, and so are probes.
    assert Wire(served.port, address="127.0.0.2").ask("GET /db HTTP/1.1").status == 200
    assert wire.ask("GET /_up HTTP/1.1").status == 200
    assert [len(one.answer().body) > size for one in (first, second)] == [True, True]
    assert eventually(lambda: unread(served) == 0)
    assert wire.ask("GET /db/a HTTP/1.1").status == 200


def test_unread_answers_of_all_clients_are_limited(served_with: Callable[[Limits], Served]) -> None:
    served = served_with(Limits(unread=3 * MIB, client_unread=3 * MIB))
    wire = store(served, 2 * MIB)
    readers = [slow(served, "GET /db/a HTTP/1.1", f"127.0.0.{number}") for number in (2, 3)]
    assert eventually(lambda: unread(served) > 4 * MIB)
    assert wire.ask("GET /db HTTP/1.1").status == 503
    assert wire.ask("GET /_up HTTP/1.1").status == 200
    for reader in readers:
        reader.close()
    assert eventually(lambda: wire.ask("GET /db HTTP/1.1").status == 200)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
@pytest.mark.parametrize("size", [60_000, 2 * MIB])
@pytest.mark.parametrize("head", ["HTTP/1.0", "HTTP/1.1\nConnection: close", "HTTP/1.1"])
def test_client_that_does_not_read_is_dropped(head: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Application] = []
    forget = protocol.HttpProtocol.connection_lost

    def lose(self: protocol.HttpProtocol, exc: Exception | None) -> None:
        lost.append(self.application)
        forget(self, exc)

    monkeypatch.setattr(protocol.HttpProtocol, "connection_lost", lose)
    served = Served(MemoryBackend(), Limits(send_timeout_s=0.5), send_buffer=32 * 1024)
    store(served, size).close()
    assert eventually(lambda: lost.count(served.application) == 1)
    # Several answers together are longer than what the connection takes in.
    reader = slow(served, f"GET /db/a {head}")
    if head == "HTTP/1.1":
        for _ in range(9):
            reader.send("GET /db/a HTTP/1.1\nHost: x\n\n")
    assert eventually(lambda: lost.count(served.application) == 2, seconds=8)
    reader.close()


def test_idle_connections_make_room_for_new_ones() -> None:
    served = Served(MemoryBackend(), Limits(connections=5))
    old = Wire(served.port)
    assert old.ask("GET /_up HTTP/1.1").status == 200
    unfinished = [Wire(served.port).send("GET /") for _ in range(4)]
    new = [Wire(served.port) for _ in range(20)]
    assert [wire.ask("GET /_all_dbs HTTP/1.1").status for wire in new[-5:]] == [200] * 5
    # The time for the head of a request is shorter than that for the next request.
    assert all(wire.at_end() for wire in unfinished)


def test_probes_are_answered_when_all_connections_are_busy() -> None:
    served = Served(MemoryBackend(), Limits(connections=5))
    served.application.service = Service(lambda: ("ok", {}))
    assert Wire(served.port).ask("PUT /db HTTP/1.1").status == 201
    feeds = [Wire(served.port).send(f"{FEED} HTTP/1.1\nHost: x\n\n") for _ in range(5)]
    assert eventually(lambda: served.application.feeds == 5)
    silent = [Wire(served.port) for _ in range(10)]
    for target in ("/_up", "/_couchdal/health"):
        assert Wire(served.port).ask(f"GET {target} HTTP/1.1").status == 200
    for head in ("GET /db HTTP/1.1", "PUT /other HTTP/1.1", f"{FEED} HTTP/1.1"):
        refused = Wire(served.port).ask(head)
        assert (refused.status, refused.closed) == (503, True)
        assert refused.json()["reason"] == "the server allows no more connections"  # type: ignore[index,call-overload]
    assert sum(wire.at_end() for wire in silent[:9]) == 9
    for feed in feeds:
        feed.close()
    assert eventually(lambda: Wire(served.port).ask("GET /db HTTP/1.1").status == 200)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("sent", ["", "GET /db HTTP/1.1\r\nHost", "PUT /db HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"])
def test_server_without_free_file_descriptors_answers_probes(sent: str) -> None:
    with couchdal_serve(files=60) as (url, process):
        port = int(url.rpartition(":")[2])
        wires = [Wire(port).send(sent) for _ in range(150)]
        time.sleep(0.3)
        before = processor_time(process.pid)
        for path in ("/_up", "/_couchdal/health"):
            assert Wire(port).ask(f"GET {path} HTTP/1.1").status == 200
        time.sleep(1)
        assert processor_time(process.pid) - before < 0.5
        for wire in wires:
            wire.close()
        assert eventually(lambda: Wire(port).ask("GET /_all_dbs HTTP/1.1").status == 200)
        process.terminate()
        assert process.communicate(timeout=20)[1] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of another process")
def test_server_that_cannot_accept_connections_comes_back() -> None:
    """Its listening loop neither ends nor spins when the system refuses another file descriptor."""
    import resource  # Windows has none

    with couchdal_serve() as (url, process):
        port = int(url.rpartition(":")[2])
        open_one = Wire(port)
        assert open_one.ask("GET /_up HTTP/1.1").status == 200
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        # All descriptors that the server may have are open.
        opened = max(int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir())
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (opened + 1, hard))
        waiting = [Wire(port).send("GET /_up HTTP/1.1\nHost: x\n\n") for _ in range(3)]
        time.sleep(0.5)
        before = processor_time(process.pid)
        time.sleep(2)
        # A loop that tries again and again would need all of this time.
        assert processor_time(process.pid) - before < 1
        assert open_one.ask("GET /_up HTTP/1.1").status == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert eventually(lambda: Wire(port).ask("GET /_up HTTP/1.1").status == 200)
        for wire in waiting:
            wire.close()
        process.terminate()
        process.communicate(timeout=20)


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_body_that_drips_is_refused_in_time() -> None:
    port = Served(MemoryBackend(), Limits(body_timeout_s=0.4)).port
    wire = Wire(port).send("PUT /db HTTP/1.1\nHost: x\nContent-Length: 1000\n\n")
    begun = time.monotonic()
    with suppress(ConnectionError):
        while time.monotonic() - begun < 1.5:
            wire.send(" ")
            time.sleep(0.1)
    assert wire.answer().status == 408


def test_connection_that_sends_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_KEEP_ALIVE_S", 1)
    port = Served(MemoryBackend()).port
    silent, talking, empty = Wire(port), Wire(port), Wire(port)
    assert talking.ask("GET /_up HTTP/1.1").status == 200
    begun = time.monotonic()
    # Empty lines may come before a request. They are not the beginning of one.
    with suppress(ConnectionError):
        while time.monotonic() - begun < 2:
            empty.send("\n")
            time.sleep(0.1)
    for wire in (silent, talking, empty):
        assert wire.at_end()
    assert time.monotonic() - begun < 4


def test_failed_logins_are_bounded() -> None:
    failures: Failures = {}
    for number in range(10_500):
        key = failure_key("127.0.0.1", f"{number}" + "x" * 10_000, "")
        assert sum(map(len, key)) < 100
        count_failure(failures, key, Settings(), now=0.0)
    assert len(failures) == 10_000
    for number in range(6_000):
        count_failure(failures, failure_key("127.0.0.1", str(number), ""), Settings(), now=301.0)
    assert len(failures) == 6_000


def test_indexes_and_functions_of_deleted_design_documents_are_dropped() -> None:
    backend = MemoryBackend(database="db")
    backend.handle_request("_design/x", "PUT", {"views": {"v": {"map": "function(d) { emit(d._id); }"}}})
    backend.handle_request("_design/s", "PUT", {"shows": {"s": "function() { return 'x'; }"}})
    backend.handle_request("_index", "POST", {"index": {"fields": ["a"]}, "ddoc": "i"})
    backend.handle_request("_design/x/_view/v")
    backend.exchange(backend.relative_request("GET", "_design/s/_show/s"))
    backend.handle_request("_find", "POST", {"selector": {"a": {"$gt": 1}}})
    indexes = backend.server.databases["db"].indexes
    kept = [indexes._view_indexes, indexes._json_indexes, indexes._query_servers]
    assert [len(one) for one in kept] == [1, 1, 1]
    for name in "xsi":
        rev = backend.handle_request(f"_design/{name}")["_rev"]  # type: ignore[index,call-overload]
        backend.handle_request(f"_design/{name}?rev={rev}", "DELETE")
    backend.handle_request("a", "PUT", {})
    assert (indexes._view_indexes, indexes._json_indexes, indexes._query_servers) == ({}, {}, {})


def test_known_passwords_are_bounded_and_not_kept_as_text() -> None:
    known: dict[str, bytes] = {}
    for number in range(1100):
        users.remember(known, str(number), b"secret" * 10_000)
    assert len(known) == 1000
    assert "1099" in known
    assert {len(digest) for digest in known.values()} == {32}


def test_long_values_are_not_kept_in_caches() -> None:
    long = "x" * 100_000
    backend = MemoryBackend(database="db")
    caches = [framing._encode_header, users._derive_short, bookmark._pack_id]
    headers_of(Request("GET", "/"), Response(200), b"", None)
    before = [cache.cache_info().currsize for cache in caches]
    response = Response(200, {"x-long": long})
    headers_of(Request("GET", "/"), response, b"", None)
    users.derive_key("sha256", long.encode(), b"salt", 1)
    bookmark.pack_bookmark(long, long)
    assert [cache.cache_info().currsize for cache in caches] == before
    backend.handle_request("a", "PUT", {long: {long: 1}})
    external_term.encode_term({long: 1})
    collation.string_key(long)
    kept: list[Container[str]] = [document._plain_names, external_term._members, collation._keys]
    assert [long in names for names in kept] == [False] * 3


def test_needed_indexes_are_bounded() -> None:
    backend = watch_indexes(MemoryBackend(database="db"), require=False)
    for number in range(1100):
        backend.handle_request("_find", "POST", {"selector": {f"field{number}": 1}})
    watch = find_watch(backend)
    assert watch is not None
    assert len(watch.suggestions()) == 1000


def test_weights_of_characters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_collation, "_MOST_KEPT", 100)
    sort_key = root_collation.load_collator().sort_key
    texts = [chr(code) for code in range(0x4E00, 0x4F00)]
    assert sorted(texts, key=sort_key) == sorted(texts, key=sort_key)
    assert len(sort_key.__self__._weights) <= 100  # type: ignore[attr-defined]


def packed_attachment(port: int, size: int) -> Wire:
    wire = Wire(port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    head = "PUT /db/doc/bomb HTTP/1.1\nContent-Type: application/octet-stream\nContent-Encoding: gzip"
    assert wire.ask(head, gzip.compress(b"a" * size)).status == 201
    return wire


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_attachment_is_inflated_while_it_is_sent() -> None:
    with couchdal_serve() as (url, process):
        port = int(url.rpartition(":")[2])
        wire = packed_attachment(port, 256 * MIB)
        before = peak_of(process.pid)
        readers = [Wire(port).send("GET /db/doc/bomb HTTP/1.1\nHost: x\n\n") for _ in range(10)]
        assert wire.ask("GET /_up HTTP/1.1").status == 200
        whole, size = readers[0], 0
        whole.read_until(b"\r\n\r\n")
        while length := int(whole.read_until(b"\r\n"), 16):
            size += len(whole.take(length + 2)) - 2
        assert size == 256 * MIB
        assert peak_of(process.pid) - before < 40 * MIB


def test_inline_attachment_is_inflated_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "INFLATED_BODY", 2 * MIB)
    for size, status in ((2 * MIB, 200), (2 * MIB + 1, 413)):
        wire = packed_attachment(Served(MemoryBackend()).port, size)
        assert wire.ask("GET /db/doc?attachments=true HTTP/1.1\nAccept: application/json").status == status


def test_long_text_that_the_server_compressed_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "INFLATED_BODY", 2 * MIB)
    wire = Wire(Served(MemoryBackend()).port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    text = b"a" * 3 * MIB
    assert wire.ask("PUT /db/doc/text HTTP/1.1\nContent-Type: text/plain", text).status == 201
    assert wire.ask("GET /db/doc/text HTTP/1.1").body == text
    answer = wire.ask("GET /db/doc?attachments=true HTTP/1.1\nAccept: application/json")
    assert (answer.status, len(answer.body) > 4 * MIB) == (200, True)


def test_long_attachment_that_is_not_whole_breaks_off() -> None:
    wire = Wire(Served(MemoryBackend()).port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    head = "PUT /db/doc/cut HTTP/1.1\nContent-Type: application/octet-stream\nContent-Encoding: gzip"
    assert wire.ask(head, gzip.compress(random.Random(1).randbytes(3 * MIB))[:-100]).status == 201
    with pytest.raises(EOFError):
        wire.ask("GET /db/doc/cut HTTP/1.1")


def test_long_patterns_are_not_kept() -> None:
    before = regex._compile_short.cache_info().currsize
    assert regex.compile_regex("a" * 5000) is not None
    assert regex._compile_short.cache_info().currsize == before


def test_cookie_of_a_deleted_user_stays_invalid() -> None:
    backend = MemoryBackend(admin=("root", "secret"))
    ada = {"name": "ada", "password": "x", "roles": [], "type": "user"}
    path = "/_users/org.couchdb.user:ada"
    headers = {"authorization": f"Basic {b64encode(b'root:secret').decode()}"}

    def admin(method: str, path: str, payload: object = None) -> dict[str, str]:
        request = Request(method, *path.partition("?")[::2], headers, json=payload)
        return cast("dict[str, str]", backend.exchange(request).result())

    rev = admin("PUT", path, ada)["rev"]
    login = backend.exchange(Request("POST", "/_session", "", AS_JSON_HEADER, json={"name": "ada", "password": "x"}))
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    assert backend.exchange(Request("GET", "/_session", "", cookie)).value()["userCtx"]["name"] == "ada"  # type: ignore[index,call-overload]
    admin("DELETE", f"{path}?rev={rev}")
    admin("PUT", path, ada)
    assert backend.exchange(Request("GET", "/_session", "", cookie)).value()["userCtx"]["name"] is None  # type: ignore[index,call-overload]
