"""A keeper that writes a server's data to a data file, and reads it again.

This module reads and writes rows; ``stored_server`` makes a server from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.documents.stored_form import NO_PARTS, decode_record, encode_body, encode_head, parts_of
from couchdal.emulator.engine.documents.stored_record import StoredData, body_id
from couchdal.emulator.engine.indexes.kept_sizes import growth
from couchdal.emulator.engine.server.keeper import Arrival, DocumentWrites, Keeper, Numbers, Write
from couchdal.emulator.storage.base import LocalDocument, Storage
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_documents import SqliteStorage
from couchdal.emulator.storage.sqlite_leftovers import remove_database, remove_leftovers
from couchdal.emulator.storage.sqlite_parts import Arriving, keep_arrived, read_parts, write_parts
from couchdal.emulator.storage.sqlite_rows import RowChange, write_rows
from couchdal.emulator.storage.sqlite_schema import SEQ_BITS
from couchdal.emulator.storage.sqlite_values import (
    NUMBERS,
    Source,
    StoredRow,
    as_bytes,
    as_text,
    check,
    checked_numbers,
    checksum,
    checksum_of_numbers,
    encode,
    sealed,
    unsealed,
)
from couchdal.errors import Forbidden

_COMMITS = "commits"
# How many pages of the file one step frees.
_PAGES_AT_ONCE = 256


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
        # How many transactions were begun, and the seed of the file's ids, which identifies the file.
        self._begun = 0
        self._file_id: object = None
        # The last number of a database. Numbers are never used again.
        self._last_db = 0
        #: The attachments that arrive now.
        self.arriving: set[Arriving] = set()
        self.restart()

    def restart(self) -> None:
        """Note that the server is in the state of the file."""
        self._begun = self.count()
        self.applied: int = self._begun
        self._file_id = self.file.get_meta("ids")
        ((self._last_db,),) = self.file.rows(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'databases'"
        )

    def count(self) -> int:
        """Return how many transactions the file holds."""
        return int(self.file.get_meta(_COMMITS) or 0)

    def is_ahead(self) -> bool:
        """Return whether the file holds transactions that the server does not."""
        return self.count() != self.applied or self.file.get_meta("ids") != self._file_id

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.file.read_only:
            raise Forbidden(f"{self.file.path} was opened read-only")
        with self.file.transaction():
            self._begun = self.applied + 1
            self.file.set_meta(_COMMITS, self._begun)
            yield

    def holds_next(self) -> bool:
        return self.file.is_open and self.count() != self.applied

    def catch_up(self) -> None:
        if self._begun != self.applied:
            # The last transaction may have failed.
            self._begun = self.applied = self.count()

    def remove_leftovers(self) -> bool:
        file = self.file
        if not file.rows("SELECT 1 FROM leftovers LIMIT 1"):
            return False
        with file.transaction():
            return remove_leftovers(file, {one.place for one in tuple(self.arriving)})

    def shrink(self) -> bool:
        return self.file.shrink(_PAGES_AT_ONCE)

    # --- writing ------------------------------------------------------------------------------------------------------

    def set_value(self, name: str, value: object) -> None:
        self.file.set_meta(name, value)

    def new_storage(self) -> SqliteStorage[DocumentRecord]:
        self._last_db += 1
        return self.storage(self._last_db)

    def create(self, name: str, settings: Mapping[str, object], storage: Storage[DocumentRecord]) -> None:
        if not isinstance(storage, SqliteStorage) or storage.file is not self.file:
            raise TypeError(f"the documents of {name!r} are not in {self.file.path}")
        if self.file.rows("SELECT 1 FROM databases WHERE name = ?", (name,)):
            self.delete(name)
        self.file.run(
            "INSERT INTO databases"
            " (db, name, settings, update_seq, doc_count, doc_del_count, design_version, purge_seq,"
            " external, trees, old, checksum) VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, ?)",
            (storage.db, name, sealed(settings), checksum_of_numbers(storage.db, [0] * 8)),
        )

    def delete(self, name: str) -> None:
        db = self._number(name)
        remove_database(self.file, db)
        self.file.run("DELETE FROM databases WHERE db = ?", (db,))

    def set_settings(self, name: str, settings: Mapping[str, object]) -> None:
        values = (sealed(settings), self._number(name))
        self.file.run("UPDATE databases SET settings = ? WHERE db = ?", values)

    def set_numbers(self, name: str, numbers: Numbers) -> None:
        ((db, *sizes),) = self.file.rows("SELECT db, external, trees, old FROM databases WHERE name = ?", (name,))
        self.file.run(
            "UPDATE databases SET update_seq = ?, doc_count = ?, doc_del_count = ?, design_version = ?, purge_seq = ?,"
            " checksum = ? WHERE db = ?",
            (*numbers, checksum_of_numbers(db, [*numbers, *sizes]), db),
        )

    def write(self, name: str, writes: DocumentWrites) -> None:
        db = self._number(name)
        self._write_documents(db, writes.documents)
        for doc_id, document in writes.locals:
            self._write_local(db, as_bytes(doc_id), document)
        if writes.purges is not None:
            self._write_purges(db, writes.purges)

    def receive(self, name: str, doc_id: str) -> Arrival:
        return _FileArrival(self, Arriving(self.file, self._number(name), as_bytes(doc_id)))

    def _number(self, name: str) -> int:
        ((db,),) = self.file.rows("SELECT db FROM databases WHERE name = ?", (name,))
        return int(db)

    def _write_documents(self, db: int, writes: Sequence[Write]) -> None:
        if not writes:
            return
        changes: list[RowChange] = []
        external = trees = older = 0
        for old, new in writes:
            grown = growth(old, new)
            external, trees, older = external + grown.external, trees + grown.trees, older + grown.old
            row: StoredRow | None = None
            if new is not None:
                row = StoredRow(as_bytes(new.doc_id), new.seq, encode_head(new), encode_body(new.winner))
            changes.append((old, row, new is not None and not new.deleted))
            self._write_parts(db, old, new)
        write_rows(self.file, db, changes)
        self.file.run(
            "UPDATE databases SET external = external + ?, trees = trees + ?, old = old + ? WHERE db = ?",
            (external, trees, older, db),
        )

    def _write_parts(self, db: int, old: DocumentRecord | None, new: DocumentRecord | None) -> None:
        """Write the parts that are in the new tree only, and remove those that are in the old one only."""
        old_bodies, old_attachments = NO_PARTS if old is None else parts_of(old)
        bodies, attachments = NO_PARTS if new is None else parts_of(new)
        if not (bodies or attachments or old_bodies or old_attachments):
            return
        known = new or old
        assert known is not None
        key = db, as_bytes(known.doc_id)
        for address, node in bodies.items():
            if address not in old_bodies or body_id(node) != body_id(old_bodies[address]):
                data = encode_body(node)
                values = (*key, address, data, checksum(key[1], data))
                self.file.run("INSERT OR REPLACE INTO bodies VALUES (?, ?, ?, ?, ?)", values)
        for address in attachments.keys() - old_attachments.keys():
            if not keep_arrived(self.file, *key, address):
                one = attachments[address]
                write_parts(self.file, *key, address, one.stored_parts(0, one.stored_size))
        for address in old_bodies.keys() - bodies.keys():
            self.file.run("DELETE FROM bodies WHERE db = ? AND id = ? AND address = ?", (*key, address))
        for address in old_attachments.keys() - attachments.keys():
            self.file.run("DELETE FROM attachments WHERE db = ? AND id = ? AND address = ?", (*key, address))

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
            (db, seq, as_bytes(doc_id), sealed([[position, rev_id.hex()] for position, rev_id in revisions]))
            for seq, doc_id, revisions in purges
            if seq > last
        ]
        self.file.run_many("INSERT INTO purges VALUES (?, ?, ?, ?)", rows)

    # --- reading ------------------------------------------------------------------------------------------------------

    def databases(self) -> Iterator[KeptDatabase]:
        """Yield the databases, without their documents."""
        for db, name, settings, *found in self.file.rows(
            f"SELECT db, name, settings, checksum, {NUMBERS} FROM databases"
        ):
            numbers = Numbers(*checked_numbers(self.file, db, *found)[: len(Numbers._fields)])
            yield KeptDatabase(db, name, unsealed(self.file, settings), numbers)

    def storage(self, db: int) -> SqliteStorage[DocumentRecord]:
        """Return the documents of a database."""
        return SqliteStorage(self.file, db, read_record)

    def purges(self, db: int) -> Iterator[PurgeInfo]:
        """Yield the purges of a database, in their order."""
        for seq, doc_id, revisions in self.file.rows(
            "SELECT purge_seq, id, revisions FROM purges WHERE db = ? ORDER BY purge_seq", (db,)
        ):
            named = tuple((position, bytes.fromhex(rev_id)) for position, rev_id in unsealed(self.file, revisions))
            yield PurgeInfo(seq, as_text(doc_id), named)


class _FileArrival(Arrival):
    """See ``Arrival``."""

    def __init__(self, keeper: FileKeeper, arriving: Arriving) -> None:
        self._keeper = keeper
        self._arriving = arriving
        keeper.arriving.add(arriving)

    def add(self, part: bytes) -> None:
        self._arriving.add(part)

    def data(self, size: int) -> StoredData:
        db, doc_id, address = self._arriving.place
        return StoredData(partial(read_parts, self._keeper.file, db, doc_id), address, size)

    def end(self) -> None:
        self._keeper.arriving.discard(self._arriving)
        self._keeper.tidy()


def read_record(source: Source, db: int, row: StoredRow) -> DocumentRecord:
    """Return the document of a row. Its other parts are read when they are needed."""
    key = db, row.doc_id
    return decode_record(row, partial(_body, source, *key), partial(read_parts, source, *key))


def _body(source: Source, db: int, doc_id: bytes, address: str) -> bytes:
    rows = source.rows(
        "SELECT body, checksum FROM bodies WHERE db = ? AND id = ? AND address = ?", (db, doc_id, address)
    )
    if not rows:
        raise source.damaged(f"a part of document {as_text(doc_id)!r} is missing")
    ((body, summed),) = rows
    check(source, summed, doc_id, body)
    return bytes(body)
