"""The parts of attachments in a data file: they are written as they arrive, and read one after the other.

An attachment that arrives has an address of its own. Until a document has it, its parts are leftovers: if the process
ends, the next one removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_values import Source, as_text, check, checksum

_OF_ATTACHMENT = "db = ? AND id = ? AND address = ?"
_WRITE = "INSERT OR REPLACE INTO attachments VALUES (?, ?, ?, ?, ?, ?)"


def write_parts(file: DataFile, db: int, doc_id: bytes, address: str, parts: Iterable[bytes]) -> None:
    """Write an attachment. All parts but the last one have the same length. The caller has begun a transaction."""
    for number, part in enumerate(parts):
        file.run(_WRITE, (db, doc_id, address, number, part, checksum(doc_id, part)))


def read_parts(source: Source, db: int, doc_id: bytes, address: str, span: range) -> Iterator[bytes]:
    """Yield some bytes of an attachment in its present state."""
    # Now, and not when the first part is read.
    state = source.point()
    return _read(state, (db, doc_id, address), span)


def _read(source: Source, place: tuple[int, bytes, str], span: range) -> Iterator[bytes]:
    number = skipped = 0
    if span.start:
        rows = source.rows(f"SELECT length(data) FROM attachments WHERE {_OF_ATTACHMENT} AND part = 0", place)
        number, skipped = divmod(span.start, rows[0][0]) if rows else (0, 0)
    left = len(span)
    while True:
        rows = source.rows(
            f"SELECT data, checksum FROM attachments WHERE {_OF_ATTACHMENT} AND part = ?", (*place, number)
        )
        if not rows:
            raise source.damaged(f"a part of document {as_text(place[1])!r} is missing")
        ((data, summed),) = rows
        check(source, summed, place[1], data)
        found = data[skipped : skipped + left]
        yield found
        number, skipped, left = number + 1, 0, left - len(found)
        if not left:
            return


class Arriving:
    """The parts of one attachment that arrives."""

    def __init__(self, file: DataFile, db: int, doc_id: bytes) -> None:
        self._file = file
        self._number = 0
        #: Where the parts are.
        self.place: tuple[int, bytes, str] = db, doc_id, ""

    def add(self, data: bytes) -> None:
        """Write the next part."""
        file = self._file
        with file.transaction():
            db, doc_id, address = self.place
            if not address:
                count = int(file.get_meta("arrivals") or 0) + 1
                file.set_meta("arrivals", count)
                address = f"@{count}"
                # Nobody else may see the note before.
                self.place = db, doc_id, address
                file.run("INSERT INTO leftovers VALUES (?, ?, ?)", self.place)
            file.run(_WRITE, (db, doc_id, address, self._number, data, checksum(doc_id, data)))
        self._number += 1


def keep_arrived(file: DataFile, db: int, doc_id: bytes, address: str) -> bool:
    """Note that a document has the parts at an address. Return whether they had arrived for this document."""
    if not address.startswith("@"):
        return False
    return bool(file.run(f"DELETE FROM leftovers WHERE {_OF_ATTACHMENT}", (db, doc_id, address)))
