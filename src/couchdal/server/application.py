"""CouchDB over HTTP for any backend: an ASGI application that has each request answered and sends the answer.

It holds none of CouchDB's rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.event_loop import for_event_loop
from couchdal.errors import CouchError, ServerError
from couchdal.http.messages import Request, Response, is_feed
from couchdal.server.cors import Cors, add_cors_headers, preflight
from couchdal.server.exchange import Exchange, encoded, failure
from couchdal.server.framing import Headers, Limits, Receive, Scope, Send, headers_of

if TYPE_CHECKING:
    from couchdal.server.access_log import AccessLog
    from couchdal.server.operational import Service


class Application:
    """The ASGI application of one backend; without a backend it is chosen as ``CouchDAL`` chooses.

    ``service`` answers the paths that are not CouchDB's, ``access_log`` is told of every answer, and ``cors`` says
    which origins browsers may ask from; without it, they may ask from none.
    """

    def __init__(
        self,
        backend: BaseBackend | AsyncBackend | None = None,
        *,
        limits: Limits | None = None,
        service: Service | None = None,
        access_log: AccessLog | None = None,
        cors: Cors | None = None,
    ) -> None:
        backend = backend or open_backend()
        self.backend = for_event_loop(backend) if isinstance(backend, BaseBackend) else backend
        self.limits = limits or Limits()
        self.service = service
        self.access_log = access_log
        self.cors = cors
        #: How many requests and feeds are being answered.
        self.requests = self.feeds = 0
        self._open_feeds: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await Exchange(self, scope, receive, send).run()
        else:
            raise ValueError(f"CouchDB does not speak {scope['type']}")

    def respond_at_once(self, request: Request) -> Response | None:
        """Answer a request that has its whole body where nothing is to be waited for; else None, with nothing done.

        Of the answer, ``headers_of`` gives the headers; who has sent it tells ``log``.
        """
        if is_feed(request) or len(request.body) > self.limits.max_http_request_size:
            return None
        try:
            self.begin(False)
        except CouchError as refused:
            return failure(refused)
        try:
            response = self.own_answer(request) or self.backend.exchange_at_once(request)
            return response if response is None else encoded(response)
        except Exception as error:
            return failure(error)
        finally:
            self.end(False)

    def own_answer(self, request: Request) -> Response | None:
        """Return the answer to what no backend is asked."""
        if self.cors is not None and (allowed := preflight(request, self.cors)) is not None:
            return allowed
        if self.service is not None and request.path.startswith(self.service.prefix):
            return self.service.answer(request)
        return None

    def headers_of(self, request: Request, response: Response, length: tuple[bytes, bytes] | None) -> Headers:
        """Return the headers of an answer as they are sent, with that of its length, where it has one."""
        headers = headers_of(response)
        if length is not None:
            headers.append(length)
        return headers if self.cors is None else add_cors_headers(request, headers, self.cors)

    def log(self, request: Request, response: Response | None, received: int, sent: int, begun: float) -> None:
        """Have the access log tell of an answer; ``begun`` is when, by ``time.perf_counter``."""
        if self.access_log is not None:
            self.access_log.write(request, response, received, sent, time.perf_counter() - begun)

    def end_feeds(self) -> None:
        """End every feed that is open, as if its time-out had come."""
        for feed in self._open_feeds:
            feed.cancel()

    async def _live(self, receive: Receive, send: Send) -> None:
        attending = asyncio.create_task(self.backend.attend())
        try:
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
        finally:
            attending.cancel()
        self.end_feeds()
        await self.backend.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    def begin(self, feed: bool, *, admitted: bool = False) -> None:
        """Count a request or a feed that is to be answered.

        Raises ``CouchError`` 503 where there are too many, unless it was ``admitted`` before.
        """
        most, count = (self.limits.feeds, self.feeds) if feed else (self.limits.requests, self.requests)
        if most is not None and count >= most and not admitted:
            what = "feeds" if feed else "requests"
            raise ServerError(
                f"{most} {what} are open, and no more are taken",
                status=503,
                error="service_unavailable",
                headers={"retry-after": "1"},
            )
        self.feeds += feed
        self.requests += not feed

    def end(self, feed: bool) -> None:
        self.feeds -= feed
        self.requests -= not feed

    @contextmanager
    def open_feed(self, pump: asyncio.Task[None], feed: bool) -> Iterator[None]:
        """Have a feed end with the server."""
        if feed:
            self._open_feeds.add(pump)
        try:
            yield
        finally:
            self._open_feeds.discard(pump)
