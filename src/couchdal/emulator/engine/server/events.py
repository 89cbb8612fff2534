"""The events of databases since ``_global_changes`` was last written.

CouchDB collects events for half a second and records each once. The emulator finds them by comparing the announced
state with the present one, so that writes take no extra time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.server.database import Database

GLOBAL_CHANGES: Final = "_global_changes"
# CouchDB's list of databases is a database itself, and every creation and deletion updates it.
_LIST = "_dbs"
# The last sequences of a database's documents and of its purges.
_Sequences: TypeAlias = tuple[int, int]


class Announced(NamedTuple):
    """The databases at one moment, by name, and the events of those that were deleted since."""

    databases: Mapping[str, _Sequences]
    events: frozenset[str] = frozenset()


def announced(databases: Mapping[str, Database]) -> Announced:
    """Return the present state."""
    return Announced({name: _sequences(database) for name, database in databases.items()})


def events_between(before: Announced, now: Announced) -> list[str]:
    """Return the ids of the events that lead from one state to another."""
    events = set(before.events)
    for name, sequences in now.databases.items():
        events |= _events(name, before.databases.get(name), sequences)
    return sorted(events)


def after_deletion(before: Announced, database: Database) -> Announced:
    """Return the announced state, with the events of a database that is about to be deleted."""
    others = dict(before.databases)
    events = _events(database.name, others.pop(database.name, None), _sequences(database))
    return Announced(others, before.events | events | {f"deleted:{database.name}", f"updated:{_LIST}"})


def _events(name: str, before: _Sequences | None, now: _Sequences) -> set[str]:
    events = set() if before is not None else {f"created:{name}", f"updated:{_LIST}"}
    if now != (before or (0, 0)):
        events.add(f"updated:{name}")
    return events if name != GLOBAL_CHANGES else events & {f"updated:{_LIST}"}


def _sequences(database: Database) -> _Sequences:
    return database.last_document_seq(), database.purge_seq
