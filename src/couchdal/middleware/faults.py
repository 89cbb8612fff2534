"""Faults: make a server answer with an error, late, in part or not at all, for the requests that you choose.

Each fault is a context manager that installs a middleware. It therefore works on every backend and, if the emulator
is served, over HTTP. Nothing is random.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

from couchdal.api.routes import ROUTES, endpoint_of
from couchdal.errors import BrokenOff, ConnectionRefused, ConnectionReset
from couchdal.http.messages import Request, Response, is_feed
from couchdal.middleware.chain import Delay, Discard, Steps, install

if TYPE_CHECKING:
    from typing import Unpack

    from couchdal.backends.base import AsyncBackend, BaseBackend
    from couchdal.http.json_text import JSON

    Act = Callable[[BaseBackend | AsyncBackend, Request], Steps]
    Competing = Mapping[str, object] | Callable[[dict[str, JSON] | None], Mapping[str, object]]

# CouchDB's error word and reason for each status. Source: chttpd:error_info.
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


class Choice(TypedDict, total=False):
    """Which requests a fault affects.

    ``method`` and ``endpoint`` (a route's pattern, such as ``"/{db}/_find"``) select requests. ``nth`` starts with the
    nth selected request, counting from 1; it affects one request unless ``times`` says otherwise. ``times`` limits
    how many requests are affected. With ``required``, a block in which nothing was affected raises
    ``AssertionError``.
    """

    method: str | None
    endpoint: str | None
    nth: int | None
    times: int | None
    required: bool


class Fault:
    """One fault. It is active within its ``with`` block; ``injected`` counts the affected requests."""

    def __init__(
        self,
        server: object,
        name: str,
        act: Act,
        accepts: Callable[[Request], bool] | None = None,
        **choice: Unpack[Choice],
    ) -> None:
        unknown = choice.keys() - Choice.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown option {min(unknown)!r}; the options are {', '.join(Choice.__annotations__)}")
        endpoint, nth, times = choice.get("endpoint"), choice.get("nth"), choice.get("times")
        if endpoint is not None and endpoint not in _PATTERNS:
            raise ValueError(
                f"unknown endpoint {endpoint!r}; use a route's pattern, such as '/{{db}}/{{doc_id}}' or '/{{db}}/_find'"
            )
        if (nth is not None and nth < 1) or (times is not None and times < 1):
            raise ValueError("nth and times count from 1")
        method = choice.get("method")
        self.name = name
        self.injected: int = 0
        self._matched = 0
        self._server = server
        self._act = act
        self._accepts = accepts
        self._method = method.upper() if method else None
        self._endpoint = endpoint
        self._nth = nth
        self._times = 1 if times is None and nth is not None else times
        self._required = choice.get("required", False)
        self._remove: Callable[[], None] | None = None

    def __repr__(self) -> str:
        where = " ".join(part for part in (self._method, self._endpoint) if part) or "every request"
        return f"<Fault {self.name} for {where}, injected {self.injected} times>"

    def __enter__(self) -> Fault:
        self._remove = install(self._inject, self._server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._remove is not None:
            self._remove()
        if self._required and not self.injected and error is None:
            raise AssertionError(f"the fault affected no request: {self!r}, {self._matched} requests matched")

    def _inject(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        if not self._affects(request):
            return (yield request)
        self.injected += 1
        return (yield from self._act(backend, request))

    def _affects(self, request: Request) -> bool:
        if self._method is not None and request.method != self._method:
            return False
        if self._endpoint is not None and endpoint_of(request.path) != self._endpoint:
            return False
        if self._accepts is not None and not self._accepts(request):
            return False
        self._matched += 1
        if self._nth is not None and self._matched < self._nth:
            return False
        return self._times is None or self.injected < self._times


def _failing(error: type[BrokenOff], what: str) -> Act:
    def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        raise error(f"{backend.name} cannot be reached: {what}", backend.name)
        yield request

    return act


def _writes(request: Request) -> bool:
    return request.method in ("PUT", "DELETE")


class Faults:
    """The faults of one server, as ``dal.faults`` gives them. See ``Choice`` for the options of every method.

    >>> with db.faults.answer(409, method="PUT", times=1):
    ...     db.request("PUT", "/a", json={}).status, db.request("PUT", "/a", json={}).status
    (409, 201)
    """

    def __init__(self, server: object) -> None:
        self._server = server

    def answer(
        self, status: int, *, error: str | None = None, reason: str | None = None, **choice: Unpack[Choice]
    ) -> Fault:
        """Answer with an error. The server does not see the request.

        Raise ``ValueError`` for a status that needs ``error``, CouchDB's error word.
        """
        if status not in ANSWERS and not (error and status >= 400):
            raise ValueError(f"status {status} needs error=, CouchDB's error word")
        word, text = ANSWERS.get(status, (error or "", ""))
        body = {"error": error or word, "reason": text if reason is None else reason}

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            headers = {"content-type": "application/json"}
            return Response(status, headers) if request.method == "HEAD" else Response(status, headers, json=dict(body))
            yield request

        return Fault(self._server, f"answer {status}", act, **choice)

    def delay(self, seconds: float, **choice: Unpack[Choice]) -> Fault:
        """Wait before the request is sent."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            yield Delay(seconds)
            return (yield request)

        return Fault(self._server, "delay", act, **choice)

    def drop(self, **choice: Unpack[Choice]) -> Fault:
        """Lose the request: the caller gets ``Unreachable``, and the server does not see the request."""
        return Fault(self._server, "drop", _failing(BrokenOff, "the connection was closed"), **choice)

    def refuse(self, **choice: Unpack[Choice]) -> Fault:
        """Refuse the connection: the caller gets ``NotConnected``, and nothing is sent."""
        return Fault(self._server, "refuse", _failing(ConnectionRefused, "connection refused"), **choice)

    def reset(self, **choice: Unpack[Choice]) -> Fault:
        """Reset the connection: the caller gets ``Unreachable``, and the server does not see the request."""
        return Fault(self._server, "reset", _failing(ConnectionReset, "connection reset by peer"), **choice)

    def lose_answer(self, **choice: Unpack[Choice]) -> Fault:
        """Lose the answer: the caller gets ``Unreachable``, but the server has processed the request."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            yield Discard((yield request))
            raise BrokenOff(f"{backend.name} cannot be reached: the connection was closed", backend.name)

        return Fault(self._server, "lose the answer", act, **choice)

    def cut(self, **choice: Unpack[Choice]) -> Fault:
        """Cut the answer in the middle: the caller gets ``Unreachable``. The server has processed the request."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            reason = f"{backend.name} cannot be reached: the answer broke off"
            if response.stream is None:
                raise BrokenOff(reason, backend.name, received=response)
            # A feed has no middle. It breaks off before its first row.
            response.stream = _interrupted(response.stream, 0, BrokenOff(reason, backend.name))
            return response

        return Fault(self._server, "cut", act, **choice)

    def garble(self, **choice: Unpack[Choice]) -> Fault:
        """Answer with half of the JSON text: the caller gets ``NotJSON``. The server has processed the request."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            content = response.content() if response.stream is None else b'{"results":['
            yield Discard(response)
            return Response(response.status, response.headers, body=content[: len(content) // 2] or b"{")

        return Fault(self._server, "garble", act, **choice)

    def compete(self, document: Competing | None = None, **choice: Unpack[Choice]) -> Fault:
        """Write the document just before the request does, as another client might: the request gets a conflict.

        ``document`` is the body that the other client writes, by default ``{"competing": true}``. It can be a function
        that receives the current document (``None`` if it does not exist) and returns the body. By default the first
        PUT or DELETE of a document is affected. The caller gets ``ValueError`` if the server refuses the competing
        write.
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

        chosen: Choice = {"endpoint": "/{db}/{doc_id}", "times": 1, **choice}
        return Fault(self._server, "compete", act, _writes, **chosen)

    def interrupt_feed(self, after: int = 0, **choice: Unpack[Choice]) -> Fault:
        """Break off a feed after a number of rows: its reader gets ``Unreachable``."""

        def act(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
            response = yield request
            if response.stream is not None:
                broken = BrokenOff(f"{backend.name} cannot be reached: the feed broke off", backend.name)
                response.stream = _interrupted(response.stream, after, broken)
            return response

        chosen: Choice = {"endpoint": "/{db}/_changes", **choice}
        return Fault(self._server, "interrupt the feed", act, is_feed, **chosen)


def from_mark(server: object, kind: str, arguments: tuple[object, ...], options: Mapping[str, object]) -> Fault:
    """Return the fault that a mark describes. Raise ``TypeError`` or ``ValueError`` for an unknown one."""
    known = [name for name in vars(Faults) if not name.startswith("_")]
    if kind not in known:
        raise ValueError(f"unknown fault {kind!r}; the faults are {', '.join(known)}")
    fault: Fault = getattr(Faults(server), kind)(*arguments, **options)
    return fault


def _interrupted(
    stream: Iterable[bytes] | AsyncIterable[bytes], after: int, error: BrokenOff
) -> Iterable[bytes] | AsyncIterable[bytes]:
    whole = Response(200, stream=stream)
    if isinstance(stream, AsyncIterable):
        return _AsyncInterruptedStream(whole, after, error)
    return _InterruptedStream(whole, after, error)


class _Interrupted:
    """The body of a response that breaks off after some rows."""

    def __init__(self, whole: Response, after: int, error: BrokenOff) -> None:
        self._whole = whole
        self._left = after
        self._error = error

    def _cut(self, chunk: bytes) -> bytes:
        """Return the part of a chunk with the rows that may still come."""
        shown = []
        for line in chunk.splitlines(keepends=True):
            if self._left <= 0:
                break
            shown.append(line)
            self._left -= b'"seq"' in line or b'"id"' in line
        return b"".join(shown)


class _InterruptedStream(_Interrupted):
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._whole.chunks():
            yield self._cut(chunk)
            if self._left <= 0:
                self.close()
                raise self._error

    def close(self) -> None:
        self._whole.close()


class _AsyncInterruptedStream(_Interrupted):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._whole.achunks():
                yield self._cut(chunk)
                if self._left <= 0:
                    raise self._error
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._whole.aclose()
