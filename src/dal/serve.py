"""`couchdal serve`: a backend on a port, by ``uvicorn``, until it is interrupted; the only importer of ``uvicorn``."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from math import ceil
from types import FrameType
from typing import Any, NamedTuple, cast

import h11
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from dal.asgi import ABORT_EXTENSION, CLOSE_EXTENSION, Application
from dal.wire import encode_json

# What CouchDB allows an idle connection. A shorter time would race with clients that are about to use theirs again.
_KEEP_ALIVE_S = 300
# Who interrupts a server does not want to wait: bodies that are still coming are ended at once, and the rest soon.
_GRACE_S = 1
_BACKLOG = 1024
# What is worth copying to save a packet.
_JOINED = 16384


class Sockets(NamedTuple):
    """How connections are treated: the largest head of a request in bytes, and how long things may take in seconds."""

    max_header_size: int = 65536
    header_timeout_s: float = 30.0
    shutdown_timeout_s: float = 10.0


class _JoiningTransport:
    """A connection that sends what is written in one go, or within one turn of the event loop, as one packet.

    The head of an answer and its body come separately, and each packet costs as much as the rest of a small answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        if len(data) > _JOINED:
            # Only what the connection has been given can tell that it takes no more.
            self.flush()

    def flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        self.flush()
        self._transport.close()


class _Protocol(H11Protocol):
    """Answers what is not HTTP in CouchDB's manner, and notices when the client of a feed goes away.

    A request's head must be there in time, from its first byte on.
    """

    header_timeout_s = Sockets().header_timeout_s
    _head_is_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _JoiningTransport(transport, self.loop)))

    def on_response_complete(self) -> None:
        cast("_JoiningTransport", self.transport).flush()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if begun and self._head_is_due is None:
            self._head_is_due = self.loop.call_later(self.header_timeout_s, self.transport.close)
        elif not begun and self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope is not None:
            extensions = cast("dict[str, object]", self.scope.setdefault("extensions", {}))
            extensions[CLOSE_EXTENSION] = self.transport.close
            extensions[ABORT_EXTENSION] = self.transport.abort
        # Reading stops where the client sent more than its request; but only who reads is told of its departure.
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) < HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        body = encode_json({"error": "bad_request", "reason": msg}) + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            # An answer is already on its way, and what follows it cannot be told apart from it.
            pass
        self.transport.close()


class _Server(uvicorn.Server):
    """Tells when it answers. When it stops, feeds end at once, and requests when they are answered or time is up."""

    def __init__(self, config: uvicorn.Config, application: Application, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._application = application
        self._ready = ready
        self._interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT:
            self._interrupted = True
            self.config.timeout_graceful_shutdown = _GRACE_S
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.end_feeds()
        for connection in list(self.server_state.connections):
            # The rest of a body that is still coming would only be waited for.
            cycle = connection.cycle if isinstance(connection, _Protocol) else None
            if self._interrupted and cycle is not None and cycle.more_body:
                connection.transport.abort()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises ``OSError``."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    # Without the protocol spelled out, the event loop leaves Nagle's algorithm on, at 40 ms a request.
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address that clients use."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    application: Application, listener: socket.socket, ready: Callable[[], None], sockets: Sockets | None = None
) -> None:
    """Serve on a listening socket until SIGINT (``KeyboardInterrupt``) or SIGTERM; calls ``ready`` when it begins.

    SIGTERM lets requests end that are being answered, SIGINT does not.
    """
    sockets = sockets or Sockets()
    protocol = type("_Protocol", (_Protocol,), {"header_timeout_s": sockets.header_timeout_s})
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=protocol,
        h11_max_incomplete_event_size=sockets.max_header_size,
        ws="none",
        access_log=False,
        proxy_headers=False,
        log_level="error",
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=ceil(sockets.shutdown_timeout_s),
    )
    _Server(config, application, ready).run([listener])
