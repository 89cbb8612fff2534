"""The request that CouchDB sees, built anew from what was understood of the client's.

Nothing is pasted: a path is put together from decoded segments, a query from decoded pairs, and of the headers only
those go on that are about the request itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from couchdal.backends.base import quote
from couchdal.errors import BadRequest
from couchdal.http.messages import Request, check_encoding, parse_query

# What CouchDB takes from this header, and from no other method than POST. Source: chttpd:handle_request_int.
_OVERRIDES = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "COPY"))
_PLAIN_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*(?:&[A-Za-z0-9._~-]+=[A-Za-z0-9._~%-]*)*")
# About this connection or another server's rules, told to CouchDB by nobody but the proxy, or asking for more than the
# path says.
_DROPPED = frozenset(
    ("connection", "expect", "forwarded", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host",
     "x-forwarded-proto", "x-forwarded-ssl", "x-http-method-override", "x-original-url", "x-rewrite-url")
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# With these a gateway tells CouchDB who somebody is.
_IDENTITY = "x-auth-couchdb-"


def effective_method(request: Request) -> str:
    """Return the method that CouchDB goes by."""
    override = request.headers.get("x-http-method-override")
    if override is None or request.method != "POST":
        return request.method
    return override if override in _OVERRIDES else request.method


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
    if _CONTROL.search("".join(sent.values())):
        raise BadRequest("a header has control characters in it")
    if request.peer:
        sent["x-forwarded-for"] = request.peer
    if "host" in headers:
        # CouchDB builds the addresses of its answers from it, and chooses no virtual host by it.
        sent["x-forwarded-host"] = headers["host"]
    return sent
