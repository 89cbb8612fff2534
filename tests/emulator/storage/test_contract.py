"""The storage contract, tested on every storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stored_kept import FileStorage, Kept

from couchdal.emulator.storage.base import LocalDocument, Storage
from couchdal.emulator.storage.memory import MemoryStorage
from couchdal.emulator.storage.overlay import OverlayStorage, flattened
from couchdal.emulator.storage.sqlite import DataFile


@pytest.fixture(params=["memory", "overlay", "overlays", "flattened", "sqlite", "overlay on sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage[Kept]]:
    if "sqlite" not in request.param:
        yield in_memory(request.param)
        return
    with closing(DataFile(str(tmp_path / "data.db"), synchronous="OFF")) as file:
        stored = FileStorage(file)
        yield stored if request.param == "sqlite" else OverlayStorage(stored.steady())


def in_memory(kind: str) -> Storage[Kept]:
    if kind == "overlay":
        return OverlayStorage(MemoryStorage())
    if kind == "overlays":
        # Each write goes to another layer than the record that it replaces.
        return Layered()
    return MemoryStorage() if kind == "memory" else flattened(OverlayStorage(MemoryStorage[Kept]()))


class Layered(OverlayStorage[Kept]):
    """An overlay that puts each write into a new layer above the last one."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())

    def _next_layer(self) -> None:
        below: OverlayStorage[Kept] = OverlayStorage.__new__(OverlayStorage)
        for name in OverlayStorage.__slots__:
            setattr(below, name, getattr(self, name))
        OverlayStorage.__init__(self, below if below.depth() < 20 else flattened(below))

    def write(self, old: Kept | None, new: Kept | None) -> None:
        self._next_layer()
        super().write(old, new)

    def replace(self, record: Kept) -> None:
        self._next_layer()
        super().replace(record)

    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        self._next_layer()
        super().write_local(doc_id, document)


def fill(storage: Storage[Kept], *ids: str) -> list[Kept]:
    records = [Kept(doc_id, seq) for seq, doc_id in enumerate(ids, 1)]
    for record in records:
        storage.write(None, record)
    return records


def ids(records: object) -> list[str]:
    return [record.doc_id for record in records]  # type: ignore[attr-defined]


def test_get_returns_the_last_record_written(storage: Storage[Kept]) -> None:
    (old,) = fill(storage, "a")
    new = Kept("a", 2)
    storage.write(old, new)
    assert storage.get("a") == new
    assert storage.get("b") is None


def test_getter_returns_the_documents_that_it_was_asked_for(storage: Storage[Kept]) -> None:
    records = fill(storage, *(f"{n:03}" for n in range(600)))
    get = storage.getter(["x", *(record.doc_id for record in records)])
    assert [get(record.doc_id) for record in records] == records
    assert get("x") is None


def test_live_sorts_ids_by_their_bytes(storage: Storage[Kept]) -> None:
    fill(storage, "b", "é", "B", "_design/x", "\U0001f600", "\uffff")
    assert ids(storage.live()) == ["B", "_design/x", "b", "é", "\uffff", "\U0001f600"]


def test_live_respects_its_bounds(storage: Storage[Kept]) -> None:
    fill(storage, *"edcba")
    assert ids(storage.live("b", "d")) == ["b", "c", "d"]
    assert ids(storage.live("b", "d", inclusive_end=False)) == ["b", "c"]
    assert ids(storage.live("d", "b", descending=True)) == ["d", "c", "b"]
    assert ids(storage.live("d", "b", inclusive_end=False, descending=True)) == ["d", "c"]
    assert ids(storage.live("bb", "cc")) == ["c"]


def test_live_omits_deleted_documents_until_they_return(storage: Storage[Kept]) -> None:
    records = fill(storage, *"abc")
    deleted = Kept("b", 4, deleted=True)
    storage.write(records[1], deleted)
    assert ids(storage.live()) == ["a", "c"]
    assert storage.live_before("c") == 1
    storage.write(deleted, Kept("b", 5))
    assert ids(storage.live()) == ["a", "b", "c"]


def test_live_before_counts_lower_ids(storage: Storage[Kept]) -> None:
    fill(storage, *"ace")
    assert storage.live_before("c") == 1
    assert storage.live_before("c", inclusive=True) == 2
    assert storage.live_before("d") == storage.live_before("d", inclusive=True) == 2


def test_changes_yields_each_document_once_at_its_last_sequence(storage: Storage[Kept]) -> None:
    records = fill(storage, *"abc")
    storage.write(records[0], Kept("a", 4))
    assert ids(storage.changes()) == ["b", "c", "a"]
    assert ids(storage.changes(since=2)) == ["c", "a"]
    assert ids(storage.changes(descending=True)) == ["a", "c", "b"]
    assert [storage.changes_after(seq) for seq in range(5)] == [3, 3, 2, 1, 0]


def test_changes_survive_many_updates_of_few_documents(storage: Storage[Kept]) -> None:
    """The log removes superseded entries, which readers must not notice."""
    last = dict(zip("abc", fill(storage, *"abc"), strict=True))
    for seq in range(4, 1000):
        doc_id = "abc"[seq % 3]
        new = Kept(doc_id, seq)
        storage.write(last[doc_id], new)
        last[doc_id] = new
    assert [record.seq for record in storage.changes()] == [997, 998, 999]
    assert storage.changes_after(998) == 1


def test_write_without_a_new_record_removes_the_document(storage: Storage[Kept]) -> None:
    records = fill(storage, *"ab")
    storage.write(records[0], None)
    assert storage.get("a") is None
    assert ids(storage.live()) == ["b"]
    assert ids(storage.changes()) == ["b"]


def test_local_documents_stay_apart(storage: Storage[Kept]) -> None:
    fill(storage, "a")
    storage.write_local("_local/z", LocalDocument("1", {}))
    storage.write_local("_local/b", LocalDocument("2", {"x": 1}))
    assert [doc_id for doc_id, _ in storage.locals()] == ["_local/b", "_local/z"]
    assert ids(storage.live()) == ["a"]
    storage.write_local("_local/b", None)
    assert storage.get_local("_local/b") is None
