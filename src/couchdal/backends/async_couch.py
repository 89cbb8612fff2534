"""``AsyncCouchBackend``: a real CouchDB over HTTP, for callers on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from weakref import WeakKeyDictionary

import httpx2

from couchdal.backends.address import AuthenticationName, find_address
from couchdal.backends.authentication import Authentication
from couchdal.backends.base import AsyncBackend, Backend
from couchdal.backends.couch_server import PLAIN, Connections, CouchServer, headers_of
from couchdal.http.messages import Request, Response, is_feed

# If the backend streams, it passes longer answers on as they come.
_COLLECTED = 65536


class AsyncCouchBackend(AsyncBackend):
    """A CouchDB over HTTP for callers on an event loop. It takes the arguments of ``CouchBackend``.

    >>> db = AsyncCouchDAL(AsyncCouchBackend("http://localhost:5984", database="tasks"))
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        database: str | None = None,
        timeout: float | None = None,
        auth: AuthenticationName | Authentication = "basic",
        connections: Connections = PLAIN,
    ) -> None:
        address = find_address(url, user, password, database, timeout, auth)
        self._take(CouchServer(address, connections), address.database)

    @classmethod
    def of(cls, server: CouchServer, blocking: Backend) -> AsyncCouchBackend:
        """Return the asynchronous backend for the server of a blocking one."""
        backend = cls.__new__(cls)
        backend._take(server, blocking.database)
        backend.inherit(blocking)
        return backend

    def _take(self, server: CouchServer, database: str | None) -> None:
        self._server = server
        self.name: str = server.name
        self.database: str | None = database
        self.streams: bool = server.connections.streams
        # A connection belongs to the event loop that opened it. A process may run several loops, one after the other.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<AsyncCouchBackend {self.name}>"

    @property
    def server_key(self) -> object:
        return self._server

    async def send(self, request: Request) -> Response:
        flow = self._server.flow(request)
        outgoing = next(flow)
        while True:
            answer = await self._transmit(outgoing)
            try:
                outgoing = flow.send(answer)
            except StopIteration as done:
                response: Response = done.value
                return response

    async def _transmit(self, request: Request) -> Response:
        server, feed = self._server, is_feed(request)
        with server.failures():
            client = await self._client(feed)
            answer = await client.send(server.outgoing(request), stream=True, auth=None)
            response = Response(answer.status_code, headers_of(answer, request))
            if feed and answer.is_success:
                response.stream = _AsyncStream(server, answer, [])
            else:
                await self._collect(answer, response)
        return response

    async def _collect(self, answer: httpx2.Response, response: Response) -> None:
        """Read an answer to its end. If the backend streams, stop as soon as the answer turns out to be long."""
        parts: list[bytes] = []
        size = 0
        chunks = answer.aiter_raw()
        try:
            async for chunk in chunks:
                parts.append(chunk)
                size += len(chunk)
                if self.streams and size > _COLLECTED:
                    response.stream = _AsyncStream(self._server, answer, parts, chunks)
                    if "content-length" in answer.headers:
                        response.headers["content-length"] = answer.headers["content-length"]
                    return
            response.body = b"".join(parts)
        finally:
            if response.stream is None:
                await answer.aclose()

    async def _client(self, feed: bool) -> httpx2.AsyncClient:
        loop, connections = asyncio.get_running_loop(), self._server.connections
        clients = self._clients.get(loop)
        if clients is None or clients.until_closed is None:
            clients = self._clients[loop] = _Clients()
            await clients.open()
        own = feed and connections.limit is not None
        client = clients.get(own)
        if client is None:
            client = clients[own] = httpx2.AsyncClient(
                verify=self._server.verify, limits=connections.limits(feeds=own or connections.limit is None)
            )
        return client

    async def aclose(self) -> None:
        clients = self._clients.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.aclose()


class _Clients(dict[bool, httpx2.AsyncClient]):
    """The HTTP clients of one event loop: one for feeds, one for all other requests. They close with the loop."""

    #: A generator that stays open as long as the clients.
    until_closed: AsyncGenerator[None, None] | None = None

    async def open(self) -> None:
        # An event loop that ends closes its open generators. There is no other notice of its end.
        self.until_closed = self._live()
        await anext(self.until_closed)

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            for client in self.values():
                await client.aclose()
            self.clear()
            # The generator refers to the event loop, which must be free to be collected.
            self.until_closed = None

    async def aclose(self) -> None:
        if self.until_closed is not None:
            await self.until_closed.aclose()


class _AsyncStream:
    """The chunks of a long answer; ``parts`` are the chunks that were read before."""

    def __init__(
        self, server: CouchServer, answer: httpx2.Response, parts: list[bytes], rest: AsyncIterator[bytes] | None = None
    ) -> None:
        self._server = server
        self._answer = answer
        self._parts = parts
        self._rest = answer.aiter_raw() if rest is None else rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self._parts:
                yield self._parts.pop(0)
            with self._server.failures():
                async for chunk in self._rest:
                    yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._answer.aclose()
