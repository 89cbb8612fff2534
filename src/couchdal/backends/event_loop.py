"""Blocking backends behind the asynchronous seam: feeds polled on an event loop, and answers awaited from threads.

It holds none of CouchDB's rules. Streams given out here are asynchronous iterators of chunks with ``aclose``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.delegating import WrappingBackend
from couchdal.http.messages import Feed, Request, Response

_Self = TypeVar("_Self", bound="_Wrapped")


class _Wrapped(WrappingBackend, AsyncBackend):
    """A blocking backend's name, database and paths, for a wrapper around it."""

    wrapped: BaseBackend

    def __init__(self, backend: BaseBackend) -> None:
        self.wrapped = backend
        self.name = backend.name
        self.database = backend.database
        self.fallback_database = backend.fallback_database

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.wrapped!r}>"

    def fork(self: _Self) -> _Self:
        return type(self)(self.wrapped.fork())

    def bind(self: _Self, database: str, *, provide: bool = False) -> _Self:
        return type(self)(self.wrapped.bind(database, provide=provide))


class InlineBackend(_Wrapped):
    """The asynchronous face of a backend that answers in microseconds: called directly, its feeds polled."""

    async def send(self, request: Request) -> Response:
        return self._send(request)

    def exchange_at_once(self, request: Request) -> Response | None:
        return None if self.intercepted else self._send(request)

    def _send(self, request: Request) -> Response:
        response = self.wrapped.send(request)
        if isinstance(response.stream, Feed):
            response.stream = feed_chunks(response.stream)
        return response

    async def reset(self) -> None:
        self.wrapped.reset()


class ThreadedBackend(_Wrapped):
    """The asynchronous face of a backend that blocks: every answer, and every chunk of a stream, waits in a thread."""

    async def send(self, request: Request) -> Response:
        response = await asyncio.to_thread(self.wrapped.send, request)
        if response.stream is not None:
            return Response(response.status, response.headers, stream=_thread_chunks(response))
        return response

    async def reset(self) -> None:
        await asyncio.to_thread(self.wrapped.reset)

    async def aclose(self) -> None:
        await asyncio.to_thread(self.wrapped.close)


async def feed_chunks(feed: Feed) -> AsyncGenerator[bytes, None]:
    """Yield what a feed gives, asleep until a write wakes it or its next poll is due; closes it at the end."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        # Writers wake feeds from their own threads, and may do so when this loop is gone.
        if not loop.is_closed():
            loop.call_soon_threadsafe(woken.set)

    feed.subscribe(wake)
    try:
        while True:
            # Cleared before the poll: a write in between is then not missed.
            woken.clear()
            chunk, wait = feed.poll()
            if chunk:
                yield chunk
            if wait is None:
                return
            if wait > 0:
                await _either(woken, wait)
    finally:
        feed.close()


async def _either(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass


async def _thread_chunks(response: Response) -> AsyncGenerator[bytes, None]:
    chunks = iter(response.chunks())
    try:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk
    finally:
        response.close()


async def collect(response: Response) -> Response:
    """Return a response whose stream, if it had one, was read to its end."""
    if response.stream is not None:
        response.body, response.stream = b"".join([chunk async for chunk in response.achunks()]), None
    return response
