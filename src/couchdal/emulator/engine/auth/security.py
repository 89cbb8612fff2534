"""Who may do what in a database: user contexts and security objects. Source: ``couch_db:is_admin``, ``is_member``.

It knows nothing of passwords, sessions or paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from couchdal.errors import CouchError, Forbidden, Unauthorized


class UserContext(NamedTuple):
    """Who asks: the name (None: anonymous), the roles, and how they proved it (``"default"`` is Basic).

    ``renewed_cookie`` is the session cookie that the answer sets, because the one that came is growing old.
    """

    name: str | None = None
    roles: tuple[str, ...] = ()
    handler: str | None = None
    renewed_cookie: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator of the server."""
        return "_admin" in self.roles


def user_object(db_name: str, user: UserContext) -> dict[str, object]:
    """Return a user of a database as functions of design documents see one."""
    return {"db": db_name, "name": user.name, "roles": list(user.roles)}


def is_db_admin(user: UserContext, security: Mapping[str, object]) -> bool:
    """Whether a user administers the server, or the database with this security object."""
    return user.is_admin or _listed(user, security.get("admins"))


def is_member(user: UserContext, security: Mapping[str, object]) -> bool:
    """Whether a user may read a database with this security object; one that names no members is everybody's."""
    # Before they were called members, they were readers.
    members = security.get("members", security.get("readers"))
    if is_db_admin(user, security):
        return True
    open_to_all = not isinstance(members, Mapping) or not (members.get("names") or members.get("roles"))
    return open_to_all or _listed(user, members)


def _listed(user: UserContext, group: object) -> bool:
    """Whether a user is named by, or has a role of, one group of a security object."""
    if not isinstance(group, Mapping):
        return False
    names, roles = group.get("names") or (), group.get("roles") or ()
    return (user.name is not None and user.name in names) or not set(user.roles).isdisjoint(roles)


def membership_error(user: UserContext, security: Mapping[str, object]) -> CouchError | None:
    """Return the error that a user gets who is no member: 401 for the anonymous, 403 for others."""
    if is_member(user, security):
        return None
    if user.name is None:
        return Unauthorized("You are not authorized to access this db.")
    return Forbidden("You are not allowed to access this db.")


def is_security_object(value: object) -> bool:
    """Whether CouchDB stores a value as a security object: names and roles, where given, are lists of strings."""
    if not isinstance(value, Mapping):
        return False
    groups = (value.get("admins", {}), value.get("members", value.get("readers", {})))
    return all(_is_group(group) for group in groups)


def _is_group(group: object) -> bool:
    if not isinstance(group, Mapping):
        return False
    lists = (group.get("names", []), group.get("roles", []))
    return all(isinstance(entries, list) and all(type(entry) is str for entry in entries) for entries in lists)
