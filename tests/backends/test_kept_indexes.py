"""Indexes in a data file: they go on after a restart, and no damage, rollback or other state shows in their rows."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from disk_workload import ask
from raw_http import Served, stopping_servers

from couchdal import CouchBackend, CouchDAL, MemoryBackend, SqliteBackend
from couchdal.emulator.engine.indexes import row_index
from couchdal.emulator.engine.mango.json_index import JsonIndex
from couchdal.emulator.engine.views.view_index import ViewIndex

VIEWS = {
    "by_n": {"map": "function (doc) { emit(doc.n, doc.text); }"},
    "by_group": {"map": "function (doc) { emit([doc.n % 3, doc.text], doc.n); }", "reduce": "_stats"},
    "sums": {
        "map": "function (doc) { emit(doc.n % 5, 1); emit(doc.n % 7, 2); }",
        "reduce": "function (keys, values, again) { return sum(values); }",
    },
    "counts": {"map": "function (doc) { emit(doc.text, doc.n); }", "reduce": "_approx_count_distinct"},
    "firsts": {"map": "function (doc) { emit([doc.text, {a: doc.n}], doc.n); }", "reduce": "_first"},
}
QUERIES = (
    "by_n?limit=7&skip=100",
    "by_n?descending=true&limit=5&startkey=100",
    "by_group",
    "by_group?group_level=1",
    "by_group?startkey=[1]&endkey=[2]&group=true&limit=9",
    "sums?group=true",
    "counts",
    "firsts?group_level=1&limit=4",
)


class Mapped:
    """Counts the documents that indexes read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        for kind in (ViewIndex, JsonIndex):
            monkeypatch.setattr(kind, "read_all", self._counting(kind.read_all))

    def _counting(self, read_all: Callable[..., Any]) -> Callable[..., Any]:
        def counted(index: object, db: object, records: Any) -> object:
            records = list(records)
            self.ids += [record.doc_id for record in records]
            return read_all(index, db, records)

        return counted

    def taken(self) -> list[str]:
        taken, self.ids = self.ids, []
        return taken


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> Mapped:
    return Mapped(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "_MANY", 50)
    monkeypatch.setattr(row_index, "_AT_ONCE", 100)


def document(number: int, count: int) -> dict[str, object]:
    return {"_id": f"{number * 7 % count:03}", "n": number, "text": "aäbzßéc"[number % 7] * (number % 4)}


def fill(backend: MemoryBackend, count: int = 300) -> None:
    ask(backend, "PUT", "/tasks")
    ask(backend, "PUT", "/tasks/_design/d", {"views": VIEWS})
    ask(backend, "POST", "/tasks/_index", {"index": {"fields": ["text", "n"]}, "ddoc": "i", "name": "i"})
    ask(backend, "POST", "/tasks/_bulk_docs", {"docs": [document(number, count) for number in range(count)]})


def change(backend: MemoryBackend, *ids: str) -> None:
    """Update some documents, delete the last, and write a new one."""
    docs = [{**ask(backend, "GET", f"/tasks/{one}"), "n": int(one) + 1000} for one in ids]
    docs[-1]["_deleted"] = True
    ask(backend, "POST", "/tasks/_bulk_docs", {"docs": [*docs, {"_id": f"new-{ids[0]}", "n": 3, "text": "new"}]})


def answers(backend: MemoryBackend) -> list[object]:
    """Return what queries of all indexes answer."""
    find = {"selector": {"text": {"$gt": "a"}, "n": {"$gt": 20}}, "use_index": "i", "limit": 20}
    page = ask(backend, "POST", "/tasks/_find", find)
    assert "warning" not in page
    backwards = ask(backend, "POST", "/tasks/_find", {**find, "sort": [{"text": "desc"}, {"n": "desc"}]})
    return [page, backwards, *(ask(backend, "GET", f"/tasks/_design/d/_view/{query}") for query in QUERIES)]


def sizes(backend: MemoryBackend) -> object:
    return ask(backend, "GET", "/tasks/_design/d/_info")["view_index"]["sizes"]


def expected(path: Path) -> list[object]:
    """Return the answers of a server that has the same documents, and indexes that are new."""
    copy = MemoryBackend()
    ask(copy, "PUT", "/tasks")
    with closing(SqliteBackend(path)) as backend:
        for row in ask(backend, "GET", "/tasks/_changes?include_docs=true")["results"]:
            ask(copy, "POST", "/tasks/_bulk_docs", {"docs": [row["doc"]], "new_edits": False})
    return answers(copy)


def stored(path: Path) -> tuple[int, int]:
    """Return how many indexes and blocks a file has."""
    with closing(sqlite3.connect(path)) as connection:
        ((indexes,),) = connection.execute("SELECT count(*) FROM indexes")
        ((blocks,),) = connection.execute("SELECT count(*) FROM index_blocks")
        return indexes, blocks


@pytest.mark.usefixtures("few_at_once")
def test_index_goes_on_after_a_restart(path: Path, mapped: Mapped) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        before = answers(backend)
        size = sizes(backend)
        assert mapped.taken()
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == before
        assert sizes(backend) == size
        assert mapped.taken() == []
        change(backend, "001", "002", "003")
        changed = answers(backend)
        assert set(mapped.taken()) == {"001", "002", "003", "new-001"}
        assert backend.check() == []
        mapped.taken()
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == changed
        assert mapped.taken() == []
    assert changed == expected(path)


def test_rows_are_those_of_a_server_in_memory(path: Path) -> None:
    """All of them are read from the file, after many updates, each with a restart."""
    for turn in range(6):
        with closing(SqliteBackend(path)) as backend:
            if turn:
                change(backend, *(f"{number * turn % 300:03}" for number in range(1, 20) if number * turn % 300 % 20))
            else:
                fill(backend)
                answers(backend)
            answers(backend)
    found = expected(path)
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == found
        assert backend.check() == []


def test_purge_is_followed_after_a_restart(path: Path, mapped: Mapped) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        answers(backend)
        rev = ask(backend, "GET", "/tasks/005")["_rev"]
        ask(backend, "POST", "/tasks/_purge", {"005": [rev]})
    mapped.taken()
    found = expected(path)
    mapped.taken()
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == found
        assert mapped.taken() == []


def test_index_of_a_new_database_of_the_same_name_is_empty(path: Path) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        answers(backend)
    assert stored(path)[1] > 10
    with closing(SqliteBackend(path)) as backend:
        ask(backend, "DELETE", "/tasks")
        fill(backend, 3)
        assert ask(backend, "GET", "/tasks/_design/d/_view/by_n")["total_rows"] == 3
    assert stored(path) == (1, 6)


@pytest.mark.parametrize("cleaning", ["/tasks/_view_cleanup", "/tasks/_compact"])
def test_cleaning_removes_the_rows_of_views_that_nobody_defines(path: Path, cleaning: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        answers(backend)
    with closing(SqliteBackend(path)) as backend:
        rev = ask(backend, "GET", "/tasks/_design/d")["_rev"]
        ask(backend, "PUT", "/tasks/_design/d", {"_rev": rev, "views": {"by_n": VIEWS["by_n"]}})
        ask(backend, "DELETE", "/tasks/_index/_design/i/json/i")
        ask(backend, "GET", "/tasks/_design/d/_view/by_n")
    assert stored(path)[0] == 3
    with closing(SqliteBackend(path)) as backend:
        ask(backend, "POST", cleaning, {})
        assert ask(backend, "GET", "/tasks/_design/d/_view/by_n")["total_rows"] == 300
    assert stored(path)[0] == 1


@pytest.mark.usefixtures("few_at_once")
def test_rolled_back_test_leaves_no_rows_in_the_file(path: Path, mapped: Mapped) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        before = stored(path)
        with CouchDAL(backend, database="tasks") as db, db.emulator.rollback():
            inside = answers(backend)
            change(backend, "001", "002")
            assert answers(backend) != inside
            assert stored(path) == before == (0, 0)
        assert answers(backend) == inside
        change(backend, "004", "005")
        after = answers(backend)
        assert stored(path)[0] == 2
        mapped.taken()
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == after
        assert mapped.taken() == []
    assert after == expected(path)


@pytest.mark.usefixtures("few_at_once")
def test_fork_keeps_its_rows_while_the_file_goes_on(path: Path) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        before = answers(backend)
        fork = backend.fork()
        for turn in range(3):
            change(backend, *(f"{number:03}" for number in range(1 + 60 * turn, 61 + 60 * turn)))
            answers(backend)
        assert answers(fork) == before
        change(fork, "001")
        assert answers(fork) != before
        assert fork.check() == []


DAMAGES = (
    "UPDATE index_blocks SET data = x'00'",
    "UPDATE index_blocks SET data = substr(data, 1, length(data) - 1) WHERE key % 2",
    "DELETE FROM index_blocks WHERE key % 3 = 0",
    "UPDATE index_blocks SET data = (SELECT data FROM index_blocks AS o WHERE o.key != index_blocks.key LIMIT 1)",
    "UPDATE indexes SET state = replace(state, '1', '2')",
    "UPDATE indexes SET state = 5",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_index_is_found_and_built_anew(path: Path, damage: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        fill(backend)
        before = answers(backend)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(damage).rowcount > 0
        connection.commit()
    with closing(SqliteBackend(path, read_only=True)) as backend:
        found = backend.check()
        assert found
        assert all(str(path) in one for one in found)
        assert answers(backend) == before
    with closing(SqliteBackend(path)) as backend:
        assert answers(backend) == before
        change(backend, "001", "002")
        after = answers(backend)
        assert backend.check() == []
    assert after == expected(path)


BUILDING = """
import sys
from couchdal import SqliteBackend
from couchdal.emulator.engine.indexes import row_index
from disk_workload import ask
row_index._MANY, row_index._AT_ONCE = 50, 100
backend = SqliteBackend(sys.argv[1])
print("begin", flush=True)
ask(backend, "GET", "/tasks/_design/d/_view/by_n?limit=1")
print("end", flush=True)
"""


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a.db"
    with closing(SqliteBackend(path)) as backend:
        fill(backend, 999)
    return path


def test_killed_build_goes_on_from_its_last_step(filled: Path, mapped: Mapped) -> None:
    support = os.path.dirname(sys.modules["disk_workload"].__file__ or "")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}
    command = [sys.executable, "-c", BUILDING, str(filled)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        with closing(sqlite3.connect(filled)) as connection:
            while not connection.execute("SELECT count(*) FROM indexes WHERE state != ''").fetchone()[0]:
                assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    with closing(SqliteBackend(filled)) as backend:
        mapped.taken()
        ask(backend, "GET", "/tasks/_design/d/_view/by_n?limit=1")
        assert len(set(mapped.taken())) <= 920
        found = answers(backend)
        assert backend.check() == []
    assert found == expected(filled)


def test_readers_and_writers_of_a_served_file_see_right_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch, mapped: Mapped
) -> None:
    """Indexes are built and written without the server's lock, while others read earlier rows."""
    monkeypatch.setattr(row_index, "_MANY", 20)
    monkeypatch.setattr(row_index, "_AT_ONCE", 60)
    backend = SqliteBackend(path, synchronous="OFF")
    fill(backend, 600)
    find = {"selector": {"text": {"$gt": None}, "n": {"$gte": 0}}, "use_index": "i", "limit": 2000}
    wrong: list[object] = []

    def read(address: str, query: str) -> None:
        with CouchDAL(CouchBackend(address, database="tasks")) as db:
            for _ in range(12):
                rows = db.get(query)["rows"]
                keys = [(row["key"], row["id"]) for row in rows]
                if keys != sorted(keys) or len({row["id"] for row in rows}) < 600:
                    wrong.append(keys)
                docs = db.get("/_find", "POST", find)["docs"]
                if len({doc["_id"] for doc in docs}) < 600:
                    wrong.append(docs)

    def write(address: str, name: str) -> None:
        with CouchDAL(CouchBackend(address, database="tasks")) as db:
            for turn in range(12):
                docs = [{"_id": f"{name}-{turn}-{n}", "n": turn * n, "text": "w" * (n % 3)} for n in range(25)]
                db.get("/_bulk_docs", "POST", {"docs": docs})

    with stopping_servers():
        address = f"http://127.0.0.1:{Served(backend).port}"
        jobs = [(read, "/_design/d/_view/by_n"), (read, "/_design/d/_view/by_n?limit=700"), (write, "x"), (write, "y")]
        threads = [threading.Thread(target=job, args=(address, value)) for job, value in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    found = answers(backend)
    assert backend.check() == []
    backend.close()
    mapped.taken()
    with closing(SqliteBackend(path)) as again:
        assert answers(again) == found
        assert mapped.taken() == []
    assert found == expected(path)
