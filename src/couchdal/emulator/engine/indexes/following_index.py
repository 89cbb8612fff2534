"""How an index of any kind keeps up with its database: forwards before it is read, and back to a state that was kept.

It knows nothing of keys or rows. Source: ``couch_index_updater``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Generic, TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.errors import CouchError

Found = TypeVar("Found")
_Self = TypeVar("_Self", bound="FollowingIndex")  # type: ignore[type-arg]


class FollowingIndex(ABC, Generic[Found]):
    """What has been found in the documents up to some update sequence. The caller holds the server's lock."""

    def __init__(self) -> None:
        self.seq = 0
        self.purge_seq = 0
        # Whether a fork reads the same rows: whoever changes them then takes a copy of them first.
        self._shared = False

    @abstractmethod
    def read(self, db: DocumentStore, record: DocumentRecord) -> Found | None:
        """Return what a document has for the index, if anything; raises ``CouchError`` where that cannot be told."""

    @abstractmethod
    def _replace(self, changed: Sequence[tuple[str, Found | None]], seq: int) -> None:
        """Put what was found up to an update sequence in the place of what documents had before."""

    @abstractmethod
    def _doc_ids(self) -> Iterable[str]:
        """Return the documents that have something in the index."""

    @abstractmethod
    def _take_copies(self) -> None:
        """Have rows of one's own, that nobody else reads."""

    def fork(self: _Self) -> _Self:
        """Return the same index for another database of the same state, at a cost that no rows add to."""
        self._shared = True
        return copy(self)

    def refresh(self, db: DocumentStore) -> None:
        """Take in what has changed; raises ``CouchError`` where a document makes the index fail."""
        if self.purge_seq != db.purge_seq:
            self._put([(doc_id, None) for doc_id in self._purged(db)], self.seq)
            self.purge_seq = db.purge_seq
        if self.seq == db.update_seq:
            return
        # All of it is read before anything is changed: reading may fail.
        self._put(
            [(record.doc_id, self.read(db, record)) for record in db.storage.changes(since=self.seq)], db.update_seq
        )
        self.seq = db.update_seq

    def _purged(self, db: DocumentStore) -> set[str]:
        """Return the documents that were named in purges, whether or not anything of them was purged.

        CouchDB takes all of them out, and reads none again that has not changed: their rows are gone until it does.
        """
        named = {purge.doc_id for purge in db.purges if purge.purge_seq > self.purge_seq}
        return named.union(doc_id for doc_id in self._doc_ids() if db.storage.get(doc_id) is None)

    def rewind(self, db: DocumentStore, doc_ids: Iterable[str]) -> bool:
        """Follow a database back to a state from which these documents may differ; False where that cannot be."""
        if self.purge_seq > db.purge_seq:
            # What a purge has taken out need not be among what differs.
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
        if self._shared:
            self._take_copies()
            self._shared = False
        self._replace(changed, seq)
