"""What stands between a caller and a backend: interceptors, which see each request and may answer in its place.

An interceptor is a generator function of the backend and the request. It yields a ``Request`` to have it answered (its
own, another one, or several), a ``Delay`` to wait, or a ``Discard`` to give up an answer, and returns the response that
the caller gets; what it raises, the caller sees. So one interceptor serves blocking and asynchronous callers alike. It
knows nothing of CouchDB's rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from couchdal.backends.base import AsyncBackend, Backend, BaseBackend
from couchdal.errors import BackendError, CouchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from couchdal.http.messages import Request, Response


class Delay(NamedTuple):
    """A wait, in seconds."""

    seconds: float


class Discard(NamedTuple):
    """An answer that nobody will read: what it holds is given back."""

    response: Response


Step: TypeAlias = "Request | Delay | Discard"
Exchange: TypeAlias = "Generator[Step, Response, Response]"
Interceptor: TypeAlias = "Callable[[BaseBackend | AsyncBackend, Request], Exchange]"

# The outermost first. Those of a server see its requests whoever made the handle; the others see every server's.
_everywhere: list[Interceptor] = []
_of_server: WeakKeyDictionary[object, list[Interceptor]] = WeakKeyDictionary()


def install(interceptor: Interceptor, server: object = None, *, outermost: bool = False) -> Callable[[], None]:
    """Have an interceptor see the requests to one server (``Backend.server_key``), or to all; returns what ends it."""
    listed = _everywhere if server is None else _of_server.setdefault(server, [])
    listed.insert(0 if outermost else len(listed), interceptor)
    Backend.intercepted = True

    def remove() -> None:
        if interceptor in listed:
            listed.remove(interceptor)
        if server is not None and not listed:
            _of_server.pop(server, None)
        Backend.intercepted = bool(_everywhere or _of_server)

    return remove


@contextmanager
def installed(interceptor: Interceptor, server: object = None) -> Iterator[None]:
    """Have an interceptor see requests within a ``with`` block."""
    remove = install(interceptor, server)
    try:
        yield
    finally:
        remove()


def _chain(backend: BaseBackend | AsyncBackend) -> list[Interceptor]:
    return [*_everywhere, *_of_server.get(backend.server_key, ())]


def exchange_blocking(backend: BaseBackend, request: Request) -> Response:
    """Answer one request, past all interceptors of its server."""
    return _answer(backend, request, _chain(backend))


def _answer(backend: BaseBackend, request: Request, chain: list[Interceptor]) -> Response:
    if not chain:
        return backend.send(request)
    steps = chain[0](backend, request)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Delay):
                time.sleep(step.seconds)
                step = next(steps)
                continue
            if isinstance(step, Discard):
                step.response.close()
                step = next(steps)
                continue
            try:
                response = _answer(backend, step, chain[1:])
            except (BackendError, CouchError) as error:
                step = steps.throw(error)
            else:
                step = steps.send(response)
    except StopIteration as done:
        answer: Response = done.value
        return answer


async def exchange_async(backend: AsyncBackend, request: Request) -> Response:
    """Answer one request on an event loop, past all interceptors of its server."""
    return await _answer_async(backend, request, _chain(backend))


async def _answer_async(backend: AsyncBackend, request: Request, chain: list[Interceptor]) -> Response:
    if not chain:
        return await backend.send(request)
    from asyncio import sleep  # whoever comes here has imported it

    steps = chain[0](backend, request)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Delay):
                await sleep(step.seconds)
                step = next(steps)
                continue
            if isinstance(step, Discard):
                await step.response.aclose()
                step = next(steps)
                continue
            try:
                response = await _answer_async(backend, step, chain[1:])
            except (BackendError, CouchError) as error:
                step = steps.throw(error)
            else:
                step = steps.send(response)
    except StopIteration as done:
        answer: Response = done.value
        return answer
