"""``follow_changes`` on both clients and every backend: at least once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from couchdal import (
    AsyncCouchDAL,
    BadRequest,
    CouchDAL,
    MemoryBackend,
    NotFound,
    Unauthorized,
)


@contextmanager
def after(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, call)
    timer.start()
    yield
    timer.join()


@pytest.fixture(params=["blocking", "async"])
def follow(request: pytest.FixtureRequest, dal: CouchDAL) -> Callable[..., list[str]]:
    """A function that follows with either client until a number of changes came, and returns their ids.

    ``each`` is called with the id of each change.
    """

    def blocking(count: int, each: Callable[[str], object], **options: Any) -> list[str]:
        seen: list[str] = []
        with dal.follow_changes("follower", **options) as changes:
            for change in changes:
                seen.append(change["id"])
                each(change["id"])
                if len(seen) >= count:
                    changes.stop()
        return seen

    async def in_loop(count: int, each: Callable[[str], object], **options: Any) -> list[str]:
        seen: list[str] = []
        async with AsyncCouchDAL(dal.backend) as handle, handle.follow_changes("follower", **options) as changes:
            async for change in changes:
                seen.append(change["id"])
                await asyncio.to_thread(each, change["id"])
                if len(seen) >= count:
                    changes.stop()
        return seen

    def run(count: int, each: Callable[[str], object] = lambda doc_id: None, **options: Any) -> list[str]:
        begun = time.monotonic()
        try:
            if request.param == "blocking":
                return blocking(count, each, **options)
            return asyncio.run(in_loop(count, each, **options))
        finally:
            assert time.monotonic() - begun < 30

    return run


def test_next_run_continues_where_the_last_one_ended(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(5))
    assert follow(3) == ["d0", "d1", "d2"]
    assert follow(2) == ["d3", "d4"]
    with after(0.2, lambda: dal.put_document("late", {})):
        assert follow(1) == ["late"]
    assert dal.get_local("follower")["since"].startswith("6-")


def test_change_whose_processing_failed_comes_again(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(5))

    def fail(doc_id: str) -> None:
        if doc_id == "d2":
            raise RuntimeError("this one fails")

    with pytest.raises(RuntimeError):
        follow(5, fail)
    assert follow(3) == ["d2", "d3", "d4"]


def test_follower_begins_now(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.put_document("old", {})
    with after(0.3, lambda: dal.put_document("new", {})):
        assert follow(1, since="now") == ["new"]
    dal.put_document("newer", {})
    assert follow(1, since="now") == ["newer"]


def test_follower_takes_the_options_of_changes(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n}", "n": n} for n in range(5))
    assert follow(2, selector={"n": {"$gt": 2}}) == ["d3", "d4"]
    with dal.follow_changes("other", doc_ids=["d1"], include_docs=True) as changes:
        assert next(changes)["doc"]["n"] == 1


def test_follower_connects_again(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(4))
    with dal.faults.answer(503, endpoint="/{db}/_changes", times=2):
        assert follow(2) == ["d0", "d1"]
    with dal.faults.answer(500, endpoint="/{db}", times=1):
        assert follow(2) == ["d2", "d3"]


def test_feed_that_breaks_off_loses_nothing(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n:02}"} for n in range(40))
    with dal.faults.interrupt_feed(after=10, times=1):
        seen = follow(40)
    assert list(dict.fromkeys(seen)) == [f"d{n:02}" for n in range(len(set(seen)))]
    rest = 40 - len(set(seen))
    assert rest == 0 or follow(rest)[-1] == "d39"


def test_follower_survives_a_database_that_is_made_anew(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(5))

    def anew(doc_id: str) -> None:
        if doc_id == "d4":
            dal.delete_database()
            time.sleep(0.3)
            dal.create_database()
            dal.bulk_docs({"_id": f"e{n}"} for n in range(8))

    seen = follow(13, anew)
    assert seen == [*(f"d{n}" for n in range(5)), *(f"e{n}" for n in range(8))]


def test_database_that_was_made_anew_between_runs_is_read_from_its_start(
    dal: CouchDAL, follow: Callable[..., list[str]]
) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(5))
    assert len(follow(5)) == 5
    dal.delete_database()
    dal.create_database()
    dal.bulk_docs({"_id": f"e{n}"} for n in range(8))
    assert follow(8) == [f"e{n}" for n in range(8)]


@pytest.mark.parametrize("client", ["blocking", "async"])
def test_follower_survives_a_database_that_goes_back(client: str) -> None:
    dal = CouchDAL(MemoryBackend())
    dal.put_document("a", {})
    snapshot = dal.snapshot()
    rows = dal.bulk_docs({"_id": f"b{n}"} for n in range(3))
    seen = []

    def back() -> None:
        snapshot.restore()
        dal.bulk_docs({"_id": f"c{n}"} for n in range(3))

    def each(doc_id: str) -> bool:
        seen.append(doc_id)
        if doc_id == "b2":
            back()
        return doc_id == "c2"

    assert rows
    if client == "blocking":
        with dal.follow_changes("follower", heartbeat=50) as changes:
            assert any(each(change["id"]) for change in changes)
    else:

        async def run() -> None:
            async with AsyncCouchDAL(dal.backend).follow_changes("follower", heartbeat=50) as changes:
                async for change in changes:
                    if each(change["id"]):
                        break

        asyncio.run(asyncio.wait_for(run(), 20))
    assert {"a", "c0", "c1", "c2"} <= set(seen)


def test_missing_database_and_wrong_options_are_errors(dal: CouchDAL, follow: Callable[..., list[str]]) -> None:
    with pytest.raises(BadRequest):
        follow(1, filter="nonsense")
    with pytest.raises(NotFound, match="missing"):
        follow(1, filter="missing/filter")
    with pytest.raises(TypeError, match="unknown"):
        follow(1, unknown=1)
    with pytest.raises(ValueError, match="checkpoint_every"):
        follow(1, checkpoint_every=0)
    dal.delete_database()
    with pytest.raises(NotFound):
        follow(1)
    dal.create_database()


def test_follower_without_rights_raises(couch: Callable[..., Any], dal: CouchDAL) -> None:
    stranger = CouchDAL(couch(user="nobody", password="wrong"), database="somewhere")
    with stranger.follow_changes("follower") as changes, pytest.raises(Unauthorized):
        next(changes)
    assert dal.name


def test_stop_from_another_thread_takes_effect_at_once(dal: CouchDAL) -> None:
    dal.put_document("a", {})
    stopped = []
    with dal.follow_changes("follower", heartbeat=30_000) as changes:

        def stop() -> None:
            stopped.append(time.monotonic())
            changes.stop()

        assert next(changes)["id"] == "a"
        with after(0.5, stop):
            assert list(changes) == []
            assert time.monotonic() - stopped[0] < 0.1
    assert dal.get_local("follower")["since"].startswith("1-")


def test_cancelled_task_ends_at_once(dal: CouchDAL) -> None:
    dal.put_document("a", {})

    async def run() -> float:
        seen = asyncio.Event()

        async def follow() -> None:
            async with handle.follow_changes("follower", heartbeat=30_000) as changes:
                async for _ in changes:
                    seen.set()

        async with AsyncCouchDAL(dal.backend) as handle:
            task = asyncio.create_task(follow())
            await seen.wait()
            await asyncio.sleep(0.3)
            begun = time.monotonic()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return time.monotonic() - begun

    assert asyncio.run(run()) < 0.1


def test_async_stop_takes_effect_at_once(dal: CouchDAL) -> None:
    dal.put_document("a", {})

    async def run() -> float:
        async with AsyncCouchDAL(dal.backend) as handle, handle.follow_changes("follower", heartbeat=30_000) as changes:
            stopped: list[float] = []

            def stop() -> None:
                stopped.append(time.monotonic())
                changes.stop()

            asyncio.get_running_loop().call_later(0.5, stop)
            assert [change["id"] async for change in changes] == ["a"]
            return time.monotonic() - stopped[0]

    assert asyncio.run(run()) < 0.2
    assert dal.get_local("follower")["since"].startswith("1-")


def test_checkpoint_is_saved_while_the_feed_goes_on(dal: CouchDAL) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(7))
    with dal.follow_changes("follower", checkpoint_every=3) as changes:
        for _ in range(7):
            next(changes)
        assert dal.get_local("follower")["since"].startswith("6-")
        # The last one counts when the next one is asked for.
        changes.checkpoint()
        assert dal.get_local("follower")["since"].startswith("6-")


def test_checkpoint_of_a_silent_feed_is_saved(dal: CouchDAL) -> None:
    dal.bulk_docs({"_id": f"d{n}"} for n in range(3))
    with dal.follow_changes("follower") as changes:
        reader = threading.Thread(target=lambda: list(changes), daemon=True)
        reader.start()
        deadline = time.monotonic() + 5
        while not dal.request("GET", "/_local/follower").value().get("since", "").startswith("3-"):  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        changes.stop()
        reader.join()
