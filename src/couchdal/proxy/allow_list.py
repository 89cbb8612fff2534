"""Which requests pass: what the routing table gives to everybody, and what the operator adds or takes away.

It looks at methods and decoded paths only, and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from couchdal.api.routes import Pattern, Route, find_route
from couchdal.errors import Forbidden, NotConfigured, NotFound

_RULE = re.compile(r"(?:([A-Z]+|\*) )?(/\S*)")
# What documents are called whose ids begin with an underscore. Other such names are endpoints, known here or not.
_DOCUMENTS = ("_design/", "_local/")


class AllowList:
    """What passes.

    ``allow`` adds rules such as ``PUT /{db}`` or ``GET /{db}/_design/{name}/_view/{view}``: a method (``*``, or none,
    for all) and a pattern of the routing table's kind, ``{name}`` for one segment, ``{name...}`` for the rest.
    ``read_only`` refuses whatever changes data, rules or not. ``databases`` are names with ``*`` and ``?`` in them;
    without any, all databases may be asked but CouchDB's own. Without ``sessions`` nobody logs in or out: where
    requests are not the clients' own, their cookies go nowhere. Raises ``NotConfigured`` for a rule that is none.
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
        """Return the row of the routing table that a request belongs to; raises ``Forbidden`` where it stays."""
        try:
            route, args = find_route(segments)
        except NotFound:
            raise Forbidden("this path does not pass the proxy") from None
        self._check_database(args.get("db"))
        if route.pattern == "/_session" and method not in ("GET", "HEAD", "OPTIONS") and not self._sessions:
            raise Forbidden("the proxy has an account of its own: nobody logs in or out")
        asked = "GET" if method == "HEAD" else method
        if not self._passes(asked, segments, route, args):
            raise Forbidden(f"{method} {route.pattern} does not pass the proxy")
        if self._read_only and not _only_reads(asked, route):
            raise Forbidden("the proxy is read-only")
        return route

    def _check_database(self, name: str | None) -> None:
        if name is None:
            return
        patterns = self._databases or (() if name.startswith("_") else ("*",))
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            raise Forbidden("this database does not pass the proxy")

    def _passes(self, method: str, segments: Sequence[str], route: Route, args: dict[str, str]) -> bool:
        if any(allowed in ("*", method) and pattern.match(segments) is not None for allowed, pattern in self._rules):
            return True
        if route.unsupported or _is_unknown_endpoint(args):
            return False
        if method == "OPTIONS":
            # A browser asks before it sends what would be refused; the server says what its settings are.
            return True
        return method in route.endpoints and method != "*" and method not in route.withheld


def _parse_rule(text: str) -> tuple[str, Pattern]:
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise NotConfigured(f"{text!r} is no rule, such as 'PUT /{{db}}' or '/{{db}}/_design/{{name}}/_view/{{view}}'")
    return found[1] or "*", Pattern(found[2])


def _is_unknown_endpoint(args: dict[str, str]) -> bool:
    """Whether a name that only CouchDB could know stands where a document or an attachment would."""
    name = args.get("doc_id", "")
    if name.startswith("_") and not name.startswith(_DOCUMENTS):
        return True
    return "design" in args and args.get("name", "").startswith("_")


def _only_reads(method: str, route: Route) -> bool:
    return method in ("GET", "OPTIONS") or method in route.reading
