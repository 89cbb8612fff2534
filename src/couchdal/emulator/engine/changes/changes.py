"""Rows of the changes feed: which documents changed since a sequence, and how far a reader has come among them.

It knows nothing of requests, of waiting or of text: a reader asks for some rows and gets JSON values. Source:
``fabric_view_changes`` (what ``last_seq`` and ``pending`` mean), ``fabric_rpc`` and ``couch_changes`` (filters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision_tree import Node, ranked_leaves
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import BadRequest, ServerError

NO_LIMIT = 1_000_000_000_000_000
# Up to so many ids CouchDB looks the documents up; for more it reads the feed and passes over what is not listed.
_MAX_LOOKED_UP_IDS = 1000

Matcher: TypeAlias = "Callable[[dict[str, object]], bool]"
Projection: TypeAlias = "Callable[[dict[str, object]], dict[str, object]]"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes pass: those of some documents, of design documents, or of revisions that match.

    ``is_function`` says that what they have to match is a design document's function, and not a selector.
    """

    doc_ids: tuple[str, ...] | None = None
    design: bool = False
    matches: Matcher | None = None
    project: Projection | None = None
    is_function: bool = False

    @property
    def looks_up(self) -> bool:
        """Whether the documents are looked up, so that those which don't pass are not even counted."""
        return self.design or (self.doc_ids is not None and len(self.doc_ids) <= _MAX_LOOKED_UP_IDS)


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class ChangesQuery:
    """What a reader of the feed asks for. A negative ``limit`` is none; ``shown`` is None without ``include_docs``."""

    descending: bool = False
    limit: int = NO_LIMIT
    style: str = "main_only"
    conflicts: bool = False
    shown: Shown | None = None
    filter: Filter = EVERYTHING
    seq_interval: int | None = None


@dataclass(slots=True)
class Cursor:
    """How far a reader has come: the last sequence that it looked at, and the rows that its limit leaves.

    ``pending`` counts the changes after the last row; None until the round has looked at one. ``ahead`` counts those
    that the round has yet to look at, as of the update sequence ``as_of``.
    """

    seq: int
    limit: int
    pending: int | None = None
    place: int = 0
    ahead: int = 0
    as_of: int = 0

    def begin_round(self, db: Database, query: ChangesQuery) -> None:
        """Look for what follows the last sequence. Descending, CouchDB's reading begins one above it."""
        self.pending = None
        self.place = self.seq + 1 if query.descending and not query.filter.looks_up else self.seq
        self.count_ahead(db, query)

    def count_ahead(self, db: Database, query: ChangesQuery) -> None:
        self.as_of = db.update_seq
        after = db.storage.changes_after(self.place)
        self.ahead = db.storage.changes_after(0) - after if query.descending else after


def parse_since(db: Database, text: str) -> int:
    """Return the number of an update sequence as a client sends it back; raises ``BadRequest``.

    One that another database gave out, or this one before it was deleted and made again, starts from the beginning.
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
    """Return the place from which a feed starts."""
    cursor = Cursor(db.update_seq if query.descending else since, query.limit)
    cursor.begin_round(db, query)
    return cursor


def read_changes(
    db: Database, query: ChangesQuery, cursor: Cursor, most: int | None = None
) -> tuple[list[dict[str, object]], bool]:
    """Return the next rows, and whether the round is over: the limit is reached, or nothing more has changed.

    ``most`` bounds how many documents one call looks at, where they are not looked up. The rows are the caller's own.
    Raises ``ServerError`` for an unknown style, and what the filter raises.
    """
    if query.filter.looks_up:
        most = None
    if cursor.as_of != db.update_seq:
        cursor.count_ahead(db, query)
    rows: list[dict[str, object]] = []
    looked_at = 0
    records = _candidates(db, query, cursor.place)
    for record in records if most is None else islice(records, most):
        looked_at += 1
        cursor.ahead -= 1
        cursor.place = record.seq - 1 if query.descending else record.seq
        leaves = _passing_leaves(db, query, record)
        if cursor.limit == 0:
            _stop_at(cursor, record, passes=bool(leaves))
            return rows, True
        cursor.seq = record.seq
        if leaves:
            cursor.pending = cursor.ahead
            rows.append(_row(db, query, record, leaves, cursor.limit))
            cursor.limit -= 1
    if looked_at == most:
        return rows, False
    if cursor.limit != 0:
        cursor.pending = cursor.ahead
        if query.filter.looks_up and not query.descending:
            cursor.seq = db.update_seq
    elif cursor.pending is None:
        cursor.pending = cursor.ahead
    return rows, True


def _stop_at(cursor: Cursor, record: DocumentRecord, passes: bool) -> None:
    """End a round at the first change beyond the limit. One that doesn't pass is still counted as looked at."""
    if cursor.pending is None:
        cursor.pending = cursor.ahead + passes
    if not passes:
        cursor.seq = record.seq


def _candidates(db: Database, query: ChangesQuery, place: int) -> Iterable[DocumentRecord]:
    """Yield the documents to look at, in the order of the feed."""
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
    # Conflicts belong to the document as a whole: who is asked for each leaf doesn't see them.
    conflicts = query.conflicts and not every
    # Functions are told of no revision but the leaf itself.
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
        # The one place where CouchDB says that there are none.
        document.setdefault("_conflicts", [])
    return document if query.filter.project is None else query.filter.project(document)
