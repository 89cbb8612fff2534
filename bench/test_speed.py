"""How fast memory is, beside mongomock and the bare orjson copy of the same documents."""

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
from samples import Documents, make_documents

from couchdal import CouchDAL
from couchdal.backends.memory import MemoryBackend

COUNT = 5_000


@pytest.fixture(scope="module")
def documents() -> Documents:
    return make_documents(COUNT)


@pytest.fixture(scope="module")
def loaded(documents: Documents) -> CouchDAL:
    dal = CouchDAL(MemoryBackend(), database="bench")
    dal.bulk_docs(documents)
    return dal


@pytest.fixture(scope="module")
def collection(documents: Documents) -> object:
    collection = mongomock.MongoClient().bench.docs
    collection.insert_many([dict(document) for document in documents])
    return collection


Runs = dict[str, Callable[[], object]]
_measured: dict[str, dict[str, list[float]]] = {}


def compare(benchmark, role: str, target: float, runs: Runs) -> None:  # type: ignore[no-untyped-def]
    """Tell how long one of the runs takes; they were all measured at once, when the first of them was asked for."""
    benchmark.extra_info.update(role=role, target=target)
    benchmark.pedantic(lambda: None, rounds=1)
    if benchmark.group not in _measured:
        _measured[benchmark.group] = seconds_of(runs)
    # pytest-benchmark keeps a list of measured seconds.
    benchmark.stats.stats.data[:] = _measured[benchmark.group][role]


def seconds_of(runs: Runs, least_s: float = 1.5, turn_s: float = 0.05) -> dict[str, list[float]]:
    """Return the seconds of every call. The runs take short turns, so that the machine's whims fall on all of them."""
    for run in runs.values():
        # What a process does only once, as importing a module, is no part of it.
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
    dal, client = CouchDAL(MemoryBackend(), database="base"), mongomock.MongoClient()

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


@pytest.mark.benchmark(group="_bulk_docs / orjson encode and decode of the documents")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_bulk_docs(benchmark, role: str, documents: Documents) -> None:  # type: ignore[no-untyped-def]
    dal = CouchDAL(MemoryBackend(), database="base")

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
    dal = CouchDAL(MemoryBackend(), database="indexed")
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
    dal = CouchDAL(MemoryBackend(), database="base")

    turns = iter(range(10**9))

    def couchdal() -> None:
        # Each is another one: an index that is created again finds the rows of the first.
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


# One operation each, in a database of 100 and in one of 100,000 documents.
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
        dal = CouchDAL(MemoryBackend(), database="sized")
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
    # The same cost, with some room for the processor's caches.
    compare(benchmark, role, 1.25, runs)


@pytest.mark.benchmark(group="import couchdal and its memory path / import json, threading, hashlib, re, dataclasses")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_import(benchmark, role: str) -> None:  # type: ignore[no-untyped-def]
    benchmark.extra_info.update(role=role, target=1.5)
    benchmark.pedantic(lambda: None, rounds=1)
    # pytest-benchmark keeps a list of measured seconds: put there what the processes measured.
    benchmark.stats.stats.data[:] = [import_seconds()[role]]


@cache
def import_seconds() -> dict[str, float]:
    """The best of some imports, in processes of their own that take turns; the interpreter's start is not counted."""
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
    """A process of its own, so that nothing else is counted; ``python bench/memory.py 100000`` prints the figure."""
    script = Path(__file__).with_name("memory.py")
    ran = subprocess.run([sys.executable, str(script), "100000"], capture_output=True, text=True, check=True)
    megabytes = int(ran.stdout)
    assert megabytes <= 400, f"100,000 documents of 300 bytes take {megabytes} MB in all"
