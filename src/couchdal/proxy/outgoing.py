"""Build the request that CouchDB gets from the parsed request of the client.

The path is built from decoded segments and the query from decoded pairs, so CouchDB sees what the proxy has checked.
Only headers about the request itself are forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from couchdal.errors import BadRequest
from couchdal.http.headers import FORWARDED, HOP_BY_HOP, METHOD_OVERRIDE, REWRITTEN, has_control_character
from couchdal.http.messages import Request
from couchdal.http.urls import check_encoding, parse_query, quote

_PLAIN_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*(?:&[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*)*")
# Headers about this connection, headers that only the proxy may send, and headers that change the path or method.
_DROPPED = (HOP_BY_HOP - {"content-length"}) | FORWARDED | REWRITTEN | {METHOD_OVERRIDE}
# With these headers, a gateway tells CouchDB who the user is.
_IDENTITY = "x-auth-couchdb-"


def outgoing(request: Request, method: str, segments: Sequence[str]) -> Request:
    """Return the request to send. Raise ``BadRequest`` for an invalid query or header."""
    path, query = _path(request.path, segments), _query(request.query)
    return request.with_head(method, path, query, _headers(request))


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


def _headers(request: Request) -> Mapping[str, str]:
    headers = request.headers
    dropped = _DROPPED
    if "connection" in headers:
        dropped = _DROPPED | {name.strip().lower() for name in headers["connection"].split(",")}
    sent = {name: value for name, value in headers.items() if name not in dropped and not name.startswith(_IDENTITY)}
    if has_control_character("".join(sent.values())):
        raise BadRequest("a header has control characters in it")
    if request.peer:
        sent["x-forwarded-for"] = request.peer
    if "host" in headers:
        # CouchDB builds the URLs in its answers from this header, and does not choose a virtual host by it.
        sent["x-forwarded-host"] = headers["host"]
    return sent
