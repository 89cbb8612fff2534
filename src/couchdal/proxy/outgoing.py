"""Build the request that CouchDB gets from the parsed request of the client.

The path is built from decoded segments and the query from decoded pairs, so CouchDB sees what the proxy has checked.
Only headers about the request itself are forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from couchdal.errors import BadRequest
from couchdal.http.headers import (
    FORWARDED,
    HOP_BY_HOP,
    METHOD_OVERRIDE,
    REWRITTEN,
    TRUSTED_PREFIXES,
    has_control_character,
)
from couchdal.http.messages import Request
from couchdal.http.urls import check_encoding, parse_query, quote

_PLAIN_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*(?:&[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*)*")
# Headers about this connection, headers that only the proxy may send, and headers that change the path or method.
_DROPPED = (HOP_BY_HOP - {"content-length"}) | FORWARDED | REWRITTEN | {METHOD_OVERRIDE}


def is_dropped(name: str) -> bool:
    """Return whether the proxy never forwards a client's header of this name, which is in lower case."""
    return name in _DROPPED or name.startswith(TRUSTED_PREFIXES)


def outgoing(request: Request, method: str, segments: Sequence[str], needed: Collection[str] = ()) -> Request:
    """Return the request to send.

    Raise ``BadRequest`` for an invalid query or header, and if ``Connection`` names one of the ``needed`` headers.
    """
    path, query = _path(request.path, segments), _query(request.query)
    return request.with_head(method, path, query, _headers(request, needed))


def _path(path: str, segments: Sequence[str]) -> str:
    if _PLAIN_PATH.fullmatch(path):
        return path
    return "/" + "/".join(_quoted(segment) for segment in segments)


def _query(query: str) -> str:
    check_encoding(query)
    if not query or _PLAIN_QUERY.fullmatch(query):
        return query
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in parse_query(query))


def _quoted(text: str) -> str:
    return quote(text, "surrogateescape")


def _headers(request: Request, needed: Collection[str]) -> Mapping[str, str]:
    headers = request.headers
    dropped = _DROPPED
    if "connection" in headers:
        named = {name.strip().lower() for name in headers["connection"].split(",")}
        if not named.isdisjoint(needed):
            # Without the header, the request would have another user.
            raise BadRequest("Connection must not name a header that says who the user is")
        dropped = _DROPPED | named
    sent = {
        name: value for name, value in headers.items() if name not in dropped and not name.startswith(TRUSTED_PREFIXES)
    }
    if has_control_character("".join(sent.values())):
        raise BadRequest("a header has control characters in it")
    if request.peer:
        sent["x-forwarded-for"] = request.peer
    return sent
