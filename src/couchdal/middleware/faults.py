"""Faults on purpose: a server that answers wrongly, late, in part or not at all, to the requests that are chosen.

Each fault is a context manager over an interceptor, so it works on every backend and, where the server is the emulator,
over HTTP too. Nothing here is left to chance.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from couchdal.api.routes import ROUTES, find_route
from couchdal.errors import BrokenOff, CouchError
from couchdal.http.messages import Request, Response, is_feed
from couchdal.http.urls import split_path
from couchdal.middleware.chain import Delay, Discard, Steps, install

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend
    from couchdal.http.json_text import JSON

    Act = Callable[[BaseBackend | AsyncBackend, Request], Steps]
    Competing = Mapping[str, object] | Callable[[dict[str, JSON] | None], Mapping[str, object]]

# What CouchDB says with each status. Source: chttpd:error_info.
ANSWERS: Mapping[int, tuple[str, str]] = {
    401: ("unauthorized", "You are not authorized to access this db."),
    403: ("forbidden", "You are not allowed to access this db."),
    404: ("not_found", "missing"),
    409: ("conflict", "Document update conflict."),
    412: ("file_exists", "The database could not be created, the file already exists."),
    413: ("too_large", "the request entity is too large"),
    429: ("too_many_requests", "Too many requests"),
    500: ("internal_server_error", "No DB shards could be opened."),
    503: ("service unavailable", "Service unavailable"),
}
_PATTERNS = frozenset(route.pattern for route in ROUTES)


class Fault:
    """One fault, in force within its ``with`` block. ``injected`` counts how often it struck."""

    def __init__(
        self,
        server: object,
        name: str,
        act: Act,
        method: str | None = None,
        endpoint: str | None = None,
        nth: int | None = None,
        times: int | None = None,
        required: bool = False,
        accepts: Callable[[Request], bool] | None = None,
    ) -> None:
        if endpoint is not None and endpoint not in _PATTERNS:
            raise ValueError(f"{endpoint!r} is no endpoint's pattern, such as '/{{db}}/{{doc_id}}' or '/{{db}}/_find'")
        if (nth is not None and nth < 1) or (times is not None and times < 1):
            raise ValueError("nth and times count from 1")
        self.name = name
        self.injected = 0
        self._matched = 0
        self._server = server
        self._act = act
        self._method = method.upper() if method else None
        self._endpoint = endpoint
        self._nth = nth
        self._times = 1 if times is None and nth is not None else times
        self._required = required
        self._accepts = accepts
        self._remove: Callable[[], None] | None = None

    def __repr__(self) -> str:
        where = " ".join(part for part in (self._method, self._endpoint) if part) or "any request"
        return f"<Fault {self.name} of {where}, injected {self.injected} times>"

    def __enter__(self) -> Fault:
        self._remove = install(self._intercept, self._server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._remove is not None:
            self._remove()
        if self._required and not self.injected and error is None:
            raise AssertionError(f"no request met the fault: {self!r}, {self._matched} matched")

    def _intercept(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        if not self._strikes(request):
            return (yield request)
        self.injected += 1
        return (yield from self._act(backend, request))

    def _strikes(self, request: Request) -> bool:
        if self._method is not None and request.method != self._method:
            return False
        if self._endpoint is not None and _pattern(request.path) != self._endpoint:
            return False
        if self._accepts is not None and not self._accepts(request):
            return False
        self._matched += 1
        if self._nth is not None and self._matched < self._nth:
            return False
        return self._times is None or self.injected < self._times


def _writes(request: Request) -> bool:
    return request.method in ("PUT", "DELETE")


def _pattern(path: str) -> str | None:
    try:
        return find_route(split_path(path))[0].pattern
    except CouchError:
        return None


class Faults:
    """What can go wrong on one server.

    Every method takes ``method`` and ``endpoint`` (a pattern of the routing table), which say to which requests it is
    done; ``nth``, to begin with the nth of these (from 1; once, unless ``times`` says more); ``times``, how often at
    the most; and ``required``, to raise ``AssertionError`` at the end of a block in which nothing happened.
    """

    def __init__(self, server: object) -> None:
        self._server = server

    def answer(self, status: int, *, error: str | None = None, reason: str | None = None, **choice: Any) -> Fault:
        """Answer with an error, and don't pass the request on. Raises ``ValueError`` for a status without its words."""
        if status not in ANSWERS and not (error and status >= 400):
            raise ValueError(f"say what CouchDB's error word is with {status}: error=")
        word, text = ANSWERS.get(status, (error or "", ""))
        body = {"error": error or word, "reason": text if reason is None else reason}

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            headers = {"content-type": "application/json"}
            return Response(status, headers) if request.method == "HEAD" else Response(status, headers, json=dict(body))
            yield request

        return Fault(self._server, f"answer {status}", act, **choice)

    def delay(self, seconds: float, **choice: Any) -> Fault:
        """Pass the request on later."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            yield Delay(seconds)
            return (yield request)

        return Fault(self._server, "delay", act, **choice)

    def drop(self, **choice: Any) -> Fault:
        """Close the connection without passing the request on: the caller sees ``Unreachable``, nothing is changed."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            raise BrokenOff(f"{backend.name} cannot be reached: the connection was closed", backend.name)
            yield request

        return Fault(self._server, "drop", act, **choice)

    def lose_answer(self, **choice: Any) -> Fault:
        """Pass the request on and lose the answer: the caller sees ``Unreachable``, and the change is made."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            yield Discard((yield request))
            raise BrokenOff(f"{backend.name} cannot be reached: the connection was closed", backend.name)

        return Fault(self._server, "lose the answer", act, **choice)

    def cut(self, **choice: Any) -> Fault:
        """Pass the request on, and break off in the middle of the answer: the caller sees ``Unreachable``."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            reason = f"{backend.name} cannot be reached: the answer broke off"
            if response.stream is None:
                raise BrokenOff(reason, backend.name, received=response)
            # What is still being written has no middle: it breaks off where its first row would come.
            response.stream = _interrupted(response.stream, 0, BrokenOff(reason, backend.name))
            return response

        return Fault(self._server, "cut", act, **choice)

    def garble(self, **choice: Any) -> Fault:
        """Pass the request on, and answer with half of the JSON text as if it were all: the caller sees ``NotJSON``."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            content = response.content() if response.stream is None else b'{"results":['
            yield Discard(response)
            return Response(response.status, response.headers, body=content[: len(content) // 2] or b"{")

        return Fault(self._server, "garble", act, **choice)

    def compete(self, document: Competing | None = None, **choice: Any) -> Fault:
        """Change the document just before the request that writes it, as somebody else might: it conflicts.

        ``document`` is what the other one writes, without ids, or a function that is given the document as it is
        (None where there is none) and returns that; by default ``{"competing": true}``. Without a choice it is done to
        the first PUT or DELETE of a document. The caller gets a ``ValueError`` where the competing write is refused.
        """

        other = {"competing": True} if document is None else document

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            headers = {**request.headers, "content-type": "application/json"}
            for name in ("if-match", "content-length"):
                headers.pop(name, None)
            answer = yield Request("GET", request.path, headers=headers, peer=request.peer)
            value = answer.value()
            current = value if answer.status == 200 and isinstance(value, dict) else None
            written = other(current) if callable(other) else other
            rev = {} if current is None else {"_rev": current["_rev"]}
            write = Request("PUT", request.path, headers=headers, json={**written, **rev}, peer=request.peer)
            refused = yield write
            if refused.status >= 400:
                raise ValueError(f"the competing write was refused: {refused.value()}")
            return (yield request)

        return Fault(
            self._server, "compete", act, accepts=_writes, **{"endpoint": "/{db}/{doc_id}", "times": 1, **choice}
        )

    def interrupt_feed(self, after: int = 0, **choice: Any) -> Fault:
        """Break a feed that waits off after so many rows: whoever reads it sees ``Unreachable``."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            if response.stream is not None:
                broken = BrokenOff(f"{backend.name} cannot be reached: the feed broke off", backend.name)
                response.stream = _interrupted(response.stream, after, broken)
            return response

        choice = {"endpoint": "/{db}/_changes", **choice}
        return Fault(self._server, "interrupt the feed", act, accepts=is_feed, **choice)


def from_mark(server: object, kind: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Fault:
    """Return the fault that a mark names; raises ``ValueError`` for one that there is not."""
    make = getattr(Faults, kind, None)
    if make is None or kind.startswith("_"):
        raise ValueError(f"there is no fault {kind!r}")
    return cast(Fault, make(Faults(server), *arguments, **options))


def _interrupted(
    stream: Iterable[bytes] | AsyncIterable[bytes], after: int, error: BrokenOff
) -> Iterable[bytes] | AsyncIterable[bytes]:
    if isinstance(stream, AsyncIterable):
        return _AsyncInterruptedStream(stream, after, error)
    return _InterruptedStream(stream, after, error)


class _InterruptedStream:
    """A blocking stream that breaks off."""

    def __init__(self, stream: Any, after: int, error: BrokenOff) -> None:
        self._stream = stream
        self._rest = after
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            shown, self._rest = _rows(chunk, self._rest)
            yield shown
            if self._rest <= 0:
                self.close()
                raise self._error

    def close(self) -> None:
        self._stream.close()


class _AsyncInterruptedStream:
    """As ``_InterruptedStream``, for an event loop."""

    def __init__(self, stream: Any, after: int, error: BrokenOff) -> None:
        self._stream = stream
        self._rest = after
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                shown, self._rest = _rows(chunk, self._rest)
                yield shown
                if self._rest <= 0:
                    raise self._error
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _rows(chunk: bytes, rest: int) -> tuple[bytes, int]:
    """Return as much of a chunk as so many rows are, and how many may still come."""
    shown = []
    for line in chunk.splitlines(keepends=True):
        if rest <= 0:
            break
        shown.append(line)
        rest -= b'"seq"' in line or b'"id"' in line
    return b"".join(shown), rest
