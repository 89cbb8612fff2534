"""The documents of ``_global_changes``, and the feed that follows them. Source: ``global_changes_server``.

Each document has an event as its id, such as ``updated:tasks``, and gets a new revision each time that it happens.
CouchDB writes these documents within half a second. The emulator writes them when a request reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from couchdal.emulator.engine.changes.changes import Cursor
from couchdal.emulator.engine.changes.changes_feed import FRAMINGS, ChangesFeed, Framing, Row, Step
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_update import update_documents
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.events import GLOBAL_CHANGES, announced, events_between
from couchdal.emulator.engine.server.journal import Changes
from couchdal.emulator.engine.server.server import Server
from couchdal.http.json_text import encode_json


def record_events(server: Server) -> None:
    """Write the events of databases since the last call. The caller holds the lock."""
    db = server.databases.get(GLOBAL_CHANGES)
    if db is None or db.writer is not None or server.announced is None:
        return
    now = announced(server.databases)
    documents = [_next_edit(db, event) for event in events_between(server.announced, now)]
    if documents:
        # An interruption between the two writes records an event twice, which CouchDB may do as well.
        update_documents(db, documents)
        server.journal.publish(Changes([(server, "announced", now)]))


def _next_edit(db: Database, event: str) -> Document:
    record = db.storage.get(event)
    if record is None:
        return Document(event, {})
    position, rev = record.winner.revision
    return Document(event, {}, position=position, ids=(rev,))


class EventsFeed(ChangesFeed):
    """The feed of ``_global_changes``. It wakes when any database changes, and records the event before it reads."""

    def poll(self) -> tuple[bytes, float | None]:
        with self._server.exclusively():
            record_events(self._server)
        return super().poll()

    def subscribe(self, wake: Callable[[], None]) -> None:
        server = self._server
        with server.lock:
            super().subscribe(wake)
            server.watchers[self] = self._watch_all
            self._wake = wake
            self._watch_all()

    def _watch_all(self) -> None:
        """Watch the databases that were created since, and wake the reader."""
        for database in self._server.databases.values():
            database.watchers[self] = self._wake
        self._wake()

    def close(self) -> None:
        server = self._server
        with server.lock:
            server.watchers.pop(self, None)
            for database in server.databases.values():
                if database is not self._db:
                    database.watchers.pop(self, None)
        super().close()


class UpdatesFeed(EventsFeed):
    """The feed of ``_db_updates``. Its rows name the event and the database, except in an event stream."""

    def _read(self, db: Database, cursor: Cursor) -> Step:
        step = super()._read(db, cursor)
        return step if self._framing is UPDATES["eventsource"] else step._replace(rows=described(step.rows))


def described(rows: Sequence[Row]) -> list[Row]:
    """Return rows of ``_db_updates`` for rows of the changes feed. Documents that are not events get no row."""
    parts = [(*str(row["id"]).partition(":"), row["seq"]) for row in rows]
    return [{"db_name": name, "type": kind, "seq": seq} for kind, colon, name, seq in parts if colon]


def _longpoll_end(last_seq: str, pending: int | None) -> bytes:
    return b'\n],\n"last_seq":%b}\n' % encode_json(last_seq)


def _last_line(last_seq: str, pending: int | None) -> bytes:
    return encode_json({"last_seq": last_seq}) + b"\n"


#: The framings of the changes feed, but without the number of pending changes.
UPDATES: Final[Mapping[str, Framing]] = {
    "longpoll": replace(FRAMINGS["longpoll"], end=_longpoll_end, quiet=True),
    "continuous": replace(FRAMINGS["continuous"], end=_last_line, quiet=True),
    "eventsource": replace(FRAMINGS["eventsource"], quiet=True),
}
