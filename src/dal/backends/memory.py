"""The emulator as a backend: CouchDB's rules over documents in this process's memory.

It imports neither an HTTP client nor an event loop. Requests are answered one at a time, under the server's lock.
"""

from __future__ import annotations

from threading import Lock

from dal.backends.base import BaseBackend
from dal.endpoints.authentication import identify
from dal.endpoints.call import Call, error_response
from dal.engine.server import Server
from dal.errors import CouchError
from dal.routing import find_endpoint, find_route, split_path
from dal.wire import Request, Response


class MemoryBackend(BaseBackend):
    """An emulated CouchDB of its own. With ``admin=(name, password)``, credentials are needed as CouchDB 3 needs them."""

    def __init__(self, admin: tuple[str, str] | None = None, *, server: Server | None = None) -> None:
        self._admin = admin
        self.server = server or Server()
        if admin is not None:
            self.server.admins[admin[0]] = admin[1]

    def __repr__(self) -> str:
        return f"<MemoryBackend, {len(self.server.databases)} databases>"

    def send(self, request: Request) -> Response:
        try:
            with self.server.lock:
                response = self._answer(request)
        except CouchError as error:
            response = error_response(error)
        return response

    def _answer(self, request: Request) -> Response:
        method = _overridden(request)
        segments = split_path(request.path)
        user = identify(self.server, request)
        route, args = find_route(segments)
        return find_endpoint(route, method)(Call(request, self.server, args, user))

    def reset(self) -> None:
        """Forget every database, user and setting; feeds that are open end."""
        with self.server.lock:
            for name in list(self.server.databases):
                self.server.delete(name)
            self.server.__init__(admins=self.server.admins, clock=self.server.clock)  # type: ignore[misc]


def _overridden(request: Request) -> str:
    override = request.headers.get("x-http-method-override")
    return override.upper() if override and request.method == "POST" else request.method


_default: MemoryBackend | None = None
_default_lock = Lock()


def default_backend() -> MemoryBackend:
    """Return the memory server that all of this process's handles share, as they would share one CouchDB."""
    global _default  # noqa: PLW0603 - the one server of the process, as DESIGN has it
    with _default_lock:
        if _default is None:
            _default = MemoryBackend()
        return _default
