"""The seam of httpx and httpx2: answers requests where a client's default transport would take a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from couchdal.errors import ConnectionReset, NotConnected, TimedOut, Unreachable
from couchdal.http.messages import Request
from couchdal.interception.answers import Answer, CutShort, Outcome, split_target
from couchdal.interception.intercept import Interception, explain, interception_for
from couchdal.server.framing import read_head

if TYPE_CHECKING:
    import httpx

    from couchdal.interception.patches import Replace


def replacements(module: ModuleType) -> list[Replace]:
    """Return the replacements in ``httpx`` or ``httpx2``."""
    seam = _Seam(module)
    return [
        (module.HTTPTransport, "handle_request", seam.blocking),
        (module.AsyncHTTPTransport, "handle_async_request", seam.asynchronous),
        # No transport can say that an answer has no cookies. Without this, a GET would be 3.4 times as fast as over
        # a socket, and not more than 4 times.
        (module.Cookies, "extract_cookies", seam.cookies),
    ]


class _Seam:
    """The seam of one of the two libraries, which have the same classes."""

    def __init__(self, module: ModuleType) -> None:
        self._httpx = module

        class Stream(module.SyncByteStream):  # type: ignore[misc, name-defined]
            def __init__(self, answer: Answer, seam: _Seam) -> None:
                self._answer = answer
                self._seam = seam

            def __iter__(self) -> Iterator[bytes]:
                with self._seam.errors():
                    yield from self._answer.chunks()

            def close(self) -> None:
                self._answer.response.close()

        class AsyncStream(module.AsyncByteStream):  # type: ignore[misc, name-defined]
            def __init__(self, answer: Answer, seam: _Seam) -> None:
                self._answer = answer
                self._seam = seam

            async def __aiter__(self) -> AsyncIterator[bytes]:
                with self._seam.errors():
                    async for chunk in self._answer.achunks():
                        yield chunk

            async def aclose(self) -> None:
                await self._answer.response.aclose()

        class Whole(module.Response):  # type: ignore[misc, name-defined]
            """An answer whose body is not compressed and not in parts, so that nothing must be decoded."""

            def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
                is_plain = chunk_size is None and not self.is_stream_consumed
                return self.iter_raw() if is_plain else super().iter_bytes(chunk_size)  # type: ignore[no-any-return]

            def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
                is_plain = chunk_size is None and not self.is_stream_consumed
                return self.aiter_raw() if is_plain else super().aiter_bytes(chunk_size)  # type: ignore[no-any-return]

            def __reduce__(self) -> tuple[object, ...]:
                return object.__new__, (module.Response,), self.__getstate__()

        self._whole = Whole
        self._stream = Stream
        self._async_stream = AsyncStream

    def cookies(self, original: Callable[..., object]) -> Callable[..., object]:
        def extract_cookies(jar: object, response: httpx.Response) -> None:
            """Skip the search for cookies in an answer without any: it takes a quarter of the client's time."""
            is_ours = isinstance(response, self._whole)
            if not is_ours or any(name.lower() == b"set-cookie" for name, _ in response.headers.raw):
                original(jar, response)

        return extract_cookies

    def blocking(self, original: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
        def handle_request(transport: object, request: httpx.Request) -> httpx.Response:
            interception = _find(request)
            if interception is None:
                try:
                    return original(transport, request)
                except self._httpx.TransportError as error:
                    explain(error, *_address(request))
                    raise
            body = b"".join(request.stream)  # type: ignore[arg-type]
            return self._response(interception.outcome(_with_body(request, body), _seconds(request)), self._stream)

        return handle_request

    def asynchronous(
        self, original: Callable[..., Awaitable[httpx.Response]]
    ) -> Callable[..., Awaitable[httpx.Response]]:
        async def handle_async_request(transport: object, request: httpx.Request) -> httpx.Response:
            interception = _find(request)
            if interception is None:
                try:
                    return await original(transport, request)
                except self._httpx.TransportError as error:
                    explain(error, *_address(request))
                    raise
            body = b"".join([part async for part in request.stream])  # type: ignore[union-attr]
            outcome = await interception.async_outcome(_with_body(request, body), _seconds(request))
            return self._response(outcome, self._async_stream)

        return handle_async_request

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the library's own exceptions, with the messages of its HTTP/1.1 connections."""
        httpx = self._httpx
        try:
            yield
        except TimedOut:
            raise httpx.ReadTimeout("timed out") from None
        except NotConnected:
            raise httpx.ConnectError("[Errno 111] Connection refused") from None
        except ConnectionReset:
            raise httpx.ReadError("[Errno 104] Connection reset by peer") from None
        except CutShort as error:
            raise httpx.RemoteProtocolError(str(error)) from None
        except Unreachable:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.") from None

    def _response(self, outcome: Outcome, stream: type) -> httpx.Response:
        if not isinstance(outcome, Answer):
            with self.errors():
                raise outcome
        kind = self._httpx.Response
        if outcome.streams or outcome.cut:
            content = stream(outcome, self)
        else:
            content = self._httpx.ByteStream(outcome.body)
            if not any(name == b"content-encoding" for name, _ in outcome.headers):
                kind = self._whole
        response: httpx.Response = kind(
            outcome.status, headers=outcome.headers, stream=content, extensions={"http_version": b"HTTP/1.1"}
        )
        return response


def _address(request: httpx.Request) -> tuple[str, str, int | None]:
    url = request.url
    return url.scheme, url.host, url.port


def _find(request: httpx.Request) -> Interception | None:
    interception = interception_for(*_address(request))
    own = request.extensions.get("couchdal")
    # The request comes from a backend that the interception itself uses.
    return None if interception is None or (own is not None and interception.is_same_server(own)) else interception


def _with_body(request: httpx.Request, body: bytes) -> Request:
    target: bytes = request.extensions.get("target") or request.url.raw_path
    path, query = split_target(target.decode("latin-1"))
    raw = request.headers.raw
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}
    if len(headers) < len(raw):
        return read_head(request.method, path, query, _lower(raw), peer="127.0.0.1", body=body)
    announces_body = "content-length" in headers or "transfer-encoding" in headers
    return Request(request.method, path, query, headers, body, announces_body=announces_body)


def _lower(raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in raw]


def _seconds(request: httpx.Request) -> float | None:
    timeout = request.extensions.get("timeout")
    return None if timeout is None else timeout.get("read")
