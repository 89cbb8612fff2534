"""What a server and its databases were at some moment, and the ways back: snapshots, returning to them, forks.

Apart from the server and the database, so that whoever never goes back does not import it. Everything here is called
under the server's lock.
"""

from __future__ import annotations

from copy import copy
from operator import attrgetter
from typing import NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.server.database import Database, PurgeInfo
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.base import Storage
from couchdal.emulator.storage.overlay import OverlayStorage, flattened

# How many states may lie upon one another before their documents are put together, at the cost of all of them.
_MAX_DEPTH = 8
#: What changes about a database beside its documents and the list of purges.
CHANGING = (
    "revs_limit", "purged_infos_limit", "security", "update_seq", "purge_seq", "doc_count", "doc_del_count",
    "validation_loaded", "deleted",
)  # fmt: skip
_changing = attrgetter(*CHANGING)


class DatabaseState(NamedTuple):
    """What a database was at some moment: its documents, which nobody writes to any more, and what else changes."""

    storage: Storage[DocumentRecord]
    # The values of ``CHANGING``.
    members: tuple[object, ...]
    purges: tuple[PurgeInfo, ...]


class ServerState(NamedTuple):
    """What a server was at some moment."""

    databases: dict[str, tuple[Database, DatabaseState]]
    admins: dict[str, str]
    generations: dict[str, int]
    failures: dict[tuple[str, str, str], tuple[int, float]]
    ids: dict[str, object]
    clock: dict[str, object]


def keep(server: Server) -> ServerState:
    """Return the state as it is now, at a cost that grows with the number of databases, not of documents."""
    return ServerState(
        {name: (database, keep_database(database)) for name, database in server.databases.items()},
        server.admins.copy(),
        server.generations.copy(),
        server.failures.copy(),
        vars(server.ids).copy(),
        vars(server.clock).copy(),
    )


def restore(server: Server, state: ServerState) -> None:
    """Return to a state, at the cost of what has changed since; feeds of databases that were not there end."""
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
    """Return another server of the same state; what is written to either one stays there."""
    other = Server(server.admins.copy(), copy(server.clock), copy(server.ids))
    other.databases = {name: fork_database(database) for name, database in server.databases.items()}
    other.generations, other.failures = server.generations.copy(), server.failures.copy()
    # What was found out about passwords is true everywhere.
    other.known_passwords = server.known_passwords
    return other


def keep_database(database: Database) -> DatabaseState:
    """Return the state as it is now. It costs the same whatever the database holds; what is written later does."""
    overlay = database.storage
    if not isinstance(overlay, OverlayStorage) or overlay.is_changed():
        overlay = OverlayStorage(overlay)
        if overlay.depth() > _MAX_DEPTH:
            overlay = OverlayStorage(flattened(overlay.below))
        database.storage = overlay
    return DatabaseState(overlay.below, _changing(database), tuple(database.purges))


def restore_database(database: Database, state: DatabaseState) -> None:
    """Return to a state, at the cost of what has changed since, and wake who follows the feed."""
    current = database.storage
    if not isinstance(current, OverlayStorage) or current.below is not state.storage or current.is_changed():
        changed = current.changed_ids(state.storage) if isinstance(current, OverlayStorage) else None
        database.storage = OverlayStorage(state.storage)
        _take(database, state)
        _rewind_indexes(database, changed)
    elif _changing(database) != state.members:
        _take(database, state)
        _rewind_indexes(database, set())
    if database.watchers:
        database.changed()


def _rewind_indexes(database: Database, changed: set[str] | None) -> None:
    """Have the indexes follow a database back, from whose documents those may differ; None where nobody knows which."""
    if changed is None or any(doc_id.startswith("_design/") for doc_id in changed):
        database.forget_definitions()
    database.indexes = {
        name: (definition, index)
        for name, (definition, index) in database.indexes.items()
        if changed is not None and index.rewind(database, changed)
    }
    database.view_indexes = {
        signature: index
        for signature, index in database.view_indexes.items()
        if changed is not None and index.rewind(database, changed)
    }


def fork_database(database: Database) -> Database:
    """Return another database of the same state; what is written to either one stays there."""
    indexes = {name: (definition, index.fork()) for name, (definition, index) in database.indexes.items()}
    views = {signature: index.fork() for signature, index in database.view_indexes.items()}
    other = copy(database)
    other.watchers, other.indexes, other.view_indexes, other.query_servers = {}, indexes, views, {}
    state = keep_database(database)
    other.storage = OverlayStorage(state.storage)
    _take(other, state)
    return other


def _take(database: Database, state: DatabaseState) -> None:
    for name, value in zip(CHANGING, state.members, strict=True):
        setattr(database, name, value)
    database.purges = list(state.purges)
