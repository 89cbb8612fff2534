"""Records for tests of storages, and a storage that writes them to a data file."""

from __future__ import annotations

from dataclasses import dataclass

from couchdal.emulator.storage.base import LocalDocument
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_documents import SqliteStorage
from couchdal.emulator.storage.sqlite_rows import write_rows
from couchdal.emulator.storage.sqlite_values import Source, StoredRow, as_bytes, as_text, checksum, encode


@dataclass(frozen=True)
class Kept:
    doc_id: str
    seq: int
    deleted: bool = False


class FileStorage(SqliteStorage[Kept]):
    """A storage that writes to the file itself, in place of a keeper."""

    __slots__ = ()

    def __init__(self, file: DataFile, db: int = 1) -> None:
        super().__init__(file, db, decode_kept)

    def write(self, old: Kept | None, new: Kept | None) -> None:
        self.write_all([(old, new)])

    def write_all(self, writes: list[tuple[Kept | None, Kept | None]]) -> None:
        with self.file.transaction():
            write_rows(self.file, self.db, [(old, encode_kept(new), is_live(new)) for old, new in writes])
        for old, new in writes:
            super().write(old, new)

    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        key = self.db, as_bytes(doc_id)
        with self.file.transaction():
            self.file.run("DELETE FROM locals WHERE db = ? AND id = ?", key)
            if document is not None:
                body = encode(document.body)
                values = (*key, document.revision, body, checksum(key[1], body))
                self.file.run("INSERT INTO locals VALUES (?, ?, ?, ?, ?)", values)


def is_live(record: Kept | None) -> bool:
    return record is not None and not record.deleted


def encode_kept(record: Kept | None) -> StoredRow | None:
    if record is None:
        return None
    return StoredRow(as_bytes(record.doc_id), record.seq, b"deleted" if record.deleted else b"", b"")


def decode_kept(source: Source, db: int, row: StoredRow) -> Kept:
    return Kept(as_text(row.doc_id), row.seq, bool(row.head))
