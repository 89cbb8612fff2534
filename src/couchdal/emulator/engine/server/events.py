"""What happened to databases since ``_global_changes`` recorded it last.

CouchDB collects events for half a second and records each once. Here they are found by comparing what was announced
with the present state, so that writes cost nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.server.database import Database

GLOBAL_CHANGES: Final = "_global_changes"
# CouchDB's list of databases is a database itself, and every creation and deletion updates it.
_LIST = "_dbs"


class Known(NamedTuple):
    """How often a database was created and deleted, and the last sequences of its documents and of its purges.

    ``updated`` is True if it was updated since, and then deleted.
    """

    created: int
    deleted: int
    documents: tuple[int, int] = (0, 0)
    updated: bool = False


#: By the names of databases, those included that were deleted.
Announced: TypeAlias = Mapping[str, Known]
_NEVER = Known(0, 0)


def announced(databases: Mapping[str, Database], generations: Mapping[str, int]) -> Announced:
    """Return the present state."""
    return {name: _known(databases.get(name), count) for name, count in generations.items()}


def events_between(before: Announced, now: Announced) -> Iterator[str]:
    """Yield the ids of the events that lead from one state to another."""
    is_listed = False
    for name, known in now.items():
        old = before.get(name, _NEVER)
        created, deleted = known.created > old.created, known.deleted > old.deleted
        is_listed = is_listed or created or deleted
        if name == GLOBAL_CHANGES:
            continue
        if created:
            yield f"created:{name}"
        if deleted:
            yield f"deleted:{name}"
        if old.updated or _is_updated(old, known):
            yield f"updated:{name}"
    if is_listed:
        yield f"updated:{_LIST}"


def before_deletion(before: Announced, database: Database, created: int) -> Announced:
    """Return what is announced, with a note if a database that is about to be deleted was updated since."""
    old = before.get(database.name, _NEVER)
    if not _is_updated(old, _known(database, created)):
        return before
    return {**before, database.name: old._replace(updated=True)}


def _is_updated(old: Known, now: Known) -> bool:
    documents = (0, 0) if now.created > old.created else old.documents
    return now.created > now.deleted and now.documents != documents


def _known(database: Database | None, created: int) -> Known:
    if database is None:
        return Known(created, created)
    return Known(created, created - 1, (database.last_document_seq(), database.purge_seq))
