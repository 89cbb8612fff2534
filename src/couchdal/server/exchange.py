"""One request to the ASGI application and its answer, from the first message to the last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

from couchdal.errors import BackendError, BrokenOff, CouchError, ServerError, Unavailable
from couchdal.http.messages import ABSENT, Response, is_feed
from couchdal.server.framing import Body, Departed, Headers, Receive, Scope, Send, length_of, to_request

if TYPE_CHECKING:
    from couchdal.server.application import Application

# Under these names a web server may give functions that close the connection: one for answers that break off, after
# what was sent of them, and one that drops at once what a client does not read.
CLOSE_EXTENSION = "couchdal.close"
ABORT_EXTENSION = "couchdal.abort"
# Under this one, a function that sends an answer at once: status, headers and content; false where it cannot.
ANSWER_EXTENSION = "couchdal.answer"
# Under this one, the answer of a request that ``respond_at_once`` has answered, and that has to be sent in parts.
RESPONSE_EXTENSION = "couchdal.response"
# Under these two, whether what is sent now is taken at once, and whether the next part of the body has come: what need
# not be waited for needs no time-out.
READY_EXTENSION = "couchdal.ready"
COME_EXTENSION = "couchdal.come"
# How much is handed to the web server at once: it waits between two parts until the client has read enough.
PART = 262144
# What a backend that streams is given in one piece, and may therefore send again.
_COLLECTED = 65536

_log = logging.getLogger("couchdal.server.exchange")


class Exchange:
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
        self._ready: Response | None = extensions.get(RESPONSE_EXTENSION)
        self._response: Response | None = None
        self._sent = 0

    async def run(self) -> None:
        begun = time.perf_counter()
        try:
            await self._run()
        finally:
            self._application.log(self._request, self._response, self._body.size, self._sent, begun)

    async def _run(self) -> None:
        try:
            self._application.begin(self._feed, admitted=self._ready is not None)
        except CouchError as refused:
            await self._answer(failure(refused))
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
            if self._ready is not None:
                # The body has come as well, and only has to be taken.
                await self._body.collect()
                return self._ready
            own = application.own_answer(request)
            if own is not None:
                return own
            if not application.backend.streams:
                request = request.with_body(body=await self._body.collect() or b"")
                response = await application.backend.exchange(request)
            else:
                whole = await self._body.collect(_COLLECTED)
                request = request.with_body(body=whole or b"", stream=self._body if whole is None else None)
                response = await self._unless_departed(application.backend.exchange(request))
            return encoded(response)
        except (BrokenOff, Departed):
            raise
        except Exception as error:
            # The edge: whatever went wrong in here, the client gets an answer and every other client goes on.
            return failure(error)

    async def _answer(self, response: Response) -> None:
        self._response = response
        method = self._request.method
        if response.stream is not None:
            if method != "HEAD":
                await self._stream(response)
                return
            await response.aclose()
            response.stream = None
        content = response.content()
        headers = self._headers(response, length_of(response, content, method))
        if method == "HEAD":
            content = b""
        at_once = self._answer_at_once if len(content) <= PART else None
        if at_once is not None and at_once(response.status, headers, content):
            self._sent = len(content)
            return
        await self._start(response.status, headers)
        for sent in range(0, len(content) - PART, PART):
            await self._send(content[sent : sent + PART], more=True)
        await self._send(content[self._sent :], more=False)

    async def _stream(self, response: Response) -> None:
        """Send chunks as they come until the stream ends, the client goes away, or the server stops."""
        length = response.headers.get("content-length")
        told = None if length is None else (b"content-length", length.encode("ascii"))
        await self._start(response.status, self._headers(response, told))
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
        async with aclosing(response.achunks()) as stream:
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

    def _headers(self, response: Response, length: tuple[bytes, bytes] | None) -> Headers:
        return self._application.headers_of(self._request, response, length)

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


def encoded(response: Response) -> Response:
    """Return an answer with its JSON as bytes, if it has any: here, where what cannot be encoded is still an answer."""
    if response.stream is None:
        response.body, response.json = response.content(), ABSENT
    return response


def failure(error: Exception) -> Response:
    """Return the answer for what no backend answered."""
    if isinstance(error, BackendError):
        headers = {"retry-after": "1"} if isinstance(error, Unavailable) else None
        error = ServerError(str(error), status=error.status, error=error.error, headers=headers)
    elif not isinstance(error, CouchError):
        _log.exception("a request failed", exc_info=error)
        error = ServerError(type(error).__name__, status=500, error="unknown_error")
    return Response(error.status, {"content-type": "application/json", **error.headers}, json=error.body)
