"""CouchDB over HTTP for any backend: an ASGI application that has each request answered and sends the answer.

It holds none of CouchDB's rules.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, cast

from dal.backends import open_backend
from dal.backends.base import AsyncBackend, BaseBackend
from dal.backends.event_loop import chunks
from dal.config import choose_backend
from dal.cors import Cors, add_cors_headers, preflight
from dal.errors import BackendError, BrokenOff, CouchError, ServerError, Unavailable
from dal.framing import Body, Departed, Headers, Limits, Receive, Scope, Send, headers_of, length_of, to_request
from dal.wire import ABSENT, Response, is_feed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dal.access_log import AccessLog
    from dal.service import Service

# Under these names a web server may give functions that close the connection: one for answers that break off, after
# what was sent of them, and one that drops at once what a client does not read.
CLOSE_EXTENSION = "dal.close"
ABORT_EXTENSION = "dal.abort"
# Under this one, a function that sends an answer at once: status, headers and content; false where it cannot.
ANSWER_EXTENSION = "dal.answer"
# Under these two, whether what is sent now is taken at once, and whether the next part of the body has come: what need
# not be waited for needs no time-out.
READY_EXTENSION = "dal.ready"
COME_EXTENSION = "dal.come"
# How much is handed to the web server at once: it waits between two parts until the client has read enough.
_PART = 262144
# What a backend that streams is given in one piece, and may therefore send again.
_COLLECTED = 65536

_log = logging.getLogger("dal.asgi")


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
        backend = backend or open_backend(choose_backend())
        self.backend = backend.for_event_loop() if isinstance(backend, BaseBackend) else backend
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
            await _Exchange(self, scope, receive, send).run()
        else:
            raise ValueError(f"CouchDB does not speak {scope['type']}")

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

    def begin(self, feed: bool) -> None:
        """Count a request or a feed that is to be answered; raises ``CouchError`` 503 where there are too many."""
        most, count = (self.limits.feeds, self.feeds) if feed else (self.limits.requests, self.requests)
        if most is not None and count >= most:
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


class _Exchange:
    """One request and its answer."""

    def __init__(self, application: Application, scope: Scope, receive: Receive, send: Send) -> None:
        self._application = application
        self._receive = receive
        self._send_message = send
        extensions = scope.get("extensions", {})
        self._close: Callable[[], None] | None = extensions.get(CLOSE_EXTENSION)
        self._abort: Callable[[], None] | None = extensions.get(ABORT_EXTENSION)
        self._is_ready: Callable[[], bool] | None = extensions.get(READY_EXTENSION)
        self._answer_at_once: Callable[[int, Headers, bytes], bool] | None = extensions.get(ANSWER_EXTENSION)
        self._request = to_request(scope)
        self._body = Body(self._request, receive, application.limits, extensions.get(COME_EXTENSION))
        self._feed = is_feed(self._request)
        self._response: Response | None = None
        self._sent = 0

    async def run(self) -> None:
        access_log = self._application.access_log
        if access_log is None:
            await self._run()
            return
        start = time.perf_counter()
        try:
            await self._run()
        finally:
            spent_s = time.perf_counter() - start
            access_log.write(self._request, self._response, self._body.size, self._sent, spent_s)

    async def _run(self) -> None:
        try:
            self._application.begin(self._feed)
        except CouchError as refused:
            await self._answer(_failure(refused))
            return
        try:
            await self._answer(await self._respond())
        except BrokenOff as broken:
            await self._break_off(broken)
        except Departed:
            self._response = None
        finally:
            self._application.end(self._feed)

    async def _respond(self) -> Response:
        """Return the answer, whatever happens but that there is nobody left to have it."""
        application, request = self._application, self._request
        try:
            if application.cors is not None and (allowed := preflight(request, application.cors)) is not None:
                return allowed
            if application.service is not None and request.path.startswith(application.service.prefix):
                return application.service.answer(request)
            if not application.backend.streams:
                request.body = await self._body.collect() or b""
                response = await application.backend.exchange(request)
            else:
                whole = await self._body.collect(_COLLECTED)
                request.body, request.stream = (b"", self._body) if whole is None else (whole, None)
                response = await self._unless_departed(application.backend.exchange(request))
            if response.stream is None:
                # Here, where what cannot be encoded is still an answer.
                response.body, response.json = response.content(), ABSENT
            return response
        except (BrokenOff, Departed):
            raise
        except Exception as error:
            # The edge: whatever went wrong in here, the client gets an answer and every other client goes on.
            return _failure(error)

    async def _answer(self, response: Response) -> None:
        self._response = response
        method = self._request.method
        if response.stream is not None:
            if method != "HEAD":
                await self._stream(response)
                return
            await cast("AsyncGenerator[bytes, None]", response.stream).aclose()
            response.stream = None
        content = response.content()
        headers = self._headers(response, length_of(response, content, method))
        if method == "HEAD":
            content = b""
        at_once = self._answer_at_once if len(content) <= _PART else None
        if at_once is not None and at_once(response.status, headers, content):
            self._sent = len(content)
            return
        await self._start(response.status, headers)
        for sent in range(0, len(content) - _PART, _PART):
            await self._send(content[sent : sent + _PART], more=True)
        await self._send(content[self._sent :], more=False)

    async def _stream(self, response: Response) -> None:
        """Send chunks as they come until the stream ends, the client goes away, or the server stops."""
        length = response.headers.get("content-length")
        more = [] if length is None else [(b"content-length", length.encode("ascii"))]
        await self._start(response.status, self._headers(response, *more))
        pump = asyncio.create_task(self._pump(response))
        try:
            with self._application.open_feed(pump, self._feed):
                await self._unless_departed(pump)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
        except (BackendError, CouchError) as error:
            # What has been sent cannot be taken back: only an end that is none tells the client.
            raise BrokenOff(str(error), self._application.backend.name) from error
        await self._send(b"", more=False)

    async def _pump(self, response: Response) -> None:
        async with aclosing(chunks(response)) as stream:
            async for chunk in stream:
                await self._send(chunk, more=True)

    async def _unless_departed(self, work: Coroutine[object, object, Response] | asyncio.Task[None]) -> Response:
        """Return what some work gives, and cancel it where the client goes away; raises ``Departed``."""
        task = asyncio.ensure_future(work)
        departure = asyncio.create_task(self._departure())
        try:
            await asyncio.wait((task, departure), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Departed
            return cast(Response, task.result())
        finally:
            departure.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, BackendError, CouchError, Departed):
                    await task

    async def _departure(self) -> None:
        # While the body is read, whoever reads it is told.
        await self._body.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _headers(self, response: Response, *more: tuple[bytes, bytes]) -> Headers:
        headers = [*headers_of(response), *more]
        if (cors := self._application.cors) is not None:
            headers = add_cors_headers(self._request, headers, cors)
        return headers

    async def _start(self, status: int, headers: Headers) -> None:
        await self._send_message({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, content: bytes, *, more: bool) -> None:
        message = {"type": "http.response.body", "body": content, "more_body": more}
        try:
            if self._is_ready is not None and self._is_ready():
                await self._send_message(message)
            else:
                async with asyncio.timeout(self._application.limits.send_timeout_s):
                    await self._send_message(message)
        except TimeoutError:
            if self._abort is not None:
                self._abort()
            raise Departed from None
        self._sent += len(content)

    async def _break_off(self, broken: BrokenOff) -> None:
        """Close the connection, after half of what a fault says was received; raises where the server cannot."""
        if self._close is None:
            raise broken
        if isinstance(broken.received, Response):
            content = broken.received.content()
            headers = self._headers(broken.received, length_of(broken.received, content, "GET"))
            await self._start(broken.received.status, headers)
            await self._send(content[: len(content) // 2], more=True)
        self._close()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _failure(error: Exception) -> Response:
    """Return the answer for what no backend answered."""
    if isinstance(error, BackendError):
        headers = {"retry-after": "1"} if isinstance(error, Unavailable) else None
        error = ServerError(str(error), status=error.status, error=error.error, headers=headers)
    elif not isinstance(error, CouchError):
        _log.exception("a request failed", exc_info=error)
        error = ServerError(type(error).__name__, status=500, error="unknown_error")
    return Response(error.status, {"content-type": "application/json", **error.headers}, json=error.body)
