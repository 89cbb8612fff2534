"""A keeper that writes to a data file, and the reading of what it wrote.

It reads and writes rows; ``stored_server`` makes a server of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.documents.stored_form import (
    StoredParts,
    decode,
    decode_record,
    encode,
    encode_head,
    parts_of,
)
from couchdal.emulator.engine.server.keeper import DocumentWrites, Keeper, Numbers, Write
from couchdal.emulator.storage.base import LocalDocument
from couchdal.emulator.storage.sqlite import DataFile, Values
from couchdal.emulator.storage.sqlite_schema import OF_DATABASES, SEQ_BITS
from couchdal.errors import Forbidden

# The most bytes of an attachment in one row.
_PART = 1 << 20
# How many documents are read at once.
_AT_ONCE = 1000
_COMMITS = "commits"


class KeptDatabase(NamedTuple):
    """A database in a file: its number there, its name, its settings, and its counts and sequences."""

    db: int
    name: str
    settings: dict[str, Any]
    numbers: Numbers


class FileKeeper(Keeper):
    """Keeps a server in a data file."""

    def __init__(self, file: DataFile) -> None:
        self.file: DataFile = file
        # How many transactions were begun, and whose file it is.
        self._begun = 0
        self._file_id: object = None
        self.restart()

    def restart(self) -> None:
        """Note that the server is in the state of the file."""
        self._begun = self.count()
        self.applied: int = self._begun
        self._file_id = self.file.get_meta("ids")

    def count(self) -> int:
        """Return how many transactions the file holds."""
        return int(self.file.get_meta(_COMMITS) or 0)

    def is_ahead(self) -> bool:
        """Return whether the file holds what the server does not."""
        return self.count() != self.applied or self.file.get_meta("ids") != self._file_id

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.file.read_only:
            raise Forbidden(f"{self.file.path} was opened only to be read")
        with self.file.transaction():
            self._begun = self.applied + 1
            self.file.set_meta(_COMMITS, self._begun)
            yield

    def holds_next(self) -> bool:
        return self.file.is_open and self.count() != self.applied

    def catch_up(self) -> None:
        if self._begun != self.applied:
            self.restart()

    # --- writing ------------------------------------------------------------------------------------------------------

    def set_value(self, name: str, value: object) -> None:
        self.file.set_meta(name, value)

    def create(self, name: str, settings: Mapping[str, object]) -> None:
        if self.file.rows("SELECT 1 FROM databases WHERE name = ?", (name,)):
            self.delete(name)
        self.file.run(
            "INSERT INTO databases (name, settings, update_seq, doc_count, doc_del_count, design_version, purge_seq)"
            " VALUES (?, ?, 0, 0, 0, 0, 0)",
            (name, encode(settings).decode()),
        )

    def delete(self, name: str) -> None:
        db = self._number(name)
        self.file.run("DELETE FROM docs WHERE key BETWEEN ? AND ?", (db << SEQ_BITS, (db + 1) << SEQ_BITS))
        for table in OF_DATABASES:
            self.file.run(f"DELETE FROM {table} WHERE db = ?", (db,))
        self.file.run("DELETE FROM databases WHERE db = ?", (db,))

    def set_settings(self, name: str, settings: Mapping[str, object]) -> None:
        values = (encode(settings).decode(), self._number(name))
        self.file.run("UPDATE databases SET settings = ? WHERE db = ?", values)

    def set_numbers(self, name: str, numbers: Numbers) -> None:
        self.file.run(
            "UPDATE databases SET update_seq = ?, doc_count = ?, doc_del_count = ?, design_version = ?, purge_seq = ?"
            " WHERE name = ?",
            (*numbers, name),
        )

    def write(self, name: str, writes: DocumentWrites) -> None:
        db = self._number(name)
        self._write_documents(db, writes.documents)
        for doc_id, document in writes.locals:
            self._write_local(db, as_bytes(doc_id), document)
        if writes.purges is not None:
            self._write_purges(db, writes.purges)

    def _number(self, name: str) -> int:
        ((db,),) = self.file.rows("SELECT db FROM databases WHERE name = ?", (name,))
        return int(db)

    def _write_documents(self, db: int, writes: Sequence[Write]) -> None:
        base, run_many = db << SEQ_BITS, self.file.run_many
        run_many("DELETE FROM docs WHERE key = ?", [(base + old.seq,) for old, _ in writes if old is not None])
        docs: list[Values] = []
        ids: list[Values] = []
        for old, new in writes:
            if new is not None:
                doc_id, key = as_bytes(new.doc_id), base + new.seq
                head, body = encode_head(new), encode(new.winner.body)
                docs.append((key, doc_id, head, body, checksum(doc_id, head, body)))
                ids.append((db, doc_id, key, not new.deleted))
            elif old is not None:
                self.file.run("DELETE FROM ids WHERE db = ? AND id = ?", (db, as_bytes(old.doc_id)))
            self._write_parts(db, old, new)
        run_many("INSERT INTO docs VALUES (?, ?, ?, ?, ?)", docs)
        run_many("INSERT OR REPLACE INTO ids VALUES (?, ?, ?, ?)", ids)

    def _write_parts(self, db: int, old: DocumentRecord | None, new: DocumentRecord | None) -> None:
        """Write the parts that are in the new tree only, and remove those that are in the old one only."""
        old_bodies, old_attachments = ({}, {}) if old is None else parts_of(old)
        bodies, attachments = ({}, {}) if new is None else parts_of(new)
        if not (bodies or attachments or old_bodies or old_attachments):
            return
        known = new or old
        assert known is not None
        key = db, as_bytes(known.doc_id)
        for address in old_bodies.keys() - bodies.keys():
            self.file.run("DELETE FROM bodies WHERE db = ? AND id = ? AND address = ?", (*key, address))
        for address in old_attachments.keys() - attachments.keys():
            self.file.run("DELETE FROM attachments WHERE db = ? AND id = ? AND address = ?", (*key, address))
        for address, body in bodies.items():
            if old_bodies.get(address) is not body:
                data = encode(body)
                values = (*key, address, data, checksum(key[1], data))
                self.file.run("INSERT OR REPLACE INTO bodies VALUES (?, ?, ?, ?, ?)", values)
        for address in attachments.keys() - old_attachments.keys():
            self._write_attachment(key, address, attachments[address])

    def _write_attachment(self, key: tuple[int, bytes], address: str, data: bytes) -> None:
        # An empty attachment has one part, too.
        for part, start in enumerate(range(0, len(data) or 1, _PART)):
            piece = data[start : start + _PART]
            values = (*key, address, part, piece, checksum(key[1], piece))
            self.file.run("INSERT OR REPLACE INTO attachments VALUES (?, ?, ?, ?, ?, ?)", values)

    def _write_local(self, db: int, doc_id: bytes, document: LocalDocument | None) -> None:
        if document is None:
            self.file.run("DELETE FROM locals WHERE db = ? AND id = ?", (db, doc_id))
            return
        body = encode(document.body)
        values = (db, doc_id, document.revision, body, checksum(doc_id, body))
        self.file.run("INSERT OR REPLACE INTO locals VALUES (?, ?, ?, ?, ?)", values)

    def _write_purges(self, db: int, purges: Sequence[PurgeInfo]) -> None:
        first = purges[0].purge_seq if purges else 1 << SEQ_BITS
        self.file.run("DELETE FROM purges WHERE db = ? AND purge_seq < ?", (db, first))
        ((last,),) = self.file.rows("SELECT coalesce(max(purge_seq), 0) FROM purges WHERE db = ?", (db,))
        rows = [
            (db, seq, as_bytes(doc_id), encode([[position, rev_id.hex()] for position, rev_id in revisions]).decode())
            for seq, doc_id, revisions in purges
            if seq > last
        ]
        self.file.run_many("INSERT INTO purges VALUES (?, ?, ?, ?)", rows)

    # --- reading ------------------------------------------------------------------------------------------------------

    def databases(self) -> Iterator[KeptDatabase]:
        """Yield the databases, without their documents."""
        rows = self.file.rows(
            "SELECT db, name, settings, update_seq, doc_count, doc_del_count, design_version, purge_seq FROM databases"
        )
        for db, name, settings, *numbers in rows:
            yield KeptDatabase(db, name, decode(settings), Numbers(*numbers))

    def documents(self, db: int) -> Iterator[DocumentRecord]:
        """Yield the documents of a database by update sequence. Raise ``ServerError`` if one is damaged."""
        base = db << SEQ_BITS
        last, end = base, base + (1 << SEQ_BITS)
        while rows := self.file.rows(
            "SELECT key, id, head, body, checksum FROM docs WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (last, end, _AT_ONCE),
        ):
            for key, doc_id, head, body, summed in rows:
                self._check(doc_id, summed, doc_id, head, body)
                try:
                    yield decode_record(as_text(doc_id), key - base, head, body, partial(self._parts, db, doc_id))
                except KeyError:
                    raise self.file.damaged(f"a part of document {as_text(doc_id)!r} is missing") from None
            last = rows[-1][0]

    def _parts(self, db: int, doc_id: bytes) -> StoredParts:
        bodies: dict[str, bytes] = {}
        attachments: dict[str, list[bytes]] = {}
        key = db, doc_id
        for address, body, summed in self.file.rows(
            "SELECT address, body, checksum FROM bodies WHERE db = ? AND id = ?", key
        ):
            self._check(doc_id, summed, doc_id, body)
            bodies[address] = body
        for address, data, summed in self.file.rows(
            "SELECT address, data, checksum FROM attachments WHERE db = ? AND id = ? ORDER BY address, part", key
        ):
            self._check(doc_id, summed, doc_id, data)
            attachments.setdefault(address, []).append(data)
        return StoredParts(bodies, {address: b"".join(parts) for address, parts in attachments.items()})

    def locals(self, db: int) -> Iterator[tuple[str, LocalDocument]]:
        """Yield the local documents of a database."""
        for doc_id, revision, body, summed in self.file.rows(
            "SELECT id, revision, body, checksum FROM locals WHERE db = ?", (db,)
        ):
            self._check(doc_id, summed, doc_id, body)
            yield as_text(doc_id), LocalDocument(revision, decode(body))

    def purges(self, db: int) -> Iterator[PurgeInfo]:
        """Yield the purges of a database, in their order."""
        for seq, doc_id, revisions in self.file.rows(
            "SELECT purge_seq, id, revisions FROM purges WHERE db = ? ORDER BY purge_seq", (db,)
        ):
            named = tuple((position, bytes.fromhex(rev_id)) for position, rev_id in decode(revisions))
            yield PurgeInfo(seq, as_text(doc_id), named)

    def _check(self, doc_id: bytes, summed: int, *data: bytes) -> None:
        if checksum(*data) != summed:
            raise self.file.damaged(f"the checksum of document {as_text(doc_id)!r} is wrong")


def checksum(*data: bytes) -> int:
    """Return the checksum of a row's data."""
    found = 0
    for part in data:
        found = crc32(part, found)
    return found


def as_bytes(doc_id: str) -> bytes:
    """Return an id as a file has it. A path can name ids that UTF-8 cannot express."""
    return doc_id.encode("utf-8", "surrogatepass")


def as_text(doc_id: bytes) -> str:
    """Return the id that ``as_bytes`` got."""
    return doc_id.decode("utf-8", "surrogatepass")
