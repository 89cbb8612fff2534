"""Feeds that wait: the changes of a database as text, as they come, until a limit, a time-out or the database's end.

It knows nothing of requests or sockets. Nothing here blocks but iteration; whoever polls decides how to wait. Source:
``fabric_view_changes:keep_sending_changes`` and ``chttpd_db:changes_callback``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple, TypeAlias

from couchdal.emulator.engine.changes.changes import ChangesQuery, read_changes, start_cursor
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.http.json_text import encode_json

MAX_WAIT_MS = 60_000
# How many documents one poll looks at: few enough that nobody else is kept waiting for the lock.
_MOST_PER_POLL = 200

Row: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True)
class Framing:
    """How one kind of feed is written: what begins it, its rows, a sign of life, and what ends it.

    ``row`` is given the row and whether it is the first, ``end`` the last sequence and what is pending. A feed that
    is read ``once`` ends after the first rows, the others when their limit is used up.
    """

    start: bytes
    row: Callable[[Row, bool], bytes]
    beat: bytes
    end: Callable[[str, int | None], bytes]
    once: bool = False


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


class _Step(NamedTuple):
    """What one poll found: the seconds to the next (None: the feed ends), rows, and whether a wait ended or begins."""

    seconds: float | None
    rows: Sequence[Row] = ()
    woken: bool = False
    waits: bool = False


class ChangesFeed:
    """One reader's feed: rounds of reading what has changed, and between them a wait for the next change.

    ``wait_ms`` is how long a wait lasts; then the feed ends or, when it ``beats``, gives a sign of life and goes on.
    The first rows are read at once, so that what is wrong with a query is raised here and not amid an answer.
    """

    def __init__(
        self,
        server: Server,
        db: Database,
        query: ChangesQuery,
        since: int,
        framing: Framing,
        wait_ms: int = MAX_WAIT_MS,
        beats: bool = False,
    ) -> None:
        self._server = server
        self._db = db
        self._query = query
        self._framing = framing
        self._wait_s = min(wait_ms, MAX_WAIT_MS) / 1000
        self._beats = beats
        self._cursor = start_cursor(db, query, since)
        # While it waits: the update sequence that it waits to see passed, and until when.
        self._seen: int | None = None
        self._deadline = 0.0
        self._started = self._wrote_row = self._wrote_anything = self._ended = False
        # Whether CouchDB would still hold rows back: the last newline of an event stream hangs on it.
        self._holds_rows = False
        self._first: _Step | None = self._read()

    def poll(self) -> tuple[bytes, float | None]:
        """Return what there is to send, and after how many seconds to poll again; None when the feed has ended."""
        if self._ended:
            return b"", None
        if self._first is not None:
            step, self._first = self._first, None
            # Whoever polls subscribed after this was read, and has not been told of what was written in between.
            return self._text(step), None if step.seconds is None else 0.0
        with self._server.lock:
            step = self._advance()
        return self._text(step), step.seconds

    def _advance(self) -> _Step:
        if self._seen is None:
            return self._read()
        seconds = self._deadline - self._server.clock.monotonic()
        news = self._db.update_seq != self._seen
        if self._db.deleted or (seconds <= 0 and not news and not self._beats):
            return _Step(None)
        if seconds > 0 and not news:
            return _Step(seconds)
        self._cursor.begin_round(self._db, self._query)
        return self._read()._replace(woken=True)

    def _read(self) -> _Step:
        """Read some rows and, where that was all there is, end or begin to wait."""
        self._seen = None
        rows, round_over = read_changes(self._db, self._query, self._cursor, _MOST_PER_POLL)
        if not round_over:
            return _Step(0.0, rows)
        if self._is_done():
            return _Step(None, rows)
        self._seen = self._db.update_seq
        self._deadline = self._server.clock.monotonic() + self._wait_s
        return _Step(0.0 if self._db.deleted else self._wait_s, rows, waits=True)

    def _is_done(self) -> bool:
        cursor = self._cursor
        if self._query.descending and cursor.pending is not None and cursor.pending <= 0:
            return True
        return cursor.limit < self._query.limit if self._framing.once else cursor.limit <= 0

    def _text(self, step: _Step) -> bytes:
        """Write one step, without the lock: its rows belong to this feed alone."""
        framing = self._framing
        parts = []
        if not self._started:
            self._started = True
            parts.append(framing.start)
        if step.woken:
            # CouchDB gives the sign of life before news, too.
            self._wrote_anything = True
            parts.append(framing.beat)
        for row in step.rows:
            parts.append(framing.row(row, not self._wrote_row))
            self._wrote_row = self._wrote_anything = self._holds_rows = True
        if step.waits:
            self._holds_rows = False
            if not self._wrote_anything:
                self._wrote_anything = True
                parts.append(b"\n")
        if step.seconds is None:
            self._ended = True
            end = framing.end(self._db.seq(self._cursor.seq), self._cursor.pending)
            parts.append(end)
            if end or self._holds_rows:
                parts.append(b"\n")
        return b"".join(parts)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called after every change of the database, under the server's lock: it must not block."""
        with self._server.lock:
            self._db.watchers[self] = wake

    def close(self) -> None:
        """End the feed, whoever waits for it, and forget the subscription."""
        self._ended = True
        with self._server.lock:
            wake = self._db.watchers.pop(self, None)
        if wake is not None:
            wake()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text as it comes, blocking while there is nothing new."""
        changed = Event()
        self.subscribe(changed.set)
        try:
            seconds: float | None = 0.0
            while seconds is not None:
                # Cleared before the poll: a change that it misses wakes the wait after it.
                changed.clear()
                text, seconds = self.poll()
                if text:
                    yield text
                if seconds:
                    changed.wait(seconds)
        finally:
            self.close()
