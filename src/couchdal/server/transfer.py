"""Receive a request's body and send its answer as ASGI messages, within time limits."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Protocol, TypeVar

from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import ANONYMOUS_BODY, Request, too_large
from couchdal.server.framing import Headers, Limits, Message, Receive, Send

_T = TypeVar("_T")

#: How many bytes the web server gets at once. Between two parts it waits until the client has read enough.
PART = 262144
# How many bytes of a body must arrive each second, after the first ``body_timeout_s``.
_SLOWEST = 10_000


class Disconnected(Exception):
    """The client disconnected before it had its answer."""


class Connection(Protocol):
    """The operations of a server's own connection for which ASGI has no message."""

    transport: asyncio.Transport

    def close(self) -> None:
        """Close the connection after what was sent. In ASGI, an answer cannot end before it is complete."""

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or closes after what was sent."""

    def abort(self) -> None:
        """Close the connection now. ASGI waits until a client has read everything, and this client does not read."""


def reset(connection: Connection) -> None:
    """Close a connection now, with an error for the client."""
    connected = connection.transport.get_extra_info("socket")
    if connected is not None:
        # Closing a socket with a linger time of 0 resets its connection.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()


class Incoming:
    """The body of a request as it arrives, and the client's disconnection.

    If the request is ``complete``, it holds its whole body. ``allow_large`` raises ``CouchError`` if the client may not
    send a large body.
    """

    def __init__(
        self,
        request: Request,
        receive: Receive,
        limits: Limits,
        *,
        complete: bool,
        allow_large: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._allow_large = allow_large
        self._receive = receive
        self._limits = limits
        self._declared = int(request.headers.get("content-length", 0))
        self._ended = complete or not (self._declared or "transfer-encoding" in request.headers)
        self._end: asyncio.Event | None = None
        # When the first part was awaited.
        self._begun: float | None = None
        self._parts = [request.body] if request.body else []
        #: How many bytes have arrived.
        self.size: int = len(request.body)

    async def collect(self, most: int | None = None) -> bytes | None:
        """Return the whole body, or ``None`` if it is longer than ``most`` bytes. Iterating then yields all of it.

        Raise ``TooLarge``, ``CouchError`` 408 or ``Disconnected``.
        """
        if max(self._declared, self.size) > self._limits.max_http_request_size:
            raise too_large()
        await self._check_large()
        while not self._ended:
            if most is not None and self.size > most:
                return None
            self._parts.append(await self._next())
            await self._check_large()
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def _check_large(self) -> None:
        """Ask once whether the client may send more than an anonymous client may."""
        if self._allow_large is not None and max(self._declared, self.size) > ANONYMOUS_BODY:
            allow, self._allow_large = self._allow_large, None
            await allow()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._parts:
            yield self._parts.pop(0)
        while not self._ended:
            yield await self._next()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._deadline()):
                message = await self._receive()
        except TimeoutError:
            raise CouchError(
                "the rest of the body did not arrive in time",
                status=408,
                error="request_timeout",
                headers={"connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        self.size += len(part)
        if self.size > self._limits.max_http_request_size:
            raise too_large()
        if not message.get("more_body", False):
            self._ended = True
            if self._end is not None:
                self._end.set()
        return part

    def _deadline(self) -> float:
        """Return the time by which the next part of the body must arrive. Clients that send single bytes miss it."""
        now, limit = asyncio.get_running_loop().time(), self._limits.body_timeout_s
        if self._begun is None:
            self._begun = now
        return min(now + limit, self._begun + limit + self.size / _SLOWEST)

    async def unless_disconnected(self, work: Coroutine[object, object, _T] | asyncio.Task[_T]) -> _T:
        """Return the result of ``work``. If the client disconnects first, cancel it and raise ``Disconnected``."""
        task: asyncio.Task[_T] = asyncio.ensure_future(work)
        disconnection = asyncio.create_task(self._disconnection_after_body())
        try:
            await asyncio.wait((task, disconnection), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Disconnected
            return task.result()
        finally:
            disconnection.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, BackendError, CouchError, Disconnected):
                    await task

    async def _disconnection_after_body(self) -> None:
        if not self._ended:
            # Until the end of the body, its reader receives the messages.
            self._end = self._end or asyncio.Event()
            await self._end.wait()
        await self.disconnection()

    async def disconnection(self) -> None:
        """Wait until the client disconnects, and ignore what it sends until then."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Outgoing:
    """An answer on its way to the client."""

    def __init__(self, send: Send, limits: Limits, connection: Connection | None) -> None:
        self._send = send
        self._timeout_s = limits.send_timeout_s
        self.connection = connection
        #: How many bytes of the body were sent.
        self.sent: int = 0

    async def send_whole(self, status: int, headers: Headers, content: bytes) -> None:
        """Send a whole answer. Raise ``Disconnected`` if the client does not read it in time."""
        await self.start(status, headers)
        for start in range(0, len(content) - PART, PART):
            await self.send(content[start : start + PART], more=True)
        await self.send(content[self.sent :], more=False)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status and the headers."""
        await self._write({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, content: bytes, *, more: bool) -> None:
        """Send the next part of the body. Raise ``Disconnected`` if the client does not read it in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._write({"type": "http.response.body", "body": content, "more_body": more})
        except TimeoutError:
            if self.connection is not None:
                self.connection.abort()
            raise Disconnected from None
        self.sent += len(content)

    async def _write(self, message: Message) -> None:
        connection = self.connection
        if connection is not None and connection.is_closing():
            raise Disconnected
        try:
            await self._send(message)
        except RuntimeError:
            # The connection closed while this waited for the client to read. uvicorn learns of it later.
            if connection is None or not connection.is_closing():
                raise
            raise Disconnected from None
