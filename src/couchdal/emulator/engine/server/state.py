"""Snapshots, rollbacks and forks of a server and its databases.

A module apart from the server, so that programs that never go back do not import it. The caller holds the server's
lock.
"""

from __future__ import annotations

from copy import copy
from operator import attrgetter
from typing import NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.server.database import Database
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


_values_of = attrgetter(*DatabaseValues._fields)


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


def restore(server: Server, state: ServerState) -> None:
    """Bring a server back to a state, at the cost of what has changed since.

    Feeds of databases that did not exist then end.
    """
    for name, database in list(server.databases.items()):
        if name not in state.databases or state.databases[name][0] is not database:
            server.delete(name)
    server.databases = {name: database for name, (database, _) in state.databases.items()}
    for database, kept in state.databases.values():
        restore_database(database, kept)
    server.admins, server.generations = state.admins.copy(), state.generations.copy()
    server.failures = state.failures.copy()
    vars(server.ids).update(state.ids)
    vars(server.clock).update(state.clock)


def fork(server: Server) -> Server:
    """Return another server in the same state. Neither server sees what is written to the other."""
    other = Server(server.admins.copy(), copy(server.clock), copy(server.ids))
    other.databases = {name: fork_database(database) for name, database in server.databases.items()}
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
    """Bring a database back to a state, at the cost of what has changed since, and wake the feeds that follow it."""
    current = database.storage
    if not isinstance(current, OverlayStorage) or current.below is not state.storage or current.is_changed():
        changed = current.changed_ids(state.storage) if isinstance(current, OverlayStorage) else None
        database.storage = OverlayStorage(state.storage)
        _set_values(database, state)
        database.indexes.rewind(database, changed)
    elif _values_of(database) != state.values:
        _set_values(database, state)
        database.indexes.rewind(database, set())
    if database.watchers:
        database.changed()


def fork_database(database: Database) -> Database:
    """Return another database in the same state. Neither database sees what is written to the other."""
    other = copy(database)
    other.watchers, other.indexes = {}, database.indexes.fork()
    state = keep_database(database)
    other.storage = OverlayStorage(state.storage)
    other.purges = list(state.purges)
    return other


def _set_values(database: Database, state: DatabaseState) -> None:
    for name, value in state.values._asdict().items():
        setattr(database, name, value)
    database.purges = list(state.purges)
