"""Carry the changes since one state of a server over to another state of it.

Fixtures need this when a wider fixture ends before a narrower one: what the narrower one wrote stays. If both states
changed the same document, the later one is taken whole.
"""

from __future__ import annotations

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.state import DatabaseState, ServerState, keep, restore, restore_database
from couchdal.emulator.storage.overlay import OverlayStorage

_SETTINGS = ("security", "revs_limit", "purged_infos_limit")


def carry_over(server: Server, before: ServerState, onto: ServerState) -> ServerState:
    """Return the state ``onto`` with the changes since ``before``. The server itself stays as it is."""
    now = keep(server)
    restore(server, onto)
    for name in before.databases:
        if name not in now.databases and name in server.databases:
            server.delete(name)
    for name, (database, state) in now.databases.items():
        known = before.databases.get(name)
        if known is None or known[0] is not database:
            server.databases[name] = database
            restore_database(database, state)
            continue
        if name not in server.databases:
            # Only the changes are carried over, not what the database held before.
            server.create(name, shards=database.shards, replicas=database.replicas, partitioned=database.partitioned)
        _carry_documents(server.databases[name], known[1], state)
    server.admins.update({name: now.admins[name] for name in now.admins if name not in before.admins})
    server.generations.update(now.generations)
    carried = keep(server)
    restore(server, now)
    return carried


def _carry_documents(database: Database, before: DatabaseState, now: DatabaseState) -> None:
    above = OverlayStorage(now.storage)
    for doc_id in sorted(above.changed_ids(before.storage) or ()):
        old, new = database.storage.get(doc_id), now.storage.get(doc_id)
        if new is not None:
            database.put(old, DocumentRecord(doc_id, new.tree, database.update_seq + 1))
        elif old is not None:
            database.forget(old)
    known, present = dict(before.storage.locals()), dict(now.storage.locals())
    for doc_id in {**known, **present}:
        if known.get(doc_id) != present.get(doc_id):
            database.storage.write_local(doc_id, present.get(doc_id))
    for name in _SETTINGS:
        value = getattr(now.values, name)
        if value != getattr(before.values, name):
            setattr(database, name, value)
