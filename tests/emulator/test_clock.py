"""The emulator's clock, for cookies and feeds, and its generated ids."""

from __future__ import annotations

import asyncio
import threading

import pytest

from couchdal import AsyncCouchDAL, CouchBackend, CouchDAL, MemoryBackend, MemoryOnly


def test_cookie_expires() -> None:
    dal = CouchDAL(MemoryBackend(admin=("admin", "secret"), database="db"))
    login = dal.request("POST", "/_session", json={"name": "admin", "password": "secret"})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    assert dal.request("GET", "/_session", headers=cookie).value()["userCtx"]["name"] == "admin"
    dal.clock.advance(601)
    assert dal.request("GET", "/_session", headers=cookie).value()["userCtx"]["name"] is None


def test_blocking_feed_times_out() -> None:
    dal = CouchDAL(MemoryBackend(database="db"))
    dal.put_document("a", {})
    feed = dal.changes("continuous", timeout=50_000)
    assert next(feed)["id"] == "a"
    rest: list[object] = []
    reader = threading.Thread(target=lambda: rest.extend(feed))
    reader.start()
    while not dal.backend.server.databases["db"].watchers:  # type: ignore[attr-defined]
        pass
    dal.clock.advance(51)
    reader.join(5)
    assert not reader.is_alive()
    assert rest == []


def test_feed_on_an_event_loop_times_out() -> None:
    async def run() -> object:
        dal = AsyncCouchDAL(MemoryBackend(database="db"))
        await dal.info()
        waiting = asyncio.create_task(dal.request("GET", "/_changes?feed=longpoll&timeout=50000"))
        await asyncio.sleep(0.01)
        dal.clock.advance(50)
        from couchdal.backends.base import collect

        return (await collect(await waiting)).value()["results"]

    assert asyncio.run(asyncio.wait_for(run(), 5)) == []


def test_clock_goes_back_only_with_a_rollback() -> None:
    dal = CouchDAL(MemoryBackend(database="db"))
    before = dal.clock.now()
    with dal.rollback():
        dal.clock.advance(10)
        assert dal.clock.now() == before + 10
    assert dal.clock.now() == before
    with pytest.raises(ValueError, match="time does not go back"):
        dal.clock.advance(-1)


def test_same_seed_gives_the_same_ids() -> None:
    dal = CouchDAL(MemoryBackend(database="db"))
    dal.seed_ids(7)
    first = dal.uuids(3)
    dal.seed_ids(8)
    other = dal.uuids(3)
    dal.seed_ids(7)
    assert dal.uuids(3) == first != other


def test_seeded_ids_leave_users_logged_in() -> None:
    dal = CouchDAL(MemoryBackend(admin=("admin", "secret"), database="db"))
    login = dal.request("POST", "/_session", json={"name": "admin", "password": "secret"})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    dal.seed_ids(7)
    assert dal.request("GET", "/_session", headers=cookie).value()["userCtx"]["name"] == "admin"


def test_blocking_feed_sends_a_heartbeat_when_it_is_due() -> None:
    dal = CouchDAL(MemoryBackend(database="db"))
    seen: list[bytes] = []
    began, beaten = threading.Event(), threading.Event()

    def read() -> None:
        for chunk in stream:
            seen.append(chunk)
            (beaten if began.is_set() else began).set()

    stream = dal.request("GET", "/_changes", params={"feed": "continuous", "heartbeat": 50_000}).stream
    assert stream is not None
    reader = threading.Thread(target=read)
    reader.start()
    assert began.wait(5)
    dal.clock.advance(50)
    assert beaten.wait(5)
    stream.close()
    reader.join(5)
    assert not reader.is_alive()
    assert seen == [b"\n", b"\n"]


def test_feed_on_an_event_loop_sends_a_heartbeat_when_it_is_due() -> None:
    async def run() -> list[bytes]:
        dal = AsyncCouchDAL(MemoryBackend(database="db"))
        stream = (await dal.request("GET", "/_changes?feed=continuous&heartbeat=50000")).stream
        chunks = aiter(stream)
        first = await anext(chunks)
        beat = asyncio.create_task(anext(chunks))
        await asyncio.sleep(0.01)
        dal.clock.advance(50)
        seen = [first, await beat]
        await chunks.aclose()
        return seen

    assert asyncio.run(asyncio.wait_for(run(), 5)) == [b"\n", b"\n"]


def test_real_server_refuses_the_clock_and_seeds() -> None:
    dal = CouchDAL(CouchBackend("http://127.0.0.1:9", database="db"))
    with pytest.raises(MemoryOnly, match="clock"):
        _ = dal.clock
    with pytest.raises(MemoryOnly, match="ids"):
        dal.seed_ids(1)
