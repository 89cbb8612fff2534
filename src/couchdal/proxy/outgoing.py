"""The request that CouchDB sees, built anew from what was understood of the client's.

Nothing is pasted: a path is put together from decoded segments, a query from decoded pairs, and of the headers only
those go on that are about the request itself.
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
# About this connection or another server's rules, said to CouchDB only by the proxy, or asking for more than the path.
_DROPPED = (HOP_BY_HOP - {"content-length"}) | FORWARDED | REWRITTEN | {METHOD_OVERRIDE}
# With these a gateway tells CouchDB who somebody is.
_IDENTITY = "x-auth-couchdb-"


def outgoing(request: Request, method: str, segments: Sequence[str]) -> Request:
    """Return the request to send; raises ``BadRequest`` for a query or a header that cannot be."""
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
        # CouchDB builds the addresses of its answers from it, and chooses no virtual host by it.
        sent["x-forwarded-host"] = headers["host"]
    return sent
