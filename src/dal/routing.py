"""The table of CouchDB's endpoints: method and path to the function that answers, or the reason why none does.

It imports the endpoints and is imported by the memory backend alone. To add an endpoint, add its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dal.endpoints import bulk_docs, documents
from dal.endpoints.call import Call
from dal.errors import MethodNotAllowed, NotFound, NotSupported
from dal.wire import Response, unquote

Endpoint: TypeAlias = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """One row: a path pattern, its endpoints by method, and CouchDB's wording of the methods that it allows.

    ``{name}`` stands for one segment, ``{name...}`` for all that follow. A GET endpoint answers HEAD as well.
    ``unsupported`` is the reason of the 501 that every method gets.
    """

    pattern: str
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    allow: str = ""
    unsupported: str = ""


ROUTES: tuple[Route, ...] = (
    Route("/{db}/_bulk_docs", {"POST": bulk_docs.write}, "POST"),
    Route(
        "/{db}/{doc_id}",
        {
            "GET": documents.read,
            "PUT": documents.write,
            "DELETE": documents.delete,
            "COPY": documents.copy,
        },
        "DELETE,GET,HEAD,POST,PUT,COPY",
    ),
)


class _Pattern:
    """A route's pattern taken apart: which segments are fixed, and which have names."""

    __slots__ = ("fixed", "named", "open_ended", "route", "size")

    def __init__(self, route: Route) -> None:
        segments = split_path(route.pattern)
        self.route = route
        self.size = len(segments)
        self.open_ended = bool(segments) and segments[-1].endswith("...}")
        self.fixed = [(index, text) for index, text in enumerate(segments) if not text.startswith("{")]
        self.named = [(index, text.strip("{.}")) for index, text in enumerate(segments) if text.startswith("{")]

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the values of the pattern's names, or None where the path is another's."""
        if len(segments) < self.size if self.open_ended else len(segments) != self.size:
            return None
        for index, text in self.fixed:
            if segments[index] != text:
                return None
        args = {name: segments[index] for index, name in self.named}
        if self.open_ended:
            args[self.named[-1][1]] = "/".join(segments[self.size - 1 :])
        return args


def split_path(path: str) -> list[str]:
    """Return the decoded segments of a raw path; empty ones are dropped, as CouchDB drops them.

    Raises ``BadRequest("invalid_url_encoding")``.
    """
    return [unquote(segment) if "%" in segment or "+" in segment else segment for segment in path.split("/") if segment]


def _index(routes: Sequence[Route]) -> dict[str, list[_Pattern]]:
    """Group patterns by the segment that tells most: the first for the server's own paths, else the second."""
    index: dict[str, list[_Pattern]] = {}
    for route in routes:
        index.setdefault(_key(split_path(route.pattern)), []).append(_Pattern(route))
    return index


def _key(segments: Sequence[str]) -> str:
    if not segments or segments[0].startswith("_"):
        return "/" + segments[0] if segments else "/"
    if len(segments) == 1:
        return "/{db}"
    return "/{db}/" + segments[1] if segments[1].startswith("_") else "/{db}/{doc_id}"


_INDEX = _index(ROUTES)


def find_route(segments: Sequence[str]) -> tuple[Route, dict[str, str]]:
    """Return the row for a path and the values of its pattern's names; raises ``NotFound``."""
    candidates = _INDEX.get(_key(segments))
    if candidates is None and segments[0].startswith("_"):
        # No endpoint of the server's own: CouchDB takes the segment for the name of a database.
        candidates = _INDEX.get("/{db}" if len(segments) == 1 else _key(["db", *segments[1:]]))
    for patterns in (candidates, _INDEX["/{db}/{doc_id}"]):
        for pattern in patterns or ():
            args = pattern.match(segments)
            if args is not None:
                return pattern.route, args
    raise NotFound("missing")


def find_endpoint(route: Route, method: str) -> Endpoint:
    """Return the function that answers a method; raises ``MethodNotAllowed`` or ``NotSupported``."""
    if route.unsupported:
        raise NotSupported(f"{method} {route.pattern}: {route.unsupported}")
    found = route.endpoints.get("GET" if method == "HEAD" else method)
    if found is None:
        raise MethodNotAllowed(f"Only {route.allow} allowed", headers={"allow": route.allow})
    return found
