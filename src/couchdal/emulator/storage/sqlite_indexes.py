"""Indexes in a data file: the shelf of one, and checking all.

A block's checksum covers its data and its key, so that no block takes the place of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from couchdal.emulator.storage.base import DamagedIndex, Shelf
from couchdal.emulator.storage.block_cache import BlockCache
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_schema import BLOCK_BITS
from couchdal.emulator.storage.sqlite_values import Source, checksum, decode, encode, fits, sealed, unsealed
from couchdal.errors import CouchError

# How many blocks one query reads when all are checked.
_AT_ONCE = 64


class SqliteShelf(Shelf):
    """See ``Shelf``. ``source`` is the state of the file whose state of the index counts; blocks never change."""

    def __init__(self, file: DataFile, source: Source, db: int, name: str) -> None:
        self._file = file
        self._db = db
        self._name = name
        # The number of the index, and the state as the file has it. Before the first block there is no row.
        self._idx, self._text = 0, ""
        self.state: Any = None
        rows = source.rows("SELECT idx, state FROM indexes WHERE db = ? AND name = ?", (db, name))
        self.is_damaged: bool = bool(rows)
        self.is_stale: bool = False
        self.next: int = 1
        self.cache: BlockCache = file.cache
        for idx, text in rows:
            self._idx, self._text = idx, text
            with suppress(CouchError, TypeError):
                self.state = _state_of(source, text)
                ((last,),) = file.rows("SELECT max(key) FROM index_blocks WHERE key BETWEEN ? AND ?", keys_of(idx))
                self.next = ((last or 0) & ((1 << BLOCK_BITS) - 1)) + 1
                self.is_damaged = False

    def get(self, number: int) -> tuple[Any, int]:
        key = (self._idx << BLOCK_BITS) + number
        for data, summed in self._file.rows("SELECT data, checksum FROM index_blocks WHERE key = ?", (key,)):
            if fits(summed, _as_bytes(key), data):
                return decode(data), len(data)
        raise self.damaged(f"block {number} is damaged or missing")

    def damaged(self, what: str) -> DamagedIndex:
        self.is_damaged = True
        return DamagedIndex(f"{self._file.path} is damaged: index {self._name}: {what}")

    def put(self, blocks: Sequence[object]) -> None:
        data = [encode(block) for block in blocks]
        with self._file.transaction():
            if not self._idx:
                self._file.run(
                    "INSERT OR IGNORE INTO indexes (db, name, state) SELECT db, ?, '' FROM databases WHERE db = ?",
                    (self._name, self._db),
                )
            rows = self._file.rows(
                "SELECT idx, state FROM indexes JOIN databases USING (db) WHERE db = ? AND indexes.name = ?",
                (self._db, self._name),
            )
            if not rows or self._idx not in (0, rows[0][0]) or rows[0][1] != self._text:
                self.is_stale = True
                raise DamagedIndex(f"index {self._name} was removed or replaced")
            self._idx = rows[0][0]
            keys = range((self._idx << BLOCK_BITS) + self.next, (self._idx << BLOCK_BITS) + self.next + len(data))
            rows = [(key, one, checksum(_as_bytes(key), one)) for key, one in zip(keys, data, strict=True)]
            self._file.run_many("INSERT OR REPLACE INTO index_blocks VALUES (?, ?, ?)", rows)
        self.next += len(blocks)

    def save(self, state: object, gone: Sequence[int]) -> bool:
        text = sealed(state)
        with self._file.transaction():
            values = (text, self._idx, self._db, self._text)
            if not self._file.run("UPDATE indexes SET state = ? WHERE idx = ? AND db = ? AND state = ?", values):
                self.is_stale = True
                return False
            base = self._idx << BLOCK_BITS
            self._file.run_many("DELETE FROM index_blocks WHERE key = ?", [(base + number,) for number in gone])
        self._text, self.state = text, state
        return True


def _state_of(source: Source, text: str) -> dict[str, Any] | None:
    """Return a state from its stored form, or None from an empty text. Raise ``ServerError`` or ``TypeError``."""
    if text == "":
        return None
    state = unsealed(source, text)
    if not isinstance(state, dict):
        raise TypeError(state)
    return state


def keys_of(idx: int) -> tuple[int, int]:
    """Return the first and the last key that blocks of an index can have."""
    return idx << BLOCK_BITS, ((idx + 1) << BLOCK_BITS) - 1


def _as_bytes(key: int) -> bytes:
    return key.to_bytes(8, "big", signed=True)


def damaged_indexes(file: DataFile) -> list[str]:
    """Return what is wrong with the states and blocks of indexes, with the name of the file."""
    found = []
    known, removed = set(), set()
    for idx, db, name, text in file.rows("SELECT idx, db, name, state FROM indexes"):
        known.add(idx)
        if not db:
            removed.add(idx)
        try:
            _state_of(file, text)
        except (CouchError, TypeError):
            found.append(f"{file.path} is damaged: the state of index {name}")
    last = -1
    while rows := file.rows(
        "SELECT key, data, checksum FROM index_blocks WHERE key > ? ORDER BY key LIMIT ?", (last, _AT_ONCE)
    ):
        last = rows[-1][0]
        for key, data, summed in rows:
            idx = key >> BLOCK_BITS
            if idx not in known or (idx not in removed and not fits(summed, _as_bytes(key), data)):
                found.append(f"{file.path} is damaged: block {key} of an index")
    return found
