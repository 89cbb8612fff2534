"""Storage of the differences from another storage, which is not written to any more.

Writes go to the overlay and hide the documents below. Snapshots, rollbacks and forks use overlays: their cost depends
on the changes, not on the size of the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain
from operator import attrgetter
from typing import Any

from sortedcontainers import SortedList

from couchdal.emulator.storage.base import LocalDocument, R, Shelf, Storage
from couchdal.emulator.storage.memory import MemoryStorage, sorting

_by_id = attrgetter("doc_id")
# Shared by overlays that hide nothing, as most do. Creating sorted lists is half the cost of an overlay.
_NOTHING: SortedList[Any] = SortedList()


class OverlayStorage(Storage[R]):
    """See ``Storage``. ``below`` is the storage under this one."""

    __slots__ = ("_hidden", "_hidden_ids", "_hidden_seqs", "_locals", "_own", "_replaced", "below")

    pins: int

    def __init__(self, below: Storage[R]) -> None:
        # Skip overlays without changes, so that they do not pile up.
        while type(below) is OverlayStorage and not below.is_changed():
            below = below.below
        self.below: Storage[R] = below
        self.pins = 0
        self._own: MemoryStorage[R] = MemoryStorage()
        # Records below that were changed or removed: by id, their update sequences, and the ids of the live ones.
        self._hidden: dict[str, R] = {}
        self._hidden_seqs: SortedList[int] = _NOTHING
        self._hidden_ids: SortedList[str] = _NOTHING
        # Records that replace one below with the same update sequence.
        self._replaced: dict[str, R] = {}
        self._locals: dict[str, LocalDocument | None] = {}

    def forget_pins(self) -> None:
        self.pins = 0
        self.below.forget_pins()

    def is_changed(self) -> bool:
        """Return whether anything differs from the storage below."""
        return bool(self._own.records or self._hidden or self._replaced or self._locals)

    def depth(self) -> int:
        """Return the number of overlays above one another."""
        return 1 + (self.below.depth() if isinstance(self.below, OverlayStorage) else 0)

    def changed_ids(self, since: Storage[R]) -> set[str] | None:
        """Return the ids whose records may differ from ``since``; None if that storage is not below this one."""
        changed = {*self._own.records, *self._hidden, *self._replaced}
        if self.below is since:
            return changed
        further = self.below.changed_ids(since) if isinstance(self.below, OverlayStorage) else None
        return None if further is None else changed | further

    def on_disk(self) -> tuple[Storage[R], set[str]] | None:
        found = self.below.on_disk()
        return None if found is None else (found[0], found[1] | {*self._own.records, *self._hidden, *self._replaced})

    def shelf(self, name: str) -> Shelf | None:
        return self.below.shelf(name)

    def get(self, doc_id: str) -> R | None:
        own = self._own.records.get(doc_id)
        if own is not None:
            return own
        if doc_id in self._hidden:
            return None
        return self._replaced.get(doc_id) or self.below.get(doc_id)

    def write(self, old: R | None, new: R | None) -> None:
        own = None if old is None else self._own.records.get(old.doc_id)
        if old is not None and own is None:
            self._hide(old)
        if own is not None or new is not None:
            self._own.write(own, new)

    def _hide(self, record: R) -> None:
        if self._hidden_seqs is _NOTHING:
            self._hidden_seqs, self._hidden_ids = SortedList(), SortedList()
        self._hidden[record.doc_id] = record
        self._hidden_seqs.add(record.seq)
        if not record.deleted:
            self._hidden_ids.add(record.doc_id)

    def recover(self, writes: Sequence[tuple[R | None, R | None]]) -> None:
        hidden = dict(self._hidden)
        for old, new in writes:
            known = old or new
            below = self.below.get(known.doc_id) if known is not None else None
            if below is not None:
                hidden[below.doc_id] = below
        self._hidden = hidden
        self._hidden_seqs = SortedList(record.seq for record in hidden.values())
        self._hidden_ids = SortedList(record.doc_id for record in hidden.values() if not record.deleted)
        self._own.recover(writes)

    def check(self) -> list[str]:
        wrong = self.below.check() + self._own.check()
        hidden = self._hidden.values()
        if list(self._hidden_seqs) != sorted(record.seq for record in hidden):
            wrong.append("the hidden update sequences differ from the hidden documents")
        if list(self._hidden_ids) != sorted(record.doc_id for record in hidden if not record.deleted):
            wrong.append("the hidden ids differ from the hidden documents")
        for record in self._own.changes():
            if record.doc_id not in self._hidden and self.below.get(record.doc_id) is not None:
                wrong.append(f"{record.doc_id!r} is visible below its change")
        return wrong

    def replace(self, record: R) -> None:
        if record.doc_id in self._own.records:
            self._own.replace(record)
        else:
            self._replaced[record.doc_id] = record

    def _shown(self, records: Iterator[R]) -> Iterator[R]:
        """Return the records from below that the overlay does not hide."""
        hidden, replaced = self._hidden, self._replaced
        if not hidden and not replaced:
            return records
        return (replaced.get(record.doc_id, record) for record in records if record.doc_id not in hidden)

    def live(
        self, start: str | None = None, end: str | None = None, inclusive_end: bool = True, descending: bool = False
    ) -> Iterator[R]:
        below = self._shown(self.below.live(start, end, inclusive_end, descending))
        if not self._own.records:
            return below
        own = self._own.live(start, end, inclusive_end, descending)
        first = next(below, None)
        return own if first is None else merge(chain((first,), below), own, key=_by_id, reverse=descending)

    def live_before(self, doc_id: str, inclusive: bool = False) -> int:
        with sorting.lock:
            hidden = self._hidden_ids.bisect_right(doc_id) if inclusive else self._hidden_ids.bisect_left(doc_id)
        return self.below.live_before(doc_id, inclusive) - hidden + self._own.live_before(doc_id, inclusive)

    def changes(self, since: int = 0, until: int | None = None, descending: bool = False) -> Iterator[R]:
        # Records of the overlay have higher update sequences than all below.
        parts = (self._shown(self.below.changes(since, until, descending)), self._own.changes(since, until, descending))
        return chain(*(reversed(parts) if descending else parts))

    def changes_after(self, seq: int) -> int:
        with sorting.lock:
            hidden = len(self._hidden_seqs) - self._hidden_seqs.bisect_right(seq)
        return self.below.changes_after(seq) - hidden + self._own.changes_after(seq)

    def get_local(self, doc_id: str) -> LocalDocument | None:
        return self._locals[doc_id] if doc_id in self._locals else self.below.get_local(doc_id)

    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        self._locals[doc_id] = document

    def locals(self) -> list[tuple[str, LocalDocument]]:
        found: dict[str, LocalDocument | None] = {**dict(self.below.locals()), **self._locals}
        return sorted((doc_id, document) for doc_id, document in found.items() if document is not None)


def flattened(storage: Storage[R]) -> Storage[R]:
    """Return a storage with the same documents, and at most one below it: one that is not in memory."""
    bottom = storage
    layers: list[OverlayStorage[R]] = []
    while isinstance(bottom, OverlayStorage):
        layers.append(bottom)
        bottom = bottom.below
    if bottom.resumed() is not None:
        return _joined(storage, layers, bottom)
    flat = MemoryStorage[R]()
    for record in storage.changes():
        flat.write(None, record)
    for doc_id, document in storage.locals():
        flat.write_local(doc_id, document)
    return flat


def _joined(storage: Storage[R], layers: Sequence[OverlayStorage[R]], bottom: Storage[R]) -> Storage[R]:
    """Return one overlay with the changes of several."""
    joined = OverlayStorage(bottom)
    changed = {doc_id for layer in layers for doc_id in layer.changed_ids(layer.below) or ()}
    pairs = [(bottom.get(doc_id), storage.get(doc_id)) for doc_id in changed]
    for old, new in sorted(pairs, key=lambda pair: pair[1].seq if pair[1] is not None else 0):
        if old is not None and new is not None and old.seq == new.seq:
            joined.replace(new)
        elif old is not None or new is not None:
            joined.write(old, new)
    for layer in reversed(layers):
        for doc_id, document in layer._locals.items():
            joined.write_local(doc_id, document)
    return joined
