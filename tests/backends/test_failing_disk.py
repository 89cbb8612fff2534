"""A data file on a disk that fails: at each call to the operating system, in each way, once or until it is repaired."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from disk_workload import WRITES, ask, request, state_of
from watched_disk import FAILURES, DiskCall, Failure, WatchedDisk, watched_disk

from couchdal import MemoryBackend, NotConfigured, SqliteBackend
from couchdal.emulator.engine.indexes import row_index
from couchdal.http.messages import Response

Figure = Callable[[str, int], None]


class Way(NamedTuple):
    """How a disk fails: which kind of call fails, and with which error of SQLite.

    If it is ``lasting``, all later calls fail, too. If it is ``half``, a write stores its first half.
    """

    kind: str
    code: int
    lasting: bool = False
    half: bool = False


_WRITTEN = ("write", "sync", "truncate", "map", "delete")
WAYS = {
    "full disk": Way("write", FAILURES["full"]),
    "full disk, for some time": Way("write", FAILURES["full"], lasting=True),
    "half a write": Way("write", FAILURES["write"], half=True),
    "no disk, for some time": Way("write", FAILURES["write"], lasting=True, half=True),
    **{f"error of {kind}": Way(kind, FAILURES[kind]) for kind in ("read", "sync", "truncate", "open", "delete", "map")},
}


class FailingDisk:
    """Lets the n-th call of a kind fail."""

    def __init__(self, disk: WatchedDisk) -> None:
        self.disk = disk
        self.has_failed = False

    def arm(self, way: Way, number: int) -> None:
        self.way, self.left, self.has_failed = way, number, False
        self.disk.observer = self

    def repair(self) -> None:
        self.disk.observer = None

    def begin(self, call: DiskCall) -> Failure | None:
        way = self.way
        if self.has_failed:
            # A full disk can still be read.
            fails = way.lasting and (way.code != FAILURES["full"] or call.kind in _WRITTEN)
            return Failure(way.code) if fails else None
        self.left -= call.kind == way.kind
        if self.left or call.kind != way.kind:
            return None
        self.has_failed = True
        return Failure(way.code, len(call.data) // 2 if way.half else 0)

    def end(self, call: DiskCall) -> None:
        pass


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    with watched_disk() as disk:
        yield FailingDisk(disk)


def places(kind: str, effort: str) -> Iterable[int]:
    """Return the numbers of the calls that fail: all of them, or some."""
    if effort == "all":
        return count(1)
    # The log is copied from the 107th call on.
    return (1, 130, 9999) if kind == "copy back" else (3**power for power in range(9))


def check_refusal(answer: Response, way: Way, path: Path) -> None:
    is_full = way.code == FAILURES["full"]
    assert answer.status == (507 if is_full else 500)
    assert answer.value()["error"] == ("insufficient_storage" if is_full else "file_error")
    assert str(path) in answer.value()["reason"]


def state_of_copy(path: Path, folder: Path) -> dict[str, object]:
    """Return the state that another process would find if this one ended now."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", folder / f"a.db{suffix}")
    backend = SqliteBackend(folder / "a.db")
    state = state_of(backend)
    backend.close()
    shutil.rmtree(folder)
    return state


@pytest.mark.parametrize("effort", ["sample", pytest.param("all", marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", WRITES)
def test_write_on_a_failing_disk_happens_wholly_or_not_at_all(
    kind: str, effort: str, tmp_path: Path, disk: FailingDisk, figure: Figure
) -> None:
    path = tmp_path / "a.db"
    kept, twin = SqliteBackend(path), MemoryBackend()
    tried = copied = 0
    for backend in (kept, twin):
        ask(backend, "PUT", "/tasks")
        ask(backend, "PUT", "/tasks/first", {"n": 0})
    for name, way in WAYS.items():
        # It takes much longer than the others.
        if kind == "copy back" and effort == "sample" and not way.lasting:
            continue
        for number in places(kind, effort):
            tried += 1
            turn = tried
            last = WRITES[kind](kept, turn)
            assert WRITES[kind](twin, turn).body == last.body
            disk.arm(way, number)
            answer = kept.send(last)
            disk.repair()
            if answer.status < 400:
                twin.send(last)
                copied += disk.has_failed
            else:
                check_refusal(answer, way, path)
                # The process is killed now. Without a disk, nothing could take back what had reached it.
                if not way.lasting and (way.kind == "sync" or effort == "all"):
                    assert state_of_copy(path, tmp_path / "copy") == state_of(twin), (name, number)
            assert state_of(kept) == state_of(twin), (name, number)
            # Work goes on.
            for backend in (kept, twin):
                backend.send(request("PUT", "/tasks/_local/alive", {"n": turn})).result()
            if not disk.has_failed:
                break
    # SQLite copies its log after the write. The write is on the disk even if that fails.
    assert copied or kind != "copy back"
    expected = state_of(twin)
    kept.close()
    again = SqliteBackend(path)
    assert state_of(again) == expected
    assert again.check() == []
    again.close()
    figure("failures of a disk under writes", tried - len(WAYS))


@pytest.fixture(params=["new", "closed", "killed"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with the files that an opening finds."""
    folder = tmp_path / "found"
    folder.mkdir()
    if request.param != "new":
        (tmp_path / "made").mkdir()
        backend = SqliteBackend(tmp_path / "made" / "a.db")
        for turn, write in enumerate(("put", "update", "attachment", "local", "user", "purge")):
            ask(backend, "PUT", "/tasks") if not turn else None
            backend.send(WRITES[write](backend, turn)).result()
        if request.param == "closed":
            backend.close()
        for name in ("a.db", "a.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(tmp_path / "made" / name, folder / name)
        backend.close()
    return folder


@pytest.mark.parametrize("effort", ["sample", pytest.param("all", marks=pytest.mark.soak)])
def test_opening_and_closing_on_a_failing_disk_harm_nothing(
    effort: str, found: Path, tmp_path: Path, disk: FailingDisk, figure: Figure
) -> None:
    expected = None
    tried = 0
    for name, way in WAYS.items():
        for number in places("open", effort):
            tried += 1
            folder = tmp_path / str(tried)
            shutil.copytree(found, folder)
            path = folder / "a.db"
            refusal = str(path)
            disk.arm(way, number)
            try:
                SqliteBackend(path).close()
            except NotConfigured as error:
                refusal = str(error)
            disk.repair()
            assert str(path) in refusal
            again = SqliteBackend(path)
            expected = expected or state_of(again)
            assert state_of(again) == expected, (name, number)
            assert again.check() == []
            again.close()
            assert os.listdir(folder) == ["a.db"]
            shutil.rmtree(folder)
            if not disk.has_failed:
                break
    figure("failures of a disk while a file is opened and closed", tried - len(WAYS))


def test_folder_that_cannot_be_synced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "a.db"
    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", fail)
        with pytest.raises(NotConfigured, match=f"{path} .*: Input/output error"):
            SqliteBackend(path)
    SqliteBackend(path).close()


@pytest.mark.parametrize("is_new", [True, False])
def test_disk_without_any_space_is_named(tmp_path: Path, is_new: bool, file_size: Callable[[int | None], None]) -> None:
    path = tmp_path / "a.db"
    if not is_new:
        SqliteBackend(path).close()
    before = path.read_bytes() if path.exists() else b""
    file_size(0)
    with pytest.raises(NotConfigured, match=str(path)):
        SqliteBackend(path)
    file_size(None)
    assert (path.read_bytes() if path.exists() else b"") == before
    SqliteBackend(path).close()


@pytest.mark.parametrize("effort", ["sample", pytest.param("all", marks=pytest.mark.soak)])
def test_query_on_a_failing_disk_is_refused_or_right(
    effort: str, tmp_path: Path, disk: FailingDisk, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query writes an index. When the disk works again, it has all rows, and so has the file."""
    monkeypatch.setattr(row_index, "_MANY", 5)
    path = tmp_path / "a.db"
    backend = SqliteBackend(path)
    ask(backend, "PUT", "/tasks")
    ask(backend, "POST", "/tasks/_index", {"index": {"fields": ["n"]}, "ddoc": "i", "name": "i"})
    query = request("POST", "/tasks/_find", {"selector": {"n": {"$gte": 0}}, "use_index": "i", "limit": 999})
    written = refused = 0
    for way in WAYS.values():
        for number in places("find", effort):
            docs = [{"_id": f"{written + more}", "n": (written + more) % 7} for more in range(8)]
            ask(backend, "POST", "/tasks/_bulk_docs", {"docs": docs})
            written += len(docs)
            disk.arm(way, number)
            answer = backend.send(query)
            disk.repair()
            if answer.status != 200:
                check_refusal(answer, way, path)
                refused += 1
                answer = backend.send(query)
            ids = [doc["_id"] for doc in answer.value()["docs"]]  # type: ignore[index,call-overload]
            assert sorted(map(int, ids)) == list(range(written))
            if not disk.has_failed:
                break
            if written > 900:
                ask(backend, "POST", "/tasks/_bulk_docs", {"docs": removed(backend)})
                written = 0
        backend.close()
    assert backend.check() == []
    backend.close()
    assert refused
    figure("queries on a failing disk that were refused", refused)


def removed(backend: SqliteBackend) -> list[dict[str, object]]:
    """Return what deletes all documents that have numbers."""
    rows = ask(backend, "GET", "/tasks/_all_docs?endkey=%22:%22")["rows"]
    return [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows]
