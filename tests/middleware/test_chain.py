"""Interceptors: each sees the requests of a server, and may answer, wait, ask for more, or fail in their place."""

from __future__ import annotations

import asyncio

import pytest

from couchdal import AsyncCouchDAL, CouchDAL, MemoryBackend, Unreachable
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.http.messages import Request, Response
from couchdal.middleware.chain import Delay, Steps, installed


@pytest.fixture
def dal() -> CouchDAL:
    return CouchDAL(MemoryBackend(), database="db")


def test_interceptor_sees_requests_of_every_handle_on_its_server_and_no_other(dal: CouchDAL) -> None:
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
        CouchDAL(MemoryBackend(), database="db").info()
    dal.info()
    assert seen == ["PUT /db/a 201", "GET /other/a 404", "GET /db/a 200", "GET /db 200"]


def test_interceptor_everywhere_sees_every_server(dal: CouchDAL) -> None:
    seen: list[str] = []

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        seen.append(request.path)
        return (yield request)

    with installed(watch):
        dal.info()
        CouchDAL(MemoryBackend(), database="elsewhere").info()
    assert seen == ["/db", "/elsewhere"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_interceptor_answers_waits_and_slips_requests_in(dal: CouchDAL, asynchronous: bool) -> None:
    def meddle(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        yield Delay(0)
        slipped = yield Request("PUT", "/db/slipped", json={})
        assert slipped.status == 201
        return Response(418, json={"error": "teapot", "reason": request.path})

    dal.info()
    with installed(meddle, dal.backend.server_key):
        if asynchronous:
            response = asyncio.run(AsyncCouchDAL(dal.backend).request("GET", "/a"))
        else:
            response = dal.request("GET", "/a")
    assert (response.status, response.value()) == (418, {"error": "teapot", "reason": "/db/a"})
    assert dal.get("/slipped")["_id"] == "slipped"


def test_interceptor_is_told_of_failures_and_may_raise_its_own(dal: CouchDAL) -> None:
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
