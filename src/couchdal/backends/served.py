"""The emulator behind a web server: the event loop answers short requests itself, and threads answer long ones.

A request begins on the event loop. If it is not answered within a few milliseconds, or another thread has the server's
lock, it starts again in a thread. There it works on a view of its database, without the lock, until its time is over or
its client has disconnected. A request that was given up has changed nothing: a write is made in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from couchdal.backends.base import BaseBackend
from couchdal.backends.event_loop import InlineBackend, feed_chunks
from couchdal.backends.tasks import OutOfTime, Task
from couchdal.backends.threads import Threads, Turns
from couchdal.emulator.dispatch import Endpoint, answered, finish, prepare
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.view import View, sink
from couchdal.emulator.http.answering import configured_answer, refuse
from couchdal.emulator.http.authentication import check_large
from couchdal.emulator.http.call import Rewritten, WithoutLock
from couchdal.errors import CouchError, thrown
from couchdal.http.answers import error_response, without_body
from couchdal.http.json_text import encode_in_pieces
from couchdal.http.messages import ABSENT, ANONYMOUS_BODY, Feed, Request, Response
from couchdal.pace import Pace, here

if TYPE_CHECKING:
    from couchdal.backends.peers import LocalAndRemote

_A = TypeVar("_A")
_T = TypeVar("_T")

# Up to this size a body is one piece.
_COLLECTED = 1 << 20
# How long the event loop works on one request.
_AT_ONCE_S = 0.003
# How soon the application has counted a large answer as unread.
_COUNTED_S = 0.002
# How many documents move in one step from a layer to the storage below.
_SUNK_AT_ONCE = 200
_TOO_LATE = "The request could not be processed in a reasonable amount of time."


class TooLong(Exception):
    """The event loop must not work on this request any longer."""


class _AtOnce(Pace):
    """The pace of requests on the event loop. They hold the lock."""

    def __init__(self, server: Server) -> None:
        self._journal, self.holds_lock = server.journal, True
        #: When the request must end, and how many writes had been made when it began.
        self.until: float = 0.0
        self.commits: int = 0

    def step(self) -> None:
        if monotonic() > self.until:
            self.begin_long()

    def begin_long(self) -> None:
        # A request that has written cannot start again.
        if self._journal.commits == self.commits:
            raise TooLong

    def unlocked(self) -> AbstractContextManager[None]:
        return nullcontext()

    waiting = computing = unlocked

    def left(self) -> float | None:
        return None

    def view(self, db: _T) -> AbstractContextManager[_T] | None:
        return None


class ServedBackend(InlineBackend):
    """A memory backend whose long requests run in threads. ``request_timeout_s`` limits them."""

    def __init__(self, backend: BaseBackend, server: Server, request_timeout_s: float | None = None) -> None:
        super().__init__(backend)
        self._server = server
        self._at_once = _AtOnce(server)
        self._threads = Threads()
        self._turns = Turns()
        self._making_large = Lock()
        self._timeout_s = request_timeout_s

    def collects(self, request: Request) -> int | None:
        # An attachment that goes to a file is stored while it arrives.
        is_kept = self._server.journal.keeper is not None
        return _COLLECTED if is_kept and request.method == "PUT" and request.path.count("/") > 2 else None

    async def send(self, request: Request) -> Response:
        response = None
        if request.stream is not None:
            from couchdal.backends.transfers import answer_upload  # few requests are so long

            response = await answer_upload(self._server, request, self._run, self._answer_later)
        elif len(request.body) <= ANONYMOUS_BODY:
            response = self._try(self.wrapped.send, request)
        if response is None:
            response = await self._answer_later(request)
        return response if response.stream is None else self._awaited(response)

    async def _answer_later(self, request: Request, endpoint: Endpoint | None = None) -> Response:
        return await self._in_thread(partial(self._answer, endpoint=endpoint), request, self._timeout_s)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await self._in_thread(lambda task, work: work(), work, None)

    async def attend(self) -> None:
        from couchdal.backends.attendance import attend  # deferred to the server's start, when no request waits

        await attend(self._server, self._with_peers)

    async def _with_peers(self, work: Callable[[LocalAndRemote], _T]) -> _T:
        return await self._in_thread(lambda task, work: work(self._peers(task)), work, None)

    def _peers(self, task: Task) -> LocalAndRemote:
        from couchdal.backends.peers import LocalAndRemote  # few servers replicate

        return LocalAndRemote(partial(self._inner_answer, task), self._server, pause=sleep, is_served=True)

    def responds(self, within_s: float) -> bool:
        is_free = self._server.lock.acquire(timeout=within_s)
        if is_free:
            self._server.lock.release()
        return is_free

    async def check_large_later(self, request: Request) -> None:
        """Check as ``check_large`` does, in a thread if needed: checking a password takes long."""
        if self._try(self._checked, request) is None:
            await self._in_thread(self._check_in_thread, request, self._timeout_s)

    def _checked(self, request: Request) -> bool:
        check_large(self._server, request)
        return True

    def _check_in_thread(self, task: Task, request: Request) -> bool:
        try:
            with self._server.exclusively():
                return self._checked(request)
        except OutOfTime:
            raise _too_late() from None

    def _try(self, work: Callable[[_A], _T], argument: _A) -> _T | None:
        """Return the result of work, or None if it cannot be done at once."""
        server, pace = self._server, self._at_once
        if not server.lock.acquire(blocking=False):
            return None
        try:
            position, before = server.ids.position, here.pace
            pace.until, pace.commits, pace.is_large = monotonic() + _AT_ONCE_S, server.journal.commits, False
            here.pace, server.journal.counted = pace, []
            try:
                return work(argument)
            except TooLong:
                server.ids.position = position
                server.journal.uncount()
                return None
            finally:
                here.pace, server.journal.counted = before, None
        finally:
            server.lock.release()

    async def _in_thread(self, work: Callable[[Task, _A], _T], argument: _A, timeout_s: float | None) -> _T:
        """Return the result of work that a thread does. If the caller is cancelled, the work ends at its next step."""
        loop = asyncio.get_running_loop()
        task = Task(self._server, self._turns, timeout_s)
        result: asyncio.Future[_T] = loop.create_future()

        def settle(set_it: Callable[[], None]) -> None:
            if not result.done():
                set_it()

        def job() -> None:
            here.pace = task
            task.begin()
            try:
                done = partial(result.set_result, work(task, argument))
            except Exception as error:
                # This is the edge of a thread: the event loop must learn of any failure.
                done = partial(result.set_exception, error)
            finally:
                here.pace = None
                task.end()
            with suppress(RuntimeError):
                # The loop may have closed.
                loop.call_soon_threadsafe(settle, done)
            if task.held is not None:
                try:
                    loop.call_soon_threadsafe(loop.call_later, _COUNTED_S, task.held.release)
                except RuntimeError:
                    task.held.release()

        self._threads.run(job)
        try:
            return await result
        finally:
            task.stop()

    def _answer(self, task: Task, request: Request, endpoint: Endpoint | None) -> Response:
        """Return the answer to a request, its JSON encoded. This runs in a thread. ``endpoint`` replaces its own."""
        settings = self._server.settings
        try:
            response = configured_answer(settings, request, self._endpoint_answer(task, request, endpoint))
            if response.stream is None and response.json is not ABSENT:
                if task.is_large:
                    # One after the other, so that the application can refuse further ones to the same client.
                    task.hold(self._making_large)
                response.body, response.json = response.content(encode_in_pieces), ABSENT
        except (OutOfTime, CouchError) as error:
            response = refuse(settings, request, _too_late() if isinstance(error, OutOfTime) else error)
        self._server.journal.counts[request.method, response.status] += 1
        return without_body(response) if request.method == "HEAD" else response

    def _endpoint_answer(self, task: Task, request: Request, endpoint: Endpoint | None = None) -> Response:
        try:
            return self._locked_answer(task, request, endpoint)
        except Rewritten as other:
            return other.answer(partial(self._endpoint_answer, task))
        except WithoutLock as rest:
            return rest.answer(self._peers(task))

    def _inner_answer(self, task: Task, request: Request) -> Response:
        """Return the answer to a request that another request sends."""
        try:
            return self._locked_answer(task, request)
        except CouchError as error:
            return error_response(error, request)

    def _locked_answer(self, task: Task, request: Request, other: Endpoint | None = None) -> Response:
        server = self._server
        view: View | None = None
        with server.exclusively():
            endpoint, call = prepare(server, request, task)
            endpoint = other or endpoint
            live = call.database
            if live is None:
                return finish(call, endpoint(call))
            try:
                call.db = view = View(server, live)
            finally:
                if view is None and call.writes:
                    server.end_write(live)
        try:
            return finish(call, answered(endpoint, call))
        finally:
            with server.exclusively():
                view.close()
                if call.writes:
                    server.end_write(live)
            self._threads.run(partial(self._sink, live))

    def _sink(self, db: Database) -> None:
        """Move the documents of a layer into the storage below, in short steps under the lock."""
        goes_on = True
        while goes_on:
            with self._turns.taken(), self._server.exclusively():
                goes_on = sink(db, _SUNK_AT_ONCE)

    # --- feeds --------------------------------------------------------------------------------------------------------

    def _chunks(self, response: Response) -> AsyncGenerator[bytes, None]:
        from couchdal.backends.transfers import read_in_threads  # few answers are so long

        return read_in_threads(response, self._run)

    def _feed_chunks(self, feed: Feed) -> AsyncGenerator[bytes, None]:
        async def poll() -> tuple[bytes, float | None]:
            polled = self._try(_polled, feed)
            return polled if polled is not None else await self._in_thread(lambda _, feed: feed.poll(), feed, None)

        return feed_chunks(feed, poll)


def _too_late() -> CouchError:
    return thrown("timeout", _TOO_LATE)


def _polled(feed: Feed) -> tuple[bytes, float | None]:
    return feed.poll()
