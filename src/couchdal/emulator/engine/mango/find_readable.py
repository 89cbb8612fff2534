"""``_find`` for users who may read only parts of some documents, as in the users database.

As in CouchDB, a query sees what the user may read, and skips other documents. Source: ``couch_users_db``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TypeAlias

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.mango.find import Cursor, Match, PreparedQuery, Scan, find
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import NotFound
from couchdal.pace import paced

# Returns the part of a document that the user may read. Raises ``NotFound`` or ``Forbidden``.
PartOf: TypeAlias = "Callable[[str, Mapping[str, object]], Mapping[str, object]]"


def find_readable(db: Database, prepared: PreparedQuery, most: float, part_of: PartOf) -> dict[str, object]:
    """Return the answer to a query. Raise the error of ``find``, or ``Forbidden`` for an index of a design document."""
    return find(db, prepared, most, partial(_ReadableCursor, part_of))


class _ReadableCursor(Cursor):
    """A pass over the documents by id that sees only what the user may read."""

    __slots__ = ("_part_of",)

    def __init__(self, part_of: PartOf, db: Database, prepared: PreparedQuery, scan: Scan, most: int | None) -> None:
        super().__init__(db, prepared, scan, most)
        self._part_of = part_of

    def _scanned(self) -> Iterator[Match]:
        records = self._records()
        examined = 0
        for record in paced(records if self._most is None or self._most < 0 else islice(records, self._most)):
            examined += 1
            document = self._part(record)
            if document is None:
                # CouchDB counts the key, but no document.
                self.stats.docs_examined -= not self._scan.quorum
            elif self._matches(document):
                yield examined, (record.doc_id, record.doc_id, document, None)
                examined = 0
        yield examined, None

    def _part(self, record: DocumentRecord) -> Mapping[str, object] | None:
        if record.doc_id.startswith("_design/"):
            return None
        try:
            return self._part_of(record.doc_id, self._whole(record))
        except NotFound:
            return None

    def _indexed(self) -> Iterator[Match]:
        # An index belongs to a design document, which CouchDB opens with the rights of the user.
        self._part_of(self._scan.index.ddoc or "", {})
        yield from super()._indexed()

    def _still_matches(self, record: DocumentRecord | None) -> bool:
        self.stats.quorum_docs_examined += 1
        return True
