"""Writing the rows of documents to a data file, with the index of ids and the counts, and checking them.

Functions that write need a transaction, which the caller has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from couchdal.emulator.storage.base import Record
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_counts import count_ids, count_keys
from couchdal.emulator.storage.sqlite_schema import SEQ_BITS
from couchdal.emulator.storage.sqlite_values import Source, StoredRow, Values, as_bytes, checksum, fits, wrong_checksum

#: The record that a row replaces, the row, and whether its document is live. Without a row, the document is removed.
RowChange: TypeAlias = "tuple[Record | None, StoredRow | None, bool]"

# The columns that checksums cover.
_CHECKED = {"docs": "head, body", "bodies": "body", "attachments": "data", "locals": "body"}


def write_rows(file: DataFile, db: int, changes: Sequence[RowChange]) -> None:
    """Write the rows of documents, and remove those that they replace."""
    base = db << SEQ_BITS
    added: list[int] = []
    removed: list[int] = []
    docs: list[Values] = []
    ids: list[Values] = []
    gone: list[Values] = []
    counted: list[tuple[bytes, int, int]] = []
    for old, row, is_live in changes:
        was_live = old is not None and not old.deleted
        if old is not None:
            removed.append(base + old.seq)
        if row is not None:
            doc_id, seq, head, body = row
            key = base + seq
            added.append(key)
            docs.append((key, doc_id, head, body, checksum(doc_id, head, body)))
            ids.append((db, doc_id, key, is_live))
        elif old is not None:
            doc_id = as_bytes(old.doc_id)
            gone.append((db, doc_id))
        else:
            continue
        if is_live != was_live or old is None or row is None:
            counted.append((doc_id, is_live - was_live, (row is not None) - (old is not None)))
    if removed:
        file.run_many("DELETE FROM docs WHERE key = ?", [(key,) for key in removed])
    file.run_many("INSERT INTO docs VALUES (?, ?, ?, ?, ?)", docs)
    file.run_many("INSERT OR REPLACE INTO ids VALUES (?, ?, ?, ?)", ids)
    if gone:
        file.run_many("DELETE FROM ids WHERE db = ? AND id = ?", gone)
    count_keys(file, added, removed)
    count_ids(file, db, counted)


def damaged_documents(file: DataFile) -> list[str]:
    """Return what is wrong with rows whose data does not fit their checksum, with the name of the file."""
    found = (doc_id for table in _CHECKED for doc_id in _damaged_in(file, table))
    return [f"{file.path} is damaged: {what}" for what in dict.fromkeys(map(wrong_checksum, found))]


def _damaged_in(source: Source, table: str) -> Iterator[bytes]:
    """Yield the ids of damaged rows of one table."""
    # One row after the other, because they may be large.
    place: Values = ()
    key = {"docs": "key", "attachments": "rowid", "bodies": "db, id, address", "locals": "db, id"}[table]
    columns = f"{key}, id, checksum, {_CHECKED[table]}"
    width = key.count(",") + 1
    while True:
        later = f"WHERE ({key}) > ({', '.join('?' * width)})" if place else ""
        rows = source.rows(f"SELECT {columns} FROM {table} {later} ORDER BY {key} LIMIT 16", place)
        if not rows:
            return
        for row in rows:
            doc_id, summed, *data = row[width:]
            if not fits(summed, doc_id, *data):
                yield doc_id
        place = rows[-1][:width]
