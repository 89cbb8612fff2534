"""What was deleted from a data file is gone at once, and its rows are removed in short steps."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from disk_workload import ask

from couchdal import CouchDAL, SqliteBackend
from couchdal.emulator.engine.server.file_keeper import FileKeeper
from couchdal.emulator.engine.server.keeper import Keeper
from couchdal.emulator.storage.sqlite_schema import OF_DATABASES

COUNT = 5000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a database of many documents, and one of few. Tests copy it."""
    path = tmp_path_factory.mktemp("made") / "a.db"
    with closing(SqliteBackend(path, synchronous="OFF")) as backend:
        for name, count in (("big", COUNT), ("small", 3)):
            ask(backend, "PUT", f"/{name}")
            docs = [{"_id": f"{n:05}", "text": "x" * 50} for n in range(count)]
            ask(backend, "POST", f"/{name}/_bulk_docs", {"docs": docs})
            ask(backend, "PUT", f"/{name}/_local/one", {})
        ask(backend, "PUT", "/big/with", {"_attachments": {"a": {"data": "aGVsbG8="}}})
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path))


def rows_of(path: Path) -> dict[str, int]:
    """Return how many rows of documents and of databases a file has, by table."""
    with closing(sqlite3.connect(path)) as connection:
        tables = ("docs", "seq_counts", "leftovers", *OF_DATABASES)
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def expected(made: Path, tmp_path: Path) -> dict[str, int]:
    """Return the rows of a file that never had the large database."""
    with closing(SqliteBackend(tmp_path / "other.db")) as backend, closing(SqliteBackend(made)) as source:
        backend.adopt(source.server.databases["small"])
    return rows_of(tmp_path / "other.db")


def test_rows_of_a_deleted_database_are_removed(path: Path, made: Path, tmp_path: Path) -> None:
    with closing(SqliteBackend(path)) as backend:
        assert ask(backend, "DELETE", "/big") == {"ok": True}
        assert backend.check() == []
    assert rows_of(path) == expected(made, tmp_path)


@pytest.fixture
def killed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file whose process was killed after some steps of a deletion."""
    tidy = Keeper.tidy

    def begun(keeper: Keeper) -> None:
        for _ in range(2):
            keeper.remove_leftovers()

    monkeypatch.setattr(Keeper, "tidy", begun)
    with closing(SqliteBackend(path)) as backend:
        ask(backend, "DELETE", "/big")
        # The name is free at once.
        ask(backend, "PUT", "/big")
        ask(backend, "PUT", "/big/new", {})
        assert ask(backend, "GET", "/big/_all_docs")["total_rows"] == 1
        assert backend.check() == []
    monkeypatch.setattr(Keeper, "tidy", tidy)
    left = rows_of(path)
    assert left["leftovers"] == 1
    assert 100 < left["ids"] <= COUNT + 10
    return path


def test_next_start_removes_the_rest(killed: Path, made: Path, tmp_path: Path) -> None:
    with CouchDAL(f"sqlite:///{killed}?mode=ro", database="big") as db:
        assert db.get("/")["doc_count"] == 1
    assert rows_of(killed)["leftovers"] == 1
    with closing(SqliteBackend(killed)) as backend:
        assert ask(backend, "GET", "/big")["doc_count"] == 1
        ask(backend, "DELETE", "/big")
        assert backend.check() == []
    assert rows_of(killed) == expected(made, tmp_path)


def test_compaction_removes_the_rest(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "tidy", lambda keeper: None)
        backend = SqliteBackend(killed)
    with closing(backend):
        assert rows_of(killed)["leftovers"] == 1
        ask(backend, "POST", "/small/_compact", {})
        assert rows_of(killed)["leftovers"] == 0
        assert backend.check() == []


def test_compaction_gives_many_pages_back_in_one_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink, steps = FileKeeper.shrink, list[bool]()
    monkeypatch.setattr(FileKeeper, "shrink", lambda keeper: steps.append(True) or shrink(keeper))
    with closing(SqliteBackend(path)) as backend:
        ask(backend, "DELETE", "/big")
        ask(backend, "POST", "/small/_compact", {})
        file = backend._keeper.file
        (free,), (pages,) = (file.rows(f"PRAGMA {name}")[0] for name in ("freelist_count", "page_count"))
    assert free == 0
    assert len(steps) < 10
    assert pages < 50
