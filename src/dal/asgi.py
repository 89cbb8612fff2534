"""CouchDB over HTTP for any backend: an ASGI application between a web server's messages and requests and responses.

It holds none of CouchDB's rules but what comes before any rule: how large a body may be, and how an answer is framed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from typing import Any, TypeAlias
from urllib.parse import quote

from dal.backends import open_backend
from dal.backends.base import AsyncBackend, BaseBackend
from dal.backends.event_loop import chunks
from dal.config import choose_backend
from dal.engine.server import VERSION
from dal.errors import BackendError, BrokenOff, CouchError, ServerError, TimedOut, TooLarge
from dal.wire import Request, Response

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# CouchDB's own default: [chttpd] max_http_request_size.
MAX_HTTP_REQUEST_SIZE = 4_294_967_296
_DEFAULT_HEADERS = {"cache-control": "must-revalidate", "server": f"CouchDB/{VERSION} (couchdal)"}
# The web server frames messages and tells the time by itself.
_DROPPED_HEADERS = frozenset(("connection", "content-length", "date", "keep-alive", "transfer-encoding"))

# Under this name a web server may give a function that closes the connection: only faults want it.
CLOSE_EXTENSION = "dal.close"

_log = logging.getLogger("dal.asgi")


class Application:
    """The ASGI application of one backend; without a backend it is chosen as ``CouchDAL`` chooses."""

    def __init__(
        self,
        backend: BaseBackend | AsyncBackend | None = None,
        *,
        max_http_request_size: int = MAX_HTTP_REQUEST_SIZE,
    ) -> None:
        backend = backend or open_backend(choose_backend())
        self.backend = backend.for_event_loop() if isinstance(backend, BaseBackend) else backend
        self.max_http_request_size = max_http_request_size
        self._streams: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"CouchDB does not speak {scope['type']}")

    def end_streams(self) -> None:
        """End every feed that is open, as if its time-out had come."""
        for stream in self._streams:
            stream.cancel()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self.end_streams()
                await self.backend.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        method = scope["method"]
        try:
            body = await read_body(scope["headers"], receive, self.max_http_request_size)
            if body is None:
                return
            response = await self.backend.exchange(to_request(scope, body))
            content = None if response.stream is not None and method != "HEAD" else response.content()
        except BrokenOff as broken:
            await _break_off(broken, scope, receive, send)
            return
        except Exception as error:
            # The edge: whatever went wrong in here, the client gets an answer and every other client goes on.
            response = _failure(error)
            content = response.content()
        if content is None:
            try:
                await self._stream(response, receive, send)
            except BrokenOff as broken:
                await _break_off(broken, scope, receive, send)
            return
        headers = [*_headers(response), (b"content-length", _length(response, content, method))]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else content})

    async def _stream(self, response: Response, receive: Receive, send: Send) -> None:
        """Send chunks as they come until the stream ends, the client goes away, or the server stops."""
        await send({"type": "http.response.start", "status": response.status, "headers": _headers(response)})
        pump = asyncio.create_task(_pump(response, send))
        self._streams.add(pump)
        departure = asyncio.create_task(_departure(receive))
        try:
            await asyncio.wait((pump, departure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.discard(pump)
            departure.cancel()
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
        await send({"type": "http.response.body", "body": b""})


async def _break_off(broken: BrokenOff, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Close the connection, after half of what was received, as a fault wants it; raises where the server cannot."""
    close: Callable[[], None] | None = scope.get("extensions", {}).get(CLOSE_EXTENSION)
    if close is None:
        raise broken
    if isinstance(broken.received, Response):
        content = broken.received.content()
        headers = [*_headers(broken.received), (b"content-length", str(len(content)).encode("ascii"))]
        await send({"type": "http.response.start", "status": broken.received.status, "headers": headers})
        await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
    close()
    await _departure(receive)


async def _pump(response: Response, send: Send) -> None:
    async with aclosing(chunks(response)) as stream:
        async for chunk in stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes | None:
    """Return the whole body; ``None`` where the client went away before its end. Raises ``TooLarge``."""
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if int(declared) > limit:
        raise _too_large()
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large() -> TooLarge:
    # The rest of the body is still to come, so the connection is of no further use.
    return TooLarge("the request entity is too large", headers={"connection": "close"})


def to_request(scope: Mapping[str, Any], body: bytes) -> Request:
    """Return the request that a web server announces, its path and query still percent-encoded."""
    raw_path: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw_path is None else raw_path.decode("latin-1")
    if not path.startswith("/") and "://" in path:
        # The absolute form, as sent to proxies: the host in it says nothing that CouchDB asks about.
        path = "/" + path.partition("://")[2].partition("/")[2]
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in headers:
            value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
        headers[name] = value
    peer = (scope.get("client") or ("",))[0]
    return Request(scope["method"], path, scope["query_string"].decode("latin-1"), headers, body, peer=peer)


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    headers = {**_DEFAULT_HEADERS, **response.headers}
    kept = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
        if name.lower() not in _DROPPED_HEADERS
    ]
    if headers.get("connection") == "close":
        kept.append((b"connection", b"close"))
    return kept


def _length(response: Response, content: bytes, method: str) -> bytes:
    # The answer to HEAD tells how long the answer to GET would be.
    told = response.headers.get("content-length") if method == "HEAD" else None
    return (told or str(len(content))).encode("ascii")


def _failure(error: Exception) -> Response:
    """Return the answer for what no backend answered."""
    if not isinstance(error, CouchError):
        if isinstance(error, BackendError):
            status = 504 if isinstance(error, TimedOut) else 502
            error = ServerError(str(error), status=status, error="bad_gateway")
        else:
            _log.exception("a request failed", exc_info=error)
            error = ServerError(type(error).__name__, status=500, error="unknown_error")
    return Response(error.status, {"content-type": "application/json", **error.headers}, json=error.body)
