"""The seam: a backend turns a ``Request`` into a ``Response`` and knows nothing of who asks.

A backend also knows which of its server's databases relative paths mean, so that it can be used by itself.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from couchdal.errors import MemoryOnly, NotConfigured, NotJSON, ResetRefused
from couchdal.http.json_text import JSON, MOST_DEPTH, copy_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote, quote_unsendable

if TYPE_CHECKING:
    from couchdal.backends.snapshot import Snapshot
    from couchdal.emulator.engine.server.server import ServerClock
    from couchdal.middleware.index_watch import SuggestedIndex

_Self = TypeVar("_Self", bound="Backend")

# The first segments that are the server's own; every other path is relative to a database.
SERVER_PATHS = frozenset(
    (
        "_active_tasks",
        "_all_dbs",
        "_cluster_setup",
        "_db_updates",
        "_dbs_info",
        "_global_changes",
        "_membership",
        "_node",
        "_replicate",
        "_replicator",
        "_reshard",
        "_scheduler",
        "_search_analyze",
        "_session",
        "_stats",
        "_up",
        "_users",
        "_utils",
        "_uuids",
        "favicon.ico",
    )
)


class Backend:
    """What the blocking and the asynchronous seam share: a name, a database, and how paths and answers are read."""

    #: The database that relative paths mean; ``None`` where none was named.
    database: str | None = None
    #: Used where ``database`` is ``None``.
    fallback_database: str | None = None
    #: Whether anything stands between callers and backends: see ``interception``, which sets it for all of them.
    intercepted = False
    #: How messages call the server. It never holds a password.
    name: str = "the server"

    def bind(self: _Self, database: str, *, provide: bool = False) -> _Self:
        """Return a view of the same server whose relative paths mean ``database``.

        ``provide`` lets the emulator create that database on first use.
        """
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.database = database
        return bound

    def resolve(self, method: str, path: str) -> str:
        """Return the server's path for one that is relative to this backend's database.

        ``/_find`` is ``/{db}/_find`` and ``/`` is ``/{db}``, but ``/_session`` is the server's own. Raises
        ``NotConfigured`` where no database was named.
        """
        relative = path.lstrip("/")
        first = relative.partition("/")[0]
        if first in SERVER_PATHS:
            return "/" + relative
        database = self.database or self.fallback_database
        if database is None:
            raise NotConfigured(
                f"no database is named for {self.name}: set COUCHDB_DATABASE or pass database=", self.name
            )
        self.provide(database, explicit=not first and method in ("PUT", "DELETE"))
        return f"/{quote(database)}/{relative}" if first else f"/{quote(database)}"

    def provide(self, database: str, *, explicit: bool) -> None:
        """Have a database exist before a request to it; a real server never invents one.

        ``explicit`` says that the request itself creates or deletes the database.
        """

    @property
    def server_key(self) -> object:
        """What stands for the server: the same object for all views of it, and for what wraps them."""
        return self

    @property
    def collation(self) -> str | None:
        """Which library or table gives strings their order; None where the server at the other end knows."""
        return None

    @property
    def clock(self) -> ServerClock:
        """The server's clock; raises ``MemoryOnly`` for any server but the emulator."""
        raise MemoryOnly(f"the clock of {self.name} cannot be moved: only the memory backend's can be", self.name)

    def seed_ids(self, seed: int) -> None:
        """Begin another run of generated ids; raises ``MemoryOnly`` for any server but the emulator."""
        raise MemoryOnly(f"{self.name} generates ids of its own: only the memory backend's can be seeded", self.name)

    def snapshot(self) -> Snapshot:
        """Return the server's state as it is now, to return to; raises ``MemoryOnly`` for any but the emulator."""
        raise MemoryOnly(f"{self.name} keeps no snapshots: only the memory backend does", self.name)

    def fork(self: _Self) -> _Self:
        """Return another server of the same state; raises ``MemoryOnly`` for any but the emulator."""
        raise MemoryOnly(f"{self.name} cannot be forked: only the memory backend can be", self.name)

    def suggest_indexes(self) -> list[SuggestedIndex]:
        """Return the indexes that queries would have needed; raises ``RuntimeError`` where nobody has watched."""
        raise RuntimeError('queries are watched only with indexes="watch" or indexes="require"')

    def relative_request(
        self,
        method: str,
        path: str,
        payload: object = ABSENT,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        """Return the request for a relative path; raises ``TypeError`` or ``ValueError`` for what cannot be sent."""
        request = make_request(method, path, payload, headers, body)
        path = self.resolve(request.method, request.path)
        return request.with_head(request.method, path, request.query, request.headers)

    def result(self, response: Response) -> JSON:
        """Return the decoded body, or raise the ``CouchError`` of a status >= 400, or ``NotJSON``."""
        if response.json is ABSENT:
            content = response.content()
            if content:
                try:
                    response.json = json.loads(content)
                except ValueError:
                    raise NotJSON(self._not_json(response, content), self.name) from None
            else:
                response.json = None
        return response.result()

    def _not_json(self, response: Response, content: bytes) -> str:
        kind = response.headers.get("content-type", "no content type")
        return f"{self.name} answered {response.status} with something other than JSON ({kind}): {content[:80]!r}"


class BaseBackend(Backend, ABC):
    """A server that answers requests: ``MemoryBackend`` in this process, ``CouchBackend`` over HTTP."""

    @abstractmethod
    def send(self, request: Request) -> Response:
        """Answer one request. A status >= 400 is an answer like any other; only a missing answer raises."""

    def handle_request(self, path: str, method: str = "GET", payload: object = None) -> JSON:
        """Return the decoded body of the answer to ``method path``; ``path`` is relative to this backend's database.

        Raises ``CouchError`` for a status >= 400, ``BackendError`` where no usable answer came, and ``TypeError`` or
        ``ValueError`` for a payload that is not JSON, before anything is sent.
        """
        request = self.relative_request(method, path, ABSENT if payload is None else payload)
        return self.result(self.exchange(request))

    def exchange(self, request: Request) -> Response:
        """Answer one request as ``send`` does, past the interceptors: what every caller from outside uses."""
        if not Backend.intercepted:
            return self.send(request)
        from couchdal.middleware.chain import exchange_blocking  # most programs have no interceptors

        return exchange_blocking(self, request)

    def reset(self) -> None:
        """Empty the server; raises ``ResetRefused`` for any but the emulator."""
        raise ResetRefused(f"{self.name} is not emptied: only the memory backend can be", self.name)

    def close(self) -> None:
        """Give back what the backend holds: connections, threads. Sending again afterwards is allowed."""

    def for_event_loop(self) -> AsyncBackend:
        """Return this server behind the asynchronous seam; where nothing better is known, it answers from threads."""
        from couchdal.backends.event_loop import ThreadedBackend  # imports asyncio, which blocking callers never need

        return ThreadedBackend(self)


class AsyncBackend(Backend, ABC):
    """The seam for callers on an event loop. Where its answers stream, ``stream`` is an asynchronous iterator."""

    #: Whether bodies pass through as they come: requests may have a ``stream``, and any long answer has one.
    streams = False

    @abstractmethod
    async def send(self, request: Request) -> Response:
        """Answer one request, as ``BaseBackend.send`` does."""

    def exchange_at_once(self, request: Request) -> Response | None:
        """Answer as ``exchange`` does where nothing has to be waited for; else None, and nothing has been done."""
        return None

    async def handle_request(self, path: str, method: str = "GET", payload: object = None) -> JSON:
        """Return the decoded body of an answer, as ``BaseBackend.handle_request`` does."""
        from couchdal.backends.event_loop import collect

        request = self.relative_request(method, path, ABSENT if payload is None else payload)
        return self.result(await collect(await self.exchange(request)))

    async def exchange(self, request: Request) -> Response:
        """Answer one request as ``send`` does, past the interceptors: what every caller from outside uses."""
        if not Backend.intercepted:
            return await self.send(request)
        from couchdal.middleware.chain import exchange_async

        return await exchange_async(self, request)

    async def reset(self) -> None:
        """Empty the server; raises ``ResetRefused`` for any but the emulator."""
        raise ResetRefused(f"{self.name} is not emptied: only the memory backend can be", self.name)

    async def attend(self) -> None:
        """Do what has to be done in the background while a server runs, until it is cancelled: nothing, for most."""

    async def aclose(self) -> None:
        """Give back what the backend holds."""


def make_request(
    method: str,
    path: str,
    payload: object = ABSENT,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Request:
    """Return the request for a server's path, which may carry a query string, and a JSON payload or a body's bytes.

    The payload is copied and checked here, so that what the caller does with it afterwards changes nothing.
    """
    path, _, query = quote_unsendable(path).partition("?")
    sent = {"accept": "application/json"}
    if payload is not ABSENT:
        sent["content-type"] = "application/json"
        payload = copy_json(payload, MOST_DEPTH)
    if headers:
        sent.update((name.lower(), value) for name, value in headers.items())
    return Request(method.upper(), path if path.startswith("/") else "/" + path, query, sent, body, payload)
