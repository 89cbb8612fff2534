"""Snapshots, rollbacks and forks of a server and its databases.

It is separate from the module of the server, so that programs without snapshots do not import it. The caller holds the
server's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Commit, Journal, Keep
from couchdal.emulator.engine.server.keeper import Keeper
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.base import Storage
from couchdal.emulator.storage.overlay import OverlayStorage, flattened

if TYPE_CHECKING:
    from couchdal.emulator.engine.config.configuration import Configuration
    from couchdal.emulator.engine.config.settings import Settings
    from couchdal.emulator.engine.server.events import Announced
    from couchdal.emulator.engine.server.replications import Replications
    from couchdal.emulator.engine.server.sharding import Resharding

# The most overlays above one storage. Beyond this number, their documents are copied into one storage.
_MAX_DEPTH = 8


class DatabaseValues(NamedTuple):
    """The attributes of a database that change, except its documents and the list of purges."""

    revs_limit: int
    purged_infos_limit: int
    security: dict[str, object]
    update_seq: int
    purge_seq: int
    doc_count: int
    doc_del_count: int
    design_version: int
    validation_loaded: bool
    compacted_seq: int
    shards: int
    ranges: tuple[tuple[int, int], ...] | None
    deleted: bool


_values_of = attrgetter(*DatabaseValues._fields)


class DatabaseState(NamedTuple):
    """A database at one moment. ``storage`` is not written to any more."""

    storage: Storage[DocumentRecord]
    values: DatabaseValues
    purges: tuple[PurgeInfo, ...]


class ServerState(NamedTuple):
    """A server at one moment."""

    databases: dict[str, tuple[Database, DatabaseState]]
    admins: dict[str, str]
    config: tuple[Configuration | None, Settings]
    generation: int
    failures: dict[tuple[str, str, str], tuple[int, float]]
    provided: set[object]
    resharding: Resharding | None
    announced: Announced | None
    ids: tuple[int, int, str]
    advanced_s: float
    replications: object
    #: The keeper of the server's data, and the number of its transactions at that moment.
    keeper: tuple[Keeper, int] | None


def keep(server: Server) -> ServerState:
    """Return the state of a server. The cost grows with the number of databases, not of documents.

    Later writes stay in memory until the server returns to a state that is on the disk.
    """
    keeper, server.journal.keeper = server.journal.keeper, None
    return ServerState(
        databases={name: (database, keep_database(database)) for name, database in server.databases.items()},
        admins=server.admins.copy(),
        config=(server.config, server.settings),
        generation=server.generation,
        failures=server.failures.copy(),
        provided=server.provided.copy(),
        resharding=server.resharding,
        announced=server.announced,
        ids=server.ids.position,
        advanced_s=server.clock.advanced_s,
        replications=None if server.replications is None else server.replications.state,
        keeper=None if keeper is None else (keeper, keeper.applied),
    )


def restore(server: Server, state: ServerState) -> None:
    """Bring a server back to a state. The cost grows with the changes since.

    Feeds of databases that did not exist then end.
    """
    databases: dict[str, Database] = {}
    parts: list[_Part] = []
    for name, (database, kept) in state.databases.items():
        databases[name] = database
        part = _restored(database, kept)
        if part is not None:
            parts.append(part)
    gone: list[Database] = []
    if server.databases != databases:
        gone = [database for name, database in server.databases.items() if databases.get(name) is not database]
    restoration = _ServerRestoration()
    restoration.parts = parts
    restoration.rest = server, state, databases, gone
    server.journal.publish(restoration)


def fork(server: Server) -> Server:
    """Return another server in the same state. Neither server sees what is written to the other."""
    other = Server(server.admins.copy(), copy(server.clock), copy(server.ids), server.javascript)
    other.tell = server.tell
    other.config, other.settings = server.config, server.settings
    other.databases = {name: fork_database(database, other.journal) for name, database in server.databases.items()}
    other.generation, other.failures = server.generation, server.failures.copy()
    if server.replications is not None:
        other.replications = _resumed(other, server.replications.state)
    other.provided, other.party_admin = server.provided.copy(), server.party_admin
    other.announced = server.announced
    other.resharding = _of_fork(server.resharding, other)
    # A password that is correct on one server is correct on both.
    other.known_passwords = server.known_passwords
    return other


def _of_fork(resharding: Resharding | None, server: Server) -> Resharding | None:
    """Return the jobs that split shards, for the databases of another server."""
    if resharding is None:
        return None
    jobs = {
        key: job._replace(database=server.databases[job.database.name])
        for key, job in resharding.jobs.items()
        if not job.database.deleted
    }
    return resharding._replace(jobs=jobs)


def _replications(server: Server, state: object) -> Replications | None:
    """Return the replications of a state. Those that ran until now end without a checkpoint."""
    if server.replications is None:
        return None
    server.replications.discard()
    return None if state is None else _resumed(server, state)


def _resumed(server: Server, state: object) -> Replications:
    from couchdal.emulator.engine.replication.scheduler import resumed  # few programs have replications

    return resumed(server, state)


def keep_database(database: Database) -> DatabaseState:
    """Return the state of a database, at a cost that does not depend on its size. Later writes go to a new overlay."""
    overlay = database.storage
    if type(overlay) is not OverlayStorage or overlay.is_changed():
        overlay = OverlayStorage(overlay.steady())
        if overlay.depth() > _MAX_DEPTH:
            overlay = OverlayStorage(flattened(overlay.below))
        database.storage = overlay
    return DatabaseState(overlay.below, DatabaseValues._make(_values_of(database)), tuple(database.purges))


def restore_database(database: Database, state: DatabaseState) -> None:
    """Bring a database back to a state, and wake the feeds that follow it."""
    part = _restored(database, state)
    restoration = _Restoration()
    restoration.parts = [part] if part is not None else []
    database.journal.publish(restoration)


# How one database returns to a state: the database, the state, the storage (None if only feeds are woken), and the ids
# of the documents that may differ (None if they are not known).
_Part: TypeAlias = "tuple[Database, DatabaseState, Storage[DocumentRecord] | None, set[str] | None]"


def _restored(database: Database, state: DatabaseState) -> _Part | None:
    """Return how a database returns to a state. Return None if it is in that state and no feed follows it."""
    current = database.storage
    overlay = current if type(current) is OverlayStorage else None
    if overlay is None or overlay.below is not state.storage or overlay.is_changed():
        changed = None if overlay is None else overlay.changed_ids(state.storage)
        return database, state, OverlayStorage(state.storage), changed
    if _values_of(database) != state.values:
        return database, state, current, set()
    return (database, state, None, set()) if database.watchers else None


class _Restoration(Commit):
    """Brings databases back to a state."""

    __slots__ = ("parts",)

    parts: Sequence[_Part]

    def apply(self) -> None:
        for database, state, storage, changed in self.parts:
            if storage is not None:
                _set(database, state, storage)
                database.indexes.rewind(database, changed)

    def redo(self) -> None:
        for database, state, storage, _ in self.parts:
            if storage is not None:
                _set(database, state, storage)
                database.indexes.clear()

    def wake(self) -> None:
        for database, _, _, _ in self.parts:
            if database.watchers:
                database.changed()


class _ServerRestoration(_Restoration):
    """Brings a server back to a state."""

    __slots__ = ("rest",)

    #: The server, its state, its databases in that state, and the databases that it did not have then.
    rest: tuple[Server, ServerState, dict[str, Database], Sequence[Database]]

    def apply(self) -> None:
        super().apply()
        self._set()

    def redo(self) -> None:
        super().redo()
        self._set()

    def _set(self) -> None:
        server, state, databases, gone = self.rest
        for database in gone:
            database.deleted = True
        server.databases = databases
        server.config, server.settings = state.config
        server.admins, server.generation = state.admins.copy(), state.generation
        server.failures, server.provided = state.failures.copy(), state.provided.copy()
        server.resharding, server.announced = state.resharding, state.announced
        server.ids.position = state.ids
        server.clock.advanced_s = state.advanced_s
        server.replications = _replications(server, state.replications)
        server.journal.keeper = None
        keeper, applied = state.keeper or (None, 0)
        if keeper is not None and keeper.applied == applied:
            # The state is on the disk, so the next writes go there too.
            for database, kept in state.databases.values():
                database.storage = kept.storage.resumed() or database.storage
            server.journal.keeper = keeper

    def wake(self) -> None:
        super().wake()
        for database in self.rest[3]:
            database.changed()


def _set(database: Database, state: DatabaseState, storage: Storage[DocumentRecord]) -> None:
    database.storage = storage
    database.purges = list(state.purges)
    (
        database.revs_limit,
        database.purged_infos_limit,
        database.security,
        database.update_seq,
        database.purge_seq,
        database.doc_count,
        database.doc_del_count,
        database.design_version,
        database.validation_loaded,
        database.compacted_seq,
        database.shards,
        database.ranges,
        database.deleted,
    ) = state.values


def fork_database(database: Database, journal: Journal | None = None) -> Database:
    """Return another database in the same state. Neither database sees what is written to the other."""
    other = copy(database)
    other.journal = journal or Journal()
    other.watchers, other.indexes = {}, database.indexes.fork()
    steady = database.storage.steady()
    if steady is database.storage:
        # The database itself must not write to it any more.
        steady = keep_database(database).storage
    other.storage = OverlayStorage(steady)
    other.purges = list(database.purges)
    return other


def adopt_database(database: Database, journal: Journal) -> tuple[Database, Keep]:
    """Return a copy of another server's database for this server, and the function that writes it to the disk."""
    adopted = fork_database(database, journal)
    keep = partial(adopted.keep_whole, adopted.storage)
    if journal.keeper is not None:
        adopted.storage = journal.keeper.new_storage()
    return adopted, keep
