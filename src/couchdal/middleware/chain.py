"""Middleware: generators that see each request and may answer it, delay it, replace it or fail.

A middleware is a generator function of the backend and the request. It yields a ``Request`` to get its answer (the
caller's request, another one, or several), a ``Delay`` to wait, or a ``Discard`` to give up an answer. It returns the
response that the caller gets; the caller sees what it raises. One middleware therefore serves blocking and
asynchronous callers alike: only the two drivers here differ.

>>> def count(backend, request):
...     seen.append(request.path)
...     return (yield request)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from couchdal.backends.base import AsyncBackend, Backend, BaseBackend, Drivers, Middleware
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import Feed, Request, Response

B = TypeVar("B", bound=Backend)


class Delay(NamedTuple):
    """Wait for some seconds."""

    seconds: float


class Discard(NamedTuple):
    """Release an answer without reading it."""

    response: Response


class Waiting(Protocol):
    """How a caller with its own time-out waits."""

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds, or raise."""

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds, or raise, and let other tasks run."""

    def watch(self, feed: Feed) -> Feed:
        """Return a feed that raises an exception when the caller's time-out has passed."""


Step: TypeAlias = "Request | Delay | Discard"
Steps: TypeAlias = "Generator[Step, Response, Response]"

# The order is: middleware of all servers (outermost), of one server, of one backend object, and innermost the
# middleware that sees requests as the server does.
_innermost: list[Middleware] = []
_everywhere: list[Middleware] = []
_of_server: WeakKeyDictionary[object, list[Middleware]] = WeakKeyDictionary()


def install(
    middleware: Middleware, server: object = None, *, outermost: bool = False, innermost: bool = False
) -> Callable[[], None]:
    """Install middleware for one server (``Backend.server_key``) or for all. Return the function that removes it.

    It sees the requests of every handle on that server, including handles that already exist. ``innermost`` is for
    middleware of all servers: it comes after that of backend objects.
    """
    everywhere = _innermost if innermost else _everywhere
    key = identity(server)
    installed = everywhere if server is None else _of_server.setdefault(key, [])
    installed.insert(0 if outermost else len(installed), middleware)
    Backend.drivers = _DRIVERS

    def remove() -> None:
        if middleware in installed:
            installed.remove(middleware)
        if server is not None and not installed:
            _of_server.pop(key, None)
        if not _everywhere and not _of_server and not _innermost:
            Backend.drivers = None

    return remove


def identity(server: object) -> object:
    """Return what all handles of a server share. For a real server, it depends on the address only."""
    shared: object = getattr(server, "identity", server)
    return shared


@contextmanager
def installed(middleware: Middleware, server: object = None) -> Iterator[None]:
    """Install middleware within a ``with`` block."""
    remove = install(middleware, server)
    try:
        yield
    finally:
        remove()


def with_middleware(backend: B, middleware: Middleware) -> B:
    """Return a view of a backend with middleware that sees only the requests of this view and of its views."""
    view = backend.view()
    view.middleware = (*backend.middleware, middleware)
    view.drivers = _DRIVERS
    return view


def _chain(backend: BaseBackend | AsyncBackend) -> list[Middleware]:
    return [*_everywhere, *_of_server.get(identity(backend.server_key), ()), *backend.middleware, *_innermost]


def drive(backend: BaseBackend, request: Request, waiting: Waiting | None = None) -> Response:
    """Send a request through the middleware of a backend. ``waiting`` replaces ``time.sleep``."""
    return _answer(backend, request, _chain(backend), waiting)


def _answer(backend: BaseBackend, request: Request, chain: list[Middleware], waiting: Waiting | None) -> Response:
    if not chain:
        response = backend.send(request)
        if waiting is not None and isinstance(response.stream, Feed):
            response.stream = waiting.watch(response.stream)
        return response
    steps = chain[0](backend, request)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Request):
                try:
                    response = _answer(backend, step, chain[1:], waiting)
                except (BackendError, CouchError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
                continue
            if isinstance(step, Delay):
                (time.sleep if waiting is None else waiting.sleep)(step.seconds)
            elif isinstance(step, Discard):
                step.response.close()
            else:
                raise TypeError(f"middleware must yield a Request, a Delay or a Discard, not {step!r}")
            step = next(steps)
    except StopIteration as done:
        answer: Response = done.value
        return answer


async def drive_async(backend: AsyncBackend, request: Request, waiting: Waiting | None = None) -> Response:
    """Send a request through the middleware of a backend, as ``drive`` does."""
    return await _answer_async(backend, request, _chain(backend), waiting)


async def _answer_async(
    backend: AsyncBackend, request: Request, chain: list[Middleware], waiting: Waiting | None
) -> Response:
    if not chain:
        return await backend.send(request)
    from couchdal.backends.event_libraries import pause  # blocking programs do not import asyncio

    steps = chain[0](backend, request)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Request):
                try:
                    response = await _answer_async(backend, step, chain[1:], waiting)
                except (BackendError, CouchError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
                continue
            if isinstance(step, Delay):
                await (pause if waiting is None else waiting.pause)(step.seconds)
            elif isinstance(step, Discard):
                await step.response.aclose()
            else:
                raise TypeError(f"middleware must yield a Request, a Delay or a Discard, not {step!r}")
            step = next(steps)
    except StopIteration as done:
        answer: Response = done.value
        return answer


_DRIVERS = Drivers(drive, drive_async)
