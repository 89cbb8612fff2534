"""Authorization by path, before any endpoint runs. Source: ``chttpd_auth_request``.

Endpoints check further rights themselves, for example to write design documents.
"""

from __future__ import annotations

from collections.abc import Sequence

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin, membership_error
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import Unauthorized

_OPEN = frozenset(("_up", "_uuids", "_session", "_stats", "_active_tasks"))
_ADMIN_ONLY = frozenset(("_purge", "_purged_infos_limit", "_sync_shards"))


def authorize(server: Server, user: UserContext, method: str, segments: Sequence[str]) -> None:
    """Raise ``Unauthorized`` or ``Forbidden`` if the user may not send this request.

    Raise ``NotFound`` if the rights depend on a database that does not exist.
    """
    if user.is_admin or not segments or segments[0] == "favicon.ico":
        return
    first, below = segments[0], segments[1] if len(segments) > 1 else None
    if first.startswith("_") and first not in ("_users", "_replicator"):
        if first not in ("_all_dbs", "_dbs_info") or server.settings.admin_only_all_dbs:
            _authorize_server_path(user, method, segments)
    elif below is None and method in ("PUT", "DELETE"):
        raise _not_server_admin()
    elif first.startswith("_"):
        # Only administrators may list users and replications, but every member may read the database's settings.
        if below in ("_all_docs", "_changes"):
            raise _not_server_admin()
        _require_member(server, user, first)
    elif below == "_compact" or (below == "_view_cleanup" and len(segments) == 2):
        _require_member(server, user, first)
        if not is_db_admin(user, server.database(first).security):
            raise Unauthorized("You are not a server or db admin.")
    elif below in _ADMIN_ONLY and len(segments) == 2:
        raise _not_server_admin()
    else:
        _require_member(server, user, first)


def _authorize_server_path(user: UserContext, method: str, segments: Sequence[str]) -> None:
    first = segments[0]
    is_open = first in _OPEN and len(segments) == 1 and not (first == "_stats" and method in ("PUT", "DELETE"))
    if is_open or (first == "_utils" and method in ("GET", "HEAD")):
        return
    if first == "_replicate" and len(segments) == 1:
        if user.name is None:
            raise Unauthorized("You are not an authenticated user")
        return
    if first == "_node" and len(segments) > 2 and segments[2] in ("_stats", "_system", "_prometheus"):
        if "_metrics" not in user.roles:
            raise Unauthorized("You are not a server admin or read-only metrics user")
        return
    raise _not_server_admin()


def _require_member(server: Server, user: UserContext, name: str) -> None:
    error = membership_error(user, server.database(name).security)
    if error is not None:
        raise error


def _not_server_admin() -> Unauthorized:
    return Unauthorized("You are not a server admin.")
