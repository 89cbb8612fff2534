"""Read a view: the rows that a query selects, or their reductions.

This module does not know requests. Source: ``couch_mrview`` (``map_fold``, ``red_fold``), ``fabric_view_map`` and
``fabric_view_reduce``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from sys import maxsize
from typing import Any, TypeAlias, cast

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown, open_revision, open_winner, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term
from couchdal.emulator.engine.indexes.row_blocks import RowBlocks
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.emulator.engine.views.block_reduction import (
    Overflow,
    ViewRow,
    ascending_values,
)
from couchdal.emulator.engine.views.row_range import (
    LAST_ID,
    RowQuery,
    RowRange,
    find_ranges,
    offset,
    offset_within,
    read_ranges,
)
from couchdal.emulator.engine.views.view_index import ViewIndex, key_function
from couchdal.errors import CouchError, NotFound, NotSupported, ServerError
from couchdal.http.json_text import copy_json
from couchdal.pace import paced

_Json: TypeAlias = "dict[str, object]"
# A group: the places of its first row and of the row after its last, the row that gives it its key, and its rows if
# they are a part of one block.
_Group: TypeAlias = tuple[int, int, ViewRow, "Sequence[ViewRow] | None"]


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

    The index is updated before it is read (``update`` True), afterwards (``"lazy"``) or not at all. With ``update_seq``
    the answer names the sequence at which the view last changed.
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
        self._rows: RowBlocks[ViewRow] = index.trees[place]
        self.changed_at: int = index.changed_at[place]
        self._reduce = self._view.reduce_of(name)

    def map_rows(self, query: RowQuery) -> _Json:
        """Return ``total_rows``, ``offset`` and ``rows``. Raise ``QueryParseError`` for a reversed range."""
        ranges = self._ranges(query)
        total = len(self._rows)
        before = offset_within(ranges, query.skip) if self._index.partitioned else offset(ranges, query.skip, total)
        skip = query.skip if query.sorted or self._index.partitioned else 0
        rows = (row for found in read_ranges(ranges, skip) for row in paced(found))
        shown: Iterator[ViewRow] = islice(rows, min(query.limit, maxsize))
        if self._index.partitioned and not query.sorted:
            shown = map(self._refused, shown)
        return {"total_rows": total, "offset": before, "rows": [self._shown(row, query.shown) for row in shown]}

    def reduced_rows(self, query: RowQuery) -> _Json:
        """Return ``rows``, one for each group. Raise ``QueryParseError`` for a reversed range, or ``ServerError``."""
        groups = (group for one in self._ranges(query) for group in paced(self._groups(one, query)))
        shown = islice(groups, min(query.skip, maxsize), min(query.skip + query.limit, maxsize))
        return {"rows": [self._reduced(group, query, place) for place, group in enumerate(shown)]}

    def _refused(self, row: ViewRow) -> ViewRow:
        """Raise ``ServerError`` for a row: CouchDB removes the partition from a key only when it sorts rows."""
        term = TupleTerm((Atom("p"), row.doc_id.partition(":")[0], row.key))
        raise ServerError(pretty_term(term), error="invalid_ejson")

    def _ranges(self, query: RowQuery) -> list[RowRange]:
        if query.keys is not None and query.descending and self._reduce is None:
            query = replace(query, keys=query.keys[::-1])
        partition = query.partition if self._index.partitioned else None
        return find_ranges(self._rows, query, key_function(self._view), partition)

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

    def _groups(self, one: RowRange, query: RowQuery) -> Iterator[_Group]:
        """Yield the groups of a range in the order of reading. Most lie in one block, which is searched first."""
        rows, level, low, high = self._rows, query.group_level, one.low, one.high
        if level == 0:
            if low < high:
                yield low, high, next(one.read()), None
            return
        while low < high:
            leaf, before = rows.leaf_at(high - 1 if query.descending else low)
            first, end = max(low - before, 0), min(high - before, len(leaf))
            if query.descending:
                bound = _bound(leaf[end - 1], level, above=False)
                first = bisect_left(leaf, bound, first, end)
                start = rows.bisect_left(bound) if first == 0 else before + first
                start = max(low, start)
                whole = start != before + first or end - first == len(leaf)
                row = next(ascending_values(rows.islice(start, high, reverse=True)))
                yield start, high, row, None if whole else leaf[first:end]
                high = start
            else:
                row = leaf[first]
                bound = _bound(row, level, above=True)
                end = bisect_left(leaf, bound, first, end)
                stop = rows.bisect_left(bound) if end == len(leaf) else before + end
                stop = min(high, stop)
                whole = stop != before + end or end - first == len(leaf)
                yield low, stop, row, None if whole else leaf[first:end]
                low = stop

    def _reduced(self, group: _Group, query: RowQuery, place: int) -> _Json:
        low, high, first, rows = group
        level, backwards = query.group_level, query.descending
        key = None if level == 0 else copy_json(_cut(first.key, level))
        reducer = self._index.reducer(self._reduce or "")
        try:
            if rows is None:
                value = reducer.of_range(self._rows.root, low, high, descending=backwards)
            else:
                value = reducer.of_parts(rows, descending=backwards)
        except ServerError as error:
            # After the first row, CouchDB's error has no reference to a stack trace.
            error.is_traced = error.is_traced and not place
            raise
        if isinstance(value, Overflow):
            return {"key": key, "error": "reduce_overflow_error", "reason": value.reason}
        return {"key": key, "value": copy_json(value)}


def _cut(key: Any, level: int | None) -> Any:
    return key[:level] if level is not None and type(key) is list else key


# Sorts after every key.
_HIGHEST: Key = (9,)


def _bound(row: ViewRow, level: int | None, *, above: bool) -> ViewRow:
    """Return a row that would lie just below or just above the group of a row."""
    partition, key, *_ = row.place
    if level is not None and type(row.key) is list and len(row.key) >= level:
        kind, items = key
        items = [*items[:level], _HIGHEST] if above else items[:level]
        return cast(ViewRow, ((partition, (kind, items)),))
    return cast(ViewRow, ((partition, key, LAST_ID) if above else (partition, key),))
