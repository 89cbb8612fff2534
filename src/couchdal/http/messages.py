"""Requests, responses and feeds: the values that every backend, client and server passes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NoReturn, Protocol, cast, runtime_checkable

from couchdal.errors import BackendError, BadContentType, BadRequest, CouchError, TooLarge, from_answer
from couchdal.failure import Failure
from couchdal.http.json_text import JSON, decode_json, encode_json
from couchdal.http.urls import parse_query, split_path


class Absent:
    """The type of ``ABSENT``: no body at all, which differs from the JSON value ``null``."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        # Copying and unpickling return the same object, because callers compare with ``is``.
        return "ABSENT"


ABSENT: Final = Absent()


# Requests and responses are plain classes. Every program imports this module, and two dataclasses take as long to
# create as everything else in it. A frozen dataclass also takes five times as long to construct.
class Request:
    """One immutable request.

    ``path`` and ``query`` are percent-encoded, as in the request line. Header names are lower case. The body is
    ``body`` (bytes), or ``json`` (a decoded and checked value that no other code holds), or ``stream`` (chunks that can
    be read once, for asynchronous backends that stream). ``announces_body`` is true if the head announced a body, even
    an empty one. ``peer`` is the client's address. ``rewrites`` counts the requests that ``_rewrite`` replaced by this.
    """

    __slots__ = ("announces_body", "body", "headers", "json", "method", "path", "peer", "query", "rewrites", "stream")

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        json: object = ABSENT,
        peer: str = "127.0.0.1",
        stream: AsyncIterable[bytes] | None = None,
        announces_body: bool = True,
        rewrites: int = 0,
    ) -> None:
        self.method: Final = method
        self.path: Final = path
        self.query: Final = query
        self.headers: Final[Mapping[str, str]] = {} if headers is None else headers
        self.body: Final = body
        self.json: Final = json
        self.peer: Final = peer
        self.stream: Final = stream
        self.announces_body: Final = announces_body
        self.rewrites: Final = rewrites
        # From here on, assignments raise an error. If the class refused them from the start, this would be slow.
        self.__class__ = _SealedRequest

    def with_head(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Request:
        """Return a request from the same client with the same body and another head."""
        return Request(
            method,
            path,
            query,
            headers,
            self.body,
            json=self.json,
            peer=self.peer,
            stream=self.stream,
            announces_body=self.announces_body,
        )

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        """Return the same request with other headers."""
        return self.with_head(self.method, self.path, self.query, headers)

    def with_body(
        self, *, body: bytes = b"", json: object = ABSENT, stream: AsyncIterable[bytes] | None = None
    ) -> Request:
        """Return the same request with another body."""
        return Request(
            self.method,
            self.path,
            self.query,
            self.headers,
            body,
            json=json,
            peer=self.peer,
            stream=stream,
            announces_body=self.announces_body,
        )

    def __repr__(self) -> str:
        # Headers and bodies hold credentials, and a repr ends up in logs and failing tests.
        return f"<Request {self.method} {self.path}{'?' if self.query else ''}{self.query}>"

    def __reduce__(self) -> tuple[object, ...]:
        # Copying and unpickling call the constructor, because assigning attributes would raise an error.
        constructor = partial(
            Request, json=self.json, peer=self.peer, stream=self.stream, announces_body=self.announces_body
        )
        return constructor, (self.method, self.path, self.query, dict(self.headers), self.body)

    def content(self) -> bytes:
        """Return the body as bytes, encoding ``json`` if necessary."""
        return self.body if self.json is ABSENT else encode_json(self.json)

    def value(self) -> JSON:
        """Return the decoded body, which must not be changed; ``None`` if the body is empty or not JSON."""
        if self.json is not ABSENT:
            return cast(JSON, self.json)
        if not self.body or "json" not in self.headers.get("content-type", ""):
            return None
        try:
            return decode_json(self.body)
        except BadRequest:
            return None


class _SealedRequest(Request):
    """The class of every constructed request: it refuses assignments."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a request cannot be changed; use with_head, with_headers or with_body to set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)


def is_feed(request: Request) -> bool:
    """Return whether the request asks for a changes feed that waits, so that the answer may take long.

    This depends on the decoded path and query, as on CouchDB. Source: chttpd_changes, chttpd:handle_req_after_auth.
    """
    if not request.query:
        return False
    try:
        segments = split_path(request.path)
        if segments[1:2] != ["_changes"] and segments[:1] != ["_db_updates"]:
            return False
        # CouchDB ignores case in the name of this parameter. It uses the last one, and refuses unknown values.
        return any(name.lower() == "feed" and value not in ("", "normal") for name, value in parse_query(request.query))
    except BadRequest:
        return False


@runtime_checkable
class Feed(Protocol):
    """A response body without an end. It is polled and never blocks, so a thread or an event loop can drive it."""

    def poll(self) -> tuple[bytes, float | None]:
        """Return the bytes to send now and the seconds until the next poll; ``None`` if the feed has ended."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever a poll may return more than the last one."""

    def close(self) -> None:
        """Cancel the subscription. Closing twice is safe."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks, blocking between them, until the feed has ended."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


@runtime_checkable
class _AsyncClosable(Protocol):
    async def aclose(self) -> None: ...


class Response:
    """One answer. The body is ``json`` (a decoded value that the receiver owns), or ``body``, or ``stream`` (chunks).

    ``layout`` makes the text of ``json`` if that text has several lines.

    ``stream`` is a ``Feed`` from the emulator, another iterable from a blocking backend, and an asynchronous iterable
    from an asynchronous backend. ``name_error`` names the answered request in an error, if the caller knows it.
    """

    __slots__ = ("body", "headers", "json", "layout", "name_error", "status", "stream")

    def __init__(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        json: object = ABSENT,
        body: bytes = b"",
        stream: Iterable[bytes] | AsyncIterable[bytes] | None = None,
        *,
        layout: Callable[[object], bytes] | None = None,
    ) -> None:
        self.status: int = status
        self.headers: dict[str, str] = {} if headers is None else headers
        self.json: object = json
        self.body: bytes = body
        self.stream = stream
        self.layout: Callable[[object], bytes] | None = layout
        self.name_error: Callable[[Failure], None] | None = None

    def __repr__(self) -> str:
        # Headers may hold a cookie, and bodies may hold anything.
        return f"<Response {self.status}>"

    def chunks(self) -> Iterable[bytes]:
        """Return the chunks of a blocking stream, or else the body as one chunk.

        Raise ``TypeError`` for an asynchronous stream.
        """
        if self.stream is None:
            return (self.content(),)
        if not isinstance(self.stream, Iterable):
            raise TypeError("the body of this response is an asynchronous stream")
        return self.stream if self.name_error is None else self._named(self.stream, self.name_error)

    def _named(self, stream: Iterable[bytes], name_error: Callable[[Failure], None]) -> Iterator[bytes]:
        try:
            yield from stream
        except (BackendError, CouchError) as error:
            name_error(error)
            raise

    async def achunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of an asynchronous stream, or else the body as one chunk; close the stream at the end.

        Raise ``TypeError`` for a blocking stream.
        """
        if self.stream is None:
            yield self.content()
            return
        if not isinstance(self.stream, AsyncIterable):
            raise TypeError("the body of this response is a blocking stream")
        try:
            async for chunk in self.stream:
                yield chunk
        except (BackendError, CouchError) as error:
            if self.name_error is not None:
                self.name_error(error)
            raise
        finally:
            await self.aclose()

    def close(self) -> None:
        """Close the stream, if the body is a blocking one. Closing twice is safe."""
        if self.stream is not None and isinstance(self.stream, _Closable):
            self.stream.close()

    async def aclose(self) -> None:
        """Close the stream, if the body is an asynchronous one. Closing twice is safe."""
        if self.stream is not None and isinstance(self.stream, _AsyncClosable):
            await self.stream.aclose()

    def content(self, encode: Callable[[object], bytes] = encode_json) -> bytes:
        """Return the whole body as bytes. CouchDB ends every JSON body with a newline.

        ``encode`` makes the JSON text of a value without a layout.
        """
        if self.stream is not None:
            self.body, self.stream = b"".join(self.chunks()), None
        if self.json is ABSENT:
            return self.body
        return encode(self.json) + b"\n" if self.layout is None else self.layout(self.json)

    def value(self) -> JSON:
        """Return the decoded body; ``None`` if it is empty, a string if it is not JSON."""
        if self.json is not ABSENT:
            return cast(JSON, self.json)
        content = self.content()
        if not content:
            return None
        try:
            return decode_json(content)
        except BadRequest:
            return content.decode("utf-8", "replace")

    def result(self) -> JSON:
        """Return the decoded body. Raise the ``CouchError`` of a status >= 400."""
        if self.status < 400:
            return self.value()
        error = from_answer(self.status, self.value(), self.headers)
        if self.name_error is not None:
            self.name_error(error)
        raise error


#: The most bytes of a body from a client without valid credentials, on a server that has administrators.
ANONYMOUS_BODY: Final = 65536
#: The most bytes that a compressed body may have after it is inflated. CouchDB inflates without a limit.
INFLATED_BODY: Final = 64 * 1024 * 1024
_PIECE = 16384
_GZIP = 31
_NOT_GZIP = "Request body is not properly gzipped."


def decompress(data: bytes, encoding: str, most: int = INFLATED_BODY) -> bytes:
    """Return a body without its ``Content-Encoding``; it may have several gzip members, and nothing after them.

    Raise ``BadContentType`` for an encoding other than gzip, ``BadRequest`` for data that is not gzip, and ``TooLarge``
    if the result has more than ``most`` bytes.
    """
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise BadContentType(f"{encoding} is not a supported content encoding.")
    import zlib  # few clients compress what they send

    member, pieces, size = zlib.decompressobj(_GZIP), list[bytes](), 0
    for start in range(0, len(data), _PIECE):
        rest = data[start : start + _PIECE]
        while rest:
            if member.eof:
                member = zlib.decompressobj(_GZIP)
            try:
                pieces.append(member.decompress(rest, most - size + 1))
            except zlib.error:
                raise BadRequest(_NOT_GZIP) from None
            size += len(pieces[-1])
            if size > most:
                raise too_large()
            rest = member.unused_data
    if not member.eof:
        raise BadRequest(_NOT_GZIP)
    return b"".join(pieces)


def too_large() -> TooLarge:
    """Return the error for a body over a limit. It closes the connection, because the rest may not have arrived yet."""
    return TooLarge("the request entity is too large", headers={"connection": "close"})
