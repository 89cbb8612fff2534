"""Queries of a view: its rows in a range or by keys, and their reductions.

It knows nothing of requests. Source: ``couch_mrview`` (``map_fold``, ``red_fold``), ``fabric_view_map`` and
``fabric_view_reduce``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from sys import maxsize
from typing import Any, TypeAlias, cast

from sortedcontainers import SortedList

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown, open_revision, open_winner, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.mango.json_index import reversed_range
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.emulator.engine.views.reduction import is_builtin, reduce_rows
from couchdal.emulator.engine.views.view_index import ViewIndex, ViewRow, key_function
from couchdal.errors import CouchError, NotFound, NotSupported
from couchdal.http.json_text import copy_json, encode_json

#: Stands for a key that the query does not name.
NO_KEY = object()
_LAST_ID = b"\xff"
# CouchDB accepts reductions up to this length. A longer one must shrink its input by this factor.
_FREE_LENGTH, _SHRINKING = 4096, 2

_Bound: TypeAlias = "tuple[Key, bytes]"
_Json: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which rows of a view to return.

    If ``keys`` is None, a range of keys counts. Without ``sorted``, CouchDB skips no rows, though the offset counts
    them. ``group_level`` None groups by whole keys, and 0 groups all rows. ``shown`` is None without ``include_docs``.
    """

    keys: Sequence[object] | None = None
    start_key: object = NO_KEY
    end_key: object = NO_KEY
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


def read_view(
    db: DocumentStore,
    index: ViewIndex,
    name: str,
    query: RowQuery,
    *,
    reduced: bool,
    update: bool | str,
    update_seq: bool,
) -> _Json:
    """Return the answer of a view: ``rows``, and ``total_rows`` and ``offset`` if they are not ``reduced``.

    The index is brought up to date before it is read (``update`` True), after that (``"lazy"``) or not at all. With
    ``update_seq`` the answer names the sequence at which the view last changed.
    """
    if update is True:
        index.refresh(db)
    view = View(db, index, name)
    answer = view.reduced_rows(query) if reduced else view.map_rows(query)
    if update_seq:
        answer["update_seq"] = db.seq(view.changed_at)
    if update == "lazy":
        try:
            index.refresh(db)
        except NotSupported:
            raise
        except CouchError:
            # CouchDB builds the index after it has answered. The next reader that waits for it gets the error.
            pass
    return answer


class View:
    """One view of a design document, with the rows of its index."""

    def __init__(self, db: DocumentStore, index: ViewIndex, name: str) -> None:
        place, self._view = index.group.find(name)
        self._db = db
        self._index = index
        self._rows: SortedList[ViewRow] = index.rows[place]
        self.changed_at: int = index.changed_at[place]
        self._reduce = self._view.reduce_of(name)

    def map_rows(self, query: RowQuery) -> _Json:
        """Return ``total_rows``, ``offset`` and ``rows``. Raise ``QueryParseError`` for a reversed range."""
        ranges = self._ranges(query)
        total = len(self._rows)
        rows = (row for one in ranges for row in one.read())
        offset = _offset_within(ranges, query.skip) if self._index.partitioned else _offset(ranges, query.skip, total)
        skipped = query.skip if query.sorted else 0
        shown = islice(rows, min(skipped, maxsize), min(skipped + query.limit, maxsize))
        return {"total_rows": total, "offset": offset, "rows": [self._shown(row, query.shown) for row in shown]}

    def reduced_rows(self, query: RowQuery) -> _Json:
        """Return ``rows``, one for each group. Raise ``QueryParseError`` for a reversed range, or ``ServerError``."""
        groups = (group for one in self._ranges(query) for group in self._grouped(one.read(), query.group_level))
        shown = islice(groups, min(query.skip, maxsize), min(query.skip + query.limit, maxsize))
        return {"rows": [self._reduced(copy_json(key), rows) for key, rows in shown]}

    # --- ranges -------------------------------------------------------------------------------------------------------

    def _ranges(self, query: RowQuery) -> list[_Range]:
        key_of = key_function(self._view)
        if query.keys is None:
            _check_range(query, key_of)
            return [self._range(query, query.start_key, query.end_key, key_of)]
        keys = reversed(query.keys) if query.descending and self._reduce is None else query.keys
        return [self._range(query, key, key, key_of) for key in keys]

    def _range(self, query: RowQuery, start: object, end: object, key_of: Callable[[object], Key]) -> _Range:
        """Return the rows between two keys. ``start`` comes first in the order of reading."""
        start_id, end_id = _id_bounds(query)
        last = end_id
        if not query.inclusive_end:
            # Leave out the rows of the end key, beginning with the end document if the query names one.
            last = {b"": _LAST_ID, _LAST_ID: b""}.get(end_id, end_id)
        first_bound = None if start is NO_KEY else (key_of(start), start_id)
        last_bound = None if end is NO_KEY else (key_of(end), last)
        return _Range(
            self._rows,
            self._partition(query),
            first=first_bound,
            last=last_bound,
            inclusive_end=query.inclusive_end,
            descending=query.descending,
        )

    def _partition(self, query: RowQuery) -> str | None:
        return query.partition if self._index.partitioned else ""

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _shown(self, row: ViewRow, shown: Shown | None) -> _Json:
        found: _Json = {"id": row.doc_id, "key": copy_json(row.key), "value": copy_json(row.value)}
        if shown is not None:
            found["doc"] = self._document(row, shown)
        return found

    def _document(self, row: ViewRow, shown: Shown) -> _Json | None:
        """Return the document of the row, or the one that its value names. Return None if it does not exist."""
        doc_id, rev = row.doc_id, None
        if type(row.value) is dict:
            linked = row.value.get("_id", row.doc_id)
            rev = row.value.get("_rev")
            if "_id" in row.value:
                shown = PLAIN
            if type(linked) is not str:
                return None
            doc_id = linked
        try:
            opened = (
                open_winner(self._db, doc_id) if rev is None else open_revision(self._db, doc_id, parse_revision(rev))
            )
        except NotFound:
            return None
        return show(self._db, *opened, shown)

    # --- reductions ---------------------------------------------------------------------------------------------------

    def _grouped(self, rows: Iterable[ViewRow], level: int | None) -> Iterator[tuple[object, list[ViewRow]]]:
        key_of = key_function(self._view)

        def group_of(row: ViewRow) -> Key:
            return () if level == 0 else key_of(_cut(row.key, level))

        for _, members in groupby(rows, group_of):
            group = list(members)
            yield (None if level == 0 else _cut(group[0].key, level)), group

    def _reduced(self, key: object, rows: list[ViewRow]) -> _Json:
        source = self._reduce or ""
        # CouchDB collects rows by prepending.
        rows = _latest_first(rows)
        if is_builtin(source):
            return {"key": key, "value": copy_json(reduce_rows(source, rows))}
        server = self._index.query_server()
        pairs = [[[row.key, row.doc_id], row.value] for row in rows]
        value = server.reduce(source, [pair[0] for pair in pairs], [pair[1] for pair in pairs], again=False)
        error = _overflow("reduce", source, pairs, value)
        if error is None:
            values = [value]
            value = server.reduce(source, None, values, again=True)
            error = _overflow("rereduce", source, values, value)
        if error is not None:
            return {"key": key, "error": "reduce_overflow_error", "reason": error}
        return {"key": key, "value": value}


class _Range:
    """The rows between two bounds, in the order of reading."""

    def __init__(
        self,
        rows: SortedList[ViewRow],
        partition: str | None,
        *,
        first: _Bound | None,
        last: _Bound | None,
        inclusive_end: bool,
        descending: bool,
    ) -> None:
        self._rows = rows
        self._descending = descending
        lower, upper = (last, first) if descending else (first, last)
        # A bound at the end of a range includes or excludes all rows of its document.
        low = self._place(partition, lower, behind=descending and not inclusive_end, end=False)
        high = self._place(partition, upper, behind=descending or inclusive_end, end=True)
        self._low, self._high = low, max(low, high)
        self.offset = len(rows) - self._high if descending else self._low

    def __len__(self) -> int:
        return self._high - self._low

    def _place(self, partition: str | None, bound: _Bound | None, *, behind: bool, end: bool) -> int:
        """Return how many rows come before a bound. With ``behind``, count the rows at the bound too."""
        if bound is not None:
            place: tuple[Any, ...] = (partition, *bound, maxsize if behind else -1)
        elif partition:
            place = (partition + "\0",) if end else (partition,)
        else:
            return len(self._rows) if end else 0
        return self._rows.bisect_left(cast(ViewRow, (place,)))

    def read(self) -> Iterator[ViewRow]:
        rows = self._rows.islice(self._low, self._high, reverse=self._descending)
        return _ascending_values(rows) if self._descending else rows


def _offset(ranges: Sequence[_Range], skip: int, total: int) -> int:
    """Return how many rows come before the first row of the ranges, plus the skipped ones."""
    first = next((one for one in ranges if one), ranges[-1] if ranges else None)
    return min(total, (first.offset if first is not None else 0) + skip)


def _offset_within(ranges: Sequence[_Range], skip: int) -> int:
    """Return how many rows come before the first of the answer. The one shard of a partition skips rows itself."""
    offset = 0
    for one in ranges:
        offset = one.offset + min(skip, len(one))
        if skip < len(one):
            break
        skip -= len(one)
    return offset


def _id_bounds(query: RowQuery) -> tuple[bytes, bytes]:
    defaults = (_LAST_ID, b"") if query.descending else (b"", _LAST_ID)
    given = (query.start_key_docid, query.end_key_docid)
    start, end = (
        default if text is None else text.encode("utf-8", "surrogateescape")
        for text, default in zip(given, defaults, strict=True)
    )
    return start, end


def _check_range(query: RowQuery, key_of: Callable[[object], Key]) -> None:
    if query.start_key is NO_KEY or query.end_key is NO_KEY or query.start_key == query.end_key:
        return
    start_id, end_id = _id_bounds(query)
    start, end = (key_of(query.start_key), start_id), (key_of(query.end_key), end_id)
    if (start < end) if query.descending else not start < end:
        raise reversed_range(descending=query.descending)


def _document_of(row: ViewRow) -> tuple[Any, ...]:
    return row.place[:3]


def _ascending_values(rows: Iterable[ViewRow]) -> Iterator[ViewRow]:
    """Yield rows that were read backwards, with rows of one key and document turned back. To CouchDB, they are one."""
    for _, group in groupby(rows, _document_of):
        yield from reversed(list(group))


def _latest_first(rows: Sequence[ViewRow]) -> list[ViewRow]:
    return list(_ascending_values(reversed(rows)))


def _cut(key: Any, level: int | None) -> Any:
    return key[:level] if level is not None and type(key) is list else key


def _overflow(command: str, source: str, arguments: object, value: object) -> str | None:
    """Return the error of a reduce function whose result is too long for its input."""
    length = len(encode_json([value]).decode())
    if length <= _FREE_LENGTH:
        return None
    given = len(encode_json([command, [source], arguments]).decode()) - len(source)
    if length * _SHRINKING <= given:
        return None
    return f"Reduce output must shrink more rapidly: input size: {given} output size: {length}"
