"""`couchdal serve`: a backend on a port, by ``uvicorn``, until it is interrupted."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from math import ceil
from types import FrameType

import uvicorn

from couchdal.server.application import Application
from couchdal.server.protocol import HttpProtocol, Sockets

# What CouchDB allows an idle connection. A shorter time would race with clients that are about to use theirs again.
_KEEP_ALIVE_S = 300
# Who interrupts a server does not want to wait: bodies that are still coming are ended at once, and the rest soon.
_GRACE_S = 1
_BACKLOG = 1024


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
            cycle = connection.cycle if isinstance(connection, HttpProtocol) else None
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
    shared = {"application": application, "sockets": sockets}
    protocol = type("HttpProtocol", (HttpProtocol,), shared)
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
