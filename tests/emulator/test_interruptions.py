"""A write happens wholly or not at all, wherever an exception ends it.

Each kind of write is repeated, and an exception raised at another line of the package each time. Afterwards the data
must be those from before the write or those from after it.
"""

from __future__ import annotations

import gc
import json
import linecache
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sortedcontainers
from processes import forked

import couchdal
from couchdal import BackendError, CouchDAL, SqliteBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.changes.changes_feed import ChangesFeed
from couchdal.emulator.engine.javascript.runtime import is_installed
from couchdal.emulator.engine.server import forks
from couchdal.http.messages import ABSENT, Request, Response

TRACED = (str(Path(couchdal.__file__).parent), str(Path(sortedcontainers.__file__).parent))
# Python cannot be interrupted by a signal at these lines. A trace function can, and then the lock stays locked.
UNREACHABLE = (".lock:", "journal.busy = False")
SOAK = bool(os.environ.get("SOAK"))
# The lines that a run of the quick tests tries of each kind of write.
MOST_LINES = 60
MOST_INSTRUCTIONS = 800

Act = Callable[[MemoryBackend], object]


class Interruption(BaseException):
    """The exception of a signal handler."""


def send(backend: MemoryBackend, method: str, path: str, payload: object = ABSENT) -> Response:
    path, _, query = path.partition("?")
    return backend.send(Request(method, path, query, {"content-type": "application/json"}, json=payload))


def ask(backend: MemoryBackend, method: str, path: str, payload: object = ABSENT) -> Any:
    return send(backend, method, path, payload).result()


def filled(backend: MemoryBackend) -> None:
    """Write documents of every kind, and build an index."""
    ask(backend, "PUT", "/db")
    ask(backend, "POST", "/db/_index", {"index": {"fields": ["n"]}, "ddoc": "by", "name": "n"})
    ask(backend, "POST", "/db/_bulk_docs", {"docs": [{"_id": f"d{n}", "n": n} for n in range(6)]})
    for doc_id in ("d1", "d4"):
        ask(backend, "DELETE", f"/db/{doc_id}?rev={rev_of(backend, doc_id)}")
    branches = [{"_id": "d2", "_rev": f"2-{letter * 32}", "n": 9} for letter in "ab"]
    ask(backend, "POST", "/db/_bulk_docs", {"docs": branches, "new_edits": False})
    ask(backend, "PUT", "/db/_local/l", {"n": 1})
    find(backend)
    ask(backend, "GET", '/db/_all_docs?startkey="d0"')


def rev_of(backend: MemoryBackend, doc_id: str) -> str:
    rev: str = ask(backend, "GET", f"/db/{doc_id}")["_rev"]
    return rev


def find(backend: MemoryBackend) -> list[str]:
    rows = ask(backend, "POST", "/db/_find", {"selector": {"n": {"$gte": 0}}, "limit": 500})["docs"]
    return [row["_id"] for row in rows]


def dump(backend: MemoryBackend) -> dict[str, object]:
    """Return all data of the server. Generated ids, caches and time are not data."""
    server = backend.server
    found: dict[str, object] = {"admins": dict(server.admins), "generation": server.generation}
    found["configuration"] = server.config and server.config.values
    for name, db in server.databases.items():
        records = [(one.doc_id, one.seq, [trace_of(leaf) for leaf in one.tree]) for one in db.storage.changes()]
        found[name] = (
            db.info(),
            records,
            db.storage.locals(),
            db.security,
            db.purges,
            db.revs_limit,
            db.design_version,
        )
    return found


def trace_of(leaf: Any) -> list[object]:
    return [(one.rev, one.deleted, one.body, [part.digest for part in one.attachments]) for one in leaf.path()]


@cache
def is_reachable(file: str, line: int) -> bool:
    return not any(part in linecache.getline(file, line) for part in UNREACHABLE)


def run_until(act: Callable[[], object], last: int, step: str = "line") -> int:
    """Call ``act``, and raise ``Interruption`` at the given line of the package. Return the lines that were counted.

    With the ``step`` "opcode", instructions of the interpreter count instead of lines.
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        frame.f_trace_opcodes = step == "opcode"
        if event == step and is_reachable(frame.f_code.co_filename, frame.f_lineno or 0):
            count += 1
            if count == last:
                raise Interruption
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except Interruption:
        pass
    finally:
        sys.settrace(before)
    return count


def bulk(backend: MemoryBackend) -> object:
    changed = [{"_id": "d0", "_rev": rev_of(backend, "d0"), "n": 7}, {"_id": "d3", "n": 7}, {"_id": "d1", "n": 8}]
    return ask(backend, "POST", "/db/_bulk_docs", {"docs": [*changed, {"_id": "new"}, {"_id": "_local/m", "n": 1}]})


def new_edits_false(backend: MemoryBackend) -> object:
    docs = [{"_id": "d5", "_revisions": {"start": 3, "ids": [one * 32 for one in "abc"]}}, {"_id": "x", "_rev": "1-a"}]
    return ask(backend, "POST", "/db/_bulk_docs", {"docs": docs, "new_edits": False})


def attachment(backend: MemoryBackend) -> object:
    inline = {"a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}
    return ask(backend, "PUT", "/db/with", {"_attachments": inline})


def design(backend: MemoryBackend) -> object:
    ask(backend, "POST", "/db/_index", {"index": {"fields": ["m"]}, "ddoc": "other", "name": "m"})
    return None


def user(backend: MemoryBackend) -> object:
    body = {"name": "joe", "roles": [], "type": "user", "password_scheme": "simple", "password_sha": "a", "salt": "b"}
    return ask(backend, "PUT", "/_users/org.couchdb.user:joe", body)


def purge(backend: MemoryBackend) -> object:
    gone = {"d0": [rev_of(backend, "d0")], "d2": ["2-" + "b" * 32], "missing": ["1-a"]}
    return ask(backend, "POST", "/db/_purge", gone)


def index_update(backend: MemoryBackend) -> object:
    return find(backend)


def keep(backend: MemoryBackend) -> Act:
    snapshot = backend.snapshot()
    change(backend)
    return lambda _: snapshot.restore()


def change(backend: MemoryBackend) -> None:
    ask(backend, "PUT", "/db/later", {"n": 3})
    ask(backend, "PUT", "/other")
    ask(backend, "POST", "/db/_purge", {"d3": [rev_of(backend, "d3")]})
    find(backend)


def carry(backend: MemoryBackend) -> Act:
    early = backend.snapshot()
    ask(backend, "PUT", "/db/between", {"n": 3})
    before = backend.snapshot()
    change(backend)
    return lambda _: early.with_changes_since(before)


def always(act: Act) -> Callable[[MemoryBackend], Act]:
    return lambda _: act


def dirty(act: Act) -> Callable[[MemoryBackend], Act]:
    """Leave an index behind its documents, so that the act updates it."""

    def prepare(backend: MemoryBackend) -> Act:
        ask(backend, "PUT", "/db/d0", {"_rev": rev_of(backend, "d0"), "n": 4})
        ask(backend, "PUT", "/db/d9", {"n": 4})
        return act

    return prepare


def reset_configured(backend: MemoryBackend) -> Act:
    ask(backend, "PUT", "/_node/_local/_config/private/level", "1")
    return lambda backend: backend.reset()


WRITES: dict[str, Callable[[MemoryBackend], Act]] = {
    "put": always(lambda backend: ask(backend, "PUT", "/db/new", {"n": 1})),
    "post": always(lambda backend: ask(backend, "POST", "/db", {"n": 1})),
    "update": always(lambda backend: ask(backend, "PUT", "/db/d0", {"_rev": rev_of(backend, "d0"), "n": 2})),
    "delete": always(lambda backend: ask(backend, "DELETE", f"/db/d0?rev={rev_of(backend, 'd0')}")),
    "bulk with conflicts": always(bulk),
    "new_edits: false": always(new_edits_false),
    "attachment": always(attachment),
    "local": always(lambda backend: ask(backend, "PUT", "/db/_local/l", {"_rev": "0-1", "n": 2})),
    "local deleted": always(lambda backend: ask(backend, "DELETE", "/db/_local/l?rev=0-1")),
    "purge": always(purge),
    "compact": always(lambda backend: ask(backend, "POST", "/db/_compact", {})),
    "security": always(lambda backend: ask(backend, "PUT", "/db/_security", {"admins": {"names": ["x"]}})),
    "revs_limit": always(lambda backend: ask(backend, "PUT", "/db/_revs_limit", 3)),
    "design document": always(design),
    "index update": dirty(index_update),
    "create database": always(lambda backend: ask(backend, "PUT", "/made")),
    "delete database": always(lambda backend: ask(backend, "DELETE", "/db")),
    "user": always(user),
    "restore": keep,
    "carry over": carry,
    "snapshot": always(lambda backend: backend.snapshot()),
    "fork": always(lambda backend: backend.fork()),
    "reset": always(lambda backend: backend.reset()),
    "reset of a configured server": reset_configured,
    "clock": always(lambda backend: backend.clock.advance(5)),
}


def prepared(kind: str, *, overlaid: bool) -> tuple[MemoryBackend, Act]:
    backend = MemoryBackend()
    filled(backend)
    # CouchDB's own design document is there before the write.
    ask(backend, "GET", "/_users")
    if overlaid:
        # Writes now go to an overlay above the documents.
        backend.snapshot()
    return backend, WRITES[kind](backend)


def chosen(kind: str, lines: int) -> list[int]:
    every = range(1, lines + 1)
    return list(every) if SOAK or lines <= MOST_LINES else sorted(random.Random(kind).sample(every, MOST_LINES))


@pytest.mark.random
@pytest.mark.parametrize("overlaid", [False, True], ids=["memory", "overlay"])
@pytest.mark.parametrize("kind", WRITES)
def test_interrupted_write_happens_wholly_or_not_at_all(
    kind: str, figure: Callable[[str, int], None], *, overlaid: bool
) -> None:
    # The first run imports modules and fills caches.
    backend, act = prepared(kind, overlaid=overlaid)
    act(backend)
    backend, act = prepared(kind, overlaid=overlaid)
    before = dump(backend)
    lines = run_until(lambda: act(backend), 0)
    after = dump(backend)
    assert backend.check() == []
    outcomes = {"before": 0, "after": 0}
    for line in chosen(kind, lines):
        backend, act = prepared(kind, overlaid=overlaid)
        run_until(lambda backend=backend, act=act: act(backend), line)  # type: ignore[misc]
        assert backend.check() == [], f"after an exception at line {line} of {lines}"
        found = dump(backend)
        assert found in (before, after), f"after an exception at line {line} of {lines}"
        outcomes["before" if found == before else "after"] += 1
        if send(backend, "GET", "/db").status == 200:
            ids = find(backend)
            ask(backend, "PUT", "/db/next", {"n": 1})
            assert find(backend) == sorted([*ids, "next"], key=lambda doc_id: n_of(backend, doc_id))
            assert backend.check() == [], f"after another write, after an exception at line {line} of {lines}"
    figure("lines of writes at which an exception was raised", sum(outcomes.values()))


@pytest.mark.soak
@pytest.mark.parametrize("kind", WRITES)
def test_write_that_is_interrupted_between_instructions_happens_wholly_or_not_at_all(
    kind: str, figure: Callable[[str, int], None]
) -> None:
    backend, act = prepared(kind, overlaid=False)
    act(backend)
    backend, act = prepared(kind, overlaid=False)
    before = dump(backend)
    count = run_until(lambda: act(backend), 0, "opcode")
    after = dump(backend)
    tried = random.Random(kind).sample(range(1, count + 1), min(count, MOST_INSTRUCTIONS))
    for place in tried:
        backend, act = prepared(kind, overlaid=False)
        run_until(lambda backend=backend, act=act: act(backend), place, "opcode")  # type: ignore[misc]
        assert backend.check() == [], f"after an exception at instruction {place} of {count}"
        assert dump(backend) in (before, after), f"after an exception at instruction {place} of {count}"
    figure("instructions of writes at which an exception was raised", len(tried))


def n_of(backend: MemoryBackend, doc_id: str) -> tuple[int, str]:
    return ask(backend, "GET", f"/db/{doc_id}")["n"], doc_id


def test_server_is_forgotten_without_code_that_can_be_interrupted() -> None:
    """Python can only print what such code raises, because the garbage collector has called it."""
    kept = [MemoryBackend()]
    known = forks._servers
    gc.collect()
    count = len(known)

    def forget() -> None:
        kept.clear()
        gc.collect()

    assert run_until(forget, 1) == 0
    assert len(known) == count - 1


# --- updates of indexes -----------------------------------------------------------------------------------------------

VIEWS = {
    "rows": {"map": "function (doc) { emit(doc.n % 3, doc.n); emit(doc._id, null); }"},
    "sum": {"map": "function (doc) { emit(doc.n % 3, doc.n); }", "reduce": "_sum"},
    "stats": {"map": "function (doc) { emit([doc.n % 2, doc.n], 1); }", "reduce": "_stats"},
    "own": {
        "map": "function (doc) { emit(doc.n % 3, doc.n); }",
        "reduce": "function (keys, values) { return Math.max.apply(null, values); }",
    },
}
# What updates an index and reads it.
INDEXED: dict[str, Callable[[MemoryBackend], Any]] = {
    "mango": find,
    "rows": lambda backend: ask(backend, "GET", "/db/_design/views/_view/rows?include_docs=true")["rows"],
    "sum": lambda backend: ask(backend, "GET", "/db/_design/views/_view/sum?group=true")["rows"],
    "stats": lambda backend: ask(backend, "GET", "/db/_design/views/_view/stats?group_level=1")["rows"],
    "own": lambda backend: ask(backend, "GET", "/db/_design/views/_view/own")["rows"],
    "sizes": lambda backend: ask(backend, "GET", "/db")["sizes"],
    "settle": lambda backend: backend.settle(),
}


def indexed(kind: str, where: str, path: Path) -> MemoryBackend:
    """Return a backend whose indexes are behind their documents: some changed, some are deleted, one was purged."""
    backend = SqliteBackend(path) if where == "file" else MemoryBackend()
    filled(backend)
    ask(backend, "PUT", "/db/_design/views", {"views": VIEWS})
    docs = [{"_id": f"n{n:03}", "n": n} for n in range(60)]
    revs = {row["id"]: row["rev"] for row in ask(backend, "POST", "/db/_bulk_docs", {"docs": docs})}
    for read in INDEXED.values():
        read(backend)
    if where == "overlay":
        backend.snapshot()
    changed: list[dict[str, object]] = [{"_id": one, "_rev": revs[one], "n": 7} for one in list(revs)[:20]]
    changed += [{"_id": doc_id, "_rev": revs[doc_id], "_deleted": True} for doc_id in ("n030", "n031")]
    ask(backend, "POST", "/db/_bulk_docs", {"docs": changed})
    ask(backend, "POST", "/db/_purge", {"n040": [revs["n040"]]})
    return backend


@pytest.mark.random
@pytest.mark.skipif(not is_installed(), reason="views need JavaScript")
@pytest.mark.parametrize("where", ["memory", "overlay", "file"])
@pytest.mark.parametrize("kind", INDEXED)
def test_interrupted_index_update_leaves_right_rows(
    kind: str, where: str, tmp_path: Path, figure: Callable[[str, int], None]
) -> None:
    # The first run imports modules and fills caches.
    with closing(indexed(kind, where, tmp_path / "first")) as backend:
        INDEXED[kind](backend)
    with closing(indexed(kind, where, tmp_path / "whole")) as backend:
        lines = run_until(lambda: INDEXED[kind](backend), 0)
        expected = {name: read(backend) for name, read in INDEXED.items()}
        assert backend.check() == []
    tried = chosen(f"{kind} {where}", lines)[:: 1 if SOAK else 12 if where == "file" else 6]
    for line in tried:
        with closing(indexed(kind, where, tmp_path / str(line))) as backend:
            run_until(lambda backend=backend: INDEXED[kind](backend), line)  # type: ignore[misc]
            assert backend.check() == [], f"after an exception at line {line} of {lines}"
            found = {name: read(backend) for name, read in INDEXED.items()}
            assert found == expected, f"after an exception at line {line} of {lines}"
            assert backend.check() == [], f"after other reads, after an exception at line {line} of {lines}"
    figure("lines of index updates at which an exception was raised", len(tried))


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Set what a signal handler does. ``signal.setitimer`` sends the signal."""
    before = signal.getsignal(signal.SIGALRM)

    def handle(act: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: act())

    yield handle
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted_bulk_writes(backend: MemoryBackend, rounds: int) -> list[str]:
    """Write three documents again and again, and let a signal come at a random moment. Return what was wrong."""
    chance = random.Random(1)
    wrong = []
    docs: list[dict[str, object]] = [{"_id": f"d{n}", "n": n} for n in range(40)]
    for _ in range(rounds):
        with suppress(Interruption, BackendError):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-3))
                ask(
                    backend,
                    "POST",
                    "/db/_bulk_docs",
                    {"docs": [{**doc, "_rev": "1-a"} for doc in docs], "new_edits": False},
                )
                rows = ask(backend, "GET", "/db/_all_docs?include_docs=true")["rows"]
                ask(backend, "POST", "/db/_bulk_docs", {"docs": [row["doc"] for row in rows]})
            finally:
                # The signal may come here, too. It comes once.
                signal.setitimer(signal.ITIMER_REAL, 0)
        wrong += backend.check()
        changes = ask(backend, "GET", "/db/_changes")["results"]
        if len({row["id"] for row in changes}) < len(changes):
            wrong.append("an id is in the feed twice")
    return wrong


def interrupt() -> None:
    raise Interruption


@pytest.mark.random
def test_signal_that_raises_leaves_consistent_data(alarm: Callable[[Callable[[], None]], None]) -> None:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    alarm(interrupt)
    assert interrupted_bulk_writes(backend, 1500 if SOAK else 100) == []


@pytest.mark.random
def test_signal_handler_that_writes_is_refused_or_writes_wholly(alarm: Callable[[Callable[[], None]], None]) -> None:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    results = {"written": 0, "refused": 0}

    def write() -> None:
        try:
            ask(backend, "POST", "/db", {"by": "handler"})
            results["written"] += 1
        except BackendError as error:
            results["refused"] += "already in the middle of a request" in str(error)

    alarm(write)
    assert interrupted_bulk_writes(backend, 1500 if SOAK else 100) == []
    print(results)  # noqa: T201
    stored = [row for row in ask(backend, "GET", "/db/_all_docs?include_docs=true")["rows"] if "by" in row["doc"]]
    assert len(stored) == results["written"]


def test_request_within_a_request_is_an_error() -> None:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    feed = send(backend, "GET", "/db/_changes?feed=continuous&since=now").stream
    assert isinstance(feed, ChangesFeed)
    errors = []

    def wake() -> None:
        for call in (lambda: ask(backend, "GET", "/db"), backend.snapshot, backend.fork, backend.reset, backend.check):
            with pytest.raises(BackendError, match="already in the middle of a request") as caught:
                call()
            errors.append(caught.value)

    feed.subscribe(wake)
    ask(backend, "PUT", "/db/a", {})
    feed.subscribe(lambda: None)
    assert len(errors) == 5
    assert ask(backend, "GET", "/db/a")["_id"] == "a"
    feed.close()


def test_interrupted_write_still_wakes_the_feeds() -> None:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    feed = send(backend, "GET", "/db/_changes?feed=continuous&since=now").stream
    assert isinstance(feed, ChangesFeed)
    feed.subscribe(interrupt)
    with suppress(Interruption):
        ask(backend, "PUT", "/db/a", {})
    woken: list[bool] = []
    feed.subscribe(lambda: woken.append(True))
    assert ask(backend, "GET", "/db")["doc_count"] == 1
    assert woken == [True]
    feed.close()


# --- forked processes -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_process_can_use_the_server_while_threads_write() -> None:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            docs = [{"_id": f"{number}-{turn % 7}-{part}", "_rev": f"{turn}-a"} for part in range(30)]
            ask(backend, "POST", "/db/_bulk_docs", {"docs": docs, "new_edits": False})

    threads = [threading.Thread(target=load, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        outcomes = [forked(lambda: use(backend)) for _ in range(40)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert outcomes == [0] * 40
    assert backend.check() == []


def use(backend: MemoryBackend) -> int:
    ask(backend, "PUT", "/db/child", {"n": 1})
    CouchDAL(backend, database="fresh", create=True).put_document("a", {})
    return len(backend.check())


# --- the checker ------------------------------------------------------------------------------------------------------


def broken(number: int) -> MemoryBackend:
    backend = MemoryBackend()
    filled(backend)
    db = backend.server.databases["db"]
    storage: Any = db.storage
    record = storage.get("d0")
    if number == 0:
        db.doc_count += 1
    elif number == 1:
        storage._log.append(record)
    elif number == 2:
        storage._sorted().remove("d0")
    elif number == 3:
        storage.records["d0"] = storage.get("d3")
    elif number == 4:
        record.tree = (*record.tree, record.tree[0])
    elif number == 5:
        next(iter(db.indexes._json_indexes.values()))._places.pop()
    elif number == 6:
        storage._locals["wrong"] = storage._locals.pop("_local/l")
    else:
        db.purge_seq = 0
        db.doc_del_count = 0
    return backend


@pytest.mark.parametrize("number", range(8))
def test_check_finds_what_is_broken(number: int) -> None:
    found = broken(number).check()
    assert found
    assert all(text.startswith("db: ") for text in found)
    json.dumps(found)
