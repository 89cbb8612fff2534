"""Long requests to a served emulator: they see one state, end in time, and leave nothing half done."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from processes import couchdal_serve
from raw_http import Served, Wire

from couchdal import MemoryBackend
from couchdal.emulator.storage.layer import Layer
from couchdal.http.messages import Request
from couchdal.server.framing import Limits

pytestmark = pytest.mark.usefixtures("no_middleware")

COUNT = 6000
AS_JSON = "\nContent-Type: application/json"
# No index and no table of values serves this.
SLOW = {"selector": {"$or": [{"text": {"$regex": f"x{n}y"}} for n in range(300)]}}
EVERYTHING = {"selector": {"n": {"$gte": 0}}, "limit": 10 * COUNT}


def ask(wire: Wire, method: str, path: str, payload: object = None) -> Any:
    body = b"" if payload is None else json.dumps(payload).encode()
    return wire.ask(f"{method} {path} HTTP/1.1{AS_JSON}", body).json()


def numbered(prefix: str, count: int, value: int = 0) -> list[dict[str, object]]:
    return [{"_id": f"{prefix}{n:06}", "n": n, "v": value, "text": "x" * 50} for n in range(count)]


def fill(wire: Wire, count: int = COUNT) -> None:
    ask(wire, "PUT", "/db")
    ask(wire, "POST", "/db/_bulk_docs", {"docs": numbered("d", count)})
    ask(wire, "POST", "/db/_index", {"index": {"fields": ["n"]}, "ddoc": "by", "name": "n"})


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def served(backend: MemoryBackend) -> Served:
    return Served(backend)


@pytest.fixture
def wire(served: Served) -> Iterator[Wire]:
    with closing(Wire(served.port)) as opened:
        yield opened


def wait_until(is_true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- one state

READS: dict[str, tuple[str, str, object, Callable[[Any], list[int]]]] = {
    "all_docs": ("GET", "/db/_all_docs?include_docs=true", None, lambda a: [r["doc"]["v"] for r in a["rows"]]),
    "keys": (
        "POST",
        "/db/_all_docs?include_docs=true",
        {"keys": [f"d{n:06}" for n in range(COUNT)]},
        lambda a: [row["doc"]["v"] for row in a["rows"]],
    ),
    "changes": ("GET", "/db/_changes?include_docs=true", None, lambda a: [r["doc"]["v"] for r in a["results"]]),
    "find": ("POST", "/db/_find", EVERYTHING, lambda a: [doc["v"] for doc in a["docs"]]),
    "bulk_get": (
        "POST",
        "/db/_bulk_get",
        {"docs": [{"id": f"d{n:06}"} for n in range(COUNT)]},
        lambda a: [result["docs"][0]["ok"]["v"] for result in a["results"]],
    ),
}


class Writer:
    """Gives all documents the next value, in one request, again and again."""

    def __init__(self, port: int, revs: dict[str, str]) -> None:
        self.stopped = False
        self.rounds = 0
        self.thread = threading.Thread(target=self.run, args=(port, revs))
        self.thread.start()

    def run(self, port: int, revs: dict[str, str]) -> None:
        with closing(Wire(port)) as wire:
            while not self.stopped:
                docs = [
                    {"_id": doc_id, "_rev": rev, "n": n, "v": self.rounds + 1, "text": "x" * 50}
                    for n, (doc_id, rev) in enumerate(revs.items())
                ]
                # A document of the database's own, so that small writes come between.
                ask(wire, "POST", "/db", {"n": -1, "v": -1})
                for row in ask(wire, "POST", "/db/_bulk_docs", {"docs": docs}):
                    revs[row["id"]] = row["rev"]
                self.rounds += 1

    def stop(self) -> None:
        self.stopped = True
        self.thread.join()


def test_long_reads_see_one_state_while_others_write(backend: MemoryBackend, served: Served, wire: Wire) -> None:
    fill(wire)
    rows = ask(wire, "GET", "/db/_all_docs")["rows"]
    writer = Writer(served.port, {row["id"]: row["value"]["rev"] for row in rows if len(row["id"]) == 7})
    seen: dict[str, set[int]] = {}
    try:
        for _ in range(4):
            for name, (method, path, payload, values) in READS.items():
                if name in ("all_docs", "changes"):
                    answer = ask(wire, method, path)
                    field = "rows" if name == "all_docs" else "results"
                    answer[field] = [row for row in answer[field] if len(row["id"]) == 7]
                else:
                    answer = ask(wire, method, path, payload)
                found = values(answer)
                assert len(found) == COUNT, name
                assert len(set(found)) == 1, (name, set(found))
                seen.setdefault(name, set()).update(found)
    finally:
        writer.stop()
    assert writer.rounds >= 3
    assert max(map(len, seen.values())) > 1
    database = backend.server.databases["db"]
    # What was written beside a pinned storage has sunk into it.
    wait_until(lambda: not isinstance(database.storage, Layer))
    assert database.storage.pins == 0
    assert backend.check() == []


def test_random_requests_in_parallel_leave_a_right_database(backend: MemoryBackend, served: Served, wire: Wire) -> None:
    fill(wire, 2000)
    failed: list[object] = []

    def act(seed: int) -> None:
        choices = random.Random(seed)
        try:
            with closing(Wire(served.port)) as own:
                for _ in range(12):
                    one(own, choices)
        except Exception as error:
            failed.append(error)

    def one(own: Wire, choices: random.Random) -> None:
        kind = choices.randrange(8)
        doc_id = f"d{choices.randrange(2000):06}"
        if kind == 0:
            ask(own, "POST", "/db/_bulk_docs", {"docs": numbered(choices.choice("abc"), choices.randrange(1, 900))})
        elif kind == 1:
            ask(own, "POST", "/db/_find", EVERYTHING)
        elif kind == 2:
            ask(own, "GET", "/db/_changes?include_docs=true")
        elif kind == 3:
            doc = ask(own, "GET", f"/db/{doc_id}")
            if "_rev" in doc:
                ask(own, "DELETE", f"/db/{doc_id}?rev={doc['_rev']}")
        elif kind == 4:
            doc = ask(own, "GET", f"/db/{doc_id}")
            if "_rev" in doc:
                ask(own, "POST", "/db/_purge", {doc_id: [doc["_rev"]]})
        elif kind == 5:
            ask(own, "PUT", f"/db/_local/{doc_id}", {"n": 1})
        elif kind == 6:
            ask(own, "POST", "/db/_compact", {})
        else:
            leaves = [{"_id": doc_id, "_rev": f"1-{n:032x}", "n": n} for n in range(300)]
            ask(own, "POST", "/db/_bulk_docs", {"docs": leaves, "new_edits": False})

    threads = [threading.Thread(target=act, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # Requests in process, and snapshots, come between those of the server.
        backend.send(Request("POST", "/db", "", {"content-type": "application/json"}, json={"n": 1}))
        backend.snapshot()
        time.sleep(0.01)
    assert failed == []
    database = backend.server.databases["db"]
    wait_until(lambda: database.writer is None and database.storage.pins == 0)
    assert backend.check() == []
    assert ask(wire, "GET", "/db")["doc_count"] == len(ask(wire, "GET", "/db/_all_docs")["rows"])


# --- deadlines


def test_request_out_of_time_is_answered_and_changes_nothing(backend: MemoryBackend) -> None:
    with closing(Wire(Served(backend).port)) as wire:
        fill(wire)
        # The first request for the sizes reads all documents.
        before = ask(wire, "GET", "/db")
    with closing(Wire(Served(backend, Limits(request_timeout_s=0.02)).port)) as wire:
        for method, path, payload in (
            ("POST", "/db/_bulk_docs", {"docs": numbered("e", 20_000)}),
            ("POST", "/db/_find", SLOW),
            ("GET", "/db/_all_docs?include_docs=true", None),
        ):
            body = b"" if payload is None else json.dumps(payload).encode()
            answer = wire.ask(f"{method} {path} HTTP/1.1{AS_JSON}", body)
            assert answer.status == 500, path
            assert answer.json() == {
                "error": "timeout",
                "reason": "The request could not be processed in a reasonable amount of time.",
            }
        assert ask(wire, "GET", "/db") == before
    wait_until(lambda: backend.server.databases["db"].storage.pins == 0)
    assert backend.server.databases["db"].writer is None
    assert backend.check() == []


def test_index_build_out_of_time_goes_on_with_the_next_request(backend: MemoryBackend) -> None:
    with closing(Wire(Served(backend).port)) as wire:
        fill(wire)
    query = {"selector": {"n": {"$gte": 0}}, "limit": 1}
    with closing(Wire(Served(backend, Limits(request_timeout_s=0.02)).port)) as wire:
        end = time.monotonic() + 30
        tries = 0
        while "docs" not in (answer := ask(wire, "POST", "/db/_find", query)):
            assert answer["error"] == "timeout"
            assert time.monotonic() < end
            tries += 1
    assert tries > 0
    assert backend.check() == []


# --- passwords


@pytest.mark.parametrize("iterations", [1_000_000_000, 900_000])
def test_passwords_of_hostile_users_take_no_time_of_others(backend: MemoryBackend, iterations: int) -> None:
    key = {"password_scheme": "pbkdf2", "derived_key": "aa", "salt": "x", "pbkdf2_prf": "sha512"}
    with closing(Wire(Served(backend, Limits(request_timeout_s=2)).port)) as wire:
        fill(wire)
        hostile: list[Wire] = []
        for n in range(30):
            user = {"name": f"u{n}", "type": "user", "roles": [], "iterations": iterations - n, **key}
            assert ask(wire, "PUT", f"/_users/org.couchdb.user:u{n}", user)["ok"]
            body = b"name=u%d&password=x" % n
            head = b"POST /_session HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            hostile.append(Wire(wire.port).send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body))
        short, long = [], []
        for n in range(20):
            begun = time.monotonic()
            assert ask(wire, "PUT", f"/db/new{n}", {})["ok"]
            short.append(time.monotonic() - begun)
            begun = time.monotonic()
            assert len(ask(wire, "GET", "/db/_all_docs")["rows"]) > COUNT
            long.append(time.monotonic() - begun)
        answers = [other.answer() for other in hostile]
    assert sorted(short)[10] < 0.1, short
    assert sorted(long)[10] < 1, long
    words = {answer.json()["error"] for answer in answers}
    assert words == {"timeout"} if iterations > 1_000_000 else words <= {"timeout", "unauthorized"}, words


# --- the client, and the end


def test_disconnected_client_ends_its_request(backend: MemoryBackend, served: Served, wire: Wire) -> None:
    fill(wire)
    body = json.dumps(SLOW).encode()
    leaving = Wire(served.port)
    leaving.send(f"POST /db/_find HTTP/1.1\nHost: x{AS_JSON}\nContent-Length: {len(body)}\n\n").send(body)
    database = backend.server.databases["db"]
    wait_until(lambda: database.storage.pins > 0)
    leaving.close()
    wait_until(lambda: database.storage.pins == 0 and served.application.requests == 0, 2)


def test_writes_of_one_database_wait_for_each_other_and_reads_do_not(served: Served, wire: Wire) -> None:
    fill(wire)
    ask(wire, "PUT", "/other")
    done: list[str] = []

    def write(name: str, method: str, path: str, payload: object) -> None:
        with closing(Wire(served.port)) as own:
            ask(own, method, path, payload)
            done.append(name)

    big = threading.Thread(target=write, args=("big", "POST", "/db/_bulk_docs", {"docs": numbered("e", 30_000)}))
    big.start()
    wait_until(lambda: backend_of(served).server.databases["db"].writer is not None)
    small = threading.Thread(target=write, args=("small", "PUT", "/db/after", {"n": 1}))
    small.start()
    assert ask(wire, "GET", "/db/d000001")["n"] == 1
    assert ask(wire, "PUT", "/other/a", {})["ok"]
    done.append("others")
    big.join()
    small.join()
    assert done[0] == "others"
    last = ask(wire, "GET", "/db/_changes?descending=true&limit=1")["results"][0]["id"]
    assert last == "after"


def backend_of(served: Served) -> MemoryBackend:
    assert isinstance(served.backend, MemoryBackend)
    return served.backend


def test_terminated_server_ends_in_time_under_load() -> None:
    with couchdal_serve("--shutdown-timeout", "1") as (url, process):
        port = int(url.rpartition(":")[2])
        with closing(Wire(port)) as wire:
            fill(wire, 20_000)
        query = json.dumps(SLOW).encode()
        bulk = json.dumps({"docs": numbered("e", 50_000)}).encode()
        wires = [Wire(port) for _ in range(6)]
        for own, (path, body) in zip(wires, [("/db/_find", query), ("/db/_bulk_docs", bulk)] * 3, strict=True):
            own.send(f"POST {path} HTTP/1.1\nHost: x{AS_JSON}\nContent-Length: {len(body)}\n\n").send(body)
        time.sleep(0.5)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)
        assert time.monotonic() - begun < 5
        for own in wires:
            with suppress(OSError):
                own.close()


@pytest.mark.parametrize("change", ["write", "purge"])
def test_reduction_that_does_not_end_for_some_data_stops_nobody(change: str) -> None:
    """The function ends for three rows, but not for the two or four that a change leaves."""
    endless = "function (keys, values, again) { while (values.length === %d); return again ? values[0] : 3; }"
    with couchdal_serve() as (url, _), closing(Wire(int(url.rpartition(":")[2]))) as wire:
        ask(wire, "PUT", "/db")
        revs = {name: ask(wire, "PUT", f"/db/{name}", {"n": 1})["rev"] for name in "abc"}
        view = {"map": "function (doc) { emit(doc._id, 1); }", "reduce": endless % (4 if change == "write" else 2)}
        ask(wire, "PUT", "/db/_design/d", {"views": {"v": view}})
        assert ask(wire, "GET", "/db/_design/d/_view/v")["rows"][0]["value"] == 3
        if change == "write":
            ask(wire, "PUT", "/db/d", {"n": 1})
        else:
            ask(wire, "POST", "/db/_purge", {"a": [revs["a"]]})
        with closing(Wire(int(url.rpartition(":")[2]))) as slow:
            slow.send("GET /db/_design/d/_view/v HTTP/1.1\nHost: x\n\n")
            longest, ends = 0.0, time.monotonic() + 3
            while (begun := time.monotonic()) < ends:
                assert ask(wire, "GET", "/db/b")["n"] == 1
                longest = max(longest, time.monotonic() - begun)
                time.sleep(0.01)
            assert longest < 1
            answer = slow.answer()
            assert answer.status == 500
            assert answer.json() == {"error": "os_process_error", "reason": "OS process timed out.", "ref": 0}
