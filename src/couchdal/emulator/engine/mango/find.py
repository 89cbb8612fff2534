"""Answer ``_find``: read the rows of an index, or all documents, and return one page of matches.

This module does not know requests. The planner chooses the index. Source: ``mango_cursor_view``,
``mango_execution_stats``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from marshal import dumps, loads
from math import inf
from typing import TypeAlias

from couchdal.emulator.engine.config.settings import checked_limit
from couchdal.emulator.engine.documents.document import DocumentRecord, copy_members
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown, show
from couchdal.emulator.engine.mango.bookmark import pack_bookmark, unpack_bookmark
from couchdal.emulator.engine.mango.execution_stats import ExecutionStats, count_query
from couchdal.emulator.engine.mango.field_path import Projection, compile_projection, parse_field, set_member
from couchdal.emulator.engine.mango.find_query import FindQuery, parse_find_query
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.json_index import IndexRow
from couchdal.emulator.engine.mango.key_range import Extreme
from couchdal.emulator.engine.mango.planner import (
    Plan,
    covers,
    key_bounds,
    make_plan,
    named_by,
    selector_fields,
    shown_use_index,
)
from couchdal.emulator.engine.mango.selector_match import compile_selector, reads_metadata
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import NO_INDEX_WARNING, QueryParseError
from couchdal.http.json_text import JSON
from couchdal.pace import paced

_SCAN_WARNING_RATIO = 10
_HIGH_RATIO = (
    "The number of documents examined is high in proportion to the number of results returned. "
    "Consider adding a more specific index to improve this."
)
_CONFLICTS = Shown(conflicts=True)
# Longer queries are not kept: a few of them would hold much memory, and preparing them is a small part of their cost.
_LONGEST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Scan:
    """How a query reads a database: its plan, and the values that follow from the query and the plan.

    ``start`` and ``end`` are keys in the order of reading. With ``quorum``, CouchDB reads the rows first and then the
    documents, and counts both separately.
    """

    plan: Plan
    index: IndexDefinition
    is_json: bool
    covered: bool
    quorum: bool
    descending: bool
    start: object
    end: object
    shown: Shown


def _scan(query: FindQuery, plan: Plan) -> Scan:
    """Return how a query reads a database. Raise ``ServerError`` for a range that makes CouchDB fail."""
    index = plan.index
    assert index is not None
    covered = covers(index, required_fields(query))
    quorum = query.r > 1 and not covered
    descending = bool(query.sort) and query.sort[0][1] == "desc"
    low, high = key_bounds(plan)
    start, end = (high, low) if descending else (low, high)
    # CouchDB does not return the conflicts of documents that it reads for a quorum.
    shown = _CONFLICTS if query.conflicts and not quorum else PLAIN
    return Scan(plan, index, index.is_json, covered, quorum, descending, start, end, shown)


class PreparedQuery:
    """A query, and everything that depends on the query alone. Repeated queries are prepared once."""

    __slots__ = ("_scan", "matches", "needs_whole", "project", "query")

    def __init__(self, query: FindQuery) -> None:
        self.query: FindQuery = query
        self.matches: Callable[[Mapping[str, object]], bool] = compile_selector(query.selector)
        self.project: Projection | None = None if query.fields is None else compile_projection(query.fields)
        self.needs_whole: bool = reads_metadata(query.selector)
        self._scan: Scan | None = None

    def scan(self, db: Database) -> Scan:
        """Return how the query reads a database. The result is cached until the definitions of the indexes change."""
        scan = self._scan
        if scan is None or scan.plan.present is not db.indexes.definitions(db):
            # One assignment: other threads may use the query with other databases.
            scan = self._scan = _scan(self.query, make_plan(db, self.query))
        return scan


def prepare(body: dict[str, JSON]) -> PreparedQuery:
    """Return the query of a ``_find`` body. Raise ``CouchError`` for the first invalid member."""
    try:
        # marshal is faster than JSON, and as exact: equal bytes mean equal types and the same order of members.
        key = dumps(body, 2)
    except ValueError:
        # A name may be an instance of a subclass of str, which marshal refuses.
        return PreparedQuery(parse_find_query(body))
    return _prepare(key) if len(key) <= _LONGEST_KEPT else _prepare.__wrapped__(key)


@lru_cache(maxsize=128)
def _prepare(key: bytes) -> PreparedQuery:
    return PreparedQuery(parse_find_query(loads(key)))


def find(
    db: Database, prepared: PreparedQuery, most: float = inf, make_cursor: MakeCursor | None = None
) -> dict[str, object]:
    """Return the answer to a query: ``docs``, ``bookmark``, and if they apply, ``execution_stats`` and ``warning``.

    It reads at most ``most`` rows of the index, or documents. The answer shares no mutable value with the store. Raise
    ``CouchError`` if no index serves the sort, an index does not exist, the bookmark is malformed, or a condition
    fails.
    """
    query, scan = prepared.query, prepared.scan(db)
    if scan.plan.is_empty:
        return {"docs": []}
    cursor = (make_cursor or Cursor)(db, prepared, scan, None if most == inf else checked_limit(most))
    answer: dict[str, object] = {"docs": cursor.run(), "bookmark": cursor.bookmark()}
    if query.execution_stats:
        answer["execution_stats"] = cursor.stats.to_json()
    count_query(db, scan.index, cursor.stats)
    if query.use_index and not named_by([scan.index], query.use_index):
        db.count("mango/query_invalid_index")
    warnings = list(_warnings(query, scan.index, cursor.stats))
    if warnings:
        answer["warning"] = "\n".join(warnings)
    return answer


def _warnings(query: FindQuery, index: IndexDefinition, stats: ExecutionStats) -> Iterator[str]:
    if query.use_index and not named_by([index], query.use_index):
        why = "it does not contain a valid index" if len(query.use_index) == 1 else "it is not a valid index"
        yield f"{shown_use_index(query.use_index)} was not used because {why} for this query."
    if not index.is_json:
        yield NO_INDEX_WARNING
    if stats.docs_examined + stats.quorum_docs_examined > _SCAN_WARNING_RATIO * max(stats.results, 1):
        yield _HIGH_RATIO


def required_fields(query: FindQuery) -> list[object] | None:
    """Return the fields of a document that a query needs, or None if it needs all."""
    return None if query.fields is None else [*query.fields, *selector_fields(query.selector)]


def _always(document: Mapping[str, object]) -> bool:
    return True


# A match: the number of rows examined since the previous match, and the document's id, the row's key, the document (or
# the part that was read), and its record. The last entry counts the rows after the last match, and has None.
Match: TypeAlias = "tuple[int, tuple[str, object, Mapping[str, object], DocumentRecord | None] | None]"


MakeCursor: TypeAlias = "Callable[[Database, PreparedQuery, Scan, int | None], Cursor]"


class Cursor:
    """One pass over the rows of an index, or over the documents by id."""

    __slots__ = (
        *("_db", "_last", "_matches", "_most", "_prepared", "_query", "_resumes", "_scan", "_start", "_start_id"),
        "stats",
    )

    def __init__(self, db: Database, prepared: PreparedQuery, scan: Scan, most: int | None) -> None:
        self._db = db
        self._prepared = prepared
        self._query = query = prepared.query
        self._scan = scan
        self._most = most
        self.stats: ExecutionStats = ExecutionStats()
        self._matches = prepared.matches
        self._start = scan.start
        self._start_id = ""
        self._resumes = query.bookmark is not None
        if query.bookmark is not None:
            self._start_id, self._start = unpack_bookmark(query.bookmark)
        self._last: tuple[str, object] | None = None

    def run(self) -> list[dict[str, object]]:
        """Return the documents of this page, and count the examined rows.

        The scan ends at the first match beyond the page, which counts as examined. CouchDB adds its counts at each
        match. If it drops the match (a design document, or the last row of the previous page), the counts are lost.
        """
        documents: list[dict[str, object]] = []
        skip, limit = self._query.skip, self._query.limit
        is_json, quorum, counted = self._scan.is_json, self._scan.quorum, 0
        for examined, row in self._indexed() if is_json else self._scanned():
            if row is None:
                counted += examined
                break
            doc_id, key, document, record = row
            if self._resumes:
                self._resumes = False
                continue
            if not is_json and doc_id.startswith("_design/"):
                continue
            counted += examined
            if quorum and not self._still_matches(record):
                continue
            if limit > 0:
                # The next page begins after the last row that was returned or skipped.
                self._last = (doc_id, key)
            if skip > 0:
                skip -= 1
            elif limit > 0:
                limit -= 1
                documents.append(self._shown(document, record))
            else:
                break
        self.stats.keys_examined, self.stats.results = counted, len(documents)
        if not quorum and not self._scan.covered:
            self.stats.docs_examined += counted
        return documents

    def bookmark(self) -> str:
        """Return the bookmark of the next page. If nothing matched, return the one that the client sent."""
        if self._last is None:
            return self._query.bookmark or "nil"
        return pack_bookmark(*self._last)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _scanned(self) -> Iterator[Match]:
        records = self._records()
        matches, whole = _always if self._scan.quorum else self._matches, self._prepared.needs_whole
        examined = 0
        for record in paced(records if self._most is None or self._most < 0 else islice(records, self._most)):
            examined += 1
            # The same as _read, without a call for each document.
            document = self._whole(record) if whole else record.body
            if matches(document):
                yield examined, (record.doc_id, record.doc_id, document, record)
                examined = 0
        yield examined, None

    def _records(self) -> Iterator[DocumentRecord]:
        """Return the documents by id."""
        if self._query.partition and not self._db.partitioned:
            raise QueryParseError("`partition` parameter is not supported on this db")
        bounds = self._id_bounds()
        records = iter(() if bounds is None else self._db.storage.live(*bounds, descending=self._scan.descending))
        self._skip_resumed(records)
        return records

    def _skip_resumed(self, rows: Iterator[object]) -> None:
        """Skip the last row of the previous page. In a partition, CouchDB always skips the first row."""
        if self._resumes and self._query.partition:
            self._resumes = False
            next(rows, None)

    def _id_bounds(self) -> tuple[str | None, str | None] | None:
        """Return the first and the last id to read, or None if there are none. Other values sort below all ids."""
        start, end = self._start, self._scan.end
        low, high = (end, start) if self._scan.descending else (start, end)
        if type(high) is not str and not isinstance(high, Extreme):
            return None
        first, last = low if type(low) is str else None, high if type(high) is str else None
        if isinstance(low, Extreme):
            return None
        partition = self._query.partition
        if partition:
            # ";" is the character after the colon.
            first = max(first or "", f"{partition}:")
            last = min(last, f"{partition};") if last is not None else f"{partition};"
        return (last, first) if self._scan.descending else (first, last)

    def _indexed(self) -> Iterator[Match]:
        scan = self._scan
        index = self._db.indexes.json_index(self._db, scan.index, update=self._query.is_updating)
        start, partition = (self._start, self._start_id), self._query.partition
        if self._most is not None and self._most < 0:
            raise QueryParseError("`limit` must be a positive integer.")
        rows = index.rows(start, scan.end, partition=partition, descending=self._scan.descending)
        self._skip_resumed(rows)
        matches = _always if scan.quorum else self._matches
        paths = [parse_field(column) for column in scan.index.columns] if scan.covered else None
        examined = 0
        for row in paced(rows if self._most is None else islice(rows, self._most)):
            examined += 1
            record = None if paths is not None else self._db.storage.get(row.doc_id)
            if paths is None and (record is None or record.deleted):
                # The index was not brought up to date. CouchDB counts the key of such a row, but no document.
                examined -= scan.quorum
                self.stats.docs_examined -= not scan.quorum
                continue
            document = self._read(record) if record is not None else _rebuilt(row, paths or ())
            if matches(document):
                yield examined, (row.doc_id, row.values, document, record)
                examined = 0
        yield examined, None

    # --- documents ----------------------------------------------------------------------------------------------------

    def _read(self, record: DocumentRecord) -> Mapping[str, object]:
        return self._whole(record) if self._prepared.needs_whole else record.body

    def _whole(self, record: DocumentRecord) -> dict[str, object]:
        """Return the document as the selector sees it. It shares parts with the store and must not be changed."""
        node = record.winner
        if node.attachments or self._scan.shown is not PLAIN:
            return show(self._db, record, node, self._scan.shown)
        return {"_id": record.doc_id, "_rev": node.rev, **(node.body or {})}

    def _shown(self, document: Mapping[str, object], record: DocumentRecord | None) -> dict[str, object]:
        """Return a matching document as the answer shows it. It shares no mutable value with the store."""
        project = self._prepared.project
        if project is not None:
            return copy_members(project(document if record is None else self._whole(record)))
        return copy_members(document) if record is None else show(self._db, record, record.winner, self._scan.shown)

    def _still_matches(self, record: DocumentRecord | None) -> bool:
        """Return whether a document still matches when it is read for a quorum."""
        self.stats.quorum_docs_examined += 1
        assert record is not None
        return self._matches(show(self._db, record, record.winner))


def _rebuilt(row: IndexRow, paths: Sequence[Sequence[str]]) -> dict[str, object]:
    """Return the part of a document that its row contains."""
    document: dict[str, object] = {"_id": row.doc_id}
    for path, value in zip(reversed(paths), reversed(row.values), strict=True):
        document = set_member(document, path, value)
    return document
