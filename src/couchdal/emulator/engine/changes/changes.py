"""Read rows of the changes feed from a cursor.

This module does not know requests, waiting or text: a reader gets JSON values. Source: ``fabric_view_changes`` (for
``last_seq`` and ``pending``), ``fabric_rpc`` and ``couch_changes`` (for filters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from couchdal.api.versions import EXACT_PENDING, Version
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.revisions.revision_tree import ranked_leaves
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import BadRequest, CouchError, ServerError
from couchdal.pace import paced

NO_LIMIT = 1_000_000_000_000_000
# CouchDB looks up at most this many ids. For more, it reads the whole feed and skips the other documents.
_MAX_LOOKED_UP_IDS = 1000
# How many changes are in memory at once while an answer is sent. Each may have a large document.
_MOST_LATE = 50

Matcher: TypeAlias = "Callable[[dict[str, object]], bool]"
Projection: TypeAlias = "Callable[[dict[str, object]], dict[str, object]]"


class FilterError(Exception):
    """A filter failed at a document, with an error of CouchDB. ``wrapped`` is that error as an Erlang term."""

    def __init__(self, error: CouchError, wrapped: str) -> None:
        super().__init__(error.reason)
        self.error = error
        self.wrapped = wrapped


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of the feed: some documents, design documents, or revisions for which ``matches`` returns True.

    ``matches`` and ``project`` raise ``FilterError``.
    ``is_function`` is True if ``matches`` calls a design document's function, and False for a selector.
    """

    doc_ids: tuple[str, ...] | None = None
    design: bool = False
    matches: Matcher | None = None
    project: Projection | None = None
    is_function: bool = False

    @property
    def looks_up(self) -> bool:
        """True if the feed looks up documents by id. It then does not count the documents that it filters out."""
        return self.design or (self.doc_ids is not None and len(self.doc_ids) <= _MAX_LOOKED_UP_IDS)


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class ChangesQuery:
    """The query of a reader. A negative ``limit`` is unlimited. Without ``include_docs``, ``shown`` is None."""

    descending: bool = False
    limit: int = NO_LIMIT
    style: str = "main_only"
    conflicts: bool = False
    shown: Shown | None = None
    filter: Filter = EVERYTHING
    seq_interval: int | None = None


@dataclass(slots=True)
class Cursor:
    """The position of a reader: the last sequence that it examined, and the rows that its limit leaves.

    A round reads the feed from ``place`` to its end. ``pending`` counts the changes after the last row, and is None
    until the round has examined one. ``ahead`` counts the changes that the round has not examined yet. It is valid for
    the update sequence ``as_of``. ``failure`` is the error of a filter that failed after the first document.
    """

    seq: int
    limit: int
    pending: int | None = None
    place: int = 0
    ahead: int = 0
    as_of: int = 0
    failure: CouchError | None = None
    has_examined: bool = False

    def begin_round(self, db: Database, query: ChangesQuery) -> None:
        """Begin to read after the last sequence. A descending feed of CouchDB begins one above it."""
        self.pending = None
        self.place = self.seq + 1 if query.descending and not query.filter.looks_up else self.seq
        self.count_ahead(db, query)

    def count_ahead(self, db: Database, query: ChangesQuery) -> None:
        self.as_of = db.update_seq
        after = db.storage.changes_after(self.place)
        self.ahead = db.storage.changes_after(0) - after if query.descending else after


def parse_since(db: Database, text: str) -> int:
    """Return the number of an update sequence that a client sent. Raise ``BadRequest`` for malformed text.

    Return 0 for a sequence of another database, or of an earlier database with the same name.
    """
    if text in ("0", "now"):
        return 0 if text == "0" else db.update_seq
    number, dash, opaque = text.removeprefix('"').removesuffix('"').partition("-")
    if dash and number.isdecimal() and number.isascii() and _is_opaque(opaque):
        return (parse_integer(number) or 0) if opaque == db.seq_text else 0
    raise BadRequest("Malformed sequence supplied in 'since' parameter.")


def _is_opaque(text: str) -> bool:
    return len(text) == 32 and all(letter in "0123456789abcdef" for letter in text)


def start_cursor(db: Database, query: ChangesQuery, since: int) -> Cursor:
    """Return the cursor of a new feed."""
    cursor = Cursor(db.update_seq if query.descending else since, query.limit)
    cursor.begin_round(db, query)
    return cursor


def read_changes(
    db: Database, query: ChangesQuery, cursor: Cursor, most: int | None = None
) -> tuple[list[dict[str, object]], bool]:
    """Return the next rows, and True if the round is over: the limit is reached, or the feed has ended.

    One call examines at most ``most`` documents, unless the filter looks them up. The rows belong to the caller. Raise
    ``ServerError`` for an unknown style, and if the filter fails at the first document. If it fails later, the rows
    before are returned, and the cursor has the failure.
    """
    if query.filter.looks_up:
        most = None
    if cursor.as_of != db.update_seq:
        cursor.count_ahead(db, query)
    rows: list[dict[str, object]] = []
    examined = 0
    records = _candidates(db, query, cursor.place)
    for record in paced(records if most is None else islice(records, most)):
        examined += 1
        cursor.ahead -= 1
        cursor.place = record.seq - 1 if query.descending else record.seq
        try:
            leaves = _passing_leaves(db, query, record)
            if cursor.limit == 0:
                _stop_at(cursor, record, passes=bool(leaves))
                return rows, True
            row = _row(db, query, record, leaves, cursor.limit) if leaves else None
        except FilterError as failed:
            if not cursor.has_examined:
                # CouchDB wraps the error of a worker that has not answered yet.
                raise ServerError(f"{{{failed.wrapped}}}", error="error") from None
            cursor.failure = failed.error
            return rows, True
        cursor.seq, cursor.has_examined = record.seq, True
        if row is not None:
            cursor.pending = cursor.ahead
            rows.append(row)
            cursor.limit -= 1
    if examined == most:
        return rows, False
    if cursor.limit != 0:
        cursor.pending = cursor.ahead
        if query.filter.looks_up and not query.descending:
            cursor.seq = db.update_seq
    elif cursor.pending is None:
        cursor.pending = cursor.ahead
    return rows, True


def _stop_at(cursor: Cursor, record: DocumentRecord, passes: bool) -> None:
    """End a round at the first change beyond the limit. The cursor moves past a change that the filter excludes."""
    if cursor.pending is None:
        cursor.pending = cursor.ahead + 1 if passes else cursor.ahead
    if not passes:
        cursor.seq = record.seq


def _candidates(db: Database, query: ChangesQuery, place: int) -> Iterable[DocumentRecord]:
    """Return the documents to examine, in the order of the feed."""
    records = db.storage.changes(until=place, descending=True) if query.descending else db.storage.changes(since=place)
    chosen = query.filter
    if not chosen.looks_up:
        return records
    if chosen.doc_ids is None:
        return (record for record in records if record.doc_id.startswith("_design/"))
    found = (db.storage.get(doc_id) for doc_id in chosen.doc_ids)
    return sorted(
        (record for record in found if record is not None and (record.seq <= place) is query.descending),
        key=lambda record: record.seq,
        reverse=query.descending,
    )


def _passing_leaves(db: Database, query: ChangesQuery, record: DocumentRecord) -> list[Node]:
    chosen = query.filter
    if chosen.doc_ids is not None and not chosen.looks_up and record.doc_id not in chosen.doc_ids:
        return []
    if query.style not in ("main_only", "all_docs"):
        raise ServerError("function_clause", error="error")
    every = query.style == "all_docs"
    leaves = ranked_leaves(record.tree) if every else [record.winner]
    if chosen.matches is None:
        return leaves
    # Conflicts belong to the whole document. With ``all_docs``, a filter sees each leaf by itself, without conflicts.
    conflicts = query.conflicts and not every
    # The ``_revisions`` that a function sees contain only the leaf.
    shown = Shown(conflicts=conflicts, revs=chosen.is_function, most_revs=1)
    return [leaf for leaf in leaves if chosen.matches(show(db, record, leaf, shown))]


def _row(
    db: Database, query: ChangesQuery, record: DocumentRecord, leaves: Iterable[Node], limit: int
) -> dict[str, object]:
    shows_seq = query.seq_interval is None or limit % query.seq_interval == 0
    row: dict[str, object] = {
        "seq": db.seq(record.seq) if shows_seq else None,
        "id": record.doc_id,
        "changes": [{"rev": leaf.rev} for leaf in leaves],
    }
    if record.deleted:
        row["deleted"] = True
    if query.shown is not None:
        row["doc"] = _included(db, query, record, query.shown)
    return row


def _included(db: Database, query: ChangesQuery, record: DocumentRecord, shown: Shown) -> dict[str, object]:
    document = show(db, record, record.winner, shown)
    if query.conflicts and query.style == "all_docs" and query.filter.matches is not None:
        # Only here does CouchDB add an empty ``_conflicts``.
        document.setdefault("_conflicts", [])
    return document if query.filter.project is None else query.filter.project(document)


def read_late(db: Database, query: ChangesQuery, cursor: Cursor) -> tuple[Database, Iterator[dict[str, object]]]:
    """Return the present state of a database on a disk, and all rows, which are read from it later."""
    # The request ends before, and with it its view of the database.
    state = copy(db)
    state.storage = db.storage.steady()
    # An unknown style fails here.
    first, is_over = read_changes(state, query, cursor, _MOST_LATE)
    return state, _rest(state, query, cursor, first, is_over=is_over)


def _rest(
    db: Database, query: ChangesQuery, cursor: Cursor, rows: list[dict[str, object]], *, is_over: bool
) -> Iterator[dict[str, object]]:
    yield from rows
    while not is_over:
        rows, is_over = read_changes(db, query, cursor, _MOST_LATE)
        yield from rows


def shown_pending(db: Database, query: ChangesQuery, cursor: Cursor, version: Version) -> int | None:
    """Return the number of pending changes as a version of CouchDB counts them."""
    if cursor.pending is None or not query.descending or version.has(EXACT_PENDING):
        return cursor.pending
    return cursor.pending - db.storage.changes_after(0)
