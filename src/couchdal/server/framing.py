"""Between a web server's ASGI messages and requests and responses: how a body is read, and how an answer is framed.

It holds none of CouchDB's rules but what comes before any rule: how large a body may be, and how long it may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from couchdal.emulator.engine.server.server import VERSION
from couchdal.errors import CouchError, TooLarge
from couchdal.http.headers import FRAMING, without_control_characters
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote_path

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

_DEFAULT_HEADERS = {"cache-control": "must-revalidate", "server": f"CouchDB/{VERSION} (couchdal)"}
# The web server frames messages and tells the time by itself.
_DROPPED_HEADERS = FRAMING | {"date"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on: the size of a body (the default is CouchDB's), and how long may pass between two parts.

    ``requests`` and ``feeds`` are how many it answers at once; None is any number.
    """

    max_http_request_size: int = 4_294_967_296
    body_timeout_s: float = 300.0
    send_timeout_s: float = 300.0
    requests: int | None = None
    feeds: int | None = None


class Departed(Exception):
    """The client went away before it had its answer."""


class Body:
    """A request's body, read as it comes; raises ``TooLarge``, ``CouchError`` 408 and ``Departed``.

    ``has_come`` says whether the next part is there already: what need not be waited for needs no time-out.
    """

    def __init__(
        self, request: Request, receive: Receive, limits: Limits, has_come: Callable[[], bool] | None = None
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._has_come = has_come
        self._declared = int(request.headers.get("content-length", 0))
        self._ended = not self._declared and "transfer-encoding" not in request.headers
        self._end: asyncio.Event | None = None
        #: How many bytes have come.
        self.size = 0
        self._parts: list[bytes] = []

    async def wait(self) -> None:
        """Wait until somebody has read all of it."""
        if not self._ended:
            self._end = self._end or asyncio.Event()
            await self._end.wait()

    async def collect(self, most: int | None = None) -> bytes | None:
        """Return the whole body, or None where it has more than ``most`` bytes: what was read is then still to come."""
        if self._declared > self._limits.max_http_request_size:
            raise _too_large()
        while not self._ended:
            if most is not None and self.size > most:
                return None
            self._parts.append(await self._next())
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._parts:
            yield self._parts.pop(0)
        while not self._ended:
            yield await self._next()

    async def _next(self) -> bytes:
        try:
            if self._has_come is not None and self._has_come():
                message = await self._receive()
            else:
                async with asyncio.timeout(self._limits.body_timeout_s):
                    message = await self._receive()
        except TimeoutError:
            raise CouchError(
                "the rest of the body did not come in time",
                status=408,
                error="request_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise Departed
        part: bytes = message.get("body", b"")
        self.size += len(part)
        if self.size > self._limits.max_http_request_size:
            raise _too_large()
        if not message.get("more_body", False):
            self._ended = True
            if self._end is not None:
                self._end.set()
        return part


def _too_large() -> TooLarge:
    # The rest of the body is still to come, so the connection is of no further use.
    return TooLarge("the request entity is too large", headers={"connection": "close"})


def to_request(scope: Scope) -> Request:
    """Return the request that a web server announces, its path and query still percent-encoded, without its body."""
    raw_path: bytes | None = scope.get("raw_path")
    path = quote_path(scope["path"]) if raw_path is None else raw_path.decode("latin-1")
    client = scope.get("client") or ("",)
    return read_head(scope["method"], path, scope["query_string"].decode("latin-1"), scope["headers"], client[0])


def read_head(
    method: str, path: str, query: str, raw_headers: Iterable[tuple[bytes, bytes]], peer: str, body: bytes = b""
) -> Request:
    """Return the request of a head that was taken apart; names of headers are lower case."""
    if not path.startswith("/") and "://" in path:
        # The absolute form, as sent to proxies: the host in it says nothing that CouchDB asks about.
        path = "/" + path.partition("://")[2].partition("/")[2]
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    announces_body = "content-length" in headers or "transfer-encoding" in headers
    return Request(method, path, query, headers, body, peer=peer, announces_body=announces_body)


def headers_of(response: Response) -> Headers:
    """Return the headers of an answer as a web server takes them, without its length."""
    headers = {**_DEFAULT_HEADERS, **response.headers}
    kept = [pair for pair in map(_encoded, headers, headers.values()) if pair is not None]
    if headers.get("connection") == "close":
        kept.append((b"connection", b"close"))
    return kept


# Most headers are the same in all answers.
@lru_cache(maxsize=512)
def _encoded(name: str, value: str) -> tuple[bytes, bytes] | None:
    if name.lower() in _DROPPED_HEADERS:
        return None
    # A document may say anything of its attachments' types; a header is one line.
    value = without_control_characters(value)
    try:
        return name.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode("latin-1"), value.encode("utf-8", "replace")


def length_of(response: Response, content: bytes, method: str) -> tuple[bytes, bytes]:
    """Return the header that tells an answer's length; that to HEAD tells how long the one to GET would be."""
    told = response.headers.get("content-length") if method == "HEAD" else None
    return b"content-length", (told or str(len(content))).encode("ascii")
