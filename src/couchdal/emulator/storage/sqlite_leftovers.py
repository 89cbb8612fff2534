"""Rows of a data file that are no longer needed: they are noted at once, and removed in short steps.

If a process ends between two steps, the note remains, and the next process continues. Functions that write need a
transaction, which the caller has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_indexes import keys_of
from couchdal.emulator.storage.sqlite_schema import OF_DATABASES, SEQ_BITS, SEQ_BLOCK_BITS
from couchdal.emulator.storage.sqlite_values import Row, Values

# How many rows one step removes. A part of an attachment, or a block of an index, is as long as many other rows.
_ROWS = 2000
_WEIGHTS = {"attachments": 128, "index_blocks": 16}


def remove_database(file: DataFile, db: int) -> None:
    """Remove the rows of a database, or leave them to later steps if they are many."""
    if _remove_some(file, db) <= 0:
        file.run("INSERT INTO leftovers VALUES (?, x'', '')", (db,))


def remove_indexes(file: DataFile, db: int, is_gone: Callable[[str], bool]) -> None:
    """Let later steps remove indexes of a database. ``is_gone`` chooses them by their names."""
    for idx, name in file.rows("SELECT idx, name FROM indexes WHERE db = ?", (db,)):
        if is_gone(name):
            file.run("UPDATE indexes SET db = 0, name = idx, state = '' WHERE idx = ?", (idx,))
            file.run("INSERT OR IGNORE INTO leftovers VALUES (0, x'', '')")


def remove_leftovers(file: DataFile, arriving: Container[Row]) -> bool:
    """Make one step, and leave the attachments that arrive now. Return whether there may be more to remove."""
    rows = [row for row in file.rows("SELECT db, id, address FROM leftovers") if row not in arriving]
    for db, doc_id, address in rows[:1]:
        chosen = "db = ? AND id = ? AND address = ?"
        if address:
            left = _remove(file, "attachments", chosen, (db, doc_id, address), key="part", most=_ROWS)
        else:
            left = _remove_some(file, db)
        if left > 0:
            file.run(f"DELETE FROM leftovers WHERE {chosen}", (db, doc_id, address))
    return bool(rows)


def _remove_some(file: DataFile, db: int) -> int:
    """Remove rows of a database. Return how many more rows this step may remove. If it is 0, rows may be left."""
    first, last = db << SEQ_BITS, ((db + 1) << SEQ_BITS) - 1
    left = _remove(file, "docs", "key >= ?", (first,), key="key", last=last, most=_ROWS)
    for level, bits in enumerate(SEQ_BLOCK_BITS):
        start = level, first >> bits
        left = _remove(file, "seq_counts", "level = ? AND block >= ?", start, key="block", last=last >> bits, most=left)
    for table in OF_DATABASES:
        names = file.rows("SELECT name FROM pragma_table_info(?) WHERE pk AND name <> 'db' ORDER BY pk", (table,))
        left = _remove(file, table, "db = ?", (db,), key=", ".join(name for (name,) in names), most=left)
    for (idx,) in file.rows("SELECT idx FROM indexes WHERE db = ?", (db,)):
        lowest, highest = keys_of(idx)
        left = _remove(file, "index_blocks", "key >= ?", (lowest,), key="key", last=highest, most=left)
        if left > 0:
            file.run("DELETE FROM indexes WHERE idx = ?", (idx,))
    return left


def _remove(
    file: DataFile, table: str, chosen: str, values: Values, *, key: str, most: int, last: int | None = None
) -> int:
    """Remove the first of some rows, up to the key ``last``. Return how many more may be removed."""
    if most <= 0:
        return 0
    weight = _WEIGHTS.get(table, 1)
    # A range of keys is removed several times faster than a set of them. SQLite uses one upper bound only.
    ends = file.rows(
        f"SELECT {key} FROM {table} WHERE {chosen} ORDER BY {key} LIMIT 1 OFFSET ?", (*values, most // weight)
    )
    if last is not None:
        ends.append((last,))
    if ends:
        end = min(ends)
        chosen, values = f"{chosen} AND ({key}) <= ({', '.join('?' * len(end))})", (*values, *end)
    return most - weight * file.run(f"DELETE FROM {table} WHERE {chosen}", values)
