"""Storage of one database in a data file. Documents are read from the file when they are needed.

The file is the truth: a keeper writes rows in its transaction. This storage caches only design documents, because
indexes compare those by identity. A frozen storage reads one state of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from couchdal.emulator.storage.base import LocalDocument, R, Record, Shelf, Storage
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_counts import ids_before, rows_after, wrong_blocks
from couchdal.emulator.storage.sqlite_indexes import SqliteShelf
from couchdal.emulator.storage.sqlite_leftovers import remove_indexes
from couchdal.emulator.storage.sqlite_schema import SEQ_BITS
from couchdal.emulator.storage.sqlite_values import (
    NUMBERS,
    Row,
    Source,
    StoredRow,
    as_bytes,
    as_text,
    check,
    checked_numbers,
    decode,
)

_RECORD = TypeVar("_RECORD", bound=Record, covariant=True)

# Each batch has more rows than the last one, as long as the rows are small.
_FIRST_BATCH, _LARGEST_BATCH = 16, 256
_BATCH_BYTES = 1 << 20
_LAST_SEQ = (1 << SEQ_BITS) - 1
# It sorts after all ids: no UTF-8 begins with this byte.
_AFTER_ALL = b"\xff"
_DESIGN = b"_design/"

_DOCS = "SELECT key, id, head, body, checksum FROM docs WHERE key > ? AND key <= ? ORDER BY key"
# The order of the tables is fixed, so that rows come sorted.
_OF_IDS = (
    "SELECT d.key, d.id, d.head, d.body, d.checksum FROM ids CROSS JOIN docs AS d ON d.key = ids.key WHERE ids.db = ?"
)
_GET = f"{_OF_IDS} AND ids.id = ?"
_LIVE = f"{_OF_IDS} AND ids.live AND ids.id >= ? AND ids.id < ? ORDER BY ids.id"


class Codec(Protocol[_RECORD]):
    """Makes a record from a row. ``source`` and ``db`` say where its other parts are."""

    def __call__(self, source: Source, db: int, row: StoredRow) -> _RECORD: ...


class SqliteStorage(Storage[R]):
    """See ``Storage``. The methods that write are called after the rows were written, and only forget old records."""

    __slots__ = ("_codec", "_designs", "_live", "_source", "db", "file")

    def __init__(self, file: DataFile, db: int, codec: Codec[R]) -> None:
        self.pins = 0
        self.file: DataFile = file
        #: The number of the database in the file.
        self.db: int = db
        self._codec = codec
        self._source: Source = file
        # The storage that a frozen one was made from.
        self._live: SqliteStorage[R] | None = None
        # The last state of each design document that was read.
        self._designs: dict[bytes, R] = {}

    # --- states -------------------------------------------------------------------------------------------------------

    def steady(self) -> SqliteStorage[R]:
        if self._live is not None:
            return self
        frozen = SqliteStorage(self.file, self.db, self._codec)
        frozen._source, frozen._live, frozen._designs = self.file.point(), self, self._designs
        return frozen

    def resumed(self) -> SqliteStorage[R]:
        return self._live or self

    def pin(self) -> Storage[R]:
        return self.steady()

    def unpin(self) -> None:
        """Do nothing: readers have states of their own."""

    def forget_pins(self) -> None:
        """Do nothing: readers have states of their own."""

    # --- documents ----------------------------------------------------------------------------------------------------

    def get(self, doc_id: str) -> R | None:
        rows = self._source.rows(_GET, (self.db, as_bytes(doc_id)))
        return self._record(rows[0]) if rows else None

    def on_disk(self) -> tuple[Storage[R], set[str]]:
        return self, set()

    @property
    def keeps_indexes(self) -> bool:  # type: ignore[override]
        return self._live is None and not self.file.read_only

    def shelf(self, name: str) -> Shelf:
        return SqliteShelf(self.file, self._source, self.db, name)

    def remove_shelves(self, kept: Collection[str]) -> None:
        with self.file.transaction():
            remove_indexes(self.file, self.db, lambda name: name not in kept)

    def remove_shelf(self, name: str) -> None:
        with self.file.transaction():
            remove_indexes(self.file, self.db, lambda other: other == name)

    def kept_sizes(self) -> tuple[int, int, int] | None:
        rows = self._source.rows(f"SELECT checksum, {NUMBERS} FROM databases WHERE db = ?", (self.db,))
        if not rows:
            return None
        external, trees, old = checked_numbers(self._source, self.db, *rows[0])[-3:]
        return None if external is None else (external, trees, old)

    def getter(self, doc_ids: Iterable[str]) -> Callable[[str], R | None]:
        found: dict[str, R] = {}
        ids = map(as_bytes, doc_ids)
        while some := list(islice(ids, _LARGEST_BATCH)):
            rows = self._source.rows(f"{_OF_IDS} AND ids.id IN ({','.join('?' * len(some))})", (self.db, *some))
            for record in map(self._record, rows):
                found[record.doc_id] = record
        return found.get

    def _record(self, row: Row) -> R:
        key, doc_id, head, body, summed = row
        check(self._source, summed, doc_id, head, body)
        seq = key & _LAST_SEQ
        if not doc_id.startswith(_DESIGN):
            return self._codec(self._source, self.db, StoredRow(doc_id, seq, head, body))
        known = self._designs.get(doc_id)
        if known is not None and known.seq == seq:
            return known
        if self._live is not None:
            # Do not make a record of this state: it would keep the state open.
            live = self._live.get(as_text(doc_id))
            if live is not None and live.seq == seq:
                return live
        record = self._codec(self._source, self.db, StoredRow(doc_id, seq, head, body))
        if self._live is None:
            self._designs[doc_id] = record
        return record

    def live(
        self, start: str | None = None, end: str | None = None, inclusive_end: bool = True, descending: bool = False
    ) -> Iterator[R]:
        low, high = (end, start) if descending else (start, end)
        is_low_in, is_high_in = (inclusive_end, True) if descending else (True, inclusive_end)
        first = b"" if low is None else as_bytes(low) + (b"" if is_low_in else b"\0")
        stop = _AFTER_ALL if high is None else as_bytes(high) + (b"\0" if is_high_in else b"")
        order = " DESC" if descending else ""
        size = _FIRST_BATCH
        while rows := self._source.rows(f"{_LIVE}{order} LIMIT ?", (self.db, first, stop, size)):
            yield from map(self._record, rows)
            if len(rows) < size:
                return
            if descending:
                stop = rows[-1][1]
            else:
                first = rows[-1][1] + b"\0"
            size = _next_size(size, rows)

    def live_before(self, doc_id: str, inclusive: bool = False) -> int:
        return ids_before(self._source, self.db, as_bytes(doc_id) + (b"\0" if inclusive else b""))

    def changes(self, since: int = 0, until: int | None = None, descending: bool = False) -> Iterator[R]:
        base = self.db << SEQ_BITS
        low = base + min(max(since, 0), _LAST_SEQ)
        high = base + (_LAST_SEQ if until is None else min(max(until, 0), _LAST_SEQ))
        order = " DESC" if descending else ""
        size = _FIRST_BATCH
        while rows := self._source.rows(f"{_DOCS}{order} LIMIT ?", (low, high, size)):
            yield from map(self._record, rows)
            if len(rows) < size:
                return
            last = rows[-1][0]
            if descending:
                high = last - 1
            else:
                low = last
            size = _next_size(size, rows)

    def changes_after(self, seq: int) -> int:
        return rows_after(self._source, (self.db << SEQ_BITS) + min(max(seq, 0), _LAST_SEQ))

    def write(self, old: R | None, new: R | None) -> None:
        if old is not None and old.doc_id.startswith("_design/"):
            self._designs.pop(as_bytes(old.doc_id), None)

    def replace(self, record: R) -> None:
        self.write(record, None)

    def recover(self, writes: Sequence[tuple[R | None, R | None]]) -> None:
        self._designs.clear()

    def check(self) -> list[str]:
        """Return the contradictions between the tables."""
        found = []
        ids = "SELECT count(*), count(d.key), coalesce(sum(i.live), 0) FROM ids i LEFT JOIN docs d"
        ((count, known, live),) = self._source.rows(
            f"{ids} ON d.key = i.key AND d.id = i.id WHERE i.db = ?", (self.db,)
        )
        base = self.db << SEQ_BITS
        ((stored,),) = self._source.rows(
            "SELECT count(*) FROM docs WHERE key BETWEEN ? AND ?", (base, base + _LAST_SEQ)
        )
        if not count == known == stored:
            found.append("the table of ids differs from the documents")
        if (rows_after(self._source, base), ids_before(self._source, self.db, _AFTER_ALL)) != (stored, live):
            found.append("the counts of documents differ from the documents")
        elif wrong_blocks(self._source, self.db):
            found.append("the counts of blocks of documents differ from the documents")
        return found

    # --- local documents ----------------------------------------------------------------------------------------------

    def get_local(self, doc_id: str) -> LocalDocument | None:
        rows = self._source.rows(
            "SELECT id, revision, body, checksum FROM locals WHERE db = ? AND id = ?", (self.db, as_bytes(doc_id))
        )
        return self._local(rows[0]) if rows else None

    def _local(self, row: Row) -> LocalDocument:
        doc_id, revision, body, summed = row
        check(self._source, summed, doc_id, body)
        return LocalDocument(revision, decode(body))

    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        """Do nothing: the row was written already."""

    def locals(self) -> list[tuple[str, LocalDocument]]:
        rows = self._source.rows("SELECT id, revision, body, checksum FROM locals WHERE db = ? ORDER BY id", (self.db,))
        return [(as_text(row[0]), self._local(row)) for row in rows]


def _next_size(size: int, rows: Sequence[Row]) -> int:
    """Return the size of the batch after these rows."""
    total = sum(len(row[2]) + len(row[3]) for row in rows)
    if total > _BATCH_BYTES:
        return max(1, size // 4)
    return min(size * 4, _LARGEST_BATCH) if total * 4 < _BATCH_BYTES else size
