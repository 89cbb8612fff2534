"""Read a view: the rows that a query selects, or their reductions.

This module does not know requests. Source: ``couch_mrview`` (``map_fold``, ``red_fold``), ``fabric_view_map`` and
``fabric_view_reduce``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from sys import maxsize
from typing import Any, TypeAlias

from sortedcontainers import SortedList

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown, open_revision, open_winner, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.emulator.engine.views.reduction import is_builtin, reduce_rows
from couchdal.emulator.engine.views.row_range import (
    RowQuery,
    RowRange,
    ascending_values,
    find_ranges,
    offset,
    offset_within,
)
from couchdal.emulator.engine.views.view_index import ViewIndex, ViewRow, key_function
from couchdal.errors import CouchError, NotFound, NotSupported
from couchdal.http.json_text import copy_json, encode_json
from couchdal.pace import paced

# CouchDB accepts reductions up to this length. A longer one must shrink its input by this factor.
_FREE_LENGTH, _SHRINKING = 4096, 2

_Json: TypeAlias = "dict[str, object]"


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
        rows = (row for one in ranges for row in paced(one.read()))
        before = offset_within(ranges, query.skip) if self._index.partitioned else offset(ranges, query.skip, total)
        skipped = query.skip if query.sorted else 0
        shown = islice(rows, min(skipped, maxsize), min(skipped + query.limit, maxsize))
        return {"total_rows": total, "offset": before, "rows": [self._shown(row, query.shown) for row in shown]}

    def reduced_rows(self, query: RowQuery) -> _Json:
        """Return ``rows``, one for each group. Raise ``QueryParseError`` for a reversed range, or ``ServerError``."""
        groups = (group for one in self._ranges(query) for group in self._grouped(paced(one.read()), query.group_level))
        shown = islice(groups, min(query.skip, maxsize), min(query.skip + query.limit, maxsize))
        return {"rows": [self._reduced(copy_json(key), rows) for key, rows in shown]}

    def _ranges(self, query: RowQuery) -> list[RowRange]:
        if query.keys is not None and query.descending and self._reduce is None:
            query = replace(query, keys=query.keys[::-1])
        partition = query.partition if self._index.partitioned else ""
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


def _latest_first(rows: Sequence[ViewRow]) -> list[ViewRow]:
    return list(ascending_values(reversed(rows)))


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
