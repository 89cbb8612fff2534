"""Blocking backends for callers on an event loop: called directly if they are fast, otherwise in threads.

The streams of answers become asynchronous iterators of chunks with ``aclose``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from couchdal.backends.base import AsyncBackend, BaseBackend, Emulator
from couchdal.backends.event_libraries import in_thread, new_signal, pause
from couchdal.errors import MemoryOnly
from couchdal.http.messages import ABSENT, Feed, Request, Response

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


def for_event_loop(backend: BaseBackend) -> AsyncBackend:
    """Return the asynchronous backend for the server of a blocking one."""
    return backend.for_event_loop() or ThreadedBackend(backend)


class Rest(Generic[T]):
    """Awaits the rest of a coroutine whose first step is done: it yielded ``awaited``.

    Many coroutines end at their first step, and a task costs more than that.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: object) -> None:
        self._coroutine = coroutine
        self._awaited: object = awaited
        self._has_begun = False

    async def result(self) -> T:
        """Return the result of the coroutine."""
        return await self

    def __await__(self) -> Generator[Any, Any, T]:
        return cast("Generator[Any, Any, T]", self)

    # The methods that ``await`` needs from a generator.

    def __iter__(self) -> Rest[T]:
        return self

    def __next__(self) -> object:
        if self._has_begun:
            return self._coroutine.send(None)
        self._has_begun = True
        return self._awaited

    def send(self, value: object) -> object:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> object:
        try:
            return self._coroutine.throw(*error)
        finally:
            # The traceback of the error refers to this frame. The cycle would keep the request in memory.
            del error

    def close(self) -> None:
        self._coroutine.close()


class InlineBackend(AsyncBackend):
    """A blocking backend that answers in microseconds: it is called directly, and its feeds are polled."""

    answers_at_once = True

    def __init__(self, backend: BaseBackend) -> None:
        self.wrapped = backend
        self.inherit(backend)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.wrapped!r}>"

    @property
    def server_key(self) -> object:
        return self.wrapped.server_key

    def require_emulator(self, asked: str, refusal: type[MemoryOnly] = MemoryOnly) -> Emulator:
        return self.wrapped.require_emulator(asked, refusal)

    @property
    def provided(self) -> set[object]:
        return self.wrapped.provided

    def bind(self, database: str, *, default: str | None = None) -> Self:
        bound = super().bind(database, default=default)
        bound.wrapped = self.wrapped.bind(database, default=default)
        return bound

    def check_large(self, request: Request) -> None:
        self.wrapped.check_large(request)

    def relative_request(
        self,
        method: str,
        path: str,
        payload: object = ABSENT,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        # The emulator creates the database on first use.
        return self.wrapped.relative_request(method, path, payload, headers, body)

    async def aclose(self) -> None:
        self.wrapped.close()

    async def send(self, request: Request) -> Response:
        response = self.wrapped.send(request)
        return response if response.stream is None else self._awaited(response)

    def _awaited(self, response: Response) -> Response:
        """Return a response with an asynchronous stream in place of its blocking one."""
        feed = response.stream
        chunks = self._feed_chunks(feed) if isinstance(feed, Feed) else self._chunks(response)
        return _with_chunks(response, chunks)

    def _chunks(self, response: Response) -> AsyncGenerator[bytes, None]:
        return _chunks(response)

    def _feed_chunks(self, feed: Feed) -> AsyncGenerator[bytes, None]:
        return feed_chunks(feed)


class ThreadedBackend(InlineBackend):
    """A blocking backend whose answers, and each chunk of their streams, are awaited in threads."""

    answers_at_once = False

    async def send(self, request: Request) -> Response:
        response = await in_thread(self.wrapped.send, request)
        if response.stream is not None:
            return _with_chunks(response, _thread_chunks(response))
        return response

    async def aclose(self) -> None:
        await in_thread(self.wrapped.close)


def _with_chunks(response: Response, chunks: AsyncGenerator[bytes, None]) -> Response:
    return Response(response.status, response.headers, stream=_Chunks(chunks, response))


class _Chunks:
    """The chunks of a blocking stream. ``aclose`` closes the stream, even if nobody has begun to read."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], response: Response) -> None:
        self._chunks = chunks
        self._response = response

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._chunks

    async def aclose(self) -> None:
        await self._chunks.aclose()
        # A generator that was never started does not run its own cleanup.
        self._response.close()


async def _chunks(response: Response) -> AsyncGenerator[bytes, None]:
    try:
        for chunk in response.chunks():
            yield chunk
            # Let other tasks run.
            await pause(0)
    finally:
        response.close()


async def feed_chunks(
    feed: Feed, poll: Callable[[], Awaitable[tuple[bytes, float | None]]] | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a feed. Sleep until a write wakes it or its next poll is due; close it at the end.

    ``poll`` replaces the feed's own poll, for a feed whose poll may take long.
    """
    woken = new_signal()
    feed.subscribe(woken.set)
    try:
        while True:
            # Cleared before the poll, so that no write in between is missed.
            woken.clear()
            chunk, wait = feed.poll() if poll is None else await poll()
            if chunk:
                yield chunk
            if wait is None:
                return
            if wait > 0:
                await woken.wait(wait)
    finally:
        feed.close()


async def _thread_chunks(response: Response) -> AsyncGenerator[bytes, None]:
    chunks = iter(response.chunks())
    try:
        while (chunk := await in_thread(next, chunks, None)) is not None:
            yield chunk
    finally:
        response.close()
