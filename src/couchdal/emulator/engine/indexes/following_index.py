"""Base class of indexes: keeps an index up to date with its database, and follows the database back in a rollback.

It does not know keys or rows. Source: ``couch_index_updater``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Generic, TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.errors import CouchError

Found = TypeVar("Found")
_Self = TypeVar("_Self", bound="FollowingIndex")  # type: ignore[type-arg]


class FollowingIndex(ABC, Generic[Found]):
    """What was found in the documents up to an update sequence. The caller holds the server's lock."""

    def __init__(self) -> None:
        self.seq: int = 0
        self.purge_seq: int = 0
        # Whether a fork reads the same rows. Then they must be copied before the first change.
        self._shared = False
        #: False while the rows change. If that is interrupted, the index is built again.
        self.is_intact: bool = True

    @abstractmethod
    def read(self, db: DocumentStore, record: DocumentRecord) -> Found | None:
        """Return what a document contributes to the index, if anything. Raise ``CouchError`` if it fails."""

    @abstractmethod
    def _replace(self, changed: Sequence[tuple[str, Found | None]], seq: int) -> None:
        """Replace what documents contributed before by what was found now, up to update sequence ``seq``."""

    @abstractmethod
    def _doc_ids(self) -> Iterable[str]:
        """Return the ids of the documents in the index."""

    @abstractmethod
    def contents(self) -> Mapping[str, object]:
        """Return what each document in the index contributes."""

    @abstractmethod
    def is_sorted(self) -> bool:
        """Return True if the sorted rows are those of the documents."""

    @abstractmethod
    def _take_copies(self) -> None:
        """Copy the rows, so that a fork does not see changes."""

    def fork(self: _Self) -> _Self:
        """Return the index for another database in the same state. The cost does not depend on the number of rows."""
        self._shared = True
        return copy(self)

    @abstractmethod
    def emptied(self: _Self) -> _Self:
        """Return a new index with the same definition and no rows."""

    def is_right(self, db: DocumentStore) -> bool:
        """Return True if a new index up to the same update sequence has the same rows.

        CouchDB keeps no rows of documents that a purge named until they change, so those documents do not count.
        """
        if not self.is_sorted():
            return False
        if db.purge_seq > len(db.purges):
            # A compaction forgot which documents purges named.
            return True
        fresh, purged = self.emptied(), {purge.doc_id for purge in db.purges}
        # By id, because the log may be what is wrong.
        known = {record.doc_id: record for record in db.storage.changes(until=self.seq)}
        records = [record for record in known.values() if record.doc_id not in purged]
        try:
            fresh._put([(record.doc_id, fresh.read(db, record)) for record in records], self.seq)
        except CouchError:
            return True
        later = {record.doc_id for record in db.storage.changes(since=self.seq)}
        ignored = purged | later
        mine = {doc_id: found for doc_id, found in self.contents().items() if doc_id not in ignored}
        return mine == fresh.contents()

    def refresh(self, db: DocumentStore) -> None:
        """Bring the index up to date. Raise ``CouchError`` if a document makes it fail."""
        if self.purge_seq != db.purge_seq:
            self._put([(doc_id, None) for doc_id in self._purged(db)], self.seq)
            self.purge_seq = db.purge_seq
        if self.seq == db.update_seq:
            return
        # Read everything before the index changes, because reading may fail.
        self._put(
            [(record.doc_id, self.read(db, record)) for record in db.storage.changes(since=self.seq)], db.update_seq
        )
        self.seq = db.update_seq

    def _purged(self, db: DocumentStore) -> set[str]:
        """Return the documents that purges named, even if nothing of them was purged.

        CouchDB removes the rows of all of them, and does not read them again until they change.
        """
        named = {purge.doc_id for purge in db.purges if purge.purge_seq > self.purge_seq}
        return named.union(doc_id for doc_id in self._doc_ids() if db.storage.get(doc_id) is None)

    def rewind(self, db: DocumentStore, doc_ids: Iterable[str]) -> bool:
        """Follow a database back to a state in which these documents may differ. Return False if that is impossible."""
        if self.purge_seq > db.purge_seq or not self.is_intact:
            # The rows that a purge removed may belong to documents that do not differ.
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

    def _put(self, changed: Sequence[tuple[str, Found | None]], seq: int) -> None:
        if not changed:
            return
        self.is_intact = False
        if self._shared:
            self._take_copies()
            self._shared = False
        try:
            self._replace(changed, seq)
        except CouchError:
            # The index kept its previous rows.
            self.is_intact = True
            raise
        self.is_intact = True
