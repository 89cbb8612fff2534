"""Middleware: it sees requests, and may answer them, wait, send others or fail."""

from __future__ import annotations

import asyncio

import pytest

from couchdal import AsyncCouchDAL, BadRequest, CouchDAL, MemoryBackend, RequestEvent, Unreachable, observe
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.http.messages import Request, Response
from couchdal.middleware.chain import Delay, Steps, installed, with_middleware


@pytest.fixture
def dal() -> CouchDAL:
    return CouchDAL(MemoryBackend(database="db"))


def test_middleware_of_a_server_sees_the_requests_of_every_handle(dal: CouchDAL) -> None:
    seen: list[str] = []

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        response = yield request
        seen.append(f"{request.method} {request.path} {response.status}")
        return response

    with installed(watch, dal.backend.server_key):
        dal.put_document("a", {})
        dal.database("other").request("GET", "/a")
        dal.backend.handle_request("/a")
        asyncio.run(AsyncCouchDAL(dal.backend).info())
        CouchDAL(MemoryBackend(database="db")).info()
    dal.info()
    assert seen == ["PUT /db/a 201", "GET /other/a 404", "GET /db/a 200", "GET /db 200"]


def test_middleware_without_a_server_sees_every_server(dal: CouchDAL) -> None:
    seen: list[str] = []

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        seen.append(request.path)
        return (yield request)

    with installed(watch):
        dal.info()
        CouchDAL(MemoryBackend(database="elsewhere")).info()
    assert seen == ["/db", "/elsewhere"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_middleware_answers_waits_and_sends_other_requests(dal: CouchDAL, asynchronous: bool) -> None:
    def answer(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        yield Delay(0)
        extra = yield Request("PUT", "/db/extra", json={})
        assert extra.status == 201
        return Response(418, json={"error": "teapot", "reason": request.path})

    dal.info()
    with installed(answer, dal.backend.server_key):
        if asynchronous:
            response = asyncio.run(AsyncCouchDAL(dal.backend).request("GET", "/a"))
        else:
            response = dal.request("GET", "/a")
    assert (response.status, response.value()) == (418, {"error": "teapot", "reason": "/db/a"})
    assert dal.get("/extra")["_id"] == "extra"


def test_middleware_catches_failures_and_raises_its_own(dal: CouchDAL) -> None:
    def fail(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        yield request
        raise Unreachable("the answer is lost", backend.name)

    def retry(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        try:
            return (yield request)
        except Unreachable:
            return Response(503, json={"error": "lost", "reason": "lost"})

    dal.info()
    with installed(fail, dal.backend.server_key):
        with pytest.raises(Unreachable, match="the answer is lost"):
            dal.put_document("a", {})
        with installed(retry):
            assert dal.request("GET", "/").status == 503
    assert dal.get("/a")["_rev"].startswith("1-")


def test_middleware_of_a_backend_sees_only_its_views(dal: CouchDAL) -> None:
    seen: list[str] = []

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        seen.append(request.path)
        return (yield request)

    dal.info()
    watched = CouchDAL(with_middleware(dal.backend, watch))
    watched.info()
    watched.database("other").request("GET", "/a")
    asyncio.run(AsyncCouchDAL(watched.backend).info())
    asyncio.run(AsyncCouchDAL(watched.backend).database("third").request("GET", "/a"))
    dal.get("/_all_docs")
    assert seen == ["/db", "/other/a", "/db", "/third/a"]


def test_middleware_of_a_backend_is_the_innermost(dal: CouchDAL) -> None:
    """Events, logs and faults see what the index watch answers."""
    events: list[RequestEvent] = []
    strict = CouchDAL(dal.backend, indexes="require")
    stop = observe(events.append, dal.backend.server_key)
    with pytest.raises(BadRequest), dal.faults.delay(0):
        strict.find({"n": 1})
    stop()
    assert [(event.status, event.error) for event in events] == [(400, "index_required")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_middleware_that_yields_something_else_is_a_type_error(dal: CouchDAL, asynchronous: bool) -> None:
    def confuse(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        return (yield "request")  # type: ignore[misc]

    with (
        installed(confuse),
        pytest.raises(TypeError, match="must yield a Request, a Delay or a Discard, not 'request'"),
    ):
        asyncio.run(AsyncCouchDAL(dal.backend).info()) if asynchronous else dal.info()
