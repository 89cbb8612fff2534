"""Processes that are forked while other threads work: each part can be used in the child, and none hangs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from processes import forked

from couchdal import CouchBackend, CouchDAL, MemoryBackend
from couchdal.server.stderr import StandardError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
FORKS = 20


@contextmanager
def working(act: Callable[[], object], threads: int = 3) -> Iterator[None]:
    """Call a function again and again in threads."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            act()

    started = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in started:
            thread.join()


def test_child_has_connections_of_its_own(couch: Callable[..., CouchBackend]) -> None:
    backend = couch()
    db = CouchDAL(backend, database="forks")
    db.create_database()

    def use() -> int:
        for number in range(3):
            name = f"{os.getpid()}-{number}"
            db.put_document(name, {"n": name})
            if db.get_document(name)["n"] != name:
                return 1
        backend.close()
        return 0

    def load() -> None:
        assert db.get("/_all_docs?limit=1")

    with working(load):
        outcomes = [forked(use) for _ in range(FORKS)]
    assert outcomes == [0] * FORKS
    # The parent goes on with its connections.
    assert db.info()["doc_count"] == 3 * FORKS
    db.delete_database()


def test_child_has_javascript_engines_of_its_own() -> None:
    pytest.importorskip("quickjs")
    db = CouchDAL(MemoryBackend(), database="db")
    db.create_database()
    views = {"v": {"map": "function(doc) { for (var i = 0, n = doc.n; i < 2000; i++) n++; emit(doc._id, n); }"}}
    shows = {"s": "function() { for (var i = 0, n = 0; i < 10000; i++) n++; return 'shown ' + n; }"}
    db.put_document("_design/d", {"views": views, "shows": shows})
    db.bulk_docs([{"_id": f"{number:03}", "n": number} for number in range(100)])

    turns = count()

    def load() -> None:
        db.request("GET", "/_design/d/_show/s")
        db.bulk_docs([{"_id": f"z{next(turns) % 50}"}])
        db.get("/_design/d/_view/v?limit=1")

    def use() -> int:
        rows = db.get("/_design/d/_view/v?limit=100")["rows"]  # type: ignore[call-overload,index]
        shown = db.request("GET", "/_design/d/_show/s").content()
        right = [row["value"] for row in rows] == [2000 + number for number in range(100)]  # type: ignore[index,call-overload]
        return 0 if right and shown == b"shown 10000" and db.emulator.check() == [] else 1

    with working(load, threads=2):
        outcomes = [forked(use) for _ in range(FORKS)]
    assert outcomes == [0] * FORKS
    assert use() == 0


def test_child_writes_to_standard_error() -> None:
    reader, writer = os.pipe()
    stream = StandardError(writer)

    def use() -> int:
        stream.write("child\n")
        stream.close()
        return 0

    lines: list[bytes] = []
    collector = threading.Thread(target=lambda: lines.extend(os.fdopen(reader, "rb")))
    collector.start()
    with working(lambda: stream.write("parent\n")):
        outcomes = [forked(use) for _ in range(FORKS)]
    stream.close()
    os.close(writer)
    collector.join(10)
    assert outcomes == [0] * FORKS
    assert lines.count(b"child\n") == FORKS


def test_child_counts_metrics() -> None:
    client = pytest.importorskip("prometheus_client")
    from couchdal.metrics import prometheus

    registry = client.CollectorRegistry()
    backend = MemoryBackend()
    stop = prometheus.export(registry, backend.server_key)
    db = CouchDAL(backend, database="db")
    db.create_database()

    def use() -> int:
        labels = {"endpoint": "/{db}", "method": "GET", "status": "200", "backend": backend.name}
        before = registry.get_sample_value("couchdal_requests_total", labels) or 0
        db.info()
        return 0 if registry.get_sample_value("couchdal_requests_total", labels) == before + 1 else 1

    with working(db.info):
        outcomes = [forked(use) for _ in range(FORKS)]
    stop()
    assert outcomes == [0] * FORKS


def test_child_uses_log_faults_and_events() -> None:
    db = CouchDAL(MemoryBackend(), database="db")
    db.create_database()
    log = db.requests

    def use() -> int:
        with db.expect(requests=1):
            db.info()
        with db.faults.answer(503, times=1):
            status = db.request("GET", "/").status
        return 0 if (status, log[-1].status) == (503, 503) else 1

    with working(db.info):
        outcomes = [forked(use) for _ in range(FORKS)]
    assert outcomes == [0] * FORKS
