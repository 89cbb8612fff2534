"""The emulator as a backend: CouchDB's rules over documents in this process's memory.

It imports neither an HTTP client nor an event loop. Requests are answered one at a time, under the server's lock.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from couchdal.api.routes import find_endpoint, find_route
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.emulator.engine.server.server import Clock, Server, ServerClock
from couchdal.emulator.http.authentication import identify
from couchdal.emulator.http.authorization import authorize
from couchdal.emulator.http.call import Call, error_response
from couchdal.errors import CouchError
from couchdal.http.headers import effective_method
from couchdal.http.messages import Request, Response
from couchdal.http.urls import check_encoding, split_path

if TYPE_CHECKING:
    from couchdal.backends.snapshot import Snapshot
    from couchdal.emulator.engine.server.database import Database


class MemoryBackend(BaseBackend):
    """An emulated CouchDB of its own; with ``admin=(name, password)`` it needs credentials as CouchDB 3 does."""

    name = "the memory backend"
    fallback_database = "default"

    def __init__(
        self, admin: tuple[str, str] | None = None, *, server: Server | None = None, database: str | None = None
    ) -> None:
        self._admin = admin
        self.database = database
        self._provides = True
        # Shared by all views of the server, as its databases are.
        self._provided: set[str] = set()
        self.server = server or Server(clock=Clock(monotonic=monotonic))
        if admin is not None:
            self.server.admins[admin[0]] = admin[1]

    def __repr__(self) -> str:
        return f"<MemoryBackend, {len(self.server.databases)} databases>"

    @property
    def server_key(self) -> object:
        return self.server

    @property
    def collation(self) -> str:
        from couchdal.emulator.engine.collation.collation import collator_name  # most programs never ask

        return collator_name()

    def send(self, request: Request) -> Response:
        try:
            with self.server.lock:
                response = self._answer(request)
        except CouchError as error:
            response = error_response(error, request)
        return _without_body(response) if request.method == "HEAD" else response

    def _answer(self, request: Request) -> Response:
        method = effective_method(request.method, request.headers)
        check_encoding(request.query)
        segments = split_path(request.path)
        user = identify(self.server, request)
        authorize(self.server, user, method, segments)
        route, args = find_route(segments)
        call = Call(request, method, self.server, args, user)
        if "db" in args and not (len(segments) == 1 and method in ("PUT", "DELETE")):
            # A missing database is told before a wrong method.
            _ = call.db
        if "db" in args and len(segments) > 3 and segments[1] == "_design" and segments[3].startswith("_"):
            _check_design_document(call, segments[2])
        response = find_endpoint(route, method)(call)
        if user.renewed_cookie is not None:
            response.headers.setdefault("set-cookie", user.renewed_cookie)
        return response

    def bind(self, database: str, *, provide: bool = False) -> MemoryBackend:
        bound = super().bind(database)
        bound._provides = provide
        return bound

    def provide(self, database: str, *, explicit: bool) -> None:
        """Create the database that relative paths mean, on its first use, as if the server had been set up with it.

        Only once: a database that was deleted since is missing, as it is on a real server.
        """
        if not self._provides or database in self._provided:
            return
        with self.server.lock:
            if not explicit and database not in self.server.databases:
                self.server.create(database)
            self._provided.add(database)

    @property
    def clock(self) -> ServerClock:
        return ServerClock(self.server)

    def seed_ids(self, seed: int) -> None:
        with self.server.lock:
            self.server.ids.begin(seed)

    def snapshot(self) -> Snapshot:
        from couchdal.backends.snapshot import Snapshot  # only programs that go back need it

        return Snapshot(self.server, self._provided)

    def fork(self) -> MemoryBackend:
        from couchdal.emulator.engine.server.state import fork  # only programs that go back need it

        with self.server.lock:
            other = MemoryBackend(server=fork(self.server), database=self.database)
            other._admin, other._provides, other._provided = self._admin, self._provides, set(self._provided)
        return other

    def adopt(self, database: Database) -> None:
        """Take in another server's database as it is now; what is written to either one stays there."""
        from couchdal.emulator.engine.server.state import fork_database  # only programs that go back need it

        with self.server.lock:
            if database.name in self.server.databases:
                self.server.delete(database.name)
            self.server.databases[database.name] = fork_database(database)
            self._provided.add(database.name)

    def for_event_loop(self) -> AsyncBackend:
        from couchdal.backends.event_loop import InlineBackend

        return InlineBackend(self)

    def reset(self) -> None:
        """Forget every database, user and setting; feeds that are open end."""
        with self.server.lock:
            self._provided.clear()
            for name in list(self.server.databases):
                self.server.delete(name)
            self.server.empty()
            self.server.ids.begin()


def _check_design_document(call: Call, name: str) -> None:
    """Raise ``NotFound`` where the design document that is to act is missing: that is told before a wrong method."""
    from couchdal.emulator.engine.documents.document_read import open_winner  # needed by few requests

    open_winner(call.db, f"_design/{name}")


def _without_body(response: Response) -> Response:
    """Return the answer to HEAD: the headers that GET would get, the body's length among them."""
    response.close()
    headers = response.headers
    if response.stream is None:
        headers = {**headers, "content-length": str(len(response.content()))}
    return Response(response.status, headers)


_default: MemoryBackend | None = None
_default_lock = Lock()


def default_backend() -> MemoryBackend:
    """Return the memory server that all of this process's handles share, as they would share one CouchDB."""
    global _default
    with _default_lock:
        if _default is None:
            _default = MemoryBackend()
        return _default


def existing_default_backend() -> MemoryBackend | None:
    """Return the shared memory server, if anybody has asked for it yet."""
    return _default
