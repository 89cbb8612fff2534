"""Feeds that wait for changes: text in pieces, until a limit, a timeout or the deletion of the database.

This module does not know requests or sockets. Only iteration blocks; a caller of ``poll`` decides how to wait. Source:
``fabric_view_changes:keep_sending_changes`` and ``chttpd_db:changes_callback``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import NamedTuple, TypeAlias

from couchdal.emulator.engine.changes.changes import ChangesQuery, Cursor, read_changes, shown_pending, start_cursor
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BrokenOff
from couchdal.http.json_text import encode_json

MAX_WAIT_MS = 60_000
# CouchDB sends rows when its buffer would hold more bytes than this.
_BUFFERED = 1490
# One poll examines at most this many documents, because it may hold the server's lock.
_MOST_PER_POLL = 200

Row: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True)
class Framing:
    """The text format of one kind of feed: its start, its rows, its heartbeat and its end.

    ``row`` gets the row, and True for the first one. ``end`` gets the last sequence and the number of pending changes.
    A feed with ``once`` ends after the first rows. The others end when they reach their limit. A ``quiet`` feed sends
    nothing when a wait begins or ends, except heartbeats.
    """

    start: bytes
    row: Callable[[Row, bool], bytes]
    heartbeat: bytes
    end: Callable[[str, int | None], bytes]
    once: bool = False
    quiet: bool = False


def _longpoll_row(row: Row, first: bool) -> bytes:
    return encode_json(row) if first else b",\r\n" + encode_json(row)


def _longpoll_end(last_seq: str, pending: int | None) -> bytes:
    return b'\n],\n"last_seq":%b,"pending":%b}\n' % (encode_json(last_seq), encode_json(pending))


def _line(row: Row, first: bool) -> bytes:
    return encode_json(row) + b"\n"


def _last_line(last_seq: str, pending: int | None) -> bytes:
    return encode_json({"last_seq": last_seq, "pending": pending}) + b"\n"


def _event(row: Row, first: bool) -> bytes:
    return b"data: %b\nid: %b\n\n" % (encode_json(row), encode_json(row["seq"]))


def _no_last_event(last_seq: str, pending: int | None) -> bytes:
    return b""


FRAMINGS = {
    "longpoll": Framing(b'{"results":[\n', _longpoll_row, b"\n", _longpoll_end, once=True),
    "continuous": Framing(b"", _line, b"\n", _last_line),
    "eventsource": Framing(b"", _event, b"event: heartbeat\ndata: \n\n", _no_last_event),
}


def sent_before_failure(framing: Framing, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that CouchDB has sent when a filter fails after them: all but those in its buffer."""
    sent = buffered = 0
    for place, row in enumerate(rows):
        length = len(framing.row(row, place == 0))
        if buffered and buffered + length > _BUFFERED:
            sent, buffered = place, 0
        buffered += length
    return rows[:sent]


class Step(NamedTuple):
    """The result of one poll: the seconds until the next, or None at the feed's end, and the rows.

    ``woken`` is True if the poll ended a wait, and ``waits`` if it began one.
    """

    seconds: float | None
    rows: Sequence[Row] = ()
    woken: bool = False
    waits: bool = False


class ChangesFeed:
    """The feed of one reader. It reads the changes in rounds and waits for the next change between them.

    A wait lasts at most ``wait_ms``. Then the feed ends, or with ``heartbeats`` it sends a heartbeat and continues. The
    constructor reads the first rows, so an invalid query fails here and not in the middle of an answer. A filter that
    fails later breaks the feed off.
    """

    def __init__(
        self,
        server: Server,
        db: Database,
        query: ChangesQuery,
        since: int,
        framing: Framing,
        *,
        wait_ms: int = MAX_WAIT_MS,
        heartbeats: bool = False,
    ) -> None:
        self._server = server
        self._db = db.origin()
        self._query = query
        self._framing = framing
        self._wait_s = min(wait_ms, MAX_WAIT_MS) / 1000
        self._heartbeats = heartbeats
        self._cursor = start_cursor(db, query, since)
        # During a wait: the update sequence at its start, and the time at which it ends.
        self._seen: int | None = None
        self._deadline = 0.0
        self._started = self._wrote_row = self._wrote_anything = self._ended = False
        # True if CouchDB would still buffer rows. Then an event stream ends with one more newline.
        self._holds_rows = False
        self._first: Step | None = self._read(db, self._cursor)
        if self._cursor.failure is not None and not self._first.rows:
            raise self._cursor.failure

    def poll(self) -> tuple[bytes, float | None]:
        """Return the text to send, and the seconds until the next poll, or None when the feed has ended.

        Raise ``BrokenOff`` if the filter has failed.
        """
        if self._ended:
            return b"", None
        if self._first is not None:
            step, self._first = self._first, None
            # The caller subscribed after this read, so it may have missed a change. It must poll again at once.
            return self._text(step), None if step.seconds is None else 0.0
        if self._cursor.failure is not None:
            raise BrokenOff(f"the feed broke off: {self._cursor.failure}", "the emulator")
        with self._server.reading(self._db) as db:
            step = self._advance(db)
        return self._text(step), step.seconds

    def _advance(self, db: Database) -> Step:
        # Work on a copy, because a poll that is given up is repeated.
        cursor = replace(self._cursor)
        if self._seen is None:
            return self._read(db, cursor)
        seconds = self._deadline - self._server.clock.monotonic()
        changed = db.update_seq != self._seen
        if db.deleted or (seconds <= 0 and not changed and not self._heartbeats):
            return Step(None)
        if seconds > 0 and not changed:
            return Step(seconds)
        cursor.begin_round(db, self._query)
        return self._read(db, cursor)._replace(woken=True)

    def _read(self, db: Database, cursor: Cursor) -> Step:
        """Read some rows. At the end of a round, end the feed or begin to wait."""
        rows, round_over = read_changes(db, self._query, cursor, _MOST_PER_POLL)
        self._seen, self._cursor = None, cursor
        if cursor.failure is not None:
            rows = [*sent_before_failure(self._framing, rows)]
        if not round_over or cursor.failure is not None:
            return Step(0.0, rows)
        if self._is_done():
            return Step(None, rows)
        self._seen = db.update_seq
        self._deadline = self._server.clock.monotonic() + self._wait_s
        return Step(0.0 if db.deleted else self._wait_s, rows, waits=True)

    def _is_done(self) -> bool:
        cursor = self._cursor
        if self._query.descending and cursor.pending is not None and cursor.pending <= 0:
            return True
        return cursor.limit < self._query.limit if self._framing.once else cursor.limit <= 0

    def _text(self, step: Step) -> bytes:
        """Return the text of one step. This needs no lock, because the rows belong to this feed."""
        framing = self._framing
        parts = []
        if not self._started:
            self._started = True
            parts.append(framing.start)
        if step.woken and not (framing.quiet and step.rows):
            # CouchDB sends a heartbeat before new rows, too.
            self._wrote_anything = True
            parts.append(framing.heartbeat)
        for row in step.rows:
            parts.append(framing.row(row, not self._wrote_row))
            self._wrote_row = self._wrote_anything = self._holds_rows = True
        if step.waits:
            self._holds_rows = False
            if not self._wrote_anything and not framing.quiet:
                self._wrote_anything = True
                parts.append(b"\n")
        if step.seconds is None:
            self._ended = True
            pending = shown_pending(self._db, self._query, self._cursor, self._server.version)
            end = framing.end(self._db.seq(self._cursor.seq), pending)
            parts.append(end)
            if end or self._holds_rows or framing.quiet:
                parts.append(b"\n")
        return b"".join(parts)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` after every change of the database. It runs under the server's lock and must not block."""
        with self._server.lock:
            self._db.watchers[self] = wake

    def close(self) -> None:
        """End the feed, wake a waiting reader, and remove the subscription."""
        self._ended = True
        with self._server.lock:
            wake = self._db.watchers.pop(self, None)
        if wake is not None:
            wake()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text of the feed. Block while there is nothing new."""
        changed = Event()
        self.subscribe(changed.set)
        try:
            seconds: float | None = 0.0
            while seconds is not None:
                # Clear before the poll, so a change that the poll misses ends the next wait.
                changed.clear()
                text, seconds = self.poll()
                if text:
                    yield text
                if seconds:
                    changed.wait(seconds)
        finally:
            self.close()
