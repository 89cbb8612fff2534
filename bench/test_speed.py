"""Speed of the memory backend, compared with mongomock and with bare orjson on the same documents."""

from __future__ import annotations

import gc
import subprocess
import sys
import uuid
from collections.abc import Callable
from functools import cache
from math import inf
from pathlib import Path
from time import perf_counter

import mongomock
import orjson
import pytest
from samples import Document, Documents, make_documents

from couchdal import CouchDAL
from couchdal.backends.memory import MemoryBackend

COUNT = 5_000


@pytest.fixture(scope="module")
def documents() -> Documents:
    return make_documents(COUNT)


@pytest.fixture(scope="module")
def loaded(documents: Documents) -> CouchDAL:
    dal = CouchDAL(MemoryBackend(database="bench"))
    dal.bulk_docs(documents)
    return dal


@pytest.fixture(scope="module")
def collection(documents: Documents) -> object:
    collection = mongomock.MongoClient().bench.docs
    collection.insert_many([dict(document) for document in documents])
    return collection


Runs = dict[str, Callable[[], object]]
_measured: dict[str, dict[str, list[float]]] = {}


def compare(benchmark, role: str, target: float | None, runs: Runs) -> None:  # type: ignore[no-untyped-def]
    """Record how long one of the runs takes. All runs of a group are measured when the first one is asked for."""
    benchmark.extra_info.update(role=role, target=target)
    benchmark.pedantic(lambda: None, rounds=1)
    if benchmark.group not in _measured:
        _measured[benchmark.group] = seconds_of(runs)
    # pytest-benchmark keeps a list of measured seconds: replace it by ours.
    benchmark.stats.stats.data[:] = _measured[benchmark.group][role]


def seconds_of(runs: Runs, least_s: float = 1.5, turn_s: float = 0.05) -> dict[str, list[float]]:
    """Return the seconds of every call. The runs take short turns, so that noise of the machine affects all of them."""
    for run in runs.values():
        # The first call imports modules and fills caches, so it does not count.
        run()
    times: dict[str, list[float]] = {role: [] for role in runs}
    gc.collect()
    gc.disable()
    try:
        while min(map(sum, times.values())) < least_s or min(map(len, times.values())) < 5:
            for role, run in runs.items():
                until = perf_counter() + turn_s
                while (begun := perf_counter()) < until:
                    run()
                    times[role].append(perf_counter() - begun)
    finally:
        gc.enable()
    return times


@pytest.mark.benchmark(group="an isolated test: new database, insert, find, drop / mongomock's")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_isolated_test(benchmark, role: str) -> None:  # type: ignore[no-untyped-def]
    dal, client = CouchDAL(MemoryBackend(database="base")), mongomock.MongoClient()

    def couchdal() -> None:
        handle = dal.database("t" + uuid.uuid4().hex)
        handle.create_database()
        handle.put_document("a", {"type": "task"})
        handle.find({"type": "task"})
        handle.delete_database()

    def yardstick() -> None:
        name = "t" + uuid.uuid4().hex
        client[name].docs.insert_one({"_id": "a", "type": "task"})
        list(client[name].docs.find({"type": "task"}))
        client.drop_database(name)

    compare(benchmark, role, 1.0, {"couchdal": couchdal, "yardstick": yardstick})


@pytest.mark.benchmark(group="an isolated test: insert, find, rollback / mongomock's new database, insert, find, drop")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_isolated_test_with_rollback(benchmark, role: str) -> None:  # type: ignore[no-untyped-def]
    dal, client = CouchDAL(MemoryBackend(database="base")), mongomock.MongoClient()
    dal.info()
    snapshot = dal.snapshot()

    def couchdal() -> None:
        dal.put_document("a", {"type": "task"})
        dal.find({"type": "task"})
        snapshot.restore()

    def yardstick() -> None:
        name = "t" + uuid.uuid4().hex
        client[name].docs.insert_one({"_id": "a", "type": "task"})
        list(client[name].docs.find({"type": "task"}))
        client.drop_database(name)

    compare(benchmark, role, 1.5, {"couchdal": couchdal, "yardstick": yardstick})


@pytest.mark.benchmark(group="_bulk_docs / orjson encode and decode of the documents")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_bulk_docs(benchmark, role: str, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    dal = CouchDAL(MemoryBackend(database="base"))

    def couchdal() -> None:
        handle = dal.database("bulk")
        handle.create_database()
        handle.bulk_docs(documents)
        handle.delete_database()

    yardstick = lambda: orjson.loads(orjson.dumps(documents))  # noqa: E731 - shorter than a def
    compare(benchmark, role, 3.0, {"couchdal": couchdal, "yardstick": yardstick})


@pytest.mark.benchmark(group="_all_docs?include_docs=true / orjson decode of the documents")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_all_docs(benchmark, role: str, loaded: CouchDAL, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    text = orjson.dumps(documents)
    runs: Runs = {
        "couchdal": lambda: loaded.get("/_all_docs?include_docs=true"),
        "yardstick": lambda: orjson.loads(text),
    }
    compare(benchmark, role, 3.0, runs)


@pytest.mark.benchmark(group="_bulk_get of 500 / orjson decode of the documents")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_bulk_get(benchmark, role: str, loaded: CouchDAL, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    text = orjson.dumps(documents[:500])
    asked = {"docs": [{"id": document["_id"]} for document in documents[:500]]}
    runs: Runs = {
        "couchdal": lambda: loaded.get("/_bulk_get", "POST", asked),
        "yardstick": lambda: orjson.loads(text),
    }
    compare(benchmark, role, 4.0, runs)


# Reading or writing one document or checkpoint, beside the JSON of the same document.
ONE_DOCUMENT: dict[str, tuple[float | None, Callable[[CouchDAL, int, Document], object]]] = {
    "read a document": (6.0, lambda dal, turn, body: dal.get("/doc000050")),
    "write a document": (None, lambda dal, turn, body: dal.get(f"/new{turn}", "PUT", body)),
    "read a checkpoint": (None, lambda dal, turn, body: dal.get("/_local/kept")),
    "write a checkpoint": (None, lambda dal, turn, body: dal.get("/_local/written", "PUT", body)),
}


@pytest.mark.parametrize("operation", ONE_DOCUMENT)
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_one_document(benchmark, role: str, operation: str, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    writes = operation.startswith("write")
    benchmark.group = f"{operation} / orjson {'encode and ' if writes else ''}decode of the document"
    dal = CouchDAL(MemoryBackend(database="single"))
    dal.bulk_docs(documents[:100])
    body = {name: value for name, value in documents[50].items() if name != "_id"}
    dal.get("/_local/kept", "PUT", body)
    text, turns = orjson.dumps(documents[50]), iter(range(10**9))
    target, run = ONE_DOCUMENT[operation]
    runs: Runs = {
        "couchdal": lambda: run(dal, next(turns), body),
        "yardstick": (lambda: orjson.loads(orjson.dumps(body))) if writes else (lambda: orjson.loads(text)),
    }
    compare(benchmark, role, target, runs)


FINDS = {
    "equality": ({"owner": "user7"}, {"owner": "user7"}, 0.1),
    "range": ({"number": {"$gt": 4900}}, {"number": {"$gt": 4900}}, 0.125),
    "$and/$or/$regex": (
        {"$and": [{"$or": [{"type": "task"}, {"type": "note"}]}, {"title": {"$regex": "^ab"}}]},
        {"$and": [{"$or": [{"type": "task"}, {"type": "note"}]}, {"title": {"$regex": "^ab"}}]},
        0.2,
    ),
}


@pytest.mark.parametrize("kind", FINDS)
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_find_scan(benchmark, role: str, kind: str, loaded: CouchDAL, collection) -> None:  # type: ignore[no-untyped-def]
    benchmark.group = f"_find, a scan over {COUNT} documents, {kind} / mongomock's find"
    selector, query, target = FINDS[kind]
    expected = len(list(collection.find(query)))
    assert len(loaded.find(selector, limit=COUNT)["docs"]) == expected
    runs: Runs = {
        "couchdal": lambda: loaded.find(selector, limit=COUNT),
        "yardstick": lambda: list(collection.find(query)),
    }
    compare(benchmark, role, target, runs)


RANGE = {"number": {"$gt": 4000}}


@pytest.mark.benchmark(group="_find, 25 of a range in the order of an index / mongomock's sorted find")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_indexed_range(benchmark, role: str, documents: Documents, collection) -> None:  # type: ignore[no-untyped-def]
    dal = CouchDAL(MemoryBackend(database="indexed"))
    dal.bulk_docs(documents)
    dal.get("/_index", "POST", {"index": {"fields": ["number"]}})

    def couchdal() -> list[object]:
        return list(dal.find(RANGE, sort=["number"], limit=25)["docs"])

    def yardstick() -> list[object]:
        return list(collection.find(RANGE).sort("number", 1).limit(25))

    assert [one["number"] for one in couchdal()] == [one["number"] for one in yardstick()]
    compare(benchmark, role, 0.02, {"couchdal": couchdal, "yardstick": yardstick})


@pytest.mark.benchmark(group="build an index / load its documents")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_index_build(benchmark, role: str, loaded: CouchDAL, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    dal = CouchDAL(MemoryBackend(database="base"))

    turns = iter(range(10**9))

    def couchdal() -> None:
        # Each turn makes another index: one that is created again would find the rows of the first.
        partial = {"number": {"$gt": -1 - next(turns)}}
        index = {"fields": ["number"], "partial_filter_selector": partial}
        made = loaded.get("/_index", "POST", {"index": index, "ddoc": "built"})
        found = loaded.get("/_find", "POST", {"selector": partial, "use_index": "built", "limit": 1})
        assert "warning" not in found
        loaded.get(f"/_index/{made['id']}/json/{made['name']}", "DELETE")

    def yardstick() -> None:
        handle = dal.database("load")
        handle.create_database()
        handle.bulk_docs(documents)
        handle.delete_database()

    compare(benchmark, role, 1.0, {"couchdal": couchdal, "yardstick": yardstick})


# Each runs in a database of 100 documents and in one of 100,000.
SINGLE_OPERATIONS: dict[str, Callable[[CouchDAL, int], object]] = {
    "read a document": lambda dal, turn: dal.get("/doc000050"),
    "write a document": lambda dal, turn: dal.get(f"/new{turn}", "PUT", {"turn": turn}),
    "write a checkpoint": lambda dal, turn: dal.get("/_local/checkpoint", "PUT", {"turn": turn}),
    "read a checkpoint": lambda dal, turn: dal.get("/_local/kept"),
    "a page of 25 in the order of an index": lambda dal, turn: dal.find(
        {"number": {"$gt": 50}}, sort=["number"], limit=25
    ),
    "_changes from a late since": lambda dal, turn: dal.changes(since=dal.info()["update_seq"]),
}


@pytest.fixture(scope="module")
def small_and_large() -> dict[str, CouchDAL]:
    handles = {}
    for role, count in (("yardstick", 100), ("couchdal", 100_000)):
        dal = CouchDAL(MemoryBackend(database="sized"))
        dal.bulk_docs(make_documents(count))
        dal.get("/_local/kept", "PUT", {})
        dal.get("/_index", "POST", {"index": {"fields": ["number"]}})
        handles[role] = dal
    return handles


@pytest.mark.parametrize("operation", SINGLE_OPERATIONS)
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_single_operation(benchmark, role: str, operation: str, small_and_large: dict[str, CouchDAL]) -> None:  # type: ignore[no-untyped-def]
    benchmark.group = f"{operation}: among 100,000 documents / among 100"
    turns, run = iter(range(10**9)), SINGLE_OPERATIONS[operation]
    runs: Runs = {name: lambda dal=dal: run(dal, next(turns)) for name, dal in small_and_large.items()}  # type: ignore[misc]
    # The cost must not grow with the database; the margin is for the processor's caches.
    compare(benchmark, role, 1.25, runs)


@pytest.mark.benchmark(group="import couchdal and its memory path / import json, threading, hashlib, re, dataclasses")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_import(benchmark, role: str) -> None:  # type: ignore[no-untyped-def]
    benchmark.extra_info.update(role=role, target=1.5)
    benchmark.pedantic(lambda: None, rounds=1)
    # pytest-benchmark keeps a list of measured seconds: replace it by those of the processes.
    benchmark.stats.stats.data[:] = [import_seconds()[role]]


@cache
def import_seconds() -> dict[str, float]:
    """Return the best of several imports. Each runs in its own process; the start of Python does not count."""
    code = {
        "couchdal": "import couchdal; from couchdal.backends.memory import MemoryBackend; MemoryBackend()",
        "yardstick": "import json, threading, hashlib, re, dataclasses",
    }
    best = dict.fromkeys(code, inf)
    for _ in range(15):
        for role, imports in code.items():
            timed = f"import time; s = time.perf_counter(); {imports}; print(time.perf_counter() - s)"
            ran = subprocess.run([sys.executable, "-I", "-c", timed], capture_output=True, text=True, check=True)
            best[role] = min(best[role], float(ran.stdout))
    return best


def test_memory_of_100_000_documents() -> None:
    """Runs in its own process, so that nothing else counts. ``python bench/memory.py 100000`` prints the figure."""
    script = Path(__file__).with_name("memory.py")
    ran = subprocess.run([sys.executable, str(script), "100000"], capture_output=True, text=True, check=True)
    megabytes = int(ran.stdout)
    assert megabytes <= 400, f"100,000 documents of 300 bytes take {megabytes} MB in all"
