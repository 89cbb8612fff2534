"""Base class of indexes: keeps an index up to date with its database, and follows the database back in a rollback.

This module does not know keys or rows. Source: ``couch_index_updater``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.errors import CouchError
from couchdal.pace import paced

Found = TypeVar("Found")
# The update sequences in a batch. The entries that an index finds in one batch are in memory at once.
_AT_ONCE = 10_000
# How many documents are read at once.
_DOCUMENTS_AT_ONCE = 500
_Self = TypeVar("_Self", bound="FollowingIndex")  # type: ignore[type-arg]


class FollowingIndex(ABC, Generic[Found]):
    """The entries that were found in the documents up to an update sequence. The caller holds the server's lock."""

    def __init__(self) -> None:
        self.seq: int = 0
        self.purge_seq: int = 0
        # Whether a fork reads the same rows. Then they must be copied before the first change.
        self._shared = False
        # How many readers share the rows now. Their copies hold the same list object.
        self._readers = [0]
        # For a reader's copy: the function that updates it.
        self._catch_up: Callable[[], None] | None = None
        #: The request that updates the index without the lock.
        self.builder: object = None
        #: False while the rows change. If that is interrupted, the index is built again.
        self.is_intact: bool = True

    @abstractmethod
    def read(self, db: DocumentStore, record: DocumentRecord) -> Found | None:
        """Return what a document contributes to the index, if anything. Raise ``CouchError`` if it fails."""

    def read_all(self, db: DocumentStore, records: Iterable[DocumentRecord]) -> list[tuple[str, Found | None]]:
        """Return what each document contributes. Raise ``CouchError`` if one fails."""
        return [(record.doc_id, self.read(db, record)) for record in records]

    @abstractmethod
    def _replace(self, changed: Sequence[tuple[str, Found | None]], seq: int, prepared: object) -> None:
        """Replace the old contributions of documents by new ones, up to the update sequence ``seq``."""

    @abstractmethod
    def _doc_ids(self) -> Iterable[str]:
        """Return the ids of the documents in the index."""

    @abstractmethod
    def contents(self) -> Mapping[str, object]:
        """Return what each document in the index contributes."""

    @abstractmethod
    def is_sorted(self) -> bool:
        """Return True if the sorted rows are the rows of the documents in the index."""

    @abstractmethod
    def _take_copies(self) -> None:
        """Copy the rows, so that a fork does not see changes."""

    def fork(self: _Self) -> _Self:
        """Return the index for another database in the same state. The cost does not depend on the number of rows."""
        self._shared = True
        forked = copy(self)
        forked._readers, forked.builder = [0], None
        return forked

    def for_reader(self: _Self, catch_up: Callable[[_Self], None]) -> _Self:
        """Return the index for a reader without the lock. ``catch_up`` brings it up to date.

        The reader calls ``end_reading`` at its end.
        """
        self._readers[0] += 1
        copied = copy(self)
        copied._catch_up = partial(catch_up, copied)
        return copied

    def end_reading(self) -> None:
        """Release the rows of a reader's copy. The caller holds the lock."""
        self._readers[0] -= 1
        # It refers to this copy, which would live on until a collection of garbage.
        self._catch_up = None

    def become(self: _Self, other: _Self) -> None:
        """Take the place of another reader's copy of the same index. The caller holds the lock."""
        catch_up = self._catch_up
        self.end_reading()
        vars(self).update(vars(other))
        self._catch_up, other._catch_up = catch_up, None

    @abstractmethod
    def emptied(self: _Self) -> _Self:
        """Return a new index with the same definition and no rows."""

    def is_right(self, db: DocumentStore) -> bool:
        """Return True if a new index up to the same update sequence has the same rows.

        CouchDB has no rows of documents that a purge named until they change again, so those are not compared.
        """
        if not self.is_sorted():
            return False
        if db.purge_seq > len(db.purges):
            # After a compaction, it is not known which documents purges named.
            return True
        fresh, purged = self.emptied(), {purge.doc_id for purge in db.purges}
        # Look records up by id, because the log itself may be wrong.
        known = {record.doc_id: record for record in db.storage.changes(until=self.seq)}
        records = [record for record in known.values() if record.doc_id not in purged]
        try:
            fresh._put(fresh.read_all(db, records), self.seq)
        except CouchError:
            return True
        later = {record.doc_id for record in db.storage.changes(since=self.seq)}
        ignored = purged | later
        mine = {doc_id: found for doc_id, found in self.contents().items() if doc_id not in ignored}
        return mine == fresh.contents()

    def refresh(self, db: DocumentStore) -> None:
        """Update the index. Raise ``CouchError`` if a document makes it fail."""
        if self._catch_up is not None:
            self._catch_up()
            return
        if self.purge_seq != db.purge_seq:
            self.add(self.removals(db, self._doc_ids()), self.seq)
            self.purge_seq = db.purge_seq
        while self.seq != db.update_seq:
            until = min(self.seq + self.at_once, db.update_seq)
            # Read a batch before the index changes, because reading may fail.
            self.add(self.found_since(db, self.seq, until), until)

    @property
    def is_on_disk(self) -> bool:
        """Whether the rows are on a disk, and only some of them in memory."""
        return False

    @property
    def at_once(self) -> int:
        """How many update sequences a batch has."""
        return _AT_ONCE

    def is_current(self, db: DocumentStore) -> bool:
        """Return whether the index is up to date."""
        return self.seq == db.update_seq and self.purge_seq == db.purge_seq

    def known_ids(self) -> list[str]:
        """Return the ids of the documents in the index."""
        return list(self._doc_ids())

    def removals(self, db: DocumentStore, known: Iterable[str]) -> list[tuple[str, Found | None]]:
        """Return the entries that remove the documents named by purges. ``known`` are the ids in the index.

        CouchDB removes the rows even if nothing was purged, and does not read the documents until they change.
        """
        named = {purge.doc_id for purge in db.purges if purge.purge_seq > self.purge_seq}
        named.update(doc_id for doc_id in paced(known) if db.storage.get(doc_id) is None)
        return [(doc_id, None) for doc_id in named]

    def found_since(self, db: DocumentStore, seq: int, until: int | None = None) -> Sequence[tuple[str, Found | None]]:
        """Return the contributions of documents that changed after ``seq``. Raise ``CouchError`` if one fails."""
        changes = iter(paced(db.storage.changes(seq, until), 8))
        found: list[tuple[str, Found | None]] = []
        while some := list(islice(changes, _DOCUMENTS_AT_ONCE)):
            found += self.read_all(db, some)
        return found

    def prepare(self, changed: Sequence[tuple[str, Found | None]]) -> object:
        """Do the slow part of ``add`` without a change. Raise ``CouchError`` if the rows cannot be added."""
        return None

    def add(self, found: Sequence[tuple[str, Found | None]], seq: int, prepared: object = None) -> None:
        """Replace the rows of changed documents. ``seq`` is the update sequence that the index has reached.

        ``prepared`` is what ``prepare`` returned for them, if it was called before.
        """
        self._put(found, seq, prepared)
        self.seq = seq

    def rewind(self, db: DocumentStore, doc_ids: Iterable[str]) -> bool:
        """Follow a database back to a state in which these documents may differ. Return False if that is impossible."""
        if self.purge_seq > db.purge_seq or not self.is_intact:
            # A purge may have removed rows of documents that do not differ.
            return False
        records = ((doc_id, db.storage.get(doc_id)) for doc_id in doc_ids)
        try:
            self._put(
                [(doc_id, self.read(db, record) if record else None) for doc_id, record in records], db.update_seq
            )
        except CouchError:
            return False
        self.seq = min(self.seq, db.update_seq)
        return True

    def _put(self, changed: Sequence[tuple[str, Found | None]], seq: int, prepared: object = None) -> None:
        if not changed:
            return
        if prepared is None:
            prepared = self.prepare(changed)
        self.is_intact = False
        if self._shared or self._readers[0]:
            self._take_copies()
            self._shared, self._readers = False, [0]
        self._replace(changed, seq, prepared)
        self.is_intact = True
