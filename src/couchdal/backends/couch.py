"""``CouchBackend``: a real CouchDB over HTTP, for blocking callers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from socket import SHUT_RDWR
from threading import Lock
from typing import TYPE_CHECKING

import httpx2

from couchdal.backends.address import AuthenticationName, find_address
from couchdal.backends.base import BaseBackend
from couchdal.backends.couch_server import Connections, CouchServer, end_answer, headers_of
from couchdal.http.messages import Request, Response, is_feed

if TYPE_CHECKING:
    from couchdal.backends.async_couch import AsyncCouchBackend


class CouchBackend(BaseBackend):
    """A CouchDB over HTTP. It pools its connections, and threads may share it.

    Without ``url``, server and credentials come from ``COUCHDB_URL``, ``COUCHDB_USER`` and ``COUCHDB_PASSWORD``. The
    database defaults to ``COUCHDB_DATABASE``, and ``timeout``, in seconds, to ``COUCHDB_TIMEOUT`` or 30. With
    ``auth="basic"`` each request carries the credentials; with ``auth="cookie"`` a session cookie replaces them. Raise
    ``NotConfigured`` if something is missing.

    >>> db = CouchDAL(CouchBackend("http://localhost:5984", user="admin", password="secret", database="tasks"))
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        database: str | None = None,
        timeout: float | None = None,
        auth: AuthenticationName = "basic",
    ) -> None:
        address = find_address(url, user=user, password=password, database=database, timeout=timeout, auth=auth)
        self._take(CouchServer(address), address.database)

    @classmethod
    def through(cls, proxy: str, url: str, timeout: float) -> CouchBackend:
        """Return a backend for a server behind an HTTP proxy. ``proxy`` may contain credentials."""
        backend = cls.__new__(cls)
        address = find_address(url, user=None, password=None, database=None, timeout=timeout, auth="basic")
        backend._take(CouchServer(address, Connections(proxy=proxy)), None)
        return backend

    def _take(self, server: CouchServer, database: str | None) -> None:
        self._server = server
        self.name: str = server.name
        self.database: str | None = database
        self.default_database: str | None = database
        self._pool = _Pool(server)

    def __repr__(self) -> str:
        return f"<CouchBackend {self.name}>"

    @property
    def server_key(self) -> object:
        return self._server

    @property
    def provided(self) -> set[object]:
        return self._server.provided

    def send(self, request: Request) -> Response:
        flow = self._server.flow(request)
        outgoing = next(flow)
        while True:
            answer = self._transmit(outgoing)
            try:
                outgoing = flow.send(answer)
            except StopIteration as done:
                response: Response = done.value
                return response

    def _transmit(self, request: Request) -> Response:
        with self._server.failures():
            answer = self._pool.client().send(self._server.outgoing(request), stream=True, auth=None)
            response = Response(answer.status_code, headers_of(answer, request))
            if is_feed(request) and answer.is_success:
                response.stream = _Stream(self._server, answer)
            else:
                try:
                    stream = answer.stream
                    assert isinstance(stream, httpx2.SyncByteStream)
                    response.body = b"".join(stream)
                    end_answer(stream)
                finally:
                    answer.close()
        return response

    def close(self) -> None:
        self._pool.close()

    def for_event_loop(self) -> AsyncCouchBackend:
        from couchdal.backends.async_couch import (
            AsyncCouchBackend,  # imports asyncio, which blocking callers never need
        )

        return AsyncCouchBackend.of(self._server, self)


class _Pool:
    """One HTTP client. It opens with the first request, and again after a close.

    A forked process opens another one: two processes must not use the same connections, and another thread may have
    held the client's locks.
    """

    def __init__(self, server: CouchServer) -> None:
        self._server = server
        self._inherited: list[httpx2.Client | None] = []
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._client: httpx2.Client | None = None
        self._process = os.getpid()

    def client(self) -> httpx2.Client:
        if self._process != os.getpid():
            # Do not close it: the parent process still uses its connections.
            self._inherited.append(self._client)
            self._begin()
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client(
                    verify=self._server.verify,
                    limits=self._server.connections.limits(feeds=True),
                    proxy=self._server.connections.proxy,
                )
            return self._client

    def close(self) -> None:
        if self._process != os.getpid():
            return
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


class _Stream:
    """The chunks of a long answer. It releases its connection at the end or when it is closed."""

    def __init__(self, server: CouchServer, answer: httpx2.Response) -> None:
        self._server = server
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._server.failures():
                yield from self._answer.iter_raw()
        finally:
            self.close()

    def close(self) -> None:
        # Another thread may be waiting for the next chunk. This ends its wait; closing alone does not.
        connection = self._answer.extensions.get("network_stream")
        connected = connection.get_extra_info("socket") if connection is not None else None
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(SHUT_RDWR)
        self._answer.close()
