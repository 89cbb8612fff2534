"""Errors name the request that failed, in both clients and on each backend."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator

import pytest

from couchdal import (
    AsyncCouchDAL,
    BackendError,
    BrokenOff,
    ConnectionRefused,
    ConnectionReset,
    CouchBackend,
    CouchDAL,
    CouchError,
    FailedRequest,
    IllegalDocId,
    MemoryBackend,
    MethodNotAllowed,
    NotFound,
    TimedOut,
    Unreachable,
)
from couchdal.transcripts.scenario import RECORDED_ADMIN

SECRET = "hunter2"


@pytest.fixture(params=["memory", "couch"])
def tasks(request: pytest.FixtureRequest, served_address: str) -> Iterator[CouchDAL]:
    user, password = RECORDED_ADMIN
    served = request.param == "couch"
    backend = CouchBackend(served_address, user=user, password=password) if served else MemoryBackend()
    dal = CouchDAL(backend, database="tasks", create=True)
    dal.info()
    yield dal
    dal.delete_database()


def failure_of(call: Callable[[], object]) -> CouchError:
    with pytest.raises(CouchError) as failed:
        call()
    return failed.value


@pytest.mark.parametrize(
    "call",
    [
        lambda dal: dal.get("/missing"),
        lambda dal: dal.get_document("missing"),
        lambda dal: dal.backend.handle_request("missing", "get"),
    ],
)
def test_error_names_method_path_and_database(call: Callable[[CouchDAL], object], tasks: CouchDAL) -> None:
    error = failure_of(lambda: call(tasks))
    assert error.request == FailedRequest("GET", "/tasks/missing", "", "tasks")
    assert str(error) == "404 not_found: missing (GET /tasks/missing, database 'tasks')"
    assert (error.status, error.error, error.reason) == (404, "not_found", "missing")
    assert error.body == {"error": "not_found", "reason": "missing"}


def test_error_of_the_asynchronous_client_names_the_request() -> None:
    async def ask() -> list[CouchError]:
        async with AsyncCouchDAL(MemoryBackend(), database="tasks", create=True) as dal:
            failed = []
            for awaited in (dal.get("/missing"), dal.get_document("missing")):
                with pytest.raises(NotFound) as raised:
                    await awaited
                failed.append(raised.value)
            with pytest.raises(NotFound) as raised:
                async for _ in dal.database("absent").changes("continuous"):
                    pass
            return [*failed, raised.value]

    document, typed, feed = asyncio.run(ask())
    assert document.request == typed.request == FailedRequest("GET", "/tasks/missing", "", "tasks")
    assert feed.request is not None
    assert (feed.request.path, feed.request.database) == ("/absent/_changes", "absent")


def test_error_of_a_feed_names_the_request(tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.database("absent").changes("continuous"))
    assert error.request is not None
    assert (error.request.path, error.request.query) == ("/absent/_changes", "feed=continuous")
    assert "; create it with create_database()" in str(error)
    assert str(error).endswith("(GET /absent/_changes?feed=continuous, database 'absent')")


def test_error_of_a_feed_that_breaks_off_names_the_request(tasks: CouchDAL) -> None:
    tasks.put_document("one", {})
    for end in (
        lambda: list(tasks.changes("continuous", timeout=100)),
        lambda: list(tasks.request("GET", "/_changes", params={"feed": "continuous", "timeout": 100}).chunks()),
        lambda: tasks.request("GET", "/_changes", params={"feed": "continuous", "timeout": 100}).content(),
    ):
        with tasks.faults.interrupt_feed(1), pytest.raises(Unreachable) as broken:
            end()
        assert broken.value.request is not None
        assert (broken.value.request.method, broken.value.request.path) == ("GET", "/tasks/_changes")
        assert broken.value.request.database == "tasks"
        assert "the feed broke off (GET /tasks/_changes?feed=continuous&timeout=100, " in str(broken.value)


def test_error_within_a_feed_names_the_request(tasks: CouchDAL) -> None:
    filters = {"fails": "function(doc) { if (doc._id == 'b') throw({forbidden: 'no'}); return true; }"}
    tasks.put_document("_design/d", {"filters": filters})
    feed = tasks.changes("continuous", filter="d/fails", timeout=500)
    assert next(feed)["id"] == "_design/d"
    tasks.put_document("b", {})
    with pytest.raises((CouchError, BackendError)) as failed:
        list(feed)
    assert failed.value.request is not None
    assert failed.value.request.path == "/tasks/_changes"


def test_error_of_a_feed_that_breaks_off_names_the_request_on_an_event_loop(tasks: CouchDAL) -> None:
    tasks.put_document("one", {})

    async def read() -> list[Unreachable]:
        broken = []
        async with AsyncCouchDAL(tasks.backend) as dal:
            with tasks.faults.interrupt_feed(1), pytest.raises(Unreachable) as raised:
                async for _ in dal.changes("continuous", timeout=100):
                    pass
            broken.append(raised.value)
            with tasks.faults.interrupt_feed(1):
                answer = await dal.request("GET", "/_changes?feed=continuous&timeout=100")
            with pytest.raises(Unreachable) as raised:
                async for _ in answer.achunks():
                    pass
            broken.append(raised.value)
        return broken

    for error in asyncio.run(read()):
        assert error.request is not None
        assert error.request.path == "/tasks/_changes"


def test_error_of_a_whole_answer_names_the_request(tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.request("GET", "/missing", params={"rev": "1-a"}).result())
    assert error.request == FailedRequest("GET", "/tasks/missing", "rev=1-a", "tasks")
    assert str(error).endswith("(GET /tasks/missing?rev=1-a, database 'tasks')")
    hinted = failure_of(lambda: tasks.request("GET", "/tasks/missing").result())
    assert "leave out its name: '/missing'" in str(hinted)

    async def ask() -> CouchError:
        async with AsyncCouchDAL(tasks.backend) as dal:
            answer = await dal.request("GET", "/missing")
            return failure_of(answer.result)

    assert asyncio.run(ask()).request == FailedRequest("GET", "/tasks/missing", "", "tasks")


def test_database_is_decoded_and_missing_for_paths_of_the_server(tasks: CouchDAL) -> None:
    named = failure_of(lambda: tasks.database("a/b").info()).request
    assert named == FailedRequest("GET", "/a%2Fb", "", "a/b")
    server = failure_of(lambda: tasks.get("/_node/_local/absent")).request
    assert server is not None
    assert server.database is None
    users = failure_of(lambda: tasks.get("/_users/absent")).request
    assert users is not None
    assert users.database == "_users"


@pytest.mark.parametrize(
    ("path", "method", "hint"),
    [
        ("/tasks/_find", "POST", "'/_find'"),
        ("/tasks", "GET", "'/'"),
        ("tasks/_all_docs?limit=1", "GET", "'/_all_docs'"),
    ],
)
def test_path_with_the_name_of_the_database_gets_a_hint(path: str, method: str, hint: str, tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.get(path, method, {"selector": {}} if method == "POST" else None))
    assert f"; paths are relative to the database, so leave out its name: {hint} ({method} /tasks/tasks" in str(error)


def test_document_named_as_its_database_gets_no_hint(tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.get_document("tasks"))
    assert str(error) == "404 not_found: missing (GET /tasks/tasks, database 'tasks')"


@pytest.mark.parametrize(
    ("path", "method", "hint"),
    [
        ("/_find", "GET", "Only POST allowed; use POST instead of GET (GET /tasks/_find, database 'tasks')"),
        ("/_bulk_docs", "GET", "use POST instead of GET"),
        ("/_all_docs", "PUT", "use GET, HEAD or POST instead of PUT"),
        ("/a", "POST", "use PUT instead of POST, or send POST to the database"),
    ],
)
def test_wrong_method_gets_a_hint(path: str, method: str, hint: str, tasks: CouchDAL) -> None:
    assert hint in str(failure_of(lambda: tasks.get(path, method, {} if method != "GET" else None)))


def test_error_without_an_answer_names_the_request() -> None:
    dal = CouchDAL(CouchBackend(f"http://bob:{SECRET}@127.0.0.1:9"), database="tasks")
    for call in (lambda: dal.get("/a"), lambda: dal.get_document("a"), lambda: dal.request("GET", "/a")):
        with pytest.raises(Unreachable) as failed:
            call()
        assert failed.value.request == FailedRequest("GET", "/tasks/a", "", "tasks")
        assert str(failed.value).startswith("http://127.0.0.1:9 cannot be reached: ")
        assert str(failed.value).endswith(" (GET /tasks/a, database 'tasks')")
        assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    "path",
    [
        f"/a?password={SECRET}&rev=x",
        f"/a?rev=1-a;api_token={SECRET}",
        f"/a?source=http://bob:{SECRET}@couch/tasks",
        f"/a?source=http%3A%2F%2Fbob%3A{SECRET}%40couch%2Ftasks",
        f"http://bob:{SECRET}@couch/tasks/a",
        f"http%3A%2F%2Fbob%3A{SECRET}%40couch%2Ftasks",
        f"/tasks/http://bob:{SECRET}@couch/tasks/a",
    ],
)
def test_secrets_do_not_appear(path: str, tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.get(path))
    assert "***" in str(error)
    assert SECRET not in str(error)
    assert SECRET not in repr(error) + repr(error.request)


def test_headers_and_payload_do_not_appear(tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.get("/_session", "POST", {"name": "bob", "password": SECRET}))
    assert SECRET not in str(error) + repr(error.request)


def test_long_target_is_cut(tasks: CouchDAL) -> None:
    error = failure_of(lambda: tasks.get("/a?x=" + "y" * 100_000))
    assert len(str(error)) < 700
    assert "yyy..., database 'tasks')" in str(error)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("request_", [None, FailedRequest("GET", "/tasks/_find", "", "tasks", "use POST")])
@pytest.mark.parametrize(
    "error",
    [
        MethodNotAllowed("Only POST allowed", body={"error": "x", "reason": "y", "z": 1}, headers={"allow": "POST"}),
        TimedOut("no answer", "http://couch"),
        BrokenOff("closed", "http://couch"),
        ConnectionRefused("refused", "http://couch"),
        ConnectionReset("reset", "http://couch"),
    ],
)
def test_copies_keep_the_request(
    error: CouchError | BackendError,
    request_: FailedRequest | None,
    again: Callable[[CouchError | BackendError], CouchError | BackendError],
) -> None:
    error.request = request_
    copied = again(again(error))
    assert type(copied) is type(error)
    assert copied.request == request_
    assert str(copied) == str(error)
    assert (copied.status, copied.error) == (error.status, error.error)
    if isinstance(error, CouchError):
        assert isinstance(copied, CouchError)
        assert (copied.body, copied.headers, copied.reason) == (error.body, error.headers, error.reason)


def test_error_before_a_request_names_none(tasks: CouchDAL) -> None:
    with pytest.raises(IllegalDocId) as failed:
        tasks.get_document("")
    assert failed.value.request is None
    assert str(failed.value) == "400 illegal_docid: Document id must not be empty"
