"""Authorization in a database: user contexts and security objects.

This module does not know passwords, sessions or paths. Source: ``couch_db:is_admin``, ``is_member``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from couchdal.errors import CouchError, Forbidden, Unauthorized


class UserContext(NamedTuple):
    """The user of a request: the name (None if anonymous), the roles, and the authentication handler.

    The handler ``"default"`` is Basic authentication. ``renewed_cookie`` is the session cookie that the answer sets
    when the one in the request approaches its end.
    """

    name: str | None = None
    roles: tuple[str, ...] = ()
    handler: str | None = None
    renewed_cookie: str | None = None

    @property
    def is_admin(self) -> bool:
        """True for a server administrator."""
        return "_admin" in self.roles


def user_object(db_name: str, user: UserContext) -> dict[str, object]:
    """Return the ``userCtx`` object that functions of design documents receive."""
    return {"db": db_name, "name": user.name, "roles": list(user.roles)}


def is_db_admin(user: UserContext, security: Mapping[str, object]) -> bool:
    """Return True if the user administers the server, or a database with this security object."""
    return user.is_admin or _listed(user, security.get("admins"))


def is_member(user: UserContext, security: Mapping[str, object]) -> bool:
    """Return True if the user may read a database with this security object. Without members, everybody may."""
    # Old security objects call the members "readers".
    members = security.get("members", security.get("readers"))
    if is_db_admin(user, security):
        return True
    open_to_all = not isinstance(members, Mapping) or not (members.get("names") or members.get("roles"))
    return open_to_all or _listed(user, members)


def _listed(user: UserContext, group: object) -> bool:
    """Return True if a group of a security object contains the user's name or one of the roles."""
    if not isinstance(group, Mapping):
        return False
    names, roles = group.get("names") or (), group.get("roles") or ()
    return (user.name is not None and user.name in names) or not set(user.roles).isdisjoint(roles)


def membership_error(user: UserContext, security: Mapping[str, object]) -> CouchError | None:
    """Return the error for a user who is not a member, or None. It is 401 for anonymous users and 403 for others."""
    if is_member(user, security):
        return None
    if user.name is None:
        return Unauthorized("You are not authorized to access this db.")
    return Forbidden("You are not allowed to access this db.")


def is_security_object(value: object) -> bool:
    """Return True if CouchDB accepts a security object: its names and roles must be lists of strings."""
    if not isinstance(value, Mapping):
        return False
    groups = (value.get("admins", {}), value.get("members", value.get("readers", {})))
    return all(_is_group(group) for group in groups)


def _is_group(group: object) -> bool:
    if not isinstance(group, Mapping):
        return False
    lists = (group.get("names", []), group.get("roles", []))
    return all(isinstance(entries, list) and all(type(entry) is str for entry in entries) for entries in lists)
