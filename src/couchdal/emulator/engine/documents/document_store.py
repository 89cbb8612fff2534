"""The documents of one database: their storage, update sequence, counts and purges.

This module does not know indexes, users or requests. The caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.storage.base import Storage
from couchdal.errors import IllegalDocId
from couchdal.pace import paced

DEFAULT_REVS_LIMIT = 1000
DEFAULT_PURGED_INFOS_LIMIT = 1000


class PurgeInfo(NamedTuple):
    """One purge request: its number, the document, and the leaves that it named."""

    purge_seq: int
    doc_id: str
    revisions: tuple[Revision, ...]


class DocumentStore:
    """The part of a database that readers and indexes use. ``seq_text`` follows the number in each update sequence."""

    __slots__ = (
        "design_version",
        "doc_count",
        "doc_del_count",
        "partitioned",
        "purge_seq",
        "purged_infos_limit",
        "purges",
        "revs_limit",
        "seq_text",
        "storage",
        "update_seq",
    )

    def __init__(self, storage: Storage[DocumentRecord], seq_text: str, *, partitioned: bool = False) -> None:
        self.storage: Storage[DocumentRecord] = storage
        self.seq_text: str = seq_text
        self.partitioned: bool = partitioned
        self.revs_limit: int = DEFAULT_REVS_LIMIT
        self.purged_infos_limit: int = DEFAULT_PURGED_INFOS_LIMIT
        self.update_seq: int = 0
        self.purge_seq: int = 0
        self.doc_count: int = 0
        self.doc_del_count: int = 0
        self.purges: list[PurgeInfo] = []
        # Rises with every change of a design document, so that indexes notice; 0 if there never was one. A rollback
        # restores it, and notifies the indexes.
        self.design_version: int = 0

    def count(self, name: str, number: int = 1) -> None:
        """Count something for ``_stats``. Only the databases of a server do."""

    def count_prompts(self, *, times: int = 1, **prompts: int) -> None:
        """Count what CouchDB asks one of its query servers, which it resets first, and how often it does that."""
        asked = {"reset": 1, **prompts}
        for name, number in asked.items():
            self.count(f"couchdb/query_server/calls/{name}", times * number)
        self.count("couchdb/query_server/acquired_processes", times)
        self.count("couchdb/query_server/process_prompts", times * sum(asked.values()))

    def get(self, doc_id: str) -> DocumentRecord | None:
        """Return a document, deleted or not. Raise ``IllegalDocId`` for an id that no partition can hold."""
        if self.partitioned:
            self.check_located(doc_id)
        return self.storage.get(doc_id)

    def check_located(self, doc_id: str) -> None:
        """Raise ``IllegalDocId`` for an id that no partition can hold. CouchDB does not look up such a document."""
        if self.partitioned and ":" not in doc_id and not doc_id.startswith(("_design/", "_local/")):
            raise IllegalDocId("Doc id must be of form partition:id")

    def is_untouched(self) -> bool:
        """Return whether the database was never written to: no document, no setting, no local document."""
        return self.update_seq == 0 and not self.storage.locals()

    def last_document_seq(self) -> int:
        """Return the update sequence of the last write of a document. Settings take later ones."""
        last = next(self.storage.changes(descending=True), None)
        return 0 if last is None else last.seq

    def seq(self, number: int) -> str:
        """Return the text of an update sequence."""
        return f"{number}-{self.seq_text}"

    def design_documents(self) -> Iterator[DocumentRecord]:
        """Return the live design documents by the raw bytes of their ids."""
        if self.design_version == 0:
            return iter(())
        # "0" is the character after the slash.
        return self.storage.live("_design/", "_design0", inclusive_end=False)

    def partition_counts(self, partition: str) -> tuple[int, int]:
        """Return how many live and how many deleted documents a partition holds."""
        records = [record for record in paced(self.storage.changes()) if record.doc_id.startswith(partition + ":")]
        deleted = sum(record.deleted for record in records)
        return len(records) - deleted, deleted
