"""Continuous feeds on both clients: changes arrive as they happen, and a closed feed frees its connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from couchdal import (
    AsyncCouchDAL,
    BaseBackend,
    CouchBackend,
    CouchDAL,
    CouchError,
    MemoryBackend,
    NotFound,
    Unreachable,
)
from couchdal.backends.event_loop import ThreadedBackend
from couchdal.http.messages import Request, Response
from couchdal.operations.changes import ChangeLines


@contextmanager
def after(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, call)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize("feed", ["continuous", "eventsource"])
def test_changes_arrive_as_they_happen(dal: CouchDAL, feed: Any) -> None:
    dal.put_document("a", {})
    changes = dal.changes(feed, heartbeat=1000)
    assert next(changes)["id"] == "a"
    for doc_id in ("b", "c"):
        with after(0.05, lambda: dal.put_document(doc_id, {})):  # noqa: B023 - joined before the next round
            begun = time.monotonic()
            change = next(changes)
            assert time.monotonic() - begun < 2
        assert (change["id"], change["changes"]) == (doc_id, [{"rev": dal.get_document(doc_id)["_rev"]}])
    changes.close()


@pytest.mark.parametrize("feed", ["continuous", "eventsource"])
def test_feed_ends_at_its_timeout_without_a_last_row(dal: CouchDAL, feed: Any) -> None:
    dal.put_document("a", {})
    begun = time.monotonic()
    assert [change["id"] for change in dal.changes(feed, timeout=100)] == ["a"]
    assert time.monotonic() - begun < 3


def test_feed_takes_the_options_of_changes(dal: CouchDAL) -> None:
    dal.bulk_docs([{"_id": doc_id, "n": n} for n, doc_id in enumerate("abc")])
    since = dal.changes(limit=1)["last_seq"]
    found = dal.changes("continuous", since=since, include_docs=True, limit=1, timeout=1000)
    assert [change["doc"]["n"] for change in found] == [1]
    assert [change["id"] for change in dal.changes("continuous", doc_ids=["c"], timeout=50)] == ["c"]


def test_longpoll_waits_for_a_change(dal: CouchDAL) -> None:
    with after(0.1, lambda: dal.put_document("a", {})):
        begun = time.monotonic()
        assert [change["id"] for change in dal.changes("longpoll", since="now")["results"]] == ["a"]
        assert 0.05 < time.monotonic() - begun < 3


def test_error_of_a_feed_is_raised_by_the_call(dal: CouchDAL) -> None:
    with pytest.raises(NotFound, match=r"Database does not exist\."):
        dal.database("nowhere-at-all").changes("continuous")
    with pytest.raises(CouchError) as caught:
        dal.changes("continuous", since="nonsense")
    assert (caught.value.status, caught.value.error) == (400, "bad_request")


def test_feed_outlives_the_timeout_for_answers(couch: Callable[..., CouchBackend]) -> None:
    dal = CouchDAL(couch(timeout=10), database="outlives")
    dal.create_database()
    impatient = CouchDAL(couch(timeout=0.2), database="outlives")
    for feed in ("continuous", "longpoll"):
        with after(0.6, lambda: dal.post_document({})):
            found = impatient.changes(feed, since="now", timeout=5000)  # type: ignore[call-overload]
            assert next(found) if feed == "continuous" else found["results"]
    dal.delete_database()


def test_many_open_feeds_leave_connections_for_other_requests(couch: Callable[..., CouchBackend]) -> None:
    dal = CouchDAL(couch(timeout=5), database="many-feeds")
    dal.create_database()
    feeds = [dal.changes("continuous", since="now", heartbeat=1000) for _ in range(120)]
    dal.put_document("a", {})
    assert {next(feed)["id"] for feed in feeds} == {"a"}
    for feed in feeds:
        feed.close()
    dal.delete_database()


def test_deleting_the_database_ends_its_feeds(dal: CouchDAL) -> None:
    other = dal.database(f"{dal.name}-gone")
    other.create_database()
    feed = other.changes("continuous", heartbeat=1000)
    with after(0.1, other.delete_database):
        assert list(feed) == []


def test_feed_closed_by_another_thread_ends(dal: CouchDAL) -> None:
    with dal.changes("continuous", since="now", heartbeat=200) as feed, after(0.1, feed.close):
        begun = time.monotonic()
        assert list(feed) == []
        assert time.monotonic() - begun < 3


def test_feed_closed_before_its_first_change_frees_its_connection(couch: Callable[..., CouchBackend]) -> None:
    dal = CouchDAL(couch(), database="given-back")
    dal.create_database()
    for _ in range(3):
        with dal.changes("continuous", heartbeat=1000):
            pass
    dal.delete_database()


def test_change_between_the_answer_and_its_reading_is_not_missed(dal: CouchDAL) -> None:
    with dal.changes("continuous", since="now", timeout=20_000) as feed:
        dal.put_document("a", {})
        begun = time.monotonic()
        assert next(feed)["id"] == "a"
        assert time.monotonic() - begun < 3


def test_database_forgets_a_closed_feed() -> None:
    backend = MemoryBackend()
    dal = CouchDAL(backend)
    feed = dal.changes("continuous", heartbeat=1000)
    dal.put_document("a", {})
    next(feed)
    feed.close()
    assert not followers(backend)


def followers(backend: MemoryBackend) -> list[object]:
    return [watcher for database in backend.server.databases.values() for watcher in database.watchers]


class TestAsync:
    def run(self, backend: BaseBackend, name: str | None, use: Callable[[AsyncCouchDAL], Any]) -> None:
        async def main() -> None:
            async with AsyncCouchDAL(backend, database=name) as dal:
                await asyncio.wait_for(use(dal), 10)

        asyncio.run(main())

    def test_changes_arrive_as_they_happen(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            seen: list[str] = []

            async def follow() -> None:
                async for change in handle.changes("continuous", heartbeat=1000):
                    seen.append(change["id"])
                    if len(seen) == 2:
                        break

            following = asyncio.create_task(follow())
            for doc_id in ("a", "b"):
                await asyncio.sleep(0.05)
                await handle.put_document(doc_id, {})
            await following
            assert seen == ["a", "b"]

        self.run(dal.backend, dal.name, use)

    def test_write_in_another_thread_wakes_the_event_loop(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            with after(0.1, lambda: dal.put_document("a", {})):
                assert (await handle.changes("longpoll", since="now"))["results"][0]["id"] == "a"

        self.run(dal.backend, dal.name, use)

    def test_waiting_feed_does_not_block_the_event_loop(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            waiting = asyncio.ensure_future(handle.changes("longpoll", since="now", timeout=400))
            for _ in range(5):
                assert (await handle.info())["doc_count"] == 0
            assert not waiting.done()
            assert (await waiting)["results"] == []

        self.run(dal.backend, dal.name, use)

    def test_database_forgets_a_cancelled_feed(self) -> None:
        backend = MemoryBackend()

        async def use(handle: AsyncCouchDAL) -> None:
            waiting = asyncio.ensure_future(handle.changes("longpoll", since="now"))
            await asyncio.sleep(0.05)
            assert followers(backend)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert not followers(backend)

        self.run(backend, None, use)

    def test_error_of_a_feed_is_raised_by_its_first_step(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            with pytest.raises(NotFound, match=r"Database does not exist\."):
                await anext(handle.database("nowhere-at-all").changes("continuous"))

        self.run(dal.backend, dal.name, use)

    def test_awaited_feed_says_what_to_write(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            with pytest.raises(TypeError, match=r'write `async for change in db\.changes\("continuous"\)'):
                await handle.changes("continuous")  # type: ignore[misc]

        self.run(dal.backend, dal.name, use)

    def test_feed_is_a_context_and_ends_when_it_is_closed(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            await handle.put_document("a", {})
            async with handle.changes("continuous", heartbeat=1000) as feed:
                assert (await anext(feed))["id"] == "a"
            assert [change async for change in feed] == []

        self.run(dal.backend, dal.name, use)

    def test_client_is_closed_by_either_name(self, dal: CouchDAL) -> None:
        async def use(handle: AsyncCouchDAL) -> None:
            await handle.close()
            assert (await handle.info())["doc_count"] == 0
            await handle.aclose()

        self.run(dal.backend, dal.name, use)

    def test_backend_that_only_blocks_answers_and_streams_from_threads(self) -> None:
        class Blocking(BaseBackend):
            def send(self, request: Request) -> Response:
                if request.path.endswith("_changes"):
                    return Response(200, stream=iter([b'{"id":"a","seq":"1-a"', b',"changes":[]}\n', b"\n"]))
                return Response(200, json={"thread": threading.current_thread() is not threading.main_thread()})

        async def use(handle: AsyncCouchDAL) -> None:
            assert isinstance(handle.backend, ThreadedBackend)
            assert await handle.get("/") == {"thread": True}
            assert [change["id"] async for change in handle.changes("continuous")] == ["a"]

        self.run(Blocking(), "db", use)


def test_feed_raises_when_its_connection_breaks_off(couch: Callable[..., CouchBackend]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(
                b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{"id":"a","seq":"1-a"}\n\n\n\n\r\n'
            )
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        feed = CouchDAL(CouchBackend(f"http://127.0.0.1:{listener.getsockname()[1]}", database="db")).changes(
            "continuous"
        )
        assert next(feed)["id"] == "a"
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            next(feed)
        thread.join()


class TestChangeLines:
    ROWS = (
        b'{"seq":"1-a","id":"a","changes":[]}\n\n{"seq":"2-a","id":"\xc3\xa9","changes":[]}\n'
        b'{"last_seq":"2-a","pending":0}\n'
    )
    EVENTS = (
        b'data: {"seq":"1-a","id":"a","changes":[]}\nid: "1-a"\n\nevent: heartbeat\ndata: \n\n'
        b'data: {"seq":"2-a","id":"\xc3\xa9","changes":[]}\nid: "2-a"\n\n'
    )

    @pytest.mark.parametrize("text", [ROWS, EVENTS])
    def test_rows_do_not_depend_on_where_chunks_are_cut(self, text: bytes) -> None:
        for size in (1, 2, 7, 1000):
            lines = ChangeLines()
            chunks = [text[start : start + size] for start in range(0, len(text), size)]
            assert [row["id"] for chunk in chunks for row in lines.feed(chunk)] == ["a", "é"]

    def test_reported_error_is_raised(self) -> None:
        with pytest.raises(CouchError, match="timeout"):
            ChangeLines().feed(b'{"error":"timeout","reason":"The request could not be processed"}\n')
