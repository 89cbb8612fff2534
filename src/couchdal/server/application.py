"""The ASGI application: CouchDB over HTTP for any backend."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from contextlib import aclosing

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.event_loop import Rest, for_event_loop
from couchdal.errors import BackendError, BrokenOff, ConnectionRefused, ConnectionReset, CouchError
from couchdal.http.cors import Cors, preflight
from couchdal.http.messages import ABSENT, ANONYMOUS_BODY, Request, Response, is_feed
from couchdal.server.access_log import AccessLog
from couchdal.server.clients import Clients, check_room
from couchdal.server.framing import Limits, Receive, Scope, Send, chunks_of, failure, headers_of, to_request
from couchdal.server.interface import INTERFACE, Interface
from couchdal.server.operational import PREFIX, Service
from couchdal.server.transfer import PART, Connection, Disconnected, Incoming, Outgoing, reset

# uvicorn's own protocol class on httptools puts the trailers of a chunked body among the headers, where they cannot be
# told apart. ``couchdal serve`` has its own class, which is not affected.
_UNSAFE_PARSER = "uvicorn.protocols.http.httptools_impl"
_NO_CHUNKS = "send a Content-Length; the server accepts chunked bodies with uvicorn's option --http h11"
_CLOSE = {"connection": "close"}


class RequestCycle:
    """One request while it is answered, with the figures for the access log."""

    __slots__ = (
        "admitted",
        "begun",
        "complete",
        "crowded",
        "feed",
        "received",
        "request",
        "response",
        "rest",
        "sent",
    )

    def __init__(self, request: Request, *, complete: bool = False, crowded: bool = False) -> None:
        self.request: Request = request
        #: Whether the request holds its whole body.
        self.complete: bool = complete
        #: Whether the server has more connections than allowed. Then only health checks are answered.
        self.crowded: bool = crowded
        self.feed: bool = is_feed(request)
        #: Whether the request counts as open.
        self.admitted: bool = False
        self.response: Response | None = None
        #: The rest of an answer that ``answer_at_once`` began.
        self.rest: Coroutine[object, object, Response] | None = None
        self.begun: float = time.perf_counter()
        self.received: int = len(request.body)
        self.sent: int = 0


class Application:
    """The ASGI application of one backend; without a backend, it is chosen as ``CouchDAL`` chooses.

    ``service`` answers the paths that are not CouchDB's. ``access_log`` gets a line for each answer. ``cors`` has
    the origins that browsers may send requests from; without it, none may. ``interface`` answers below ``/_utils/``.

    ``answer`` takes a request through all steps: admission, answer, sending, access log. ``answer_at_once`` does the
    first two, for a server that has the whole request and can send the answer itself.
    """

    def __init__(
        self,
        backend: BaseBackend | AsyncBackend | None = None,
        *,
        limits: Limits | None = None,
        service: Service | None = None,
        access_log: AccessLog | None = None,
        cors: Cors | None = None,
        interface: Interface | None = None,
    ) -> None:
        backend = backend or open_backend()
        self.limits: Limits = limits or Limits()
        self.backend: AsyncBackend = self._served(backend) if isinstance(backend, BaseBackend) else backend
        #: Requests with longer bodies are checked first, so they are not answered at once.
        self._at_once = min(ANONYMOUS_BODY, self.limits.max_http_request_size)
        self.service = service
        self.access_log = access_log
        self.cors = cors
        self.interface = interface
        #: How many connections the server may have. ``serve`` lowers it to what the process has file descriptors for.
        self.most_connections: int = self.limits.connections
        #: How many requests and feeds are open.
        self.requests: int = 0
        # Counts only requests that could not be answered at once.
        self._clients = Clients(self.limits.client_requests, self.limits.requests, self.limits)
        self._feed_clients = Clients(self.limits.client_feeds, self.limits.feeds, self.limits)
        self.feeds: int = 0
        self._open_feeds: set[asyncio.Task[None]] = set()

    def _served(self, backend: BaseBackend) -> AsyncBackend:
        return backend.for_server(self.limits.request_timeout_s) or for_event_loop(backend)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            cycle = RequestCycle(to_request(scope))
            if "transfer-encoding" in cycle.request.headers and _mixes_trailers(receive):
                cycle.response = failure(CouchError(_NO_CHUNKS, status=411, error="length_required", headers=_CLOSE))
            await self.answer(cycle, receive, send)
        else:
            raise ValueError(f"unsupported ASGI scope: {scope['type']}")

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

    def end_feeds(self) -> None:
        """End every open feed, as its timeout would."""
        for feed in self._open_feeds:
            feed.cancel()

    async def answer(
        self, cycle: RequestCycle, receive: Receive, send: Send, connection: Connection | None = None
    ) -> None:
        """Answer a request through ASGI messages. A cycle that has a response already only needs to be sent."""
        backend, request = self.backend, cycle.request
        incoming = Incoming(
            request,
            receive,
            self.limits,
            complete=cycle.complete,
            allow_large=lambda: backend.check_large_later(request),
        )
        outgoing = Outgoing(send, self.limits, connection)
        response: Response | None = None
        unread = 0
        clients = self._feed_clients if cycle.feed else self._clients
        full = cycle.response is None and cycle.rest is None and (cycle.crowded or clients.is_full(request.peer))
        clients.open(request.peer)
        try:
            if cycle.rest is not None:
                response = await incoming.unless_disconnected(cycle.rest)
            else:
                response = cycle.response or await self._respond(cycle, incoming, full=full)
            # The client has yet to read the body.
            unread = len(response.body)
            clients.add_unread(request.peer, unread)
            try:
                await self._send(cycle.request, response, incoming, outgoing)
            finally:
                # A stream holds a connection to CouchDB, even if the client disconnects before the first chunk.
                await response.aclose()
        except BrokenOff as broken:
            await self._break_off(cycle.request, broken, incoming, outgoing)
        except Disconnected:
            cycle.response = None
        finally:
            if response is not None and response.stream is not None:
                # The reader of the stream may never have started, and then it does not close the stream.
                await response.aclose()
            clients.close(request.peer, unread)
            cycle.received, cycle.sent = incoming.size, outgoing.sent
            self.end(cycle)

    def answer_at_once(self, cycle: RequestCycle) -> Response | None:
        """Return the answer to a complete request, or ``None`` if ``answer`` must await it.

        After the answer is sent, the caller calls ``end``.
        """
        backend, clients = self.backend, self._clients
        if cycle.feed or cycle.crowded or not backend.answers_at_once or backend.drivers is not None:
            return None
        if cycle.received > self._at_once or (clients.busy and clients.is_full(cycle.request.peer)):
            return None
        answering = self._respond(cycle)
        try:
            # Such a backend usually awaits nothing, so the coroutine ends at its first step.
            awaited = answering.send(None)
        except StopIteration:
            return cycle.response
        cycle.rest = Rest(answering, awaited).result()
        return None

    def end(self, cycle: RequestCycle) -> None:
        """Count a request as answered and log it."""
        if cycle.admitted:
            self.feeds -= cycle.feed
            self.requests -= not cycle.feed
        if self.access_log is not None:
            self.access_log.write(
                cycle.request,
                cycle.response,
                received=cycle.received,
                sent=cycle.sent,
                spent_s=time.perf_counter() - cycle.begun,
            )

    async def _respond(self, cycle: RequestCycle, incoming: Incoming | None = None, *, full: bool = False) -> Response:
        """Return the answer, its JSON encoded. Without ``incoming``, the request is complete.

        Raise only ``BrokenOff`` and ``Disconnected``; every other failure is an answer.
        """
        try:
            request = cycle.request
            if full:
                what = "feeds" if cycle.feed else "requests and unread answers"
                reason = "no more connections" if cycle.crowded else f"no more open {what} to this client"
                check_room(request, reason, closes=cycle.crowded)
            self._admit(cycle)
            may_be_own = self.cors is not None or request.path.startswith((PREFIX, INTERFACE))
            own = self._own_answer(request) if may_be_own else None
            if own is not None:
                response = own
            elif incoming is None:
                response = await self.backend.exchange(request)
            else:
                response = await self._exchange(request, incoming)
            if response.stream is None and response.json is not ABSENT:
                # Encode here, where a value that cannot be encoded still becomes an answer.
                response.body, response.json = response.content(), ABSENT
            self._clients.check_unread(request, len(response.body))
            if not 100 <= response.status <= 999:
                raise ValueError(f"{response.status} is not an HTTP status")
        except (BrokenOff, Disconnected):
            raise
        except Exception as error:
            # This is the edge: after any failure, the client gets an answer and the server continues.
            response = failure(error)
        cycle.response = response
        return response

    def _admit(self, cycle: RequestCycle) -> None:
        """Count a request or feed as open. Raise ``CouchError`` 503 if too many are."""
        limits = self.limits
        most, count = (limits.feeds, self.feeds) if cycle.feed else (limits.requests, self.requests)
        if most is not None and count >= most:
            check_room(cycle.request, f"{most} open {'feeds' if cycle.feed else 'requests'}")
        cycle.admitted = True
        self.feeds += cycle.feed
        self.requests += not cycle.feed

    def _own_answer(self, request: Request) -> Response | None:
        """Return the answer to a request that does not reach the backend."""
        if self.cors is not None and (allowed := preflight(request, self.cors)) is not None:
            return allowed
        if self.service is not None and request.path.startswith(PREFIX):
            return self.service.answer(request)
        if self.interface is not None and (request.path == INTERFACE or request.path.startswith(INTERFACE + "/")):
            return self.interface.answer(request)
        return None

    async def _exchange(self, request: Request, incoming: Incoming) -> Response:
        most = self.backend.collects(request)
        if most is None:
            work = self.backend.exchange(request.with_body(body=await incoming.collect() or b""))
            if not self.backend.answers_at_once:
                return await work
            try:
                awaited = work.send(None)
            except StopIteration as ended:
                answer: Response = ended.value
                return answer
            return await incoming.unless_disconnected(Rest(work, awaited).result())
        whole = await incoming.collect(most)
        request = request.with_body(stream=incoming) if whole is None else request.with_body(body=whole)
        return await incoming.unless_disconnected(self.backend.exchange(request))

    async def _send(self, request: Request, response: Response, incoming: Incoming, outgoing: Outgoing) -> None:
        if response.stream is not None and request.method == "HEAD":
            await response.aclose()
            response.stream = None
        if response.stream is not None:
            await self._stream(request, response, incoming, outgoing)
            return
        content = response.content()
        headers = headers_of(request, response, content, self.cors)
        await outgoing.send_whole(response.status, headers, b"" if request.method == "HEAD" else content)

    async def _stream(self, request: Request, response: Response, incoming: Incoming, outgoing: Outgoing) -> None:
        """Send chunks until the stream ends, the client disconnects, or the server stops."""
        await outgoing.start(response.status, headers_of(request, response, None, self.cors))
        pump = asyncio.create_task(_pump(response, outgoing, are_lines="content-length" not in response.headers))
        if is_feed(request):
            self._open_feeds.add(pump)
            pump.add_done_callback(self._open_feeds.discard)
        try:
            await incoming.unless_disconnected(pump)
        except asyncio.CancelledError:
            # Either ``end_feeds`` cancelled the pump, or somebody cancelled this task.
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
        except (BackendError, CouchError) as error:
            # The status was sent: the client learns of the failure only if the answer stays incomplete.
            raise BrokenOff(str(error), self.backend.name) from error
        await outgoing.send(b"", more=False)

    async def _break_off(self, request: Request, broken: BrokenOff, incoming: Incoming, outgoing: Outgoing) -> None:
        """Close the connection, after half of the answer that a fault names. Raise if the server cannot close it."""
        if outgoing.connection is None:
            raise broken
        if isinstance(broken.received, Response):
            content = broken.received.content()
            await outgoing.start(broken.received.status, headers_of(request, broken.received, content, self.cors))
            await outgoing.send(content[: len(content) // 2], more=True)
        if isinstance(broken, (ConnectionRefused, ConnectionReset)):
            # The client is connected already, so its connection cannot be refused, only reset.
            reset(outgoing.connection)
        else:
            outgoing.connection.close()
        await incoming.disconnection()


def _mixes_trailers(receive: Receive) -> bool:
    """Return whether the web server may take trailers for headers, as far as its ``receive`` function shows."""
    server = type(getattr(receive, "__self__", None)).__module__
    return server == _UNSAFE_PARSER or (server == "builtins" and _UNSAFE_PARSER in sys.modules)


async def _pump(response: Response, outgoing: Outgoing, *, are_lines: bool) -> None:
    async with aclosing(response.achunks()) as chunks:
        async for chunk in chunks:
            parts = chunks_of(chunk) if are_lines else (chunk[at : at + PART] for at in range(0, len(chunk), PART))
            for part in parts:
                await outgoing.send(part, more=True)
