"""Middleware of a real server sees every handle of that server: faults, the request log, ``expect`` and events."""

from __future__ import annotations

import asyncio
import gc

import pytest

from couchdal import AsyncCouchDAL, CouchBackend, CouchDAL, CouchError, RequestEvent, observe
from couchdal.transcripts.scenario import RECORDED_ADMIN


@pytest.fixture
def address(served_address: str) -> str:
    user, password = RECORDED_ADMIN
    return served_address.replace("http://", f"http://{user}:{password}@")


def handle(address: str) -> CouchDAL:
    return CouchDAL(CouchBackend(address), database="shared", create=True)


def test_expect_counts_the_requests_of_every_handle(address: str) -> None:
    async def ask() -> None:
        async with AsyncCouchDAL(CouchBackend(address), database="shared") as other:
            await other.info()

    with handle(address) as first, handle(address) as second:
        second.info()
        with first.expect(requests=3, statuses={200}):
            first.info()
            second.info()
            asyncio.run(ask())
        with pytest.raises(AssertionError, match="expected 0 requests, got 1"), first.expect(requests=0):
            second.info()


def test_faults_affect_every_handle(address: str) -> None:
    async def ask() -> int:
        async with AsyncCouchDAL(CouchBackend(address), database="shared") as other:
            return (await other.request("GET", "/")).status

    with handle(address) as first, handle(address) as second:
        second.info()
        with first.faults.answer(503):
            with pytest.raises(CouchError):
                second.info()
            assert asyncio.run(ask()) == 503
        assert asyncio.run(ask()) == 200


def test_log_and_events_see_every_handle(address: str) -> None:
    seen: list[RequestEvent] = []
    with handle(address) as first, handle(address) as second:
        first.info()
        log = first.requests
        log.clear()
        end = observe(seen.append, first.backend.server_key)
        second.info()
        end()
        second.info()
        assert [request.path for request in second.requests] == ["/shared", "/shared"]
        assert len(seen) == 1


def test_other_address_is_another_server(address: str) -> None:
    with handle(address) as first, CouchDAL(CouchBackend("http://127.0.0.1:9")) as second:
        assert first.requests is not second.requests


def test_middleware_outlives_the_handle_that_installed_it(address: str) -> None:
    with handle(address).faults.answer(418, error="teapot"):
        gc.collect()
        with handle(address) as other:
            assert other.request("GET", "/").status == 418
