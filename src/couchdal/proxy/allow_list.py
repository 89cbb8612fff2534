"""Decide which requests the proxy forwards, from the method and the decoded path.

The API's table defines what everybody may do. The operator adds rules or restricts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from couchdal.api.routes import Pattern, Route, find_route
from couchdal.errors import Forbidden, NotConfigured, NotFound

_RULE = re.compile(r"(?:([A-Z]+|\*) )?(/\S*)")
# Prefixes of document ids. All other names that begin with an underscore are endpoints, including unknown ones.
_DOCUMENTS = ("_design/", "_local/")


class AllowList:
    """The requests that the proxy forwards.

    ``allow`` adds rules such as ``PUT /{db}`` or ``GET /{db}/_design/{name}/_view/{view}``. A rule has a method (``*``
    or nothing means all) and a pattern as in the API's table: ``{name}`` is one segment, ``{name...}`` the rest.
    ``read_only`` refuses every request that changes data, even if a rule allows it. ``databases`` are names with the
    wildcards ``*`` and ``?``; without any, all databases are allowed. CouchDB's own databases are allowed only by their
    exact names. Without ``sessions``, clients cannot log in or out. Raise ``NotConfigured`` for an invalid rule.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        read_only: bool = False,
        databases: Sequence[str] = (),
        sessions: bool = True,
    ) -> None:
        self._rules = [_parse_rule(text) for text in allow]
        self._read_only = read_only
        self._sessions = sessions
        self._databases = tuple(databases)

    def check(self, method: str, segments: Sequence[str]) -> Route:
        """Return the route of a request. Raise ``Forbidden`` if the proxy does not forward it."""
        try:
            route, args = find_route(segments)
        except NotFound:
            raise Forbidden("the proxy does not allow this path") from None
        self.check_database(args.get("db"))
        if route.pattern == "/_session" and method not in ("GET", "HEAD", "OPTIONS") and not self._sessions:
            raise Forbidden("the proxy uses its own account, so clients cannot log in or out")
        asked = "GET" if method == "HEAD" else method
        if not self._allows(asked, segments, route, args):
            raise Forbidden(f"the proxy does not allow {method} {route.pattern}")
        if self._read_only and not only_reads(asked, route):
            raise Forbidden("the proxy is read-only")
        return route

    def check_database(self, name: str | None) -> None:
        """Raise ``Forbidden`` for a database that is not allowed."""
        if name is None:
            return
        if _is_system_database(name):
            allowed = name in self._databases
        else:
            allowed = not self._databases or any(fnmatchcase(name, pattern) for pattern in self._databases)
        if not allowed:
            raise Forbidden("the proxy does not allow this database")

    def _allows(self, method: str, segments: Sequence[str], route: Route, args: dict[str, str]) -> bool:
        if any(allowed in ("*", method) and pattern.match(segments) is not None for allowed, pattern in self._rules):
            return True
        if route.unsupported or _is_unknown_endpoint(args):
            return False
        if method == "OPTIONS":
            # CouchDB answers a browser's preflight from its CORS settings. But an endpoint for all methods would run
            # an update function.
            return "*" not in route.endpoints
        return method in route.endpoints and method != "*" and method not in route.withheld


def _parse_rule(text: str) -> tuple[str, Pattern]:
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise NotConfigured(
            f"{text!r} is not a rule; rules look like 'PUT /{{db}}' or '/{{db}}/_design/{{name}}/_view/{{view}}'"
        )
    return found[1] or "*", Pattern(found[2])


def _is_unknown_endpoint(args: dict[str, str]) -> bool:
    """Return whether the name of a document or attachment is the name of an endpoint that only CouchDB knows."""
    name = args.get("doc_id", "")
    if name.startswith("_") and not name.startswith(_DOCUMENTS):
        return True
    return "design" in args and args.get("name", "").startswith("_")


def _is_system_database(name: str) -> bool:
    """Return whether CouchDB treats a database as one of its own: ``app/_replicator`` replicates as ``_replicator``."""
    return name.startswith("_") or name.rpartition("/")[2].startswith("_")


def only_reads(method: str, route: Route) -> bool:
    """Return whether a request changes no data.

    Functions of design documents that may write run for every method that CouchDB does not refuse, and a rewrite can
    turn any request into any other.
    """
    if "/_update/" in route.pattern or "/_rewrite" in route.pattern:
        return False
    return method in ("GET", "HEAD", "OPTIONS") or method in route.reading
