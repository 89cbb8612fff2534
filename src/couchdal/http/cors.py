"""CORS: from which origins browsers may send requests, as CouchDB's settings ``enable_cors`` and ``[cors]`` define.

This module takes requests and headers, and returns headers. Source: chttpd_cors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from couchdal.errors import BadRequest
from couchdal.http.messages import Request, Response
from couchdal.http.urls import check_encoding

HEADERS = (
    *("accept", "accept-language", "authorization", "content-length", "content-range", "content-type", "destination"),
    *("expires", "if-match", "last-modified", "origin", "pragma", "x-couch-full-commit", "x-couch-id"),
    *("x-couch-persist", "x-couchdb-www-authenticate", "x-http-method-override", "x-requested-with"),
    "x-couchdb-vhost-path",
)
METHODS = ("CONNECT", "COPY", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE")
EXPOSED_HEADERS = (
    *("accept-ranges", "etag", "server", "x-couch-request-id", "x-couch-update-newrev", "x-couchdb-body-time"),
)
# If an answer has one of these headers, the browser may read it. It may always read content-type.
_SIMPLE_HEADERS = frozenset(("cache-control", "content-language", "expires", "last-modified", "pragma"))
_COMMA = re.compile(r",\s*", re.ASCII)
_PREFIX = b"access-control-"


@dataclass(frozen=True, slots=True)
class Cors:
    """The CORS settings of a server, with CouchDB's defaults.

    ``origins`` are the allowed origins, with scheme and port; ``*`` allows any. ``headers`` and ``methods`` are the
    ones that browsers may use, and replace the defaults. ``max_age`` is how many seconds browsers may cache the answer
    to a preflight.
    """

    origins: tuple[str, ...] = ()
    credentials: bool = False
    headers: tuple[str, ...] = HEADERS
    methods: tuple[str, ...] = METHODS
    max_age: int | str = 600
    exposed_headers: tuple[str, ...] = EXPOSED_HEADERS

    def accepts(self, origin: str) -> bool:
        """Return whether pages of this origin may read answers."""
        # Without origins, CouchDB accepts the empty one, which no browser sends.
        return "*" in self.origins or origin in (self.origins or ("",))


def preflight(request: Request, settings: Cors) -> Response | None:
    """Return the answer to a preflight that is allowed, or ``None`` for every other request.

    Neither credentials nor the path matter, as long as the path can be decoded.
    """
    origin, method = request.headers.get("origin"), request.headers.get("access-control-request-method")
    if request.method != "OPTIONS" or origin is None or method is None:
        return None
    if not settings.accepts(origin) or method not in settings.methods:
        return None
    try:
        check_encoding(f"{request.path}?{request.query}")
    except BadRequest:
        return None
    wanted = request.headers.get("access-control-request-headers", "")
    # CouchDB removes each of its headers from the list once, so a header that is named twice is refused.
    if Counter(_names(wanted)) - Counter(name.lower() for name in settings.headers):
        return None
    headers = {
        **_allowance(origin, settings),
        "access-control-allow-headers": wanted,
        "access-control-allow-methods": ", ".join(settings.methods),
        "access-control-max-age": str(settings.max_age),
    }
    return Response(204, headers)


def cors_headers(request: Request, names: Iterable[str], settings: Cors) -> dict[str, str]:
    """Return the headers that let a page read an answer which has headers of these ``names``.

    If the request has no accepted origin, return none. Then the browser hides the answer from the page.
    """
    origin = request.headers.get("origin")
    if origin is None or not settings.accepts(origin):
        return {}
    simple = [name for name in map(str.lower, names) if name in _SIMPLE_HEADERS]
    exposed = ("content-type", *simple, *(name.lower() for name in settings.exposed_headers))
    return {**_allowance(origin, settings), "access-control-expose-headers": ", ".join(exposed).rstrip()}


def add_cors_headers(request: Request, headers: list[tuple[bytes, bytes]], settings: Cors) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with this server's CORS headers in place of another server's."""
    if preflight(request, settings) is not None:
        return [(name, value) for name, value in headers if name != b"cache-control"]
    kept = [(name, value) for name, value in headers if not name.lower().startswith(_PREFIX)]
    added = cors_headers(request, (name.decode("latin-1") for name, _ in kept), settings)
    return [*kept, *((name.encode("latin-1"), value.encode("latin-1")) for name, value in added.items())]


def _allowance(origin: str, settings: Cors) -> dict[str, str]:
    headers = {"access-control-allow-origin": origin}
    # A browser never sends this origin; CouchDB gives it no credentials.
    if settings.credentials and origin != "*":
        headers["access-control-allow-credentials"] = "true"
    return headers


def _names(text: str) -> tuple[str, ...]:
    return trimmed([name.lower() for name in _COMMA.split(text)])


def trimmed(parts: list[str]) -> tuple[str, ...]:
    """Return the parts of a text without the empty ones at the end, as Erlang's ``re:split`` does with ``trim``."""
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
