"""Snapshots: save and restore the state of a server, and apply the changes of one state to another."""

from __future__ import annotations

from typing import NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Commit
from couchdal.emulator.engine.server.keeper import Write
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.state import DatabaseState, ServerState, keep, restore, restore_database
from couchdal.emulator.storage.overlay import OverlayStorage

_SETTINGS = ("security", "revs_limit", "purged_infos_limit")


class Snapshot:
    """The state of a memory server at one moment. It can be restored any number of times.

    The time to take and restore it depends on the changes since, not on the size of the databases.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        with server.lock:
            server.journal.settle()
            self._state = keep(server)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self._state.databases)} databases>"

    def with_changes_since(self, before: Snapshot) -> Snapshot:
        """Return a snapshot of this state plus the changes since another one. The server does not change."""
        with self._server.lock:
            self._server.journal.settle()
            carried = Snapshot.__new__(Snapshot)
            carried._server = self._server
            carried._state = _carry_over(self._server, before._state, self._state)
        return carried

    def restore(self) -> None:
        """Return the server to this state, whichever handle or thread changed it."""
        with self._server.lock:
            self._server.journal.settle()
            restore(self._server, self._state)


def _carry_over(server: Server, before: ServerState, onto: ServerState) -> ServerState:
    """Return the state ``onto`` plus the changes since ``before``. The server does not change.

    ``onto`` is a state in which these changes are missing: documents, databases, settings. If both states changed the
    same document, the later version replaces the whole document.
    """
    now = keep(server)
    # If this is interrupted, the next request restores the server.
    back = _WayBack(server, now)
    server.journal.pending = back
    # Without a keeper, these steps do not go to the disk.
    restore(server, onto._replace(keeper=None))
    for name in before.databases:
        if name not in now.databases and name in server.databases:
            server.delete(name)
    for name, (database, state) in now.databases.items():
        known = before.databases.get(name)
        if known is None or known[0] is not database:
            if name in server.databases:
                server.delete(name)
            server.databases[name] = database
            restore_database(database, state)
            continue
        changes = _changes_between(known[1], state)
        if not any(changes):
            continue
        if name not in server.databases:
            # Only the changes are carried over, not what the database held before.
            server.create(name, shards=database.shards, replicas=database.replicas, partitioned=database.partitioned)
        _carry_changes(server.databases[name], changes, state)
    server.admins.update({name: now.admins[name] for name in now.admins if name not in before.admins})
    if now.config[0] is not before.config[0]:
        from couchdal.emulator.engine.server.configured import carry_over  # most fixtures configure nothing

        carry_over(server, before.config[0], now.config[0])
    server.generation = max(server.generation, now.generation)
    server.provided |= now.provided - before.provided
    # The new state is not on the disk, even if ``onto`` is.
    carried = keep(server)
    restore(server, now)
    server.journal.pending = back.outer
    return carried


class _WayBack(Commit):
    """Brings a server back to its state before ``_carry_over``."""

    __slots__ = ("_server", "_state")

    def __init__(self, server: Server, state: ServerState) -> None:
        self.outer = server.journal.pending
        self._server = server
        self._state = state

    def apply(self) -> None:
        """Do nothing: only an interruption needs this commit."""

    def redo(self) -> None:
        restore(self._server, self._state)

    def wake(self) -> None:
        """Do nothing: ``restore`` wakes the feeds."""


class _Changes(NamedTuple):
    """The differences between two states of a database: documents, local documents and settings."""

    documents: list[str]
    locals: list[str]
    settings: list[str]


def _changes_between(before: DatabaseState, now: DatabaseState) -> _Changes:
    known, present = dict(before.storage.locals()), dict(now.storage.locals())
    return _Changes(
        sorted(OverlayStorage(now.storage).changed_ids(before.storage) or ()),
        [doc_id for doc_id in {**known, **present} if known.get(doc_id) != present.get(doc_id)],
        [name for name in _SETTINGS if getattr(now.values, name) != getattr(before.values, name)],
    )


def _carry_changes(database: Database, changes: _Changes, now: DatabaseState) -> None:
    writes: list[Write] = []
    seq = database.update_seq
    for doc_id in changes.documents:
        old, new = database.storage.get(doc_id), now.storage.get(doc_id)
        if new is not None:
            seq += 1
            writes.append((old, DocumentRecord(doc_id, new.tree, seq)))
        elif old is not None:
            writes.append((old, None))
    present = dict(now.storage.locals())
    database.commit(writes, seq, [(doc_id, present.get(doc_id)) for doc_id in changes.locals])
    for name in changes.settings:
        setattr(database, name, getattr(now.values, name))
