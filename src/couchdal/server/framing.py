"""Translate between ASGI values and couchdal's requests and responses: heads, headers, limits, failures."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from couchdal.api import VERSION
from couchdal.errors import BackendError, CouchError, ServerError, Unavailable
from couchdal.http.answers import JSON_TYPE
from couchdal.http.cors import Cors, add_cors_headers
from couchdal.http.headers import FRAMING, without_control_characters
from couchdal.http.json_text import encode_json
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote_path

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

_DEFAULT_HEADERS = {
    "server": f"CouchDB/{VERSION} (couchdal)",
    "x-couchdb-body-time": "0",
}
_POLICY = "content-security-policy"
_JSON_HEADERS = {"cache-control": "must-revalidate", **_DEFAULT_HEADERS}
# CouchDB takes the id that a client gives, if it has these characters only.
_is_request_id = re.compile("[0-9A-Za-z_-]{0,36}\\Z").match
# Numbers requests. Ids that look as random as CouchDB's are made from these numbers.
_numbers = itertools.count(1)
_SPREAD = 0x9E3779B97F
_goes_alone = re.compile(rb'\{"results":\[\n|event: heartbeat\ndata: \n\n|\n').match
# Longer values of headers are not kept.
_LONGEST_KEPT = 1024
# The web server frames messages and adds the date itself.
_DROPPED_HEADERS = FRAMING | {"date"}

_log = logging.getLogger("couchdal.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server: sizes in bytes, times in seconds, and counts.

    ``requests`` and ``feeds`` limit how many are open at once, ``client_requests`` and ``client_feeds`` those of one
    address; ``None`` means no limit. ``unread`` limits the bytes of whole answers that clients have yet to read,
    ``client_unread`` those of one address. If there are more than ``connections``, only health checks are answered. A
    body must arrive within ``body_timeout_s``, plus a second for each 10,000 bytes that have arrived. The emulator
    answers within ``request_timeout_s``, or gives up the request and answers 500 ``timeout``. The default of
    ``max_http_request_size`` is CouchDB's. ``couchdal serve`` applies all limits. Other ASGI servers have their own
    limits in place of ``max_header_size``, ``header_timeout_s``, ``shutdown_timeout_s`` and ``connections``.
    """

    max_http_request_size: int = 4_294_967_296
    max_header_size: int = 65536
    header_timeout_s: float = 30.0
    body_timeout_s: float = 300.0
    send_timeout_s: float = 60.0
    shutdown_timeout_s: float = 10.0
    request_timeout_s: float | None = None
    requests: int | None = None
    feeds: int | None = None
    client_requests: int | None = None
    client_feeds: int | None = None
    unread: int = 536_870_912
    client_unread: int = 134_217_728
    connections: int = 4096


def to_request(scope: Scope) -> Request:
    """Return the request that an ASGI scope describes, without its body."""
    raw_path: bytes | None = scope.get("raw_path")
    path = quote_path(scope["path"]) if raw_path is None else raw_path.decode("latin-1")
    client = scope.get("client") or ("",)
    return read_head(scope["method"], path, scope["query_string"].decode("latin-1"), scope["headers"], peer=client[0])


def read_head(
    method: str,
    path: str,
    query: str,
    raw_headers: Iterable[tuple[bytes, bytes]],
    *,
    peer: str,
    body: bytes = b"",
) -> Request:
    """Return the request for a parsed head. ``path`` and ``query`` are percent-encoded, header names are lower case."""
    if not path.startswith("/") and "://" in path:
        # The absolute form, as sent to proxies. CouchDB ignores the host in it.
        path = "/" + path.partition("://")[2].partition("/")[2]
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    announces_body = "content-length" in headers or "transfer-encoding" in headers
    return Request(method, path, query, headers, body, peer=peer, announces_body=announces_body)


def headers_of(request: Request, response: Response, content: bytes | None, cors: Cors | None) -> Headers:
    """Return the headers of an answer as a web server sends them.

    ``content`` is the whole body, or ``None`` if the body is a stream. An answer to HEAD has the length of GET's body.
    """
    headers: Headers = []
    if "x-couch-request-id" not in response.headers:
        given = request.headers.get("x-couch-request-id")
        if given is None or _is_request_id(given) is None:
            given = f"{next(_numbers) * _SPREAD % 2**40:010x}"
        headers.append((b"x-couch-request-id", given.encode("ascii")))
    # CouchDB does not say how long an answer may be kept if it is not JSON, or if a function wrote it as a page.
    is_json = response.headers.get("content-type") == JSON_TYPE and _POLICY not in response.headers
    defaults = _JSON_HEADERS if is_json else _DEFAULT_HEADERS
    for name, value in {**defaults, **response.headers}.items():
        pair = (_encode_header if len(value) <= _LONGEST_KEPT else _encode_header.__wrapped__)(name, value)
        if pair is not None:
            headers.append(pair)
    if response.headers.get("connection") == "close":
        headers.append((b"connection", b"close"))
    length = response.headers.get("content-length") if content is None or request.method == "HEAD" else None
    if length is None and content is not None:
        length = str(len(content))
    if length is not None:
        headers.append((b"content-length", length.encode("ascii")))
    return headers if cors is None else add_cors_headers(request, headers, cors)


def chunks_of(text: bytes) -> tuple[bytes, ...]:
    """Return a part of a stream in the chunks that CouchDB sends: heartbeats and a feed's start are separate chunks.

    The client couchdb-python ignores any data after an empty line in the same chunk.
    """
    chunks, at = list[bytes](), 0
    while match := _goes_alone(text, at):
        chunks.append(match.group())
        at = match.end()
    return (*chunks, text[at:]) if at < len(text) else tuple(chunks)


# Most headers are the same in all answers.
@lru_cache(maxsize=512)
def _encode_header(name: str, value: str) -> tuple[bytes, bytes] | None:
    if name.lower() in _DROPPED_HEADERS:
        return None
    # A document may name any content type for its attachments, but a header is one line.
    value = without_control_characters(value)
    try:
        return name.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode("latin-1"), value.encode("utf-8", "replace")


def failure(error: Exception) -> Response:
    """Return the answer for an exception."""
    if isinstance(error, BackendError):
        retry = {"retry-after": "1"} if isinstance(error, Unavailable) else None
        error = ServerError(str(error), status=error.status, error=error.error, headers=retry)
    elif not isinstance(error, CouchError):
        _log.error("a request failed", exc_info=error)
        error = ServerError(type(error).__name__, status=500, error="unknown_error")
    headers = {"content-type": "application/json", **error.headers}
    return Response(error.status, headers, body=encode_json(error.body) + b"\n")
