"""Serve an application on a socket with ``uvicorn``, until a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from math import ceil
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from couchdal.server.application import Application
from couchdal.server.process import collect_garbage, end_within, tune
from couchdal.server.protocol import HttpProtocol

if TYPE_CHECKING:
    from couchdal.server.systemd import Notifier

# CouchDB's limit for an idle connection. With a shorter one, clients would reuse connections that are being closed.
_KEEP_ALIVE_S = 300
# After Ctrl-C the user does not want to wait: unfinished uploads end at once, everything else soon.
_GRACE_S = 1.0
# How often uvicorn checks whether connections are open.
_PAUSE_S = 0.1
_BACKLOG = 1024
# The part of the file descriptors that is left for everything but connections.
_SPARE_FILES = 0.25


class _Server(uvicorn.Server):
    """Calls ``ready`` when it serves. When it stops, feeds end at once, and requests get time to end."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: Application,
        *,
        ready: Callable[[], None],
        stopped: Callable[[], None],
        alone: bool,
        notifier: Notifier | None,
    ) -> None:
        super().__init__(config)
        self._notifier = notifier
        self._alone = alone
        self._cleaning: asyncio.Task[None] | None = None
        self._application = application
        self._ready = ready
        self._stopped = stopped
        self._interrupted = False
        # How many seconds open requests have to end, and since when.
        self._grace_s = application.limits.shutdown_timeout_s
        self._told: float | None = None
        self._is_stopping = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._alone and not self._application.backend.streams:
            self._cleaning = asyncio.create_task(collect_garbage(lambda: self._application.requests))
        if self._notifier is not None:
            self._notifier.start(asyncio.get_running_loop(), self._application.backend.responds)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._told = monotonic()
        if sig == signal.SIGINT:
            self._interrupted = True
            self._grace_s = min(self._grace_s, _GRACE_S)
        if self._alone:
            end_within(self._grace_s, self._describe)
        super().handle_exit(sig, frame)

    def _describe(self) -> str:
        """Return what is open, for a server that does not end in time."""
        counts = (
            (self._application.requests, "requests"),
            (self._application.feeds, "feeds"),
            (len(self.server_state.connections), "connections"),
        )
        blocked = "" if self._is_stopping else "; the event loop is blocked"
        return f"still open: {', '.join(f'{count} {what}' for count, what in counts)}{blocked}"

    def _cut_off(self) -> None:
        """Close every connection, which ends its request."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._is_stopping = True
        if self._notifier is not None:
            self._notifier.stop()
        self._application.end_feeds()
        if self._cleaning is not None:
            self._cleaning.cancel()
        for connection in list(self.server_state.connections):
            # Do not wait for the rest of an upload.
            cycle = connection.cycle if isinstance(connection, HttpProtocol) else None
            if self._interrupted and cycle is not None and cycle.more_body:
                connection.transport.abort()
        left_s = self._grace_s - (monotonic() - self._told if self._told is not None else 0.0)
        cutting = asyncio.get_running_loop().call_later(left_s - _PAUSE_S, self._cut_off)
        # uvicorn takes fractions of a second too. Its way to end requests logs a traceback for each.
        self.config.timeout_graceful_shutdown = max(_PAUSE_S, left_s)  # type: ignore[assignment]
        await super().shutdown(sockets)
        cutting.cancel()
        # uvicorn raises the signal next, which may end the process.
        self._stopped()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free port. Raise ``OSError``."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    # Without an explicit protocol, the event loop leaves Nagle's algorithm on, which costs 40 ms a request.
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _room_for_connections(most: int, *, forwards: bool) -> int:
    """Return how many connections the process has file descriptors for, at most ``most``.

    Without descriptors it could not accept a connection, not even to answer a health check. A server that ``forwards``
    requests may need a second one for each.
    """
    if sys.platform == "win32":
        return most
    import resource  # Windows has none

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    spare = max(20, min(200, int(files * _SPARE_FILES)))
    return max(1, min(most, (files - spare) // (2 if forwards else 1)))


def address_of(listener: socket.socket) -> str:
    """Return the URL for clients."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    application: Application,
    listener: socket.socket,
    ready: Callable[[], None],
    stopped: Callable[[], None] = lambda: None,
    *,
    alone: bool = False,
    notifier: Notifier | None = None,
) -> None:
    """Serve on a listening socket until SIGINT (``KeyboardInterrupt``) or SIGTERM.

    Call ``ready`` when serving starts, and ``stopped`` when the last request has ended. After SIGTERM, open requests
    have ``shutdown_timeout_s`` to end; after SIGINT, at most one second. ``alone`` means that the process does nothing
    else. Then the process always ends within that time, and an emulator tunes its threads and its garbage collection.
    ``notifier`` sends the server's state to systemd.
    """
    if alone and not application.backend.streams:
        tune()
    new_server(application, listener, ready, stopped, alone=alone, notifier=notifier).run([listener])


def new_server(
    application: Application,
    listener: socket.socket,
    ready: Callable[[], None],
    stopped: Callable[[], None] = lambda: None,
    *,
    alone: bool = False,
    notifier: Notifier | None = None,
) -> uvicorn.Server:
    """Return the server that ``serve`` runs. Setting its ``should_exit`` stops it as SIGTERM does."""
    limits, backend = application.limits, application.backend
    application.most_connections = _room_for_connections(limits.connections, forwards=backend.streams)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The system drops clients that do not read their answers, even after the server has closed the connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ceil(limits.send_timeout_s * 1000))
    config = uvicorn.Config(
        application,
        loop="auto",
        http=HttpProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        log_level="error",
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    return _Server(config, application, ready=ready, stopped=stopped, alone=alone, notifier=notifier)
