"""``AsyncCouchBackend``: a real CouchDB over HTTP, for callers on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from weakref import WeakKeyDictionary

import httpx2

from couchdal.backends.address import AuthenticationName, find_address
from couchdal.backends.authentication import Authentication
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.couch_server import PLAIN, Connections, CouchServer, end_answer, headers_of
from couchdal.backends.event_libraries import running_trio
from couchdal.backends.event_loop import ThreadedBackend
from couchdal.backends.slots import Slot, Slots
from couchdal.errors import NotConfigured, Unavailable
from couchdal.http.messages import Request, Response, is_feed

# A backend that streams passes on longer answers in chunks, as they arrive.
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
        address = find_address(url, user=user, password=password, database=database, timeout=timeout, auth=auth)
        self._take(CouchServer(address, connections), address.database)

    @classmethod
    def of(cls, server: CouchServer, blocking: BaseBackend) -> AsyncCouchBackend:
        """Return the asynchronous backend for the server of a blocking one."""
        backend = cls.__new__(cls)
        backend._take(server, blocking.database)
        backend.inherit(blocking)
        backend._threaded = ThreadedBackend(blocking)
        return backend

    def _take(self, server: CouchServer, database: str | None) -> None:
        self._server = server
        self.name: str = server.name
        self.database: str | None = database
        self.default_database: str | None = database
        self.streams: bool = server.connections.streams
        # A connection belongs to the event loop that opened it. A process may run several loops, one after the other.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()
        self._threaded: ThreadedBackend | None = None

    def __repr__(self) -> str:
        return f"<AsyncCouchBackend {self.name}>"

    @property
    def server_key(self) -> object:
        return self._server

    @property
    def provided(self) -> set[object]:
        return self._server.provided

    async def send(self, request: Request) -> Response:
        if running_trio() is not None:
            return await self._in_threads().send(request)
        flow = self._server.flow(request)
        outgoing = next(flow)
        while True:
            answer = await self._transmit(outgoing)
            try:
                outgoing = flow.send(answer)
            except StopIteration as done:
                response: Response = done.value
                return response

    def _in_threads(self) -> ThreadedBackend:
        """Return the blocking backend for the same server, in threads. Connections here belong to asyncio."""
        if self._threaded is None:
            raise NotConfigured("under trio, pass a CouchBackend instead of an AsyncCouchBackend", self.name)
        return self._threaded

    async def _transmit(self, request: Request) -> Response:
        server, feed = self._server, is_feed(request)
        clients = await self._open_clients()
        slot = await self._slot(clients, request, feed)
        response: Response | None = None
        try:
            with server.failures():
                answer = await self._client(clients, feed).send(server.outgoing(request), stream=True, auth=None)
                response = Response(answer.status_code, headers_of(answer, request))
                if feed and answer.is_success:
                    response.stream = _AsyncStream(server, answer, [], slot)
                else:
                    await self._collect(request, answer, response, slot)
            return response
        finally:
            if response is None or response.stream is None:
                slot.release()

    async def _collect(self, request: Request, answer: httpx2.Response, response: Response, slot: Slot) -> None:
        """Read an answer to its end. If the backend streams, stop as soon as the answer turns out to be long."""
        parts: list[bytes] = []
        size = 0
        chunks = _chunks(answer)
        try:
            async for chunk in chunks:
                parts.append(chunk)
                size += len(chunk)
                if self.streams and size > _COLLECTED:
                    if not slot.become_transfer() and request.method == "GET":
                        # A further long answer would occupy the slot of an ordinary request until its client has read
                        # it. Only the answer to a write is needed, because it says what was written.
                        name = self._server.name
                        raise Unavailable(f"too many long answers of {name} are being downloaded", name)
                    response.stream = _AsyncStream(self._server, answer, parts, slot, chunks)
                    if "content-length" in answer.headers:
                        response.headers["content-length"] = answer.headers["content-length"]
                    return
            response.body = b"".join(parts)
        finally:
            if response.stream is None:
                await answer.aclose()

    async def _slot(self, clients: _Clients, request: Request, feed: bool) -> Slot:
        """Return a slot for the request. Raise ``Unavailable`` if none becomes free in time."""
        server = self._server
        timeout_s = server.connections.connect_timeout_s or server.timeout_s
        try:
            return await clients.slots.take(request.peer, timeout_s, feed=feed, transfer=request.stream is not None)
        except TimeoutError:
            raise Unavailable(f"all connections to {server.name} are in use", server.name) from None

    async def _open_clients(self) -> _Clients:
        loop = asyncio.get_running_loop()
        clients = self._clients.get(loop)
        if clients is None or clients.until_closed is None:
            clients = self._clients[loop] = _Clients(self._server.connections.limit)
            await clients.open()
        return clients

    def _client(self, clients: _Clients, feed: bool) -> httpx2.AsyncClient:
        connections = self._server.connections
        own = feed and connections.limit is not None
        client = clients.get(own)
        if client is None:
            # The slots limit the connections.
            client = clients[own] = httpx2.AsyncClient(
                verify=self._server.verify, limits=connections.limits(feeds=True)
            )
        return client

    async def aclose(self) -> None:
        if running_trio() is not None:
            if self._threaded is not None:
                await self._threaded.aclose()
            return
        clients = self._clients.pop(asyncio.get_running_loop(), None)
        if clients is not None:
            await clients.aclose()


class _Clients(dict[bool, httpx2.AsyncClient]):
    """The HTTP clients of one event loop: one for feeds, one for all other requests. They close with the loop."""

    #: A generator that stays open as long as the clients.
    until_closed: AsyncGenerator[None, None] | None = None

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.slots = Slots(limit)

    async def open(self) -> None:
        # An event loop that ends closes its open generators. It gives no other notice of its end.
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
    """The chunks of a long answer; ``parts`` are the chunks that were read already. It frees ``slot`` at its end."""

    def __init__(
        self,
        server: CouchServer,
        answer: httpx2.Response,
        parts: list[bytes],
        slot: Slot,
        rest: AsyncIterator[bytes] | None = None,
    ) -> None:
        self._server = server
        self._answer = answer
        self._parts = parts
        self._slot = slot
        self._rest = _chunks(answer) if rest is None else rest

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
        try:
            await self._answer.aclose()
        finally:
            self._slot.release()


async def _chunks(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield the chunks of an answer."""
    stream = answer.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    async for chunk in stream:
        yield chunk
    end_answer(stream)
