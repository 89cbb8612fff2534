"""``intercept``: requests of other HTTP clients, answered by a backend in this process.

An interception is one entry in the list of intercepted origins. The seams of the HTTP clients read this list.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING
from warnings import warn

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.config import choose_indexes, environment, read_settings
from couchdal.errors import MemoryOnly
from couchdal.http.messages import Feed, Request
from couchdal.http.origins import ANSWERED, Origin, origin_of, parse_origin
from couchdal.interception.answers import Outcome, async_outcome_of, outcome_of
from couchdal.interception.patches import install, uninstall
from couchdal.interception.patience import Patience
from couchdal.middleware import watched
from couchdal.middleware.chain import identity
from couchdal.pace import caller_timeout_s

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from couchdal.middleware.index_watch import SuggestedIndex

_DEFAULT = "http://localhost:5984"
_patience: ContextVar[Patience] = ContextVar("couchdal_patience")
# Held while interceptions begin and end.
_lock = Lock()

if hasattr(os, "register_at_fork"):
    # A thread of the parent may be in the middle of that, and does not exist in the child.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Interception:
    """Answers every request to some origins by a backend, in this process, within a ``with`` block.

    It applies to all threads and event loops, and to clients that exist already. Blocks may be nested; the inner one
    wins.
    """

    def __init__(self, origins: tuple[Origin, ...], backend: BaseBackend) -> None:
        self.origins = origins
        self.backend = backend
        self._asynchronous: AsyncBackend | None = None
        self._is_on = self._was_on = False
        self._clock: Callable[[], float] = _clock_of(backend)
        #: Connections of the standard library that end with the interception.
        self.connections: set[HTTPConnection] = set()

    def __repr__(self) -> str:
        state = "on" if self._is_on else "off"
        return f"<Interception of {', '.join(map(str, self.origins))} by {self.backend!r}, {state}>"

    def __enter__(self) -> Interception:
        with _lock:
            if self._is_on:
                raise RuntimeError(f"{self!r}: it is on already; call couchdal.intercept again for a nested block")
            self._was_on = True
            if not ANSWERED:
                install()
            ANSWERED.add(self.origins, self)
            self._is_on = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _lock:
            if not self._is_on:
                return
            self._is_on = False
            ANSWERED.remove(self)
            if not ANSWERED:
                uninstall()
            connections, self.connections = self.connections, set()
        for connection in connections:
            # Drop the connection: the client's next request connects again.
            connection.sock = None

    def __del__(self) -> None:
        if not getattr(self, "_was_on", True):
            warn(f"{self!r} was never on: write `with couchdal.intercept(...):`", RuntimeWarning, stacklevel=2)

    def suggest_indexes(self) -> list[SuggestedIndex]:
        """Return the indexes that intercepted queries needed. Raise ``RuntimeError`` unless ``DAL_INDEXES`` is set."""
        from couchdal.middleware.index_watch import find_watch  # most interceptions watch nothing

        watch = find_watch(self.backend)
        if watch is None:
            raise RuntimeError("queries are watched only if DAL_INDEXES is watch or require")
        return watch.suggestions()

    def outcome(self, request: Request, timeout_s: float | None) -> Outcome:
        """Return the answer to a request, or the error that took its place."""
        token = caller_timeout_s.set(timeout_s)
        try:
            return outcome_of(self.backend, request, Patience(timeout_s, self._clock))
        finally:
            caller_timeout_s.reset(token)

    async def async_outcome(self, request: Request, timeout_s: float | None) -> Outcome:
        """Return the answer to a request of a client on an event loop. Its stream is an asynchronous one."""
        patience = Patience(timeout_s, self._clock)
        _patience.set(patience)
        backend = self._asynchronous or self._open_asynchronous()
        token = caller_timeout_s.set(timeout_s)
        try:
            return await async_outcome_of(backend, request, patience)
        finally:
            caller_timeout_s.reset(token)

    def _open_asynchronous(self) -> AsyncBackend:
        from couchdal.backends.event_loop import (  # imports asyncio, which blocking clients never need
            InlineBackend,
            feed_chunks,
            for_event_loop,
        )

        class _Patient(InlineBackend):
            def _feed_chunks(self, feed: Feed) -> AsyncGenerator[bytes, None]:
                return feed_chunks(_patience.get().watch(feed))

        opened = for_event_loop(self.backend)
        self._asynchronous = _Patient(self.backend) if type(opened) is InlineBackend else opened
        return self._asynchronous

    def is_same_server(self, other: object) -> bool:
        """Return whether the backend sends its requests to this server. Then they must not be intercepted again."""
        return identity(self.backend.server_key) is other


def intercept(*origins: str, backend: BaseBackend | None = None) -> Interception:
    """Answer requests of other HTTP clients by the emulator, within a ``with`` block and without a socket.

    ``origins`` are addresses such as ``"http://couchdb:5984"``; ``"http://localhost:*"`` means every port. The default
    is the origin of ``COUCHDB_URL``, or ``http://localhost:5984``. Requests by requests, urllib3, ``http.client``,
    httpx, httpx2 and aiohttp are answered. Those to other origins are sent as before. ``backend`` answers the requests;
    the default is the memory server of ``CouchDAL("memory")``, or the backend that ``DAL_BACKEND`` names. Raise
    ``ValueError`` for a text that is not an origin.

    >>> import urllib.request
    >>> import couchdal
    >>> with couchdal.intercept("http://couchdb:5984"):
    ...     urllib.request.urlopen("http://couchdb:5984/_up").status
    200
    """
    chosen = origins or (read_settings().url or _DEFAULT,)
    for origin in chosen:
        if not isinstance(origin, str):
            raise TypeError(f"an origin is a str such as 'http://couchdb:5984', not {origin!r}; pass backend= by name")
    if backend is None:
        # Tests may choose their backends by marks.
        is_chosen = bool(environment().get("DAL_BACKEND")) or "pytest" in sys.modules
        backend = open_backend(None if is_chosen else "memory").view()
        # Other clients name a database in each path.
        backend.database = None
    elif not isinstance(backend, BaseBackend):
        raise TypeError(f"backend must be a BaseBackend, such as MemoryBackend(), not {backend!r}")
    return Interception(tuple(map(parse_origin, chosen)), watched(backend, choose_indexes()))


def interception_for(scheme: str, host: str, port: int | None) -> Interception | None:
    """Return the interception that answers for a server, or ``None``."""
    found = ANSWERED.find(scheme, host, port)
    return found if isinstance(found, Interception) else None


def explain(error: BaseException, scheme: str, host: str, port: int | None) -> None:
    """Add a note to a client's error: its server is not among the intercepted ones."""
    note = f"couchdal.intercept answers {ANSWERED.describe()}; {origin_of(scheme, host, port)} is not among them"
    if ANSWERED and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _clock_of(backend: BaseBackend) -> Callable[[], float]:
    """Return the clock of an emulator, which tests advance, or real time."""
    try:
        return backend.emulator.clock.monotonic
    except MemoryOnly:
        return time.monotonic
