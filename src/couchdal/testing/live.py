"""Test runs on a live CouchDB: databases with unique names, created for each scope and deleted at its end.

``CouchDAL()`` uses a database with a unique name. A middleware notices every other database that tests create; the
scope that created it deletes it at its end. Databases that existed before are never deleted.
"""

from __future__ import annotations

import uuid

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.client import CouchDAL
from couchdal.emulator.engine.server.server import Server
from couchdal.http.messages import Request
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
        self._handle: CouchDAL | None = None
        self._remove = install(self._notice)

    def stop(self) -> None:
        """Remove the middleware and close the connections."""
        self._remove()
        if self._handle is not None:
            self._handle.close()

    def _notice(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Create the database of ``CouchDAL()`` before its first use, and record all databases that are created."""
        segments = split_path(request.path)
        if not self._created or isinstance(backend.server_key, Server) or not segments:
            return (yield request)
        creates = request.method == "PUT" and len(segments) == 1
        if segments[0] == self.name and not creates and not any(self.name in created for created in self._created):
            yield Request("PUT", f"/{self.name}", headers=request.headers)
            self._created[-1].add(self.name)
        response = yield request
        if creates and response.status in (201, 202):
            self._created[-1].add(segments[0])
        return response

    def begin(self, place: int) -> set[str]:
        """Open a scope and return the set that collects the databases it creates."""
        created: set[str] = set()
        self._created.insert(place, created)
        return created

    def end(self, created: set[str]) -> None:
        """Close a scope and delete the databases it created."""
        self._created = [kept for kept in self._created if kept is not created]
        for name in sorted(created):
            self._dal().backend.send(Request("DELETE", f"/{quote(name)}"))

    def _dal(self) -> CouchDAL:
        if self._handle is None:
            self._handle = CouchDAL("couch", database=self.name)
        return self._handle
