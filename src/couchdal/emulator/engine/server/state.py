"""Snapshots, rollbacks and forks of a server and its databases.

A module apart from the server, so that programs that never go back do not import it. The caller holds the server's
lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from operator import attrgetter
from typing import NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Action, Commit, Journal
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.base import Storage
from couchdal.emulator.storage.overlay import OverlayStorage, flattened

# How many overlays may lie upon one another before their documents are copied into one storage.
_MAX_DEPTH = 8


class DatabaseValues(NamedTuple):
    """The attributes of a database that change, beside its documents and the list of purges."""

    revs_limit: int
    purged_infos_limit: int
    security: dict[str, object]
    update_seq: int
    purge_seq: int
    doc_count: int
    doc_del_count: int
    design_version: int
    validation_loaded: bool
    deleted: bool


_NAMES = DatabaseValues._fields
_values_of = attrgetter(*_NAMES)


class DatabaseState(NamedTuple):
    """A database at one moment. Nobody writes to ``storage`` any more."""

    storage: Storage[DocumentRecord]
    values: DatabaseValues
    purges: tuple[PurgeInfo, ...]


class ServerState(NamedTuple):
    """A server at one moment."""

    databases: dict[str, tuple[Database, DatabaseState]]
    admins: dict[str, str]
    generations: dict[str, int]
    failures: dict[tuple[str, str, str], tuple[int, float]]
    ids: dict[str, object]
    clock: dict[str, object]


def keep(server: Server) -> ServerState:
    """Return the state of a server. The cost grows with the number of databases, not of documents."""
    return ServerState(
        databases={name: (database, keep_database(database)) for name, database in server.databases.items()},
        admins=server.admins.copy(),
        generations=server.generations.copy(),
        failures=server.failures.copy(),
        ids=vars(server.ids).copy(),
        clock=vars(server.clock).copy(),
    )


def restore(server: Server, state: ServerState, *actions: Action) -> None:
    """Bring a server back to a state, at the cost of what has changed since. ``actions`` are part of it.

    Feeds of databases that did not exist then end.
    """
    restored = [_restored(database, kept) for database, kept in state.databases.values()]
    parts = [part for part in restored if part is not None]
    gone = [
        database
        for name, database in server.databases.items()
        if name not in state.databases or state.databases[name][0] is not database
    ]
    databases = {name: database for name, (database, _) in state.databases.items()}
    server.journal.publish(_ServerRestoration(server, state, parts, databases=databases, gone=gone, actions=actions))


def fork(server: Server) -> Server:
    """Return another server in the same state. Neither server sees what is written to the other."""
    other = Server(server.admins.copy(), copy(server.clock), copy(server.ids))
    other.databases = {name: fork_database(database, other.journal) for name, database in server.databases.items()}
    other.generations, other.failures = server.generations.copy(), server.failures.copy()
    # A password that was right on one server is right on both.
    other.known_passwords = server.known_passwords
    return other


def keep_database(database: Database) -> DatabaseState:
    """Return the state of a database, at the same cost whatever it holds. Later writes go to a new overlay."""
    overlay = database.storage
    if not isinstance(overlay, OverlayStorage) or overlay.is_changed():
        overlay = OverlayStorage(overlay)
        if overlay.depth() > _MAX_DEPTH:
            overlay = OverlayStorage(flattened(overlay.below))
        database.storage = overlay
    return DatabaseState(overlay.below, DatabaseValues._make(_values_of(database)), tuple(database.purges))


def restore_database(database: Database, state: DatabaseState) -> None:
    """Bring a database back to a state, and wake the feeds that follow it."""
    part = _restored(database, state)
    database.journal.publish(_Restoration([part] if part is not None else []))


class _Part(NamedTuple):
    """How one database returns to a state. ``storage`` is None if it is in that state."""

    database: Database
    state: DatabaseState
    storage: Storage[DocumentRecord] | None
    # The ids of the documents that may differ; None if nobody knows.
    changed: set[str] | None


def _restored(database: Database, state: DatabaseState) -> _Part | None:
    """Return how a database returns to a state. Return None if it is in that state and no feed follows it."""
    current = database.storage
    if not isinstance(current, OverlayStorage) or current.below is not state.storage or current.is_changed():
        changed = current.changed_ids(state.storage) if isinstance(current, OverlayStorage) else None
        return _Part(database, state, OverlayStorage(state.storage), changed)
    if _values_of(database) != state.values:
        return _Part(database, state, current, set())
    return _Part(database, state, None, set()) if database.watchers else None


class _Restoration(Commit):
    """Brings databases back to a state."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts

    def apply(self) -> None:
        for database, state, storage, changed in self._parts:
            if storage is not None:
                _set(database, state, storage)
                database.indexes.rewind(database, changed)

    def redo(self) -> None:
        for database, state, storage, _ in self._parts:
            if storage is not None:
                _set(database, state, storage)
                database.indexes.clear()

    def wake(self) -> None:
        for database, _, _, _ in self._parts:
            if database.watchers:
                database.changed()


class _ServerRestoration(_Restoration):
    """Brings a server back to a state."""

    __slots__ = ("_actions", "_databases", "_gone", "_server", "_state")

    def __init__(
        self,
        server: Server,
        state: ServerState,
        parts: Sequence[_Part],
        *,
        databases: dict[str, Database],
        gone: Sequence[Database],
        actions: Sequence[Action],
    ) -> None:
        super().__init__(parts)
        self._server = server
        self._state = state
        self._databases = databases
        self._gone = gone
        self._actions = actions

    def apply(self) -> None:
        super().apply()
        self._set()

    def redo(self) -> None:
        super().redo()
        self._set()

    def _set(self) -> None:
        server, state = self._server, self._state
        for database in self._gone:
            database.deleted = True
        server.databases = self._databases
        server.admins, server.generations = state.admins.copy(), state.generations.copy()
        server.failures = state.failures.copy()
        vars(server.ids).update(state.ids)
        vars(server.clock).update(state.clock)
        for action in self._actions:
            action()

    def wake(self) -> None:
        super().wake()
        for database in self._gone:
            database.changed()


def _set(database: Database, state: DatabaseState, storage: Storage[DocumentRecord]) -> None:
    database.storage = storage
    database.purges = list(state.purges)
    for name, value in zip(_NAMES, state.values, strict=True):
        setattr(database, name, value)


def fork_database(database: Database, journal: Journal | None = None) -> Database:
    """Return another database in the same state. Neither database sees what is written to the other."""
    other = copy(database)
    other.journal = journal or Journal()
    other.watchers, other.indexes = {}, database.indexes.fork()
    state = keep_database(database)
    other.storage = OverlayStorage(state.storage)
    other.purges = list(state.purges)
    return other
