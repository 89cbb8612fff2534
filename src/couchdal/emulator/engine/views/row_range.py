"""Ranges of a view's rows: the rows that a query selects, and where they begin and end.

This module does not read documents or reduce rows. Source: ``couch_mrview_util``, ``fabric_view_map``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from sys import maxsize
from typing import Any, TypeAlias, cast

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.documents.document_read import Shown
from couchdal.emulator.engine.erlang.term_order import term_key
from couchdal.emulator.engine.indexes.row_blocks import RowBlocks
from couchdal.emulator.engine.mango.json_index import reversed_range
from couchdal.emulator.engine.views.block_reduction import GLOBAL, ViewRow, ascending_values
from couchdal.http.json_text import is_same
from couchdal.http.messages import ABSENT

LAST_ID = b"\xff"

_Bound: TypeAlias = "tuple[Key, bytes]"


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows of a view to return.

    If ``keys`` is None, ``start_key`` and ``end_key`` apply; ``ABSENT`` means that the query does not name the key.
    Without ``sorted``, CouchDB skips no rows, but adds ``skip`` to the offset. ``group_level`` None groups by whole
    keys, and 0 groups all rows. ``shown`` is None without ``include_docs``.
    """

    keys: Sequence[object] | None = None
    start_key: object = ABSENT
    end_key: object = ABSENT
    start_key_docid: str | None = None
    end_key_docid: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    skip: int = 0
    limit: int = maxsize
    sorted: bool = True
    group_level: int | None = 0
    shown: Shown | None = None
    partition: str | None = None


def find_ranges(
    rows: RowBlocks[ViewRow], query: RowQuery, key_of: Callable[[object], Key], partition: str | None
) -> list[RowRange]:
    """Return the ranges of a query in the order of its keys. Raise ``QueryParseError`` for a reversed range.

    ``partition`` is None for the rows of a global view.
    """
    within = GLOBAL if partition is None else key_of(partition)
    if query.keys is not None:
        return [RowRange(rows, query, (key_of(key), key_of(key)), within) for key in query.keys]
    _check_range(query, key_of)
    start, end = (None if key is ABSENT else key_of(key) for key in (query.start_key, query.end_key))
    if partition is not None:
        # CouchDB fills in null, and a tuple that sorts behind all keys. In the raw order it sorts behind objects.
        lowest, highest = key_of(None), (2.5,) if key_of is term_key else (9,)
        if query.descending:
            start, end = start or highest, end or lowest
        else:
            start, end = start or lowest, end or highest
    return [RowRange(rows, query, (start, end), within)]


class RowRange:
    """The rows between two keys, in the order of reading. ``start`` comes first in that order."""

    def __init__(
        self,
        rows: RowBlocks[ViewRow],
        query: RowQuery,
        keys: tuple[Key | None, Key | None],
        partition: Key,
    ) -> None:
        self._rows = rows
        self._descending = query.descending
        start, end = keys
        start_id, end_id = _id_bounds(query)
        if not query.inclusive_end:
            # Leave out the rows of the end key, beginning with the end document if the query names one.
            end_id = {b"": LAST_ID, LAST_ID: b""}.get(end_id, end_id)
        first = None if start is None else (start, start_id)
        last = None if end is None else (end, end_id)
        lower, upper = (last, first) if query.descending else (first, last)
        # A bound at the end of a range includes or excludes all rows of its document.
        low = self._place(partition, lower, behind=query.descending and not query.inclusive_end, end=False)
        high = self._place(partition, upper, behind=query.descending or query.inclusive_end, end=True)
        self.low: int = low
        self.high: int = max(low, high)
        self.offset: int = len(rows) - self.high if query.descending else self.low

    def __len__(self) -> int:
        return self.high - self.low

    def _place(self, partition: Key, bound: _Bound | None, *, behind: bool, end: bool) -> int:
        """Return how many rows come before a bound. With ``behind``, count the rows at the bound too."""
        if bound is None:
            return len(self._rows) if end else 0
        place: tuple[Any, ...] = (partition, *bound, maxsize if behind else -1)
        return self._rows.bisect_left(cast(ViewRow, (place,)))

    def read(self, skip: int = 0) -> Iterator[ViewRow]:
        """Return the rows without the first ``skip`` ones, which are not read."""
        if not self._descending:
            return self._rows.islice(self.low + skip, self.high)
        high = end = self.high - skip
        if skip and high > self.low:
            # The rows of one key and document are read forwards, all or none.
            row = next(self._rows.islice(high - 1, high))
            end = min(self.high, self._rows.bisect_left(cast(ViewRow, ((*row.place[:3], maxsize),))))
        rows = ascending_values(self._rows.islice(self.low, end, reverse=True))
        return islice(rows, end - high, None) if end > high else rows


def read_ranges(ranges: Iterable[RowRange], skip: int) -> Iterator[Iterator[ViewRow]]:
    """Yield the rows of each range, without the first ``skip`` of all."""
    for one in ranges:
        if skip < len(one):
            yield one.read(skip)
        skip = max(0, skip - len(one))


def offset(ranges: Sequence[RowRange], skip: int, total: int) -> int:
    """Return how many rows come before the first row of the ranges, plus the skipped ones."""
    first = next((one for one in ranges if one), ranges[-1] if ranges else None)
    return min(total, (first.offset if first is not None else 0) + skip)


def offset_within(ranges: Sequence[RowRange], skip: int) -> int:
    """Return how many rows come before the first row of the answer. A partition has one shard, which skips rows."""
    offset = 0
    for one in ranges:
        offset = one.offset + min(skip, len(one))
        if skip < len(one):
            break
        skip -= len(one)
    return offset


def _id_bounds(query: RowQuery) -> tuple[bytes, bytes]:
    defaults = (LAST_ID, b"") if query.descending else (b"", LAST_ID)
    given = (query.start_key_docid, query.end_key_docid)
    start, end = (
        default if text is None else text.encode("utf-8", "surrogateescape")
        for text, default in zip(given, defaults, strict=True)
    )
    return start, end


def _check_range(query: RowQuery, key_of: Callable[[object], Key]) -> None:
    if query.start_key is ABSENT or query.end_key is ABSENT or is_same(query.start_key, query.end_key):
        return
    start_id, end_id = _id_bounds(query)
    start, end = (key_of(query.start_key), start_id), (key_of(query.end_key), end_id)
    if (start < end) if query.descending else not start < end:
        raise reversed_range(descending=query.descending)
