"""Answers as a client of the server gets them, with statuses, headers and bodies, but without a connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TypeAlias

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.errors import BrokenOff, TimedOut, Unreachable
from couchdal.http.messages import ANONYMOUS_BODY, Request, Response
from couchdal.http.urls import quote_path
from couchdal.interception.patience import Patience
from couchdal.middleware.chain import drive, drive_async
from couchdal.server.framing import Headers, failure, headers_of

# Errors that a client learns only from its connection.
CONNECTION_ERRORS = (Unreachable, TimedOut)


class Answer:
    """One answer: ``body``, or ``chunks`` that come as the server sends them. A ``cut`` body ends before its length."""

    __slots__ = ("body", "cut", "headers", "response", "status", "streams")

    def __init__(self, status: int, headers: Headers, body: bytes, response: Response, *, cut: bool = False) -> None:
        self.status: int = status
        self.headers: Headers = headers
        self.body: bytes = body
        self.response: Response = response
        self.streams: bool = response.stream is not None
        self.cut: bool = cut

    @property
    def reason(self) -> str:
        """The phrase after the status."""
        return phrase(self.status)

    def _end(self) -> None:
        if self.cut:
            length = next(int(value) for name, value in self.headers if name == b"content-length")
            raise CutShort(len(self.body), length)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, and close it at the end."""
        if not self.streams:
            yield self.body
            self._end()
            return
        try:
            yield from self.response.chunks()
        finally:
            self.response.close()

    async def achunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, and close it at the end."""
        if not self.streams:
            yield self.body
            self._end()
            return
        try:
            async for chunk in self.response.achunks():
                yield chunk
        finally:
            await self.response.aclose()


class CutShort(Unreachable):
    """The connection was closed in the middle of an answer."""

    def __init__(self, received: int, expected: int) -> None:
        super().__init__(
            "peer closed connection without sending complete message body"
            f" (received {received} bytes, expected {expected})"
        )


# An answer, or the error that took its place.
Outcome: TypeAlias = "Answer | Unreachable | TimedOut"


@lru_cache(maxsize=64)
def phrase(status: int) -> str:
    """Return the phrase of a status. CouchDB has one phrase for all that HTTP does not define."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Internal Server Error" if status >= 600 else ""


def outcome_of(backend: BaseBackend, request: Request, patience: Patience) -> Outcome:
    """Return the answer or the error that a client of the backend's server would get."""
    try:
        if len(request.body) > ANONYMOUS_BODY:
            backend.check_large(request)
        if backend.drivers is not None:
            response = drive(backend, request, patience)
        else:
            response = backend.send(request)
            if patience.seconds is not None and response.stream is not None:
                response = patient(response, patience)
        return _answer(request, response)
    except CONNECTION_ERRORS as error:
        return _broken(request, error)
    except AssertionError:
        # A test tool has found something. The test must see it, not the client.
        raise
    except Exception as error:
        # This is the edge: a server answers after any failure.
        return _answer(request, failure(error))


async def async_outcome_of(backend: AsyncBackend, request: Request, patience: Patience) -> Outcome:
    """Return the answer or the error that a client of the backend's server would get."""
    try:
        if len(request.body) > ANONYMOUS_BODY:
            await backend.check_large_later(request)
        exchanged = backend.send(request) if backend.drivers is None else drive_async(backend, request, patience)
        return _answer(request, await exchanged)
    except CONNECTION_ERRORS as error:
        return _broken(request, error)
    except AssertionError:
        raise
    except Exception as error:
        # This is the edge, as above.
        return _answer(request, failure(error))


def patient(response: Response, patience: Patience) -> Response:
    """Return a response whose feed ends when its client would time out."""
    from couchdal.http.messages import Feed  # slow to check, and most answers are whole

    if isinstance(response.stream, Feed):
        response.stream = patience.watch(response.stream)
    return response


def _answer(request: Request, response: Response) -> Answer:
    if request.method == "HEAD" and response.stream is not None:
        response.close()
        response.stream = None
    if response.stream is not None:
        headers = headers_of(request, response, None, None)
        if not any(name == b"content-length" for name, _ in headers):
            headers.append((b"transfer-encoding", b"chunked"))
        body = b""
    else:
        content = response.content()
        headers = headers_of(request, response, content, None)
        body = b"" if request.method == "HEAD" else content
    headers.insert(0, (b"date", _date(int(time.time()))))
    return Answer(response.status, headers, body, response)


def _broken(request: Request, error: Unreachable | TimedOut) -> Outcome:
    """Return the half of an answer that a fault sends, or the error."""
    received = error.received if isinstance(error, BrokenOff) else None
    if not isinstance(received, Response):
        return error
    answer = _answer(request, received)
    return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2], received, cut=True)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")


def split_target(target: str) -> tuple[str, str]:
    """Return the path and the query of a request's target, as a web server reads them."""
    path, _, query = target.partition("#")[0].partition("?")
    if not path.isascii():
        path = quote_path(path)
    return path or "/", query
