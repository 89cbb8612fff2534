"""The seam between callers and servers: a backend turns a ``Request`` into a ``Response``.

A backend knows which database its relative paths mean, and nothing about its callers.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast

from couchdal.errors import BackendError, CouchError, MemoryOnly, NotConfigured, NotJSON
from couchdal.http.json_text import JSON, MOST_DEPTH, copy_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.redaction import name_request
from couchdal.http.urls import quote, quote_unsendable

if TYPE_CHECKING:
    from typing import Self

    from couchdal.emulator.engine.server.server import ServerClock
    from couchdal.emulator.engine.server.snapshot import Snapshot

# A generator function that sees each request of a backend: see ``couchdal.middleware.chain``.
Middleware: TypeAlias = "Callable[[BaseBackend | AsyncBackend, Request], Generator[object, Response, Response]]"

# Paths that start with one of these belong to the server; every other path is relative to a database.
SERVER_PATHS = frozenset((
    "_active_tasks", "_all_dbs", "_cluster_setup", "_db_updates", "_dbs_info", "_global_changes", "_membership",
    "_node", "_replicate", "_replicator", "_reshard", "_scheduler", "_search_analyze", "_session", "_stats", "_up",
    "_users", "_utils", "_uuids", "favicon.ico",
))  # fmt: skip


class Drivers:
    """How requests pass through middleware, for blocking and for asynchronous backends."""

    __slots__ = ("asynchronous", "blocking")

    def __init__(
        self,
        blocking: Callable[[BaseBackend, Request], Response],
        asynchronous: Callable[[AsyncBackend, Request], Awaitable[Response]],
    ) -> None:
        self.blocking: Callable[[BaseBackend, Request], Response] = blocking
        self.asynchronous: Callable[[AsyncBackend, Request], Awaitable[Response]] = asynchronous


class Backend:
    """Base class of blocking and asynchronous backends: a name, a database, paths and results."""

    #: The database that relative paths mean; ``None`` if none was named.
    database: str | None = None
    #: The database that a ``CouchDAL()`` without a name means. It exists: the emulator creates it on first use.
    default_database: str | None = None
    #: The server's name in messages. It never contains a password.
    name: str = "the server"
    #: The middleware of this object and its views. ``couchdal.middleware.chain`` adds to it.
    middleware: tuple[Middleware, ...] = ()
    #: ``None`` while no middleware is installed. ``couchdal.middleware.chain`` sets it, for all backends or for one
    #: object that has middleware, so that backends import no middleware.
    drivers: Drivers | None = None

    def view(self) -> Self:
        """Return another object for the same server and database."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def bind(self, database: str, *, default: str | None = None) -> Self:
        """Return a view of the same server whose relative paths mean ``database``.

        ``default`` replaces the view's ``default_database``.
        """
        bound = self.view()
        bound.database = database
        if default is not None:
            bound.default_database = default
        return bound

    def inherit(self, other: Backend) -> None:
        """Take over the name, the databases and the middleware of another backend object for the same server."""
        self.name, self.database, self.default_database = other.name, other.database, other.default_database
        if other.middleware:
            self.middleware, self.drivers = other.middleware, other.drivers

    @property
    def server_key(self) -> object:
        """The identity of the server: the same object for all its views and wrappers."""
        return self

    @property
    def provided(self) -> set[object]:
        """The databases that were created on first use. All views of the server share it; a rollback restores it."""
        found: set[object] = self.__dict__.setdefault("_provided", set())
        return found

    @property
    def emulator(self) -> Emulator:
        """What only the emulator can do: the clock, snapshots, forks. Raise ``MemoryOnly`` for a real server."""
        return self.require_emulator("emulator")

    def require_emulator(self, asked: str, refusal: type[MemoryOnly] = MemoryOnly) -> Emulator:
        """Return the emulator, or raise ``refusal`` with a message that names the feature ``asked``."""
        raise refusal(
            f"{self.name} does not support {asked}; only the memory backend does."
            " Use CouchDAL('memory'), or mark the test with @pytest.mark.dal(emulator=True).",
            self.name,
        )

    def check_large(self, request: Request) -> None:
        """Raise ``CouchError``, before the body arrives, if the client may not send over ``ANONYMOUS_BODY`` bytes."""

    def relative_request(
        self,
        method: str,
        path: str,
        payload: object = ABSENT,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        """Return the request for a path that is relative to this backend's database.

        ``/_find`` becomes ``/{db}/_find`` and ``/`` becomes ``/{db}``; ``/_session`` does not change. The path may have
        a query string. The payload is copied and checked here, so later changes by the caller have no effect. Raise
        ``NotConfigured`` if no database was named, and ``TypeError`` or ``ValueError`` for a payload that is not JSON.
        """
        method, path, query = method.upper(), quote_unsendable(path.lstrip("/")), ""
        if payload is not ABSENT:
            payload = copy_json(payload, MOST_DEPTH)
        if "?" in path:
            path, _, query = path.partition("?")
        if path.partition("/")[0] in SERVER_PATHS:
            path = "/" + path
        else:
            database = self.database or self.default_database
            if database is None:
                raise NotConfigured(
                    f"no database is named for {self.name}: set COUCHDB_DATABASE, or pass a name, as in"
                    ' CouchDAL(database="tasks")',
                    self.name,
                )
            if database == self.default_database:
                self.provide(database, method, path)
            root = database_path(database)
            path = f"{root}/{path}" if path else root
        sent = {"accept": "application/json"}
        if payload is not ABSENT:
            sent["content-type"] = "application/json"
        if headers:
            sent.update((name.lower(), value) for name, value in headers.items())
        if payload is ABSENT:
            return Request(method, path, query, sent, body)
        return Request(method, path, query, sent, json=payload)

    def provide(self, database: str, method: str, path: str) -> None:
        """Create the default database before the first request to it. ``path`` is relative to the database.

        A CouchDB does nothing here: in tests, a middleware creates databases.
        """

    def result(self, response: Response) -> JSON:
        """Return the decoded body, or raise the ``CouchError`` of a status >= 400, or ``NotJSON``."""
        if response.json is ABSENT:
            if content := response.content():
                try:
                    response.json = json.loads(content)
                except ValueError:
                    raise NotJSON(self._not_json(response, content), self.name) from None
            else:
                response.json = None
        return cast(JSON, response.json) if response.status < 400 else response.result()

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

        Raise ``CouchError`` for a status >= 400 and ``BackendError`` if no usable answer came. Raise ``TypeError`` or
        ``ValueError`` for a payload that is not JSON, before anything is sent.
        """
        request = self.relative_request(method, path, ABSENT if payload is None else payload)
        try:
            return self.result(self.exchange(request))
        except (CouchError, BackendError) as error:
            name_request(error, request, is_path_written=True)
            raise

    def exchange(self, request: Request) -> Response:
        """Send a request through the middleware and return its answer."""
        return self.send(request) if self.drivers is None else self.drivers.blocking(self, request)

    def close(self) -> None:
        """Release connections and threads. Sending again afterwards is allowed."""

    def for_event_loop(self) -> AsyncBackend | None:
        """Return this server's asynchronous backend. ``None`` means that ``send`` must be called in threads."""
        return None

    def for_server(self, request_timeout_s: float | None = None) -> AsyncBackend | None:
        """Return this server's asynchronous backend for a web server, with a time limit for each request."""
        return self.for_event_loop()


class AsyncBackend(Backend, ABC):
    """The seam for callers on an event loop. The ``stream`` of its answers is an asynchronous iterator."""

    #: If true, bodies are passed on as they arrive: requests may have a ``stream``, and long answers have one.
    streams = False
    #: If true, ``send`` usually awaits nothing. Then its coroutine ends at the first step.
    answers_at_once = False

    @abstractmethod
    async def send(self, request: Request) -> Response:
        """Answer one request, as ``BaseBackend.send`` does."""

    def collects(self, request: Request) -> int | None:
        """Return how long a body may be that comes in one piece, to be sent twice; ``None`` if every body does."""
        return 65536 if self.streams else None

    async def check_large_later(self, request: Request) -> None:
        """Check as ``check_large`` does, and let other tasks run meanwhile."""
        self.check_large(request)

    async def handle_request(self, path: str, method: str = "GET", payload: object = None) -> JSON:
        """Return the decoded body of an answer, as ``BaseBackend.handle_request`` does."""
        request = self.relative_request(method, path, ABSENT if payload is None else payload)
        try:
            return self.result(await collect(await self.exchange(request)))
        except (CouchError, BackendError) as error:
            name_request(error, request, is_path_written=True)
            raise

    async def exchange(self, request: Request) -> Response:
        """Send a request through the middleware and return its answer."""
        return await (self.send(request) if self.drivers is None else self.drivers.asynchronous(self, request))

    def responds(self, within_s: float) -> bool:
        """Return whether the server in this process answers within some seconds. A thread calls this."""
        return True

    async def attend(self) -> None:
        """Run background work while a server runs, until cancelled. Most backends have none."""

    async def aclose(self) -> None:
        """Release what the backend holds."""


class Emulator(BaseBackend):
    """A backend that emulates CouchDB in this process. Only emulators have a clock, seeded ids and snapshots."""

    @property
    @abstractmethod
    def clock(self) -> ServerClock:
        """The server's clock, to ``advance(seconds)``."""

    @property
    @abstractmethod
    def collation(self) -> str:
        """The library or table that defines the order of strings."""

    @property
    @abstractmethod
    def config(self) -> MutableMapping[str, str]:
        """CouchDB's configuration, by ``section/key``. A change is undone with the test, like all others.

        It raises ``BadRequest`` and ``Forbidden`` as ``PUT /_node/_local/_config/{section}/{key}`` does.

        >>> dal = CouchDAL("memory")
        >>> dal.emulator.config["chttpd_auth/iterations"] = "10"
        """

    @abstractmethod
    def seed_ids(self, seed: int) -> None:
        """Restart the sequence of generated ids; the same seed gives the same ids."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Save the server's state; ``snapshot.restore()`` brings it back."""

    @contextmanager
    def rollback(self) -> Iterator[None]:
        """Undo every change that is made within a ``with`` block, in all databases and through any handle."""
        snapshot = self.snapshot()
        try:
            yield
        finally:
            snapshot.restore()

    @abstractmethod
    def fork(self) -> Emulator:
        """Return another server with the same state. Later changes to one do not affect the other."""

    @abstractmethod
    def check(self) -> list[str]:
        """Return what is wrong with the emulator's data. The list is empty unless couchdal has a fault.

        It compares each database's counts, log of changes, live ids, revision trees and indexes with its documents.

        >>> dal = CouchDAL("memory", database="checked", create=True)
        >>> dal.put_document("a", {"n": 1})["ok"]
        True
        >>> dal.emulator.check()
        []
        """

    @abstractmethod
    def settle(self) -> None:
        """Run all background work that is due, then return: replications, and updates of indexes.

        The next query finds its index up to date, so a test can measure a query without the update of its index.

        >>> dal = CouchDAL("memory", database="settled", create=True)
        >>> dal.create_index(["n"])["result"]
        'created'
        >>> dal.emulator.settle()
        """

    @abstractmethod
    def reset(self) -> None:
        """Delete every database, user and setting; open feeds end."""

    def require_emulator(self, asked: str, refusal: type[MemoryOnly] = MemoryOnly) -> Emulator:
        return self


async def collect(response: Response) -> Response:
    """Read the stream of a response, if it has one, to its end. Return the response."""
    if response.stream is not None:
        response.body, response.stream = b"".join([chunk async for chunk in response.achunks()]), None
    return response


@lru_cache(maxsize=256)
def database_path(database: str) -> str:
    """Return the path of a database. It is cached: a program names few databases, and each request needs one."""
    return "/" + quote(database)
