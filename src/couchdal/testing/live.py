"""Test runs on a live CouchDB: databases that are created for each scope and deleted at its end.

``CouchDAL()`` uses a database with a unique name. A middleware creates it on first use, and the databases of other
handles, as the emulator does. It notices every database that tests create; the scope that created it deletes it at its
end. Databases that existed before are never deleted.
"""

from __future__ import annotations

import uuid

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.couch_server import CouchServer
from couchdal.client import CouchDAL
from couchdal.emulator.engine.server.server import Server
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote, split_path
from couchdal.middleware.chain import Steps, install


def unique_name() -> str:
    """Return a unique name for a database."""
    return f"dal-test-{uuid.uuid4().hex[:12]}"


class LiveDatabases:
    """The databases that a test run has created on a live server, by scope."""

    def __init__(self, name: str) -> None:
        self.name = name
        # One set for each open scope, the widest first.
        self._created: list[set[str]] = []
        # Databases of handles that are not to be created any more in this scope.
        self._asked: set[str] = set()
        self._handle: CouchDAL | None = None
        self._remove = install(self._notice)

    def stop(self) -> None:
        """Remove the middleware and close the connections."""
        self._remove()
        if self._handle is not None:
            self._handle.close()

    def _notice(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Create the database of a handle before its first use, and record all databases that are created."""
        segments = split_path(request.path)
        if not self._created or isinstance(backend.server_key, Server) or not segments:
            return (yield request)
        name = segments[0]
        explicit = len(segments) == 1 and request.method in ("PUT", "DELETE")
        if self._is_first(name, backend):
            # As on the emulator, a test that begins with a deletion finds no database.
            if not explicit:
                # Not through the middleware: no fault hits this request, and no log counts it.
                self._record(name, self._dal().backend.send(Request("PUT", f"/{quote(name)}")))
            self._asked.add(name)
        response = yield request
        if explicit and request.method == "PUT":
            self._record(name, response)
        return response

    def _record(self, name: str, answer: Response) -> None:
        """Leave a database that was created now to the narrowest scope."""
        if answer.status in (201, 202):
            self._created[-1].add(name)

    def _is_first(self, name: str, backend: BaseBackend | AsyncBackend) -> bool:
        """Return whether a request to a database is the first of its scope, through a handle that creates it."""
        if name != self.name and not (backend.provides and name == backend.database):
            return False
        if name in self._asked or any(name in created for created in self._created):
            return False
        return isinstance(backend.server_key, CouchServer) and backend.server_key.name == self._dal().backend.name

    def begin(self, place: int) -> set[str]:
        """Open a scope and return the set that collects the databases it creates."""
        created: set[str] = set()
        self._created.insert(place, created)
        return created

    def end(self, created: set[str]) -> None:
        """Close a scope and delete the databases it created."""
        self._created = [kept for kept in self._created if kept is not created]
        self._asked.clear()
        for name in sorted(created):
            self._dal().backend.send(Request("DELETE", f"/{quote(name)}"))

    def _dal(self) -> CouchDAL:
        if self._handle is None:
            self._handle = CouchDAL("couch", database=self.name)
        return self._handle
