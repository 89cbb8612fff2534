"""Counts of the rows of a data file by blocks, so that counting is fast for any number of documents.

Both update sequences and ids have small blocks, and large blocks of small ones. Blocks of ids are split when they grow,
as the nodes of a tree are. Functions that write need a transaction, which the caller has begun.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable

from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_schema import ID_BLOCKS, SEQ_BITS, SEQ_BLOCK_BITS
from couchdal.emulator.storage.sqlite_values import Source

_ROWS_AFTER = (
    "SELECT (SELECT count(*) FROM docs WHERE key > ? AND key <= ?)"
    " + coalesce((SELECT sum(n) FROM seq_counts WHERE level = 0 AND block > ? AND block <= ?), 0)"
    " + coalesce((SELECT sum(n) FROM seq_counts WHERE level = 1 AND block > ? AND block <= ?), 0)"
)
_IDS_BEFORE = (
    "SELECT coalesce(sum(live), 0), max(first) FROM id_counts WHERE db = ? AND level = ? AND first >= ? AND first <= ?"
)


def rows_after(source: Source, key: int) -> int:
    """Return how many documents of the same database have higher keys."""
    fine_bits, coarse_bits = SEQ_BLOCK_BITS
    fine, coarse = key >> fine_bits, key >> coarse_bits
    last_key = ((fine + 1) << fine_bits) - 1
    last_fine = ((coarse + 1) << (coarse_bits - fine_bits)) - 1
    last_coarse = ((((key >> SEQ_BITS) + 1) << SEQ_BITS) - 1) >> coarse_bits
    ((count,),) = source.rows(_ROWS_AFTER, (key, last_key, fine, last_fine, coarse, last_coarse))
    return int(count)


def count_keys(file: DataFile, added: Iterable[int], removed: Iterable[int]) -> None:
    """Count rows of ``docs`` that were added and removed."""
    changed: Counter[tuple[int, int]] = Counter()
    emptied = set()
    for key in added:
        for level, bits in enumerate(SEQ_BLOCK_BITS):
            changed[level, key >> bits] += 1
    for key in removed:
        for level, bits in enumerate(SEQ_BLOCK_BITS):
            changed[level, key >> bits] -= 1
            emptied.add((level, key >> bits))
    file.run_many(
        "INSERT INTO seq_counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
        [(level, block, number) for (level, block), number in changed.items() if number],
    )
    if emptied:
        file.run_many("DELETE FROM seq_counts WHERE level = ? AND block = ? AND n = 0", emptied)


def ids_before(source: Source, db: int, doc_id: bytes) -> int:
    """Return how many live documents have lower ids."""
    total, first = 0, b""
    for level in reversed(range(len(ID_BLOCKS))):
        # Count all blocks of this level before the last one. Smaller blocks count that one.
        ((before, last),) = source.rows(_IDS_BEFORE, (db, level, first, doc_id))
        if last is None:
            return 0
        ((live,),) = source.rows(
            "SELECT live FROM id_counts WHERE db = ? AND level = ? AND first = ?", (db, level, last)
        )
        total, first = total + before - live, last
    ((live,),) = source.rows(
        "SELECT count(*) FROM ids WHERE db = ? AND id >= ? AND id < ? AND live", (db, first, doc_id)
    )
    return int(total + live)


def count_ids(file: DataFile, db: int, changes: list[tuple[bytes, int, int]]) -> None:
    """Count changes of ``ids``. Each is an id, and the changes of the numbers of live documents and of rows."""
    if not changes:
        return
    changes.sort()
    lowest, highest = changes[0][0], changes[-1][0]
    for level, size in enumerate(ID_BLOCKS):
        rows = file.rows(
            "SELECT first FROM id_counts WHERE db = ? AND level = ? AND first <= ? AND first >= coalesce("
            "(SELECT max(first) FROM id_counts WHERE db = ? AND level = ? AND first <= ?), x'')",
            (db, level, highest, db, level, lowest),
        )
        firsts = [row[0] for row in rows] or [b""]
        live: Counter[bytes] = Counter()
        entries: Counter[bytes] = Counter()
        for doc_id, is_live, is_new in changes:
            first = firsts[bisect_right(firsts, doc_id) - 1]
            live[first] += is_live
            entries[first] += is_new
        file.run_many(
            "INSERT INTO id_counts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET live = live + excluded.live, entries = entries + excluded.entries",
            [(db, level, first, number, entries[first]) for first, number in live.items()],
        )
        for (first,) in file.rows(
            "SELECT first FROM id_counts WHERE db = ? AND level = ? AND first BETWEEN ? AND ? AND entries > ?",
            (db, level, firsts[0], firsts[-1], 2 * size),
        ):
            _split(file, db, level, first)


def wrong_blocks(source: Source, db: int) -> int:
    """Return how many blocks of a database have counts that differ from its rows."""
    wrong = 0
    for level, bits in enumerate(SEQ_BLOCK_BITS):
        first, last = db << SEQ_BITS >> bits, ((db + 1) << SEQ_BITS) - 1 >> bits
        ((blocks,),) = source.rows(
            "SELECT count(*) FROM seq_counts WHERE level = ? AND block BETWEEN ? AND ? AND"
            f" n <> (SELECT count(*) FROM docs WHERE key >= block << {bits} AND key < (block + 1) << {bits})",
            (level, first, last),
        )
        wrong += blocks
    ((blocks,),) = source.rows(
        "SELECT count(*) FROM (SELECT first, live, entries,"
        " lead(first, 1, x'ff') OVER (PARTITION BY level ORDER BY first) AS following"
        " FROM id_counts WHERE db = ?1) WHERE (live, entries) <>"
        " (SELECT coalesce(sum(ids.live), 0), count(*) FROM ids WHERE db = ?1 AND id >= first AND id < following)",
        (db,),
    )
    return int(wrong + blocks)


def _split(file: DataFile, db: int, level: int, first: bytes) -> None:
    """Split a block of ids at the starts of smaller blocks, or at ids."""
    ((following,),) = file.rows(
        "SELECT coalesce(min(first), x'ff') FROM id_counts WHERE db = ? AND level = ? AND first > ?", (db, level, first)
    )
    if level:
        statement = "SELECT first, live, entries FROM id_counts WHERE db = ? AND first >= ? AND first < ? AND level = ?"
        parts = file.rows(statement, (db, first, following, level - 1))
    else:
        parts = file.rows("SELECT id, live, 1 FROM ids WHERE db = ? AND id >= ? AND id < ?", (db, first, following))
    blocks: list[tuple[int, int, bytes, int, int]] = []
    live = entries = 0
    for start, more_live, more_entries in parts:
        if entries >= ID_BLOCKS[level]:
            blocks.append((db, level, first, live, entries))
            first, live, entries = start, 0, 0
        live, entries = live + more_live, entries + more_entries
    blocks.append((db, level, first, live, entries))
    file.run_many("INSERT OR REPLACE INTO id_counts VALUES (?, ?, ?, ?, ?)", blocks)
