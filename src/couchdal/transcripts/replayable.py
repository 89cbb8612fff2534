"""Which requests a replay may send to a CouchDB: those whose changes it can undo, because it knows their databases."""

from __future__ import annotations

from collections.abc import Mapping

from couchdal.api.routes import Route
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.transcripts.pseudonyms import USER


class NotRecorded(Exception):
    """A request whose data cannot be removed, such as a multipart body, or whose changes a replay cannot undo."""


# These change the server itself, or databases that a replay shares with others.
_LASTING = frozenset(
    ("_node", "_cluster_setup", "_reshard", "_restart", "_dbs", "_nodes", "_replicator", "_global_changes")
)


def check_replayable(request: Request, segments: list[str], route: Route) -> None:
    """Raise ``NotRecorded`` for a request that would change what the server had before."""
    method, first = request.method, segments[0] if segments else ""
    if method in ("GET", "HEAD", "OPTIONS") or method in route.reading:
        return
    if first in _LASTING or (first == "_users" and not _writes_users(request, segments)):
        raise NotRecorded(f"{method} {request.path} changes something that a server has only once")


def _writes_users(request: Request, segments: list[str]) -> bool:
    """Return whether a request writes only users, who get new names."""
    body = request.value()
    if len(segments) == 2 and segments[1] == "_bulk_docs" and isinstance(body, dict):
        docs = body.get("docs")
        return isinstance(docs, list) and all(_is_user(doc) for doc in docs)
    if len(segments) == 1:
        return request.method == "POST" and _is_user(body)
    return request.method in ("PUT", "DELETE") and segments[1].startswith(USER)


def _is_user(document: JSON) -> bool:
    return isinstance(document, dict) and str(document.get("_id")).startswith(USER)


def local_sides(body: Mapping[str, JSON]) -> dict[str, str]:
    """Return the databases of a replication, by side. Raise ``NotRecorded`` if it leaves the databases of a test."""
    sides = {side: body.get(side) for side in ("source", "target")}
    if body.get("continuous") is True or body.get("cancel") is True:
        raise NotRecorded("a continuous replication continues after its test")
    named = {side: name for side, name in sides.items() if isinstance(name, str)}
    if len(named) < len(sides) or any("://" in name or name.startswith("_") for name in named.values()):
        raise NotRecorded("a replication with another server, or with a database that all tests share")
    return named
