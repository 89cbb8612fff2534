"""One request on its way through an endpoint: path arguments, parameters, body, user, database.

It knows the wire and the engine's state, and no endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from dal.engine.database import Database
from dal.engine.server import Server
from dal.errors import BadContentType, BadRequest, CouchError, Forbidden, Unauthorized
from dal.wire import ABSENT, JSON, Request, Response, decode_json, parse_query

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class UserContext:
    """Who asks: the name (None: anonymous), the roles, and how they proved it (``"default"`` is Basic)."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    handler: str | None = None

    @property
    def is_admin(self) -> bool:
        return "_admin" in self.roles


@dataclass(slots=True)
class Call:
    """A routed request: ``args`` are the decoded path segments that the route's pattern names."""

    request: Request
    server: Server
    args: Mapping[str, str]
    user: UserContext
    _params: list[tuple[str, str]] | None = field(default=None, repr=False)
    _db: Database | None = field(default=None, repr=False)

    @property
    def db(self) -> Database:
        """The database that the path names; raises ``NotFound``."""
        if self._db is None:
            self._db = self.server.database(self.args["db"])
        return self._db

    @property
    def params(self) -> list[tuple[str, str]]:
        """The decoded query parameters, in order, repeated ones too."""
        if self._params is None:
            self._params = parse_query(self.request.query)
        return self._params

    def param(self, name: str) -> str | None:
        """Return the first value of a parameter: CouchDB looks them up from the front."""
        if not self.request.query:
            return None
        return next((value for key, value in self.params if key == name), None)

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    def json(self) -> JSON:
        """Return the decoded body; raises ``BadRequest("invalid UTF-8 JSON")``, for an empty one too."""
        if self.request.json is not ABSENT:
            return cast(JSON, self.request.json)
        return decode_json(self.request.body)

    def json_object(self) -> dict[str, JSON]:
        """Return the body where it must be an object; raises ``BadRequest``."""
        value = self.json()
        if type(value) is not dict:
            raise BadRequest("Request body must be a JSON object")
        return value

    def has_body(self) -> bool:
        return self.request.json is not ABSENT or bool(self.request.body)

    def require_json_type(self) -> None:
        """Raise ``BadContentType`` unless the body is said to be JSON."""
        kind = self.header("content-type") or ""
        if kind.partition(";")[0].strip().lower() != JSON_TYPE:
            raise BadContentType("Content-Type must be application/json")

    def require_server_admin(self) -> None:
        if not self.user.is_admin:
            raise Unauthorized("You are not a server admin.")

    def require_db_admin(self, reason: str) -> None:
        error = self.db_admin_error(reason)
        if error is not None:
            raise error

    def db_admin_error(self, reason: str) -> CouchError | None:
        """Return the error for a user who administers neither the server nor this database."""
        if self.user.is_admin or _listed(self.user, self.db.security.get("admins")):
            return None
        return Unauthorized(reason) if self.user.name is None else Forbidden(reason)


def _listed(user: UserContext, group: object) -> bool:
    """Whether a user is named by, or has a role of, one group of a security object."""
    if not isinstance(group, Mapping):
        return False
    names, roles = group.get("names") or (), group.get("roles") or ()
    return (user.name is not None and user.name in names) or not set(user.roles).isdisjoint(roles)


def is_member(user: UserContext, security: Mapping[str, object]) -> bool:
    """Whether a user may read a database with this security object; one that names no members is everybody's."""
    members = security.get("members")
    open_to_all = not isinstance(members, Mapping) or not (members.get("names") or members.get("roles"))
    return user.is_admin or open_to_all or _listed(user, members) or _listed(user, security.get("admins"))


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer. The value must be owned by the caller: it is handed on as it is."""
    return Response(status, {"content-type": JSON_TYPE, **(headers or {})}, json=value)


def error_response(error: CouchError) -> Response:
    """Return the answer that an error gives."""
    body = dict(error.body)
    if error.status == 500 and error.error not in ("error",):
        # CouchDB adds the hash of the stack trace.
        body["ref"] = 0
    return json_response(body, error.status, error.headers)
