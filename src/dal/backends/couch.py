"""A real CouchDB over HTTP, for blocking callers and for callers on an event loop; the only importer of ``httpx2``.

It holds none of CouchDB's rules: requests go out as they are given, and answers come back whatever their status is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

import httpx2

from dal.backends.address import Address, AuthenticationName, find_address
from dal.backends.authentication import Anonymous, Authentication, Exchange, has_credentials
from dal.backends.base import AsyncBackend, BaseBackend
from dal.config import is_reachable
from dal.errors import HostRefused, TimedOut, Unreachable
from dal.wire import Request, Response, is_feed

# Meant for one connection only (RFC 9110, 7.6.1), or said anew by whoever sends the next message.
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# Feeds hold a connection each, so connections are not counted; idle ones are kept for the next request.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=60.0)


class _Server:
    """Where a CouchDB is and how requests are put to it; shared by every backend object that talks to it."""

    def __init__(self, address: Address) -> None:
        self.name = address.name
        self.prefix = address.prefix
        self.url = httpx2.URL(address.origin)
        self.timeout_s = address.timeout_s
        self.authentication = address.authentication
        # Loading certificates takes longer than a hundred requests, and plain HTTP needs none.
        self.verify = address.origin.startswith("https:")

    def exchange(self, request: Request) -> Exchange:
        """Return what has to be sent for a request; one that brings its own credentials goes as it is."""
        if not is_reachable(self.url.host):
            raise HostRefused(
                f"tests may not reach {self.name} unless that is allowed: --dal-allow-host={self.url.host},"
                " dal_allowed_hosts in pytest's settings, or DAL_ALLOWED_HOSTS",
                self.name,
            )
        authentication: Authentication = Anonymous() if has_credentials(request) else self.authentication
        return authentication.exchange(request)

    def outgoing(self, request: Request) -> httpx2.Request:
        """Return the HTTP client's request, its path exactly as given: no part of it is decoded or tidied up."""
        query = f"?{request.query}" if request.query else ""
        # Compressed bodies are for callers who asked for them and will see the header.
        headers = {"accept-encoding": "identity", "user-agent": "couchdal", **request.headers}
        timeout: dict[str, float | None] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_s)
        sent = [(name, value) for name, value in headers.items() if name not in _HOP_BY_HOP]
        if is_feed(request):
            timeout["read"] = None
        if is_feed(request) or request.path.endswith("/queries"):
            # CouchDB 3.5 ends an event source twice, and a failed list of queries: the second end would be read as
            # the answer to the next request.
            sent.append(("connection", "close"))
        return httpx2.Request(
            request.method,
            self.url,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent],
            content=request.content() or None,
            extensions={"target": f"{self.prefix}{request.path}{query}".encode("ascii"), "timeout": timeout},
        )

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the HTTP client's exceptions into ours."""
        try:
            yield
        except httpx2.TimeoutException:
            raise TimedOut(f"{self.name} did not answer within {self.timeout_s:g} s", self.name) from None
        except httpx2.LocalProtocolError as error:
            raise ValueError(f"the request cannot be sent: {error}") from None
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self.name} cannot be reached: {reason}", self.name) from None


class CouchBackend(BaseBackend):
    """A CouchDB over HTTP, its connections pooled and kept alive; safe to share between threads.

    Without ``url``, server and credentials are those of ``COUCHDB_URL``, ``COUCHDB_USER`` and ``COUCHDB_PASSWORD``;
    the database and the time-out fall back to ``COUCHDB_DATABASE`` and ``COUCHDB_TIMEOUT`` either way. ``auth`` says
    whether the credentials go with each request or are changed for a cookie. Raises ``NotConfigured``.
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
        address = find_address(url, user, password, database, timeout, auth)
        self._server = _Server(address)
        self.name = address.name
        self.database = address.database
        self._pool = _Pool(self._server)

    def __repr__(self) -> str:
        return f"<CouchBackend {self.name}>"

    @property
    def server_key(self) -> object:
        return self._server

    def send(self, request: Request) -> Response:
        exchange = self._server.exchange(request)
        outgoing = next(exchange)
        while True:
            answer = self._transmit(outgoing)
            try:
                outgoing = exchange.send(answer)
            except StopIteration as done:
                response: Response = done.value
                return response

    def _transmit(self, request: Request) -> Response:
        with self._server.failures():
            answer = self._pool.client().send(self._server.outgoing(request), stream=True, auth=None)
            response = Response(answer.status_code, _headers(answer, request))
            if is_feed(request) and answer.is_success:
                response.stream = _Stream(self._server, answer)
            else:
                try:
                    response.body = b"".join(answer.iter_raw())
                finally:
                    answer.close()
        return response

    def close(self) -> None:
        self._pool.close()

    def for_event_loop(self) -> AsyncCouchBackend:
        return AsyncCouchBackend._of(self._server, self.database)


class AsyncCouchBackend(AsyncBackend):
    """A CouchDB over HTTP for callers on an event loop; arguments as for ``CouchBackend``."""

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
        address = find_address(url, user, password, database, timeout, auth)
        self._take(_Server(address), address.database)

    @classmethod
    def _of(cls, server: _Server, database: str | None) -> AsyncCouchBackend:
        backend = cls.__new__(cls)
        backend._take(server, database)
        return backend

    def _take(self, server: _Server, database: str | None) -> None:
        self._server = server
        self.name = server.name
        self.database = database
        # A connection belongs to the event loop that opened it, and one process may run several, one after the other.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<AsyncCouchBackend {self.name}>"

    @property
    def server_key(self) -> object:
        return self._server

    async def send(self, request: Request) -> Response:
        exchange = self._server.exchange(request)
        outgoing = next(exchange)
        while True:
            answer = await self._transmit(outgoing)
            try:
                outgoing = exchange.send(answer)
            except StopIteration as done:
                response: Response = done.value
                return response

    async def _transmit(self, request: Request) -> Response:
        with self._server.failures():
            answer = await self._client().send(self._server.outgoing(request), stream=True, auth=None)
            response = Response(answer.status_code, _headers(answer, request))
            if is_feed(request) and answer.is_success:
                response.stream = _AsyncStream(self._server, answer)
            else:
                try:
                    response.body = b"".join([chunk async for chunk in answer.aiter_raw()])
                finally:
                    await answer.aclose()
        return response

    def _client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx2.AsyncClient(verify=self._server.verify, limits=_LIMITS)
        return client

    async def aclose(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


class _Pool:
    """One HTTP client, opened with the first request and again after a close."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._lock = Lock()
        self._client: httpx2.Client | None = None

    def client(self) -> httpx2.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client(verify=self._server.verify, limits=_LIMITS)
            return self._client

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


class _Stream:
    """The chunks of an answer that goes on; gives its connection back at the end or when it is closed."""

    def __init__(self, server: _Server, answer: httpx2.Response) -> None:
        self._server = server
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._server.failures():
                yield from self._answer.iter_raw()
        finally:
            self.close()

    def close(self) -> None:
        self._answer.close()


class _AsyncStream:
    """As ``_Stream``, for an event loop."""

    def __init__(self, server: _Server, answer: httpx2.Response) -> None:
        self._server = server
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            with self._server.failures():
                async for chunk in self._answer.aiter_raw():
                    yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._answer.aclose()


def _headers(answer: httpx2.Response, request: Request) -> dict[str, str]:
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
    if request.method == "HEAD" and "content-length" in answer.headers:
        # The one thing that tells how long the body would have been.
        kept["content-length"] = answer.headers["content-length"]
    return kept
