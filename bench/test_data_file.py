"""The speed of a server that keeps its data in a file, beside memory, CouchDB and PouchDB on LevelDB.

All are asked over HTTP, one request after the other. ``COUCHDB_URL`` names the CouchDB.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from samples import make_documents
from servers import Started
from test_speed import Runs, seconds_of

from couchdal import CouchBackend, CouchDAL

EXPRESS = Path(__file__).parent / "express"
STORED = 10_000
_names = count()

Operation = Callable[[CouchDAL], Callable[[], object]]


def put(db: CouchDAL) -> Callable[[], object]:
    document = make_documents(1)[0]
    return lambda: db.put_document(f"new{next(_names)}", {**document, "_id": f"new{next(_names)}"})


def get(db: CouchDAL) -> Callable[[], object]:
    return partial(db.get, "/doc000500")


def bulk(db: CouchDAL) -> Callable[[], object]:
    documents = make_documents(1000)
    return lambda: db.bulk_docs([{**one, "_id": f"bulk{next(_names)}"} for one in documents])


def find(db: CouchDAL) -> Callable[[], object]:
    query = {"selector": {"number": {"$gte": 5000}}, "use_index": "by-number", "limit": 25}
    return partial(db.get, "/_find", "POST", query)


def changes(db: CouchDAL) -> Callable[[], object]:
    return partial(db.get, "/_changes?limit=1000")


def view(db: CouchDAL) -> Callable[[], object]:
    return partial(db.get, "/_design/views/_view/by_owner?group=true")


# They come in this order: those that write are last.
OPERATIONS: dict[str, Operation] = {
    "GET": get,
    "_find, 25 by an index": find,
    "_changes, 1,000": changes,
    "a view, 100 groups of 10,000": view,
    "PUT": put,
    "_bulk_docs of 1,000": bulk,
}


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, CouchDAL]]:
    """A database with documents on each available server."""
    serve = (sys.executable, "-m", "couchdal.cli", "serve", "--port", "0", "--backend")
    with ExitStack() as opened:
        data = tmp_path_factory.mktemp("data") / "a.db"
        addresses = {
            "couchdal": Started(opened, *serve, "sqlite", "--data", str(data)).address,
            "memory": Started(opened, *serve, "memory").address,
        }
        if url := os.environ.get("COUCHDB_URL"):
            addresses["CouchDB"] = url
        node = shutil.which("node")
        if node is not None and (EXPRESS / "node_modules").is_dir():
            addresses["PouchDB"] = Started(opened, node, str(EXPRESS / "server.mjs"), "leveldb").address
        found = {}
        for name, address in addresses.items():
            db = found[name] = CouchDAL(CouchBackend(address, database=f"couchdal-bench-{os.getpid()}"))
            opened.callback(db.close)
            db.create_database()
            opened.callback(db.delete_database)
            fill(db)
        yield found


def fill(db: CouchDAL) -> None:
    documents = make_documents(STORED)
    for start in range(0, STORED, 1000):
        db.bulk_docs(documents[start : start + 1000])
    db.get("/_index", "POST", {"index": {"fields": ["number"]}, "ddoc": "by-number", "name": "by-number"})
    by_owner = {"map": "function (doc) { emit(doc.owner, doc.score); }", "reduce": "_sum"}
    db.put_document("_design/views", {"views": {"by_owner": by_owner}})


@pytest.fixture(scope="module")
def figures(databases: dict[str, CouchDAL]) -> Callable[[str], dict[str, list[float]]]:
    """A function that returns the seconds of each call of an operation on each server."""
    measured: dict[str, dict[str, list[float]]] = {}

    def seconds(what: str) -> dict[str, list[float]]:
        if what not in measured:
            runs: Runs = {name: OPERATIONS[what](db) for name, db in databases.items()}
            measured[what] = seconds_of(runs, least_s=1.0)
        return measured[what]

    return seconds


@pytest.mark.parametrize("what", OPERATIONS)
@pytest.mark.parametrize(("yardstick", "target"), [("memory", None), ("CouchDB", 1.0), ("PouchDB", 1.0)])
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_data_file(
    benchmark: Any,
    role: str,
    what: str,
    yardstick: str,
    target: float | None,
    figures: Callable[[str], dict[str, list[float]]],
) -> None:
    found = figures(what)
    if yardstick not in found:
        pytest.skip(f"{yardstick} is missing")
    benchmark.group = f"{what}, served from a data file / {yardstick}"
    benchmark.extra_info.update(role=role, target=target)
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.stats.stats.data[:] = found["couchdal" if role == "couchdal" else yardstick]
