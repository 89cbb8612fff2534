"""Faults, for blocking and asynchronous callers, in process and over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from couchdal import (
    AsyncCouchBackend,
    AsyncCouchDAL,
    BaseBackend,
    Conflict,
    CouchBackend,
    CouchDAL,
    CouchError,
    MemoryBackend,
    NotFound,
    NotJSON,
    Unreachable,
)
from couchdal.middleware.faults import ANSWERS, from_mark
from couchdal.server.application import Application
from couchdal.server.listener import address_of, listen, serve


class Stage:
    """A memory server with faults, and handles on it in process and over HTTP."""

    def __init__(self) -> None:
        self.memory = CouchDAL(MemoryBackend(database="db"))
        self.memory.info()
        listener = listen("127.0.0.1", 0)
        ready = threading.Event()
        application = Application(self.memory.backend)
        threading.Thread(target=serve, args=(application, listener, ready.set), daemon=True).start()
        assert ready.wait(10)
        self.address = address_of(listener)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(params=["in process", "over HTTP"])
def dal(request: pytest.FixtureRequest, stage: Stage) -> Iterator[CouchDAL]:
    """A handle that is affected by ``memory.faults``."""
    backend: BaseBackend = stage.memory.backend
    if request.param == "over HTTP":
        backend = CouchBackend(stage.address, database="db", timeout=5)
    with stage.memory.rollback():
        yield CouchDAL(backend, database="db")


@pytest.fixture
def memory(stage: Stage) -> CouchDAL:
    return stage.memory


def answer_of(error: CouchError) -> tuple[int, str, str]:
    return error.status, error.error, error.reason


@pytest.mark.parametrize("status", sorted(ANSWERS))
def test_answer_is_couchdbs_error_and_nothing_is_written(status: int, dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.answer(status, method="PUT") as fault, pytest.raises(CouchError) as failed:
        dal.put_document("a", {})
    assert answer_of(failed.value) == (status, *ANSWERS[status])
    assert fault.injected == 1
    assert memory.info()["doc_count"] == 0


def test_answer_takes_an_error_word_and_a_reason(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.answer(418, error="teapot", reason="short and stout"), pytest.raises(CouchError) as failed:
        dal.info()
    assert answer_of(failed.value) == (418, "teapot", "short and stout")


def test_fault_affects_only_the_nth_matching_request(dal: CouchDAL, memory: CouchDAL) -> None:
    seen = []
    with memory.faults.answer(503, method="GET", endpoint="/{db}/{doc_id}", nth=2) as fault:
        for path in ("/", "/a", "/_all_docs", "/b", "/c"):
            seen.append(dal.request("GET", path).status)
    assert seen == [200, 404, 200, 503, 404]
    assert fault.injected == 1
    assert dal.request("GET", "/b").status == 404


def test_times_limits_the_affected_requests(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.answer(429, nth=2, times=2):
        assert [dal.request("GET", "/").status for _ in range(5)] == [200, 429, 429, 200, 200]


def test_dropped_request_is_not_applied(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.drop(endpoint="/{db}/{doc_id}"), pytest.raises(Unreachable):
        dal.put_document("a", {})
    assert memory.info()["doc_count"] == 0


def test_lost_answer_keeps_the_change(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.lose_answer(endpoint="/{db}/{doc_id}"), pytest.raises(Unreachable):
        dal.put_document("a", {})
    assert memory.get_document("a")["_rev"].startswith("1-")
    with pytest.raises(Conflict):
        dal.put_document("a", {})


def test_cut_answer_breaks_off(dal: CouchDAL, memory: CouchDAL) -> None:
    memory.bulk_docs([{"_id": "a", "text": "x" * 5000}])
    with memory.faults.cut(endpoint="/{db}/_all_docs"), pytest.raises(Unreachable):
        dal.all_docs(include_docs=True)


@pytest.mark.parametrize("feed", ["longpoll", "continuous", "eventsource"])
def test_cut_feed_breaks_off_before_its_first_row(feed: Any, dal: CouchDAL, memory: CouchDAL) -> None:
    memory.put_document("a", {})
    with memory.faults.cut(endpoint="/{db}/_changes", required=True), pytest.raises(Unreachable):
        list(dal.changes(feed, timeout=1000))
    assert [change["id"] for change in dal.changes()["results"]] == ["a"]


def test_cut_answer_announces_more_than_it_sends(stage: Stage) -> None:
    with stage.memory.faults.cut():
        connection = http.client.HTTPConnection(stage.address.removeprefix("http://"), timeout=5)
        connection.request("GET", "/db")
        answer = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
    assert 0 < len(broken.value.partial) < int(answer.headers["content-length"])


def test_garbled_answer_is_not_json(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.garble(endpoint="/{db}"), pytest.raises(NotJSON):
        dal.info()


def test_delayed_answer_arrives(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.delay(0.01) as fault:
        assert dal.info()["doc_count"] == 0
    assert fault.injected == 1


def test_competing_write_makes_an_update_conflict_and_a_retry_succeed(dal: CouchDAL, memory: CouchDAL) -> None:
    rev = dal.put_document("a", {"n": 1})["rev"]
    with memory.faults.compete({"by": "another"}, method="PUT"):
        with pytest.raises(Conflict) as conflict:
            dal.put_document("a", {"n": 2}, rev=rev)
        assert answer_of(conflict.value) == (409, "conflict", "Document update conflict.")
        current = dal.get_document("a")
        assert (current["by"], current["_rev"][0]) == ("another", "2")
        dal.put_document("a", {"n": 2}, rev=current["_rev"])
    assert dal.get_document("a")["n"] == 2


def test_competing_write_makes_a_deletion_conflict(dal: CouchDAL, memory: CouchDAL) -> None:
    rev = dal.put_document("a", {})["rev"]
    with memory.faults.compete() as fault, pytest.raises(Conflict) as conflict:
        dal.delete_document("a", rev)
    assert answer_of(conflict.value) == (409, "conflict", "Document update conflict.")
    assert fault.injected == 1
    assert dal.get_document("a")["competing"] is True


def test_competing_write_can_depend_on_the_current_document(dal: CouchDAL, memory: CouchDAL) -> None:
    rev = dal.put_document("a", {"n": 1})["rev"]
    seen: list[object] = []

    def count_on(doc: dict[str, Any] | None) -> dict[str, object]:
        seen.append(doc)
        return {"n": 100 if doc is None else doc["n"] + 1}

    with memory.faults.compete(count_on, times=2):
        with pytest.raises(Conflict):
            dal.put_document("a", {"n": 5}, rev=rev)
        with pytest.raises(Conflict):
            dal.put_document("new", {"n": 5})
    assert seen == [{"_id": "a", "_rev": rev, "n": 1}, None]
    assert (dal.get_document("a")["n"], dal.get_document("new")["n"]) == (2, 100)


def test_refused_competing_write_raises(memory: CouchDAL) -> None:
    says = "the competing write was refused: .*Bad special document member: _bad"
    with memory.rollback(), memory.faults.compete({"_bad": 1}), pytest.raises(ValueError, match=says):
        memory.put_document("a", {})


def test_competing_write_comes_before_a_new_document(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.compete(), pytest.raises(Conflict):
        dal.put_document("new", {})
    assert dal.get_document("new")["competing"] is True


def test_feed_breaks_off_after_a_number_of_rows(dal: CouchDAL, memory: CouchDAL) -> None:
    memory.bulk_docs([{"_id": str(number)} for number in range(5)])
    seen = []
    with memory.faults.interrupt_feed(after=2):
        feed = dal.changes("continuous", timeout=1000)
        with pytest.raises(Unreachable):
            seen.extend(change["id"] for change in feed)
    feed.close()
    assert len(list(dal.changes("continuous", timeout=10))) == 5


def test_feed_that_does_not_wait_is_not_interrupted(dal: CouchDAL, memory: CouchDAL) -> None:
    says = "the fault affected no request: <Fault interrupt the feed"
    with pytest.raises(AssertionError, match=says), memory.faults.interrupt_feed(required=True):
        assert dal.changes()["results"] == []


def test_error_in_answer_to_head_has_no_body(dal: CouchDAL, memory: CouchDAL) -> None:
    with memory.faults.answer(503):
        response = dal.request("HEAD", "/a")
    assert (response.status, response.content()) == (503, b"")


@pytest.mark.parametrize("fault", ["lose_answer", "garble", "cut", "interrupt_feed"])
def test_fault_of_an_asynchronous_client_leaves_no_feed_open(fault: str, stage: Stage) -> None:
    async def ask() -> None:
        backend = AsyncCouchBackend(stage.address, database="db")
        dal = AsyncCouchDAL(backend)
        path = "/_changes?feed=continuous&heartbeat=20000"
        with getattr(dal.faults, fault)(endpoint="/{db}/_changes", required=True):
            try:
                response = await dal.request("GET", path)
                # A stream that nobody reads has to be closed, too.
                if response.stream is not None:
                    await response.stream.aclose()
            except Unreachable:
                pass
        for _ in range(200):
            if not watchers:
                break
            await asyncio.sleep(0.01)
        assert not watchers
        await backend.aclose()

    server: Any = stage.memory.backend.server_key
    watchers = server.databases["db"].watchers
    asyncio.run(ask())


@pytest.mark.parametrize("fault", ["drop", "lose_answer", "cut"])
def test_asynchronous_caller_gets_the_same_errors(fault: str, stage: Stage) -> None:
    async def ask(dal: AsyncCouchDAL) -> None:
        with getattr(dal.faults, fault)(), pytest.raises(Unreachable):
            await dal.info()
        with dal.faults.answer(500), pytest.raises(CouchError):
            await dal.info()
        await dal.info()

    with stage.memory.rollback():
        asyncio.run(ask(AsyncCouchDAL(stage.memory.backend)))


def test_faults_of_a_client_apply_before_its_server(stage: Stage) -> None:
    dal = CouchDAL(CouchBackend(stage.address, database="db"))
    with stage.memory.rollback(), dal.faults.answer(409):
        with pytest.raises(Conflict):
            dal.info()
        assert stage.memory.info()["doc_count"] == 0


def test_required_fault_without_a_request_is_an_error(memory: CouchDAL) -> None:
    says = "the fault affected no request: <Fault answer 409 for PUT"
    with pytest.raises(AssertionError, match=says), memory.faults.answer(409, method="PUT", required=True):
        memory.info()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"endpoint": "/db/a"}, "unknown endpoint"),
        ({"nth": 0}, "count from 1"),
        ({"times": 0}, "count from 1"),
    ],
)
def test_meaningless_options_are_refused(options: dict[str, Any], says: str, memory: CouchDAL) -> None:
    with pytest.raises(ValueError, match=says):
        memory.faults.drop(**options)


def test_status_without_an_error_word_is_refused(memory: CouchDAL) -> None:
    with pytest.raises(ValueError, match="status 418 needs error="):
        memory.faults.answer(418)


def test_mark_names_a_fault(memory: CouchDAL) -> None:
    with from_mark(memory.backend.server_key, "answer", (404,), {"method": "GET"}), pytest.raises(NotFound):
        memory.info()
    with pytest.raises(ValueError, match="unknown fault 'explode'"):
        from_mark(None, "explode", (), {})
