"""A database for each user, if ``couch_peruser`` is enabled. Source: ``couch_peruser``.

CouchDB creates these databases shortly after the users. In the emulator they exist when the write of the user is
answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from couchdal.emulator.engine.auth.users import ID_PREFIX, USERS
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import CouchError

_GROUPS = ("admins", "members")


def is_followed(server: Server, name: str) -> bool:
    """Return whether the users of this database get databases."""
    return server.settings.peruser_enable and name == (server.settings.authentication_db or USERS)


def follow_users(server: Server, doc_ids: Iterable[str] | None = None) -> None:
    """Create or delete the databases of these users, or of all. The caller holds the server's lock."""
    users = server.databases.get(server.settings.authentication_db or USERS)
    if users is None:
        return
    found = (record.doc_id for record in users.storage.changes()) if doc_ids is None else doc_ids
    for doc_id in [doc_id for doc_id in found if doc_id.startswith(ID_PREFIX)]:
        record = users.storage.get(doc_id)
        if record is not None:
            _follow(server, doc_id.removeprefix(ID_PREFIX), deleted=record.deleted)


def _follow(server: Server, user: str, *, deleted: bool) -> None:
    settings = server.settings
    name = settings.peruser_prefix + "".join(f"{byte:x}" for byte in user.encode("utf-8", "surrogatepass"))
    if deleted and settings.peruser_delete_dbs:
        if name in server.databases:
            server.delete(name)
        return
    if name not in server.databases:
        try:
            server.create(name, shards=max(settings.peruser_q, 1))
        except CouchError:
            # With this prefix, the name is illegal. Then CouchDB's process for these databases does not run.
            return
    database = server.databases[name]
    security = dict(database.security)
    for group in _GROUPS:
        security[group] = _changed(security.get(group), user, deleted=deleted)
    if security != database.security:
        database.set_security(security)


def _changed(group: object, user: str, *, deleted: bool) -> dict[str, object]:
    """Return a group of a security object with the user's name, or without the name of a deleted user."""
    members = dict(group) if isinstance(group, Mapping) else {}
    names = members.get("names")
    listed = list(names) if isinstance(names, list) else []
    if deleted and user in listed:
        listed.remove(user)
        members["names"] = listed
    elif not deleted and user not in listed:
        members["names"] = [user, *listed]
    return members
