"""Calls for a database, its indexes and its server.

A parameter that is ``None`` is not sent; CouchDB's documentation says what each one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from couchdal.http.json_text import JSON
from couchdal.http.urls import quote
from couchdal.operations.operation import Operation, Selector, listed, present, query

if TYPE_CHECKING:
    from couchdal.types import CreatedIndex, DatabaseInfo, IndexList, Ok, PurgeResult, Security, SessionInfo


def info() -> Operation[DatabaseInfo]:
    """Return the database's information. Raises ``NotFound``."""
    return Operation("GET", "/")


def create_database(name: str | None = None, *, partitioned: bool | None = None) -> Operation[Ok]:
    """Create a database of this server: another one, or this handle's own. Raises ``FileExists``."""
    return Operation("PUT", "/" + query(partitioned=partitioned), database=name)


def delete_database(name: str | None = None) -> Operation[Ok]:
    """Delete a database of this server, with all that is in it. Raises ``NotFound``."""
    return Operation("DELETE", "/", database=name)


def get_security() -> Operation[dict[str, JSON]]:
    """Return the security object: who the database's admins and members are."""
    return Operation("GET", "/_security")


def put_security(security: Security) -> Operation[Ok]:
    """Replace the security object."""
    return Operation("PUT", "/_security", security)


def get_revs_limit() -> Operation[int]:
    """Return how many revisions of each document the database remembers."""
    return Operation("GET", "/_revs_limit")


def put_revs_limit(limit: int) -> Operation[Ok]:
    """Set how many revisions of each document the database remembers."""
    return Operation("PUT", "/_revs_limit", limit)


def purge(revisions: Mapping[str, Iterable[str]]) -> Operation[PurgeResult]:
    """Forget leaves as if they had never been; unlike a deletion, this is not replicated."""
    return Operation("POST", "/_purge", {doc_id: listed(revs) for doc_id, revs in revisions.items()})


def compact() -> Operation[Ok]:
    """Have the server give back the space of old revisions."""
    # CouchDB insists on the content type although there is nothing to send.
    return Operation("POST", "/_compact", headers={"content-type": "application/json"})


def create_index(
    fields: Iterable[str | Mapping[str, str]],
    *,
    name: str | None = None,
    ddoc: str | None = None,
    partial_filter_selector: Selector | None = None,
    partitioned: bool | None = None,
) -> Operation[CreatedIndex]:
    """Create a Mango index over fields, or find that it exists."""
    index: dict[str, object] = {"fields": listed(fields)}
    if partial_filter_selector is not None:
        index["partial_filter_selector"] = partial_filter_selector
    members = {"index": index, "type": "json", "name": name, "ddoc": ddoc, "partitioned": partitioned}
    return Operation("POST", "/_index", present(members))


def get_indexes() -> Operation[IndexList]:
    """Return the database's Mango indexes."""
    return Operation("GET", "/_index")


def delete_index(ddoc: str, name: str) -> Operation[Ok]:
    """Delete a Mango index. Raises ``NotFound``."""
    return Operation("DELETE", f"/_index/{quote(ddoc.removeprefix('_design/'))}/json/{quote(name)}")


def all_dbs() -> Operation[list[str]]:
    """Return the names of all databases of this server."""
    return Operation("GET", "/_all_dbs")


def session() -> Operation[SessionInfo]:
    """Return who the server takes the caller for."""
    return Operation("GET", "/_session")


def uuids(count: int | None = None) -> Operation[dict[str, list[str]]]:
    """Return ids that the server made up."""
    return Operation("GET", "/_uuids" + query(count=count))
