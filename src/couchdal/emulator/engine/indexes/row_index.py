"""Base class of indexes with sorted rows: keeps the rows in memory, or in blocks on a disk.

On a disk, the index has a state: the sequence that it has reached, and the roots of its trees of blocks. New blocks
stay in memory until there are many, and are then written with the next state. An interrupted build goes on from there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from couchdal.emulator.engine.collation.collation import collator_name
from couchdal.emulator.engine.indexes.following_index import FollowingIndex, Found
from couchdal.emulator.engine.indexes.row_blocks import Row, RowBlocks
from couchdal.emulator.engine.indexes.stored_blocks import RowForm, Shelved, numbers_gone
from couchdal.emulator.storage.base import Shelf
from couchdal.emulator.storage.sqlite_values import encode
from couchdal.errors import ServerError
from couchdal.pace import begin_long

# What an index keeps of a document.
Kept = TypeVar("Kept")
_Self = TypeVar("_Self", bound="RowIndex")  # type: ignore[type-arg]
# Of an index on a disk, the first batch has so many update sequences, and later ones at most so many. Few large batches
# write less than many small ones. The rows of a batch are in memory at once, so they have about so many bytes.
_FIRST_AT_ONCE, _AT_ONCE, _BYTES_AT_ONCE = 2000, 50_000, 8 << 20
# From so many rows the index learns how large they are.
_SAMPLE = 100
# From so many documents on, a batch writes its blocks to the disk. So do several that are smaller.
_MANY = 1000
# It rises when the form of rows or places changes. An index of another form is built anew.
_FORMAT = 2


class DocumentRow(NamedTuple):
    """What an index on a disk keeps of a document: the keys of its rows."""

    doc_id: str
    keys: Any


class _DocumentForm(RowForm[DocumentRow]):
    def encode(self, row: DocumentRow) -> object:
        return row

    def decode(self, value: Any) -> DocumentRow:
        return DocumentRow(*value)


class Prepared(NamedTuple, Generic[Row, Kept]):
    """The rows after a change: the trees, which of them changed, and what is kept of each document."""

    trees: list[RowBlocks[Row]]
    has_changed: list[bool]
    kept: Mapping[str, Kept | None]
    documents: RowBlocks[DocumentRow]
    replaced: int
    more: object


class RowIndex(FollowingIndex[Found], Generic[Found, Row, Kept]):
    """An index with one or several trees of rows."""

    def __init__(self, forms: Sequence[RowForm[Row]]) -> None:
        super().__init__()
        self._forms = forms
        self.trees: list[RowBlocks[Row]] = [RowBlocks() for _ in forms]
        self._by_document: dict[str, Kept] = {}
        #: How many rows were replaced or removed since the last compaction.
        self.replaced: int = 0
        # On a disk only: where, the trees there, what takes the place of ``_by_document``, and how many documents
        # changed since the last state.
        self._shelf: Shelf | None = None
        self._shelved: list[Shelved[Row]] = []
        self.documents: RowBlocks[DocumentRow] = RowBlocks()
        self._saved: list[RowBlocks[Any]] = []
        self._saved_next = 0
        self._unsaved = 0
        # How many update sequences the next batch has.
        self._at_once = _FIRST_AT_ONCE
        # The readers and forks that may read blocks of the present state, and blocks that only those of earlier states
        # need.
        self._holders: WeakSet[RowIndex[Found, Row, Kept]] = WeakSet()
        self._waiting: list[tuple[WeakSet[RowIndex[Found, Row, Kept]], list[int]]] = []
        #: Whether the database is in the state of the disk. After a snapshot, an index stays in memory.
        self.is_kept: bool = False

    # --- rows ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def kept_of(self, doc_id: str, found: Found) -> Kept:
        """Return what the index keeps of a document."""

    @abstractmethod
    def rows_of(self, kept: Kept) -> Sequence[Sequence[Row]]:
        """Return the rows of a document in each tree."""

    @abstractmethod
    def _are_same(self, rows: Sequence[Row], others: Sequence[Row]) -> bool:
        """Return whether rows are the same. Then their tree stays as it is."""

    @abstractmethod
    def _keys(self, kept: Kept) -> object:
        """Return in a form of JSON what finds the rows of a document."""

    @abstractmethod
    def of_keys(self, doc_id: str, keys: Any) -> Kept:
        """Return what the index keeps of a document."""

    def _checked(self, trees: Sequence[RowBlocks[Row]], added: Sequence[Sequence[Row]]) -> object:
        """Return what ``_follow`` needs. Raise ``CouchError`` if the index cannot have these rows."""
        return None

    def _follow(self, prepared: Prepared[Row, Kept], seq: int) -> None:
        """Note what else changes with the rows."""

    def prepare(self, changed: Sequence[tuple[str, Found | None]]) -> Prepared[Row, Kept] | None:
        added: list[list[Row]] = [[] for _ in self.trees]
        removed: list[list[Row]] = [[] for _ in self.trees]
        replaced = 0
        nothing = [()] * len(self.trees)
        latest = {doc_id: None if found is None else self.kept_of(doc_id, found) for doc_id, found in changed}
        known = self.known(latest)
        for doc_id, kept in latest.items():
            before = known.get(doc_id)
            old_rows = nothing if before is None else self.rows_of(before)
            new_rows = nothing if kept is None else self.rows_of(kept)
            for gone, new, old_ones, new_ones in zip(removed, added, old_rows, new_rows, strict=True):
                replaced += len(old_ones)
                # CouchDB leaves a block as it is if nothing in it changes, and then the view has not changed.
                if not self._are_same(old_ones, new_ones):
                    gone += old_ones
                    new += new_ones
        is_large = self.is_kept and len(latest) >= _MANY
        if is_large:
            begin_long()
        trees = [
            tree.updated(gone, new, self._shelved[at].stored if is_large else None)
            for at, (tree, gone, new) in enumerate(zip(self.trees, removed, added, strict=True))
        ]
        more = self._checked(trees, added)
        has_changed = [tree is not before for tree, before in zip(trees, self.trees, strict=True)]
        documents = self.documents
        if self._shelf is not None:
            documents = self._updated_documents(known, latest, is_large)
            self._measure(added, len(latest))
        if is_large:
            trees, documents = self._stored(trees), self._stored_documents(documents)
        return Prepared(trees, has_changed, latest, documents, replaced, more)

    def _measure(self, added: Sequence[Sequence[Row]], documents: int) -> None:
        """Note how many update sequences the next batch can have."""
        if documents < _SAMPLE:
            return
        size = 1
        for rows, form in zip(added, self._forms, strict=True):
            some = rows[:_SAMPLE]
            size += sum(len(encode(form.encode(row))) for row in some) * len(rows) // (len(some) or 1)
        self._at_once = max(_SAMPLE, min(_AT_ONCE, _BYTES_AT_ONCE * documents // size))

    def known(self, doc_ids: Iterable[str]) -> Mapping[str, Kept]:
        """Return what the index keeps of these documents."""
        if self._shelf is None:
            return self._by_document
        if not self.documents:
            return {}
        rows = self.documents.find(sorted(doc_ids))
        return {row.doc_id: self.of_keys(row.doc_id, row.keys) for row in rows}

    def _updated_documents(
        self, known: Mapping[str, Kept], latest: Mapping[str, Kept | None], is_large: bool
    ) -> RowBlocks[DocumentRow]:
        removed: list[DocumentRow] = []
        added: list[DocumentRow] = []
        for doc_id, kept in latest.items():
            if doc_id in known:
                removed.append(DocumentRow(doc_id, None))
            if kept is not None:
                added.append(DocumentRow(doc_id, self._keys(kept)))
        return self.documents.updated(removed, added, self._shelved_documents.stored if is_large else None)

    def _replace(self, changed: Sequence[tuple[str, Found | None]], seq: int, prepared: object) -> None:
        assert isinstance(prepared, Prepared)
        if self._shelf is None:
            for doc_id, kept in prepared.kept.items():
                if kept is None:
                    self._by_document.pop(doc_id, None)
                else:
                    self._by_document[doc_id] = kept
        self.replaced += prepared.replaced
        self._follow(prepared, seq)
        self.trees, self.documents = prepared.trees, prepared.documents
        self._unsaved += len(prepared.kept)

    def _take_copies(self) -> None:
        self.trees = list(self.trees)
        self._by_document = dict(self._by_document)

    def _doc_ids(self) -> Iterable[str]:
        return self._by_document if self._shelf is None else (row.doc_id for row in self.documents)

    def contents(self) -> Mapping[str, object]:
        return self._all_kept()

    def _all_kept(self) -> Mapping[str, Kept]:
        if self._shelf is None:
            return self._by_document
        return {row.doc_id: self.of_keys(row.doc_id, row.keys) for row in self.documents}

    def is_sorted(self) -> bool:
        found: list[list[Row]] = [[] for _ in self.trees]
        for kept in self._all_kept().values():
            for rows, own in zip(found, self.rows_of(kept), strict=True):
                rows += own
        return all(list(tree) == sorted(rows) for tree, rows in zip(self.trees, found, strict=True))

    # --- on a disk ----------------------------------------------------------------------------------------------------

    def put_on(self, shelf: Shelf) -> bool:
        """Keep the rows on a disk from now on, and go on from the state there. Return False if that is damaged.

        The index has no rows yet.
        """
        shelved = [Shelved(shelf, form) for form in self._forms]
        documents = Shelved(shelf, _DocumentForm())
        state = shelf.state
        trees: list[RowBlocks[Row]] = [RowBlocks() for _ in self._forms]
        by_id: RowBlocks[DocumentRow] = RowBlocks()
        if state is not None:
            if state.get("format") != _FORMAT or state["collation"] != collator_name():
                return False
            self.seq: int = state["seq"]
            self.purge_seq: int = state["purge_seq"]
            self.replaced = state["replaced"]
            trees = [RowBlocks(one.root_of(value)) for one, value in zip(shelved, state["trees"], strict=True)]
            by_id = RowBlocks(documents.root_of(state["documents"]))
            self._saved_next = state["next"]
            self._waiting = [(WeakSet(), state["waiting"])]
            self._restore(state["more"])
        self._shelf, self._shelved, self._shelved_documents = shelf, shelved, documents
        self.trees, self.documents, self._saved = trees, by_id, [*trees, by_id]
        return True

    def _state(self) -> object:
        """Return what else the state on the disk holds, in a form of JSON."""
        return None

    def _restore(self, state: Any) -> None:
        """Take over what ``_state`` returned."""

    @property
    def shelf(self) -> Shelf | None:
        """Where the rows are on a disk; None if they are in memory."""
        return self._shelf

    @property
    def is_usable(self) -> bool:
        """Whether queries can go on with this index, because its blocks are there and belong to nobody else."""
        return self.is_intact and (self._shelf is None or not (self._shelf.is_damaged or self._shelf.is_stale))

    @property
    def is_on_disk(self) -> bool:
        return self._shelf is not None

    @property
    def at_once(self) -> int:
        return min(self._at_once, _AT_ONCE) if self.is_on_disk else super().at_once

    def _stored(self, trees: Sequence[RowBlocks[Row]]) -> list[RowBlocks[Row]]:
        """Write all blocks that are only in memory, and return the same rows."""
        return [_stored(tree, shelved) for tree, shelved in zip(trees, self._shelved, strict=True)]

    def _stored_documents(self, documents: RowBlocks[DocumentRow]) -> RowBlocks[DocumentRow]:
        return _stored(documents, self._shelved_documents)

    def add(self, found: Sequence[tuple[str, Found | None]], seq: int, prepared: object = None) -> None:
        super().add(found, seq, prepared)
        if self.is_kept and self._unsaved >= _MANY:
            # Other requests must not wait for the disk.
            begin_long()
            # The rows are right without it. What cannot be written now is written later.
            with suppress(ServerError):
                self.save()

    def save(self) -> None:
        """Let the disk have the present state. Raise ``ServerError`` if that fails. The caller holds the lock."""
        shelf = self._shelf
        if shelf is None or not self.is_kept or shelf.is_damaged or shelf.is_stale:
            return
        if shelf.state is not None and not self._unsaved and self.seq == shelf.state["seq"]:
            return
        self.trees, self.documents = self._stored(self.trees), self._stored_documents(self.documents)
        present: list[RowBlocks[Any]] = [*self.trees, self.documents]
        before, after = ([tree.root for tree in trees] for trees in (self._saved, present))
        waiting = [*self._waiting, (self._holders, numbers_gone(before, after, shelf, self._saved_next))]
        gone: list[int] = []
        while waiting and not waiting[0][0]:
            gone += waiting.pop(0)[1]
        state = {
            "format": _FORMAT,
            "collation": collator_name(),
            "seq": self.seq,
            "purge_seq": self.purge_seq,
            "replaced": self.replaced,
            "next": shelf.next,
            "trees": [shelved.described_root(root) for shelved, root in zip(self._shelved, after, strict=False)],
            "documents": self._shelved_documents.described_root(self.documents.root),
            "waiting": [number for _, numbers in waiting for number in numbers],
            "more": self._state(),
        }
        if shelf.save(state, gone):
            self._saved, self._saved_next, self._unsaved = present, shelf.next, 0
            self._waiting, self._holders = waiting, WeakSet()

    # --- copies -------------------------------------------------------------------------------------------------------

    def fork(self: _Self) -> _Self:
        forked = super().fork()
        forked.is_kept = False
        self._holders.add(forked)
        return forked

    def for_reader(self: _Self, catch_up: Callable[[_Self], None]) -> _Self:
        copied = super().for_reader(catch_up)
        copied.is_kept = False
        self._holders.add(copied)
        return copied

    def become(self: _Self, other: _Self) -> None:
        super().become(other)
        self._holders.add(self)


def _stored(tree: RowBlocks[Row], shelved: Shelved[Row]) -> RowBlocks[Row]:
    (root,) = shelved.stored([tree.root])
    return tree if root is tree.root else RowBlocks(root)
