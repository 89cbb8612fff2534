"""Requests cannot be changed; responses give out their bodies as bytes, values or chunks."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator

import pytest

from couchdal.http.messages import ABSENT, Request, Response


class TestRequest:
    @pytest.mark.parametrize("name", ["method", "path", "query", "headers", "body", "json", "peer", "stream", "other"])
    def test_assignment_raises(self, name: str) -> None:
        request = Request("GET", "/db")
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(request, name, "x")
        assert repr(request) == "<Request GET /db>"

    def test_deletion_raises(self) -> None:
        request = Request("GET", "/db")
        with pytest.raises(AttributeError, match="cannot be changed"):
            del request.method
        assert request.method == "GET"

    def test_with_methods_return_new_requests(self) -> None:
        request = Request("POST", "/db", "a=1", {"host": "x"}, b"old", peer="10.0.0.1", announces_body=False)
        changed = request.with_head("PUT", "/other", "", {}).with_headers({"host": "y"}).with_body(body=b"new")
        assert (changed.method, changed.path, changed.query, changed.headers) == ("PUT", "/other", "", {"host": "y"})
        assert (changed.body, changed.json, changed.peer, changed.announces_body) == (b"new", ABSENT, "10.0.0.1", False)
        assert (request.method, request.path, request.query, request.body) == ("POST", "/db", "a=1", b"old")

    def test_is_instance_of_its_public_class(self) -> None:
        assert isinstance(Request("GET", "/"), Request)

    def test_copies_and_pickles(self) -> None:
        request = Request("GET", "/db", "a=1", {"host": "x"}, announces_body=False)
        for copied in (copy.copy(request), copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
            assert (copied.method, copied.path, copied.query, copied.headers) == ("GET", "/db", "a=1", {"host": "x"})
            assert not copied.announces_body
            assert copied.content() == b""


class _Stream:
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.chunks)


class TestResponse:
    def test_content_joins_blocking_stream(self) -> None:
        assert Response(200, stream=iter([b"a", b"b"])).content() == b"ab"

    def test_chunks_of_plain_body_are_one(self) -> None:
        assert list(Response(200, json={"a": 1}).chunks()) == [b'{"a":1}\n']

    def test_close_reaches_stream(self) -> None:
        stream = _Stream([b"a"])
        response = Response(200, stream=stream)
        response.close()
        assert stream.closed == 1

    def test_close_accepts_streams_that_cannot_be_closed(self) -> None:
        Response(200, stream=iter([b"a"])).close()
        Response(200, body=b"a").close()
        asyncio.run(Response(200, stream=iter([b"a"])).aclose())

    def test_asynchronous_stream_is_refused_by_blocking_reader(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"

        with pytest.raises(TypeError, match="asynchronous"):
            Response(200, stream=chunks()).content()

    def test_achunks_closes_stream_at_the_end(self) -> None:
        ended = []

        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append(True)

        async def first() -> bytes:
            stream = Response(200, stream=chunks()).achunks()
            chunk = await anext(stream)
            await stream.aclose()
            return chunk

        assert asyncio.run(first()) == b"a"
        assert ended == [True]
