"""The databases that a replication opens: the emulator's own, and those of other servers over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from urllib.parse import urlsplit

from couchdal.backends.base import BaseBackend
from couchdal.config import read_settings
from couchdal.emulator.engine.replication.endpoint import Endpoint
from couchdal.emulator.engine.replication.peer import Peer, Send
from couchdal.emulator.engine.server.configured import setting
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BackendError, NotSupported, Unreachable
from couchdal.http.messages import Request, Response
from couchdal.http.origins import ANSWERED, origin_of
from couchdal.http.urls import split_path
from couchdal.pace import waiting

# CouchDB's plugin that logs in before it replicates.
_SESSIONS = "couch_replicator_auth_session"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class LocalAndRemote:
    """Opens databases. ``answer`` answers a request to the emulator itself; ``pause`` waits before a repetition."""

    #: The name of this machine, without its domain.
    machine: str = (os.uname().nodename if hasattr(os, "uname") else "").partition(".")[0]

    def __init__(
        self, answer: Send, server: Server, *, pause: Callable[[float], None], is_served: bool = False
    ) -> None:
        self._answer = answer
        self._server = server
        self._pause = pause
        self._is_served = is_served
        self._closing: dict[Peer, Callable[[], None]] = {}

    def open(self, side: Endpoint, *, retries: int, timeout_s: float) -> Peer:
        if side.proxy is not None and side.proxy.startswith("socks5:"):
            raise NotSupported("replications through a SOCKS proxy")
        others = _Others(timeout_s, side.proxy)
        if self._is_own(side):
            # Do not retry: a request that fails here would fail again.
            peer = Peer(side, self._answer, self._pause, 0, connect=others.connect, is_own=True)
        else:
            plugins = self._server.settings.replicator.get("auth_plugins", _SESSIONS)
            send, logs_in = others.connect(side.origin), _SESSIONS in plugins.split(",")
            peer = Peer(side, send, self._pause_waiting, retries, connect=others.connect, logs_in=logs_in)
        self._closing[peer] = others.close
        return peer

    def _pause_waiting(self, seconds: float) -> None:
        with waiting():
            self._pause(seconds)

    def close(self, peer: Peer) -> None:
        close = self._closing.pop(peer, None)
        if close is not None:
            close()

    def watch(self, send: Callable[[], Response]) -> FeedWatch | None:
        return FeedWatch(send) if self._is_served else None

    def own_name(self, side: Endpoint) -> str | None:
        if not self._is_own(side):
            return None
        segments = split_path(side.path.partition("?")[0])
        return segments[0] if len(segments) == 1 else None

    def _is_own(self, side: Endpoint) -> bool:
        """Return whether an address is the emulator's own, which its configuration names.

        ``COUCHDB_URL`` or an interception may say that it is another server's. A proxy leads out of the process.
        """
        if side.is_local or side.proxy is not None:
            return side.proxy is None
        scheme = side.origin.partition(":")[0]
        if ANSWERED and ANSWERED.find(scheme, side.host, side.port) is not None:
            return False
        if scheme != "http" or side.host not in _LOOPBACK:
            return False
        named = urlsplit(read_settings().url or "")
        host = named.hostname
        if host in ("127.0.0.1", "localhost", "::1") and origin_of(named.scheme, host, named.port).port == side.port:
            return False
        with self._server.lock:
            return str(side.port) == setting(self._server, "chttpd", "port")


class FeedWatch:
    """A thread that waits for the answer to a request for changes."""

    def __init__(self, send: Callable[[], Response]) -> None:
        self.is_over: bool = False
        self._send = send
        self._lock = Lock()
        self._is_closed = False
        self._response: Response | None = None
        Thread(target=self._wait, name="couchdal-replication-feed", daemon=True).start()

    def _wait(self) -> None:
        # The edge of a thread. If a request fails here, the next one of the replication fails, too, and reports it.
        with suppress(Exception):
            response = self._send()
            with self._lock:
                self._response = response
                is_wanted = not self._is_closed
            for _ in response.chunks() if is_wanted else ():
                pass
        self.is_over = True
        self.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed, response = True, self._response
        if response is not None:
            response.close()


class _Others:
    """Connections to other servers, by origin."""

    def __init__(self, timeout_s: float, proxy: str | None) -> None:
        self._timeout_s = timeout_s
        # CouchDB speaks plain HTTP to any proxy.
        self._proxy = None if proxy is None else "http:" + proxy.partition(":")[2]
        self._backends: dict[str, BaseBackend] = {}

    def connect(self, origin: str) -> Send:
        def send(request: Request) -> Response:
            backend = self._backend(origin)
            with waiting():
                return backend.send(request)

        return send

    def _backend(self, origin: str) -> BaseBackend:
        from couchdal.backends.couch import CouchBackend  # only replications with other servers need an HTTP client

        backend = self._backends.get(origin)
        if backend is None:
            try:
                if self._proxy is None:
                    backend = CouchBackend(origin, timeout=self._timeout_s)
                else:
                    backend = CouchBackend.through(self._proxy, origin, self._timeout_s)
                self._backends[origin] = backend
            except (BackendError, ValueError) as error:
                # CouchDB accepts hosts and ports that no server can have.
                raise Unreachable(str(error), origin) from None
        return backend

    def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
