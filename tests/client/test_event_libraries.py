"""``AsyncCouchDAL`` under trio and anyio, and in the test plugins of pytest-asyncio and anyio."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from couchdal import AsyncCouchDAL, CouchDAL, NotFound
from couchdal.backends.base import BaseBackend
from couchdal.backends.event_loop import ThreadedBackend

pytest.importorskip("trio")


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    return lambda program: anyio.run(program, backend=request.param)


@pytest.fixture(params=["direct", "threads"])
def opened(request: pytest.FixtureRequest, backend: BaseBackend, dal: CouchDAL) -> Callable[[], AsyncCouchDAL]:
    """A function that opens a handle; ``threads`` stands for backends without an asynchronous twin."""
    bound = backend.bind(str(dal.name))
    return lambda: AsyncCouchDAL(bound if request.param == "direct" else ThreadedBackend(bound))


def test_documents_queries_and_updates(run: Callable[..., Any], opened: Callable[[], AsyncCouchDAL]) -> None:
    async def program() -> None:
        async with opened() as db:
            await db.bulk_docs({"_id": f"d{n}", "n": n} for n in range(5))
            assert [doc["n"] async for doc in db.iter_find({"n": {"$gt": 1}}, page_size=2)] == [2, 3, 4]
            assert (await db.update_document("d1", lambda doc: {"n": doc["n"] + 1}))["n"] == 2
            with pytest.raises(NotFound):
                await db.get_document("nowhere")
            with db.faults.delay(0.01):
                assert await db.count({"n": 2}) == 2

    run(program)


def test_feeds_wait_for_changes(run: Callable[..., Any], opened: Callable[[], AsyncCouchDAL], dal: CouchDAL) -> None:
    async def program() -> None:
        async with opened() as db:
            writer = threading.Timer(0.2, lambda: dal.put_document("late", {}))
            writer.start()
            async with db.changes("continuous", heartbeat=5000) as feed:
                assert (await anext(feed))["id"] == "late"
            assert [change["id"] async for change in db.changes("continuous", timeout=50)] == ["late"]
            async with db.follow_changes("follower") as changes:
                assert (await anext(changes))["id"] == "late"
            writer.join()

    run(program)


def test_cancelled_feed_ends_at_once(
    run: Callable[..., Any], opened: Callable[[], AsyncCouchDAL], dal: CouchDAL
) -> None:
    dal.put_document("a", {})

    async def program() -> None:
        async with opened() as db:
            with anyio.move_on_after(0.5) as scope:
                async with db.changes("continuous", heartbeat=20_000) as feed:
                    async for _ in feed:
                        pass
            assert scope.cancelled_caught

    begun = time.monotonic()
    run(program)
    assert time.monotonic() - begun < 5


PLUGINS = {
    "pytest-asyncio": (
        ["-p", "asyncio", "-p", "no:anyio"],
        """
        import pytest

        @pytest.mark.asyncio
        async def test_task(async_dal):
            await async_dal.put_document("t1", {"n": 1})
            assert await async_dal.count({"n": 1}) == 1

        @pytest.mark.asyncio
        async def test_next_finds_nothing(async_dal):
            assert await async_dal.count({}) == 0
        """,
    ),
    "anyio": (
        ["-p", "anyio", "-p", "no:asyncio"],
        """
        import pytest

        @pytest.mark.anyio
        async def test_task(async_dal):
            await async_dal.put_document("t1", {"n": 1})
            assert await async_dal.count({"n": 1}) == 1
        """,
    ),
}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_run_asynchronous_tests(plugin: str, tmp_path: Path) -> None:
    options, text = PLUGINS[plugin]
    lines = [line.removeprefix("        ") for line in text.splitlines()]
    (tmp_path / "test_async.py").write_text("\n".join(lines), "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", *options]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    # anyio runs each test on asyncio and on trio.
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr
