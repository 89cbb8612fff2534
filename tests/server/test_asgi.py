"""The application under any ASGI server: here httpx2's transport, which calls it without a server of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from couchdal import AsyncBackend, BaseBackend, MemoryBackend
from couchdal.errors import BrokenOff
from couchdal.http.cors import Cors
from couchdal.http.messages import Request, Response
from couchdal.server.application import Application, RequestCycle
from couchdal.server.framing import Limits
from couchdal.server.transfer import Disconnected


def ask(application: Application, *requests: tuple[str, str, object]) -> list[httpx2.Response]:
    async def main() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.request(method, path, json=payload)
                if payload is not None
                else await client.request(method, path)
                for method, path, payload in requests
            ]

    return asyncio.run(main())


def test_requests_of_all_kinds_are_answered() -> None:
    answers = ask(
        Application(MemoryBackend()),
        ("PUT", "/db", None),
        ("PUT", "/db/a", {"x": 1}),
        ("GET", "/db/a", None),
        ("HEAD", "/db/a", None),
        ("GET", "/db/missing", None),
        ("GET", "/db/_changes?feed=continuous&timeout=1", None),
    )
    assert [answer.status_code for answer in answers] == [201, 201, 200, 200, 404, 200]
    assert answers[2].json()["x"] == 1
    assert answers[3].headers["content-length"] == str(len(answers[2].content))
    assert answers[4].json() == {"error": "not_found", "reason": "missing"}
    assert b'"last_seq"' in answers[5].content


def test_limits_and_cors_apply() -> None:
    application = Application(
        MemoryBackend(), limits=Limits(max_http_request_size=10), cors=Cors(("https://a.example",))
    )
    too_large, small = ask(application, ("POST", "/_replicate", {"x": "y" * 20}), ("GET", "/", None))
    assert (too_large.status_code, too_large.json()["error"]) == (413, "too_large")
    assert small.status_code == 200


def test_counts_return_to_zero() -> None:
    application = Application(MemoryBackend(), limits=Limits(requests=0))
    assert ask(application, ("GET", "/", None))[0].status_code == 503
    assert (application.requests, application.feeds) == (0, 0)
    application = Application(MemoryBackend())
    ask(application, ("GET", "/", None), ("GET", "/nowhere", None))
    assert (application.requests, application.feeds) == (0, 0)


def test_answer_that_breaks_off_raises_in_a_server_that_cannot_close() -> None:
    class Broken(BaseBackend):
        def send(self, request: Request) -> Response:
            raise BrokenOff("it broke off", "there")

    with pytest.raises(BrokenOff):
        ask(Application(Broken()), ("GET", "/", None))


class Watched:
    """A blocking stream that knows whether it was closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"{}"

    def close(self) -> None:
        self.closed = True


class Streaming(BaseBackend):
    def __init__(self, stream: Watched) -> None:
        self.stream = stream

    def send(self, request: Request) -> Response:
        return Response(200, stream=self.stream)


@pytest.mark.parametrize("leaves", ["before the head", "before the body"])
@pytest.mark.parametrize("turns", range(8))
def test_stream_that_nobody_begins_to_read_is_closed(leaves: str, turns: int) -> None:
    watched = Watched()
    application = Application(Streaming(watched))

    async def receive() -> dict[str, object]:
        for _ in range(turns):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if leaves == "before the head" or message["type"] == "http.response.body":
            raise Disconnected

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    asyncio.run(application({**scope, "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send))
    assert watched.closed


def test_stream_is_closed_if_the_client_goes_before_its_first_chunk() -> None:
    closed: list[bool] = []

    class Stream:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"never read"

        async def aclose(self) -> None:
            closed.append(True)

    class Streaming(AsyncBackend):
        streams = True

        async def send(self, request: Request) -> Response:
            return Response(200, stream=Stream())

    class Closing:
        def close(self) -> None: ...

        def abort(self) -> None: ...

        def is_closing(self) -> bool:
            return True

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError(message)

    cycle = RequestCycle(Request("GET", "/db/_changes", "feed=continuous"), complete=True)
    cycle.response = Response(200, stream=Stream())
    asyncio.run(Application(Streaming()).answer(cycle, receive, send, Closing()))
    assert closed
