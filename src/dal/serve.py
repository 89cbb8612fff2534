"""`couchdal serve`: a backend on a port, by ``uvicorn``, until it is interrupted; the only importer of ``uvicorn``."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from math import ceil
from time import perf_counter
from types import FrameType
from typing import Any, NamedTuple, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from dal.asgi import ABORT_EXTENSION, ANSWER_EXTENSION, CLOSE_EXTENSION, COME_EXTENSION, READY_EXTENSION, Application
from dal.framing import Headers
from dal.json_text import encode_json

# What CouchDB allows an idle connection. A shorter time would race with clients that are about to use theirs again.
_KEEP_ALIVE_S = 300
# Who interrupts a server does not want to wait: bodies that are still coming are ended at once, and the rest soon.
_GRACE_S = 1
_BACKLOG = 1024
# How many requests of one connection may wait for the answer to another.
_PIPELINED = 16

# For how long a server looks out for a client's next request before it sleeps: what sleeping and waking cost.
_LOOKOUT_S = 50e-6
_yield_processor = getattr(os, "sched_yield", lambda: None)


class Sockets(NamedTuple):
    """How connections are treated: the largest head of a request in bytes, and how long things may take in seconds."""

    max_header_size: int = 65536
    header_timeout_s: float = 30.0
    shutdown_timeout_s: float = 10.0


class _Lookout:
    """Keeps the event loop awake for a moment after an answer: to be woken takes as long as to answer.

    It is for clients that asked again at once the last time. Whatever else has work to do goes first.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._until = now + _LOOKOUT_S
        if self._loop is None:
            self._loop = loop
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._loop is not None and perf_counter() < self._until:
            _yield_processor()
            self._loop.call_soon(self._turn)
        else:
            self._loop = None


class _Protocol(HttpToolsProtocol):
    """Answers what is not HTTP in CouchDB's manner, and speaks HTTP/1.0 with those who do.

    A request's head must be there in time, from its first byte on, and no larger than it may be.
    """

    sockets = Sockets()
    lookout: _Lookout | None = None
    _answered_at = 0.0
    _was_quick = False
    _head_size: int | None = None
    _head_is_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions = {
            CLOSE_EXTENSION: transport.close,
            ABORT_EXTENSION: transport.abort,
            ANSWER_EXTENSION: self._answer,
            READY_EXTENSION: lambda: not self.flow.write_paused,
            # Where other requests have followed this one, its body has come.
            COME_EXTENSION: lambda: self.cycle.message_event.is_set(),
        }

    def data_received(self, data: bytes) -> None:
        before = self._head_size
        if self._answered_at:
            self._was_quick = perf_counter() - self._answered_at < 2 * _LOOKOUT_S
            self._answered_at = 0.0
        super().data_received(data)
        if self._head_size is None or self.transport.is_closing():
            self._expect_no_head()
            return
        self._head_size = len(data) + (before or 0)
        if self._head_size > self.sockets.max_header_size:
            self.send_400_response("The head of the request is too large.")
        elif self._head_is_due is None:
            self._head_is_due = self.loop.call_later(self.sockets.header_timeout_s, self.transport.close)

    def _expect_no_head(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = 0
        cast("dict[str, object]", self.scope)["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        self._head_size = None
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.send = _Unframed(self.cycle).send  # type: ignore[method-assign]
        if len(self.pipeline) < _PIPELINED:
            # Reading stops where requests are waiting; but only who reads is told of a client's departure.
            self.flow.resume_reading()

    def _answer(self, status: int, headers: Headers, content: bytes) -> bool:
        """Write an answer that is whole in one piece, where nothing is to be waited for; returns whether it did."""
        cycle = self.cycle
        if self.pipeline or self.flow.write_paused or cycle.disconnected or cycle.scope["method"] == "HEAD":
            # Of several requests, the answer may be to one that came before this cycle's.
            return False
        parts = [STATUS_LINE[status]]
        parts += [b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)]
        if (b"connection", b"close") in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != len(parts):
            raise ValueError("a header is more than one line")
        cycle.response_started = cycle.response_complete = True
        self.transport.write(head + content)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        if self.lookout is not None and len(self.connections) == 1:
            # With more of them there is mostly something to do.
            self._answered_at = now = perf_counter()
            if self._was_quick:
                self.lookout.begin(self.loop, now)
        return True

    def send_400_response(self, msg: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            body = encode_json({"error": "bad_request", "reason": msg}) + b"\n"
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode("ascii") + body)
        # Else an answer is already on its way, and what follows it cannot be told apart from it.
        self.transport.close()


class _Unframed:
    """Sends answers whose length nobody knows to clients that know no chunks: they end with the connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._framed = cycle.send
        self._ends_with_connection = False

    async def send(self, message: Any) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start":
            lengths = [value for name, value in message["headers"] if name == b"content-length"]
            self._ends_with_connection = not lengths and cycle.scope["method"] != "HEAD"
            if self._ends_with_connection:
                # The web server would take it upon itself to send chunks.
                cycle.chunked_encoding = False
        if message["type"] == "http.response.start" or not self._ends_with_connection:
            await self._framed(message)
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.transport.close()
            cycle.on_response()


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
    # With one processor the client could not run meanwhile; and what waits for an upstream waits longer than that.
    looks_out = (os.cpu_count() or 1) > 1 and not application.backend.streams
    protocol = type("_Protocol", (_Protocol,), {"sockets": sockets, "lookout": _Lookout() if looks_out else None})
    config = uvicorn.Config(
        application,
        loop="auto",
        http=protocol,
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
