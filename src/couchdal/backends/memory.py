"""``MemoryBackend``: the emulator as a backend, with its documents in this process's memory.

It imports neither an HTTP client nor an event loop. It answers one request at a time, under the server's lock.
"""

from __future__ import annotations

import os
from functools import partial
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING

from couchdal.api.versions import Version, parse_version
from couchdal.backends.base import AsyncBackend, Emulator
from couchdal.config import couchdb_version
from couchdal.emulator.dispatch import dispatch
from couchdal.emulator.engine.server.clock import Clock
from couchdal.emulator.engine.server.journal import Assignment, Changes
from couchdal.emulator.engine.server.server import Server, ServerClock
from couchdal.emulator.http.authentication import check_large
from couchdal.emulator.http.call import Rewritten, WithoutLock
from couchdal.errors import CouchError
from couchdal.http.answers import error_response, without_body
from couchdal.http.messages import Request, Response
from couchdal.pace import here

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from couchdal.emulator.engine.javascript.javascript import Message
    from couchdal.emulator.engine.server.database import Database
    from couchdal.emulator.engine.server.snapshot import Snapshot


class MemoryBackend(Emulator):
    """A private emulated CouchDB. With ``admin=(name, password)`` it requires credentials, as CouchDB 3 does.

    ``version`` is the version of CouchDB that it answers as: ``"3.3"``, ``"3.4"`` or ``"3.5"``. Raise ``ValueError``
    for another one.
    """

    name: str = "the memory backend"

    def __init__(
        self,
        admin: tuple[str, str] | None = None,
        *,
        server: Server | None = None,
        database: str | None = None,
        version: str | None = None,
    ) -> None:
        self.database = database
        self.default_database: str = database or "default"
        self.server: Server = server or Server(clock=Clock(monotonic=monotonic))
        if version:
            self.server.become(_version(version))
        if self.server.tell is None:
            self.server.tell_messages(_log_message)
        if admin is not None:
            self.server.admins[admin[0]] = admin[1]

    def __repr__(self) -> str:
        return f"<MemoryBackend, {len(self.server.databases)} databases>"

    @property
    def server_key(self) -> object:
        return self.server

    def send(self, request: Request) -> Response:
        server = self.server
        if server.replications is not None and here.pace is None:
            self._replicate()
        try:
            journal = server.journal
            with server.lock:
                if journal.busy or journal.pending is not None:
                    journal.settle()
                try:
                    journal.busy = True
                    response = dispatch(server, request)
                finally:
                    journal.busy = False
        except CouchError as error:
            response = error_response(error, request, server.settings)
        except Rewritten as other:
            response = other.answer(self.send)
        except WithoutLock as rest:
            response = self._finish(rest, request)
        if server.settings.changes_answers:
            from couchdal.emulator.http.answering import configured_answer  # few programs configure answers

            response = configured_answer(server.settings, request, response)
        server.journal.counts[request.method, response.status] += 1
        return without_body(response) if request.method == "HEAD" else response

    def _finish(self, rest: WithoutLock, request: Request) -> Response:
        from couchdal.backends.peers import LocalAndRemote  # few requests send requests

        try:
            # In process, a repeated request gets the same answer, so do not wait before it.
            return rest.answer(LocalAndRemote(self.send, self.server, pause=lambda _: None))
        except CouchError as error:
            return error_response(error, request)

    def _await_others(self) -> None:
        """Wait until other threads, such as those of a web server, have ended their work on replications."""
        from couchdal.emulator.engine.replication.scheduler import known_scheduler  # few programs have replications

        scheduler = known_scheduler(self.server)
        while scheduler is not None and scheduler.is_busy and scheduler is self.server.replications:
            sleep(_LOOKS_S)
            self._replicate()

    def _replicate(self, *, at_once: bool = False) -> None:
        """Do all work that is due for the replications of the server. In process, no background task does it."""
        from couchdal.backends.peers import LocalAndRemote  # few programs have replications
        from couchdal.emulator.engine.replication.scheduler import known_scheduler

        server, scheduler = self.server, known_scheduler(self.server)
        peers = LocalAndRemote(self.send, server, pause=lambda _: None)
        while scheduler is not None and scheduler is server.replications and not scheduler.is_advancing:
            with server.lock:
                if server.journal.busy:
                    return
                server.journal.settle()
                due = scheduler.due(peers, at_once=at_once)
            if not due:
                return
            at_once = False
            scheduler.advance_all(due, peers)

    @property
    def provided(self) -> set[object]:
        return self.server.provided

    def close(self) -> None:
        if self.server.javascript is not None:
            self.server.javascript.close()

    def check_large(self, request: Request) -> None:
        with self.server.lock:
            check_large(self.server, request)

    def provide(self, database: str, method: str, path: str) -> None:
        # Create it only once: a database that was deleted since stays missing, as on a real server.
        if database in self.server.provided:
            return
        explicit = not path and method in ("PUT", "DELETE")
        with self.server.lock:
            self.server.journal.settle()
            if not explicit and database not in self.server.databases:
                self.server.create(database)
            self.server.provided.add(database)

    @property
    def clock(self) -> ServerClock:
        return ServerClock(self.server)

    @property
    def collation(self) -> str:
        from couchdal.emulator.engine.collation.collation import collator_name  # most programs never ask

        return collator_name()

    def seed_ids(self, seed: int) -> None:
        with self.server.lock:
            self.server.journal.settle()
            self.server.ids.begin(seed)

    def snapshot(self) -> Snapshot:
        from couchdal.emulator.engine.server.snapshot import Snapshot  # only programs that go back need it

        return Snapshot(self.server)

    def fork(self) -> MemoryBackend:
        from couchdal.emulator.engine.server.state import fork  # only programs that go back need it

        with self.server.lock:
            self.server.journal.settle()
            other = MemoryBackend(server=fork(self.server), database=self.database)
            other.default_database = self.default_database
        return other

    def adopt(self, database: Database) -> None:
        """Copy another server's database into this one. Later changes to one do not affect the other."""
        from couchdal.emulator.engine.server.state import adopt_database  # only programs that go back need it

        with self.server.lock:
            self.server.journal.settle()
            server, name = self.server, database.name
            (adopted, keep), old = adopt_database(database, server.journal), server.databases.get(name)
            actions = (partial(server.databases.__setitem__, name, adopted), partial(server.provided.add, name))
            deleted: list[Assignment] = [(old, "deleted", True)] if old is not None else []
            woken = [old.changed] if old is not None else []
            server.journal.publish(Changes(deleted, actions, woken=woken, keep=keep))

    @property
    def config(self) -> MutableMapping[str, str]:
        from couchdal.emulator.engine.server.configured import ConfiguredValues  # few programs configure it

        return ConfiguredValues(self.server)

    def check(self) -> list[str]:
        from couchdal.emulator.engine.server.check import check_server  # only programs that check need it

        with self.server.lock:
            self.server.journal.settle()
            return check_server(self.server)

    def settle(self) -> None:
        from couchdal.emulator.engine.server.background import work_of  # only programs that wait for it need it

        work = work_of(self.server)
        due = True
        while due:
            # Release the lock between two pieces of work, so that other requests are answered meanwhile, as on CouchDB.
            with self.server.lock:
                self.server.journal.settle()
                due = next(work, _ENDED) is not _ENDED
        if self.server.replications is not None:
            self._replicate(at_once=True)
            self._await_others()

    def for_event_loop(self) -> AsyncBackend:
        from couchdal.backends.event_loop import InlineBackend  # imports asyncio, which blocking callers never need

        return InlineBackend(self)

    def for_server(self, request_timeout_s: float | None = None) -> AsyncBackend:
        from couchdal.backends.served import ServedBackend  # only servers need threads

        return ServedBackend(self, self.server, request_timeout_s)

    def reset(self) -> None:
        with self.server.lock:
            self.server.journal.settle()
            if self.server.config is None:
                self.server.empty(self.server.ids.begin)
                return
            from couchdal.emulator.engine.server.configured import empty  # few servers are configured

            empty(self.server, self.server.ids.begin)


def _version(text: str) -> Version:
    try:
        return parse_version(text)
    except ValueError as error:
        raise ValueError(f"the version of CouchDB is {text!r}; it {error}") from None


_ENDED = object()
_LOOKS_S = 0.001
_default: MemoryBackend | None = None
_default_lock = Lock()


def _after_fork() -> None:
    """Replace the lock: the thread that held it may not exist in the forked process."""
    global _default_lock
    _default_lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def default_backend() -> MemoryBackend:
    """Return the memory server that all handles of this process share, as if it were one CouchDB."""
    global _default
    with _default_lock:
        if _default is None:
            _default = MemoryBackend(version=couchdb_version())
        return _default


def set_default_backend(backend: MemoryBackend) -> None:
    """Let all handles of this process share another server."""
    global _default
    _default = backend


def existing_default_backend() -> MemoryBackend | None:
    """Return the shared memory server, or ``None`` if nothing has used it yet."""
    return _default


def _log_message(database: str, design: str, message: Message) -> None:
    """Log what a function of a design document logged or threw, with the levels of CouchDB's own log."""
    import logging  # most programs have no functions that log

    place = f"{database}/{design}/{message.function}"
    if message.doc_id is not None:
        place += f", document {message.doc_id!r}"
    if message.line is not None:
        place += f", line {message.line}"
    level = logging.WARNING if message.is_thrown else logging.INFO
    extra = {"database": database, "design": design, **message._asdict()}
    logging.getLogger("couchdal.javascript").log(level, "%s: %s", place, message.text, extra=extra)
