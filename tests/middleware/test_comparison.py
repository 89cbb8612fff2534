"""Comparing the answers of two servers: what the servers choose is carried over, and the first difference is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from couchdal import AsyncCouchDAL, CouchDAL, MemoryBackend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.emulator.engine.server.ids import Ids
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.http.messages import Request
from couchdal.middleware.chain import Steps, installed
from couchdal.middleware.comparison import Comparison
from couchdal.middleware.difference import first_difference
from couchdal.middleware.known import KnownDifference, read_known_differences

ADMIN = ("admin", "secret")


@pytest.fixture
def live() -> MemoryBackend:
    """A server that chooses other ids, sequences and salts than the one it is compared with."""
    backend = MemoryBackend(server=Server(clock=Clock(monotonic=monotonic), ids=Ids(7)), database="tasks")
    for _ in range(3):  # another generation of a database has other update sequences
        backend.server.create("tasks")
        backend.server.delete("tasks")
    return backend


@pytest.fixture
def comparison(live: MemoryBackend) -> Iterator[Comparison]:
    compared = Comparison(MemoryBackend(), lambda backend: backend.server_key is live.server_key)
    with installed(compared.compare, live.server_key):
        CouchDAL(live).create_database()
        yield compared


def test_what_a_server_chooses_is_carried_over(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    posted = db.post_document({"a": 1})
    db.get_document(posted["id"])
    written = db.bulk_docs([{"n": 1}, {"_id": "named"}, {"n": 2}])
    assert [row["id"] for row in db.all_docs()["rows"]] == sorted(row["id"] for row in [posted, *written])
    last = db.get("/_changes")["last_seq"]
    db.put_document("later", {})
    assert len(db.get(f"/_changes?since={last}")["results"]) == 1
    page = db.get("/_find", "POST", {"selector": {"n": {"$gt": 0}}, "limit": 1})
    db.get("/_find", "POST", {"selector": {"n": {"$gt": 0}}, "limit": 1, "bookmark": page["bookmark"]})
    db.get("/_uuids?count=3")
    db.get("/_uuids")
    answer = db.request("GET", "/named?open_revs=all", headers={"accept": "multipart/mixed"})
    assert "boundary" in answer.headers["content-type"]
    assert comparison.difference is None
    assert comparison.compared == 13


def test_the_revisions_of_users_are_carried_over(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    user = {"name": "ann", "password": "x", "roles": [], "type": "user"}
    db.get("/_users/org.couchdb.user:ann", "PUT", user)
    rev = db.get("/_users/org.couchdb.user:ann")["_rev"]
    db.get(f"/_users/org.couchdb.user:ann?rev={rev}", "DELETE")
    assert comparison.difference is None
    assert comparison.compared == 4


def test_what_a_server_says_about_itself_is_not_compared(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    updates = {"new": "function(doc, req) { return [{_id: req.uuid, n: 1}, 'ok']; }"}
    db.put_document("_design/d", {"updates": updates, "views": {"v": {"map": "function(doc) { emit(doc.n); }"}}})
    db.get("/_design/d/_view/v")
    CouchDAL(live, database="copy").create_database()
    with installed(change("/", b"couchdal", b"The Apache Software Foundation"), live.server_key):
        live.exchange(Request("GET", "/"))
    for path in ("/_membership", "/_dbs_info", "/_node/_local", "/_node/_local/_system", "/_node/_local/_versions"):
        db.request("GET", path)
    for path in ("/_shards", "/_shards/a", "/_design/d/_info"):
        with installed(change(path, b"nonode@nohost", b"couchdb@here"), live.server_key):
            db.request("GET", path)
    db.get("/_replicate", "POST", {"source": "tasks", "target": "copy"})
    created = db.request("POST", "/_design/d/_update/new").headers["x-couch-id"]
    assert db.get_document(created)["n"] == 1
    assert comparison.difference is None


def test_users_of_others_are_known_to_differ(live: MemoryBackend, comparison: Comparison) -> None:
    live.send(Request("PUT", "/_users/org.couchdb.user:other", json={"name": "other", "roles": [], "type": "user"}))
    CouchDAL(live).get("/_users/_all_docs")
    assert comparison.difference is None
    assert comparison.excused == {"others have users and replications on the server": 1}


def test_a_feed_is_compared_at_its_end(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    db.bulk_docs([{"_id": "a"}, {"_id": "b"}])
    for feed in ("continuous", "longpoll", "eventsource"):
        answer = db.request("GET", f"/_changes?feed={feed}&timeout=1")
        assert b'"a"' in answer.content()
    assert comparison.difference is None
    assert comparison.compared == 5


def change(name: str, old: bytes, new: bytes) -> object:
    """Return middleware that changes the answers about one path."""

    def answer(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        response = yield request
        if name in request.path:
            response.body = response.content().replace(old, new)
            response.json = type(response)(200).json
        return response

    return answer


def test_the_first_difference_is_kept_and_described(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    with installed(change("/secretive", b'"n":1', b'"n":2'), live.server_key):  # type: ignore[arg-type]
        db.put_document("secretive", {"n": 1, "password": "hidden"})
        db.get("/secretive?password=hidden")
        found = comparison.difference
        assert found is not None
        assert "GET /tasks/secretive?password=***" in str(found)
        assert "first difference: body.n is 2 on CouchDB, 1 on the emulator" in str(found)
        assert "request 3 of this test" in str(found)
        db.put_document("later", {"n": 2})
    assert comparison.difference is found
    comparison.begin()
    db.get_document("secretive")
    db.get_document("later")
    assert comparison.difference is None


def test_a_feed_that_differs_is_found(live: MemoryBackend, comparison: Comparison) -> None:
    db = CouchDAL(live)
    db.put_document("a", {})

    def swapped(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        response = yield request
        if "_changes" in request.path:
            response.stream = [response.content().replace(b'"id":"a"', b'"id":"z"')]
        return response

    with installed(swapped, live.server_key):
        db.request("GET", "/_changes?feed=continuous&timeout=1").content()
    assert "has 1 items on CouchDB, 0 on the emulator" in str(comparison.difference)


def test_known_differences_have_a_reason(live: MemoryBackend, tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    file.write_text(
        '[[difference]]\nreason = "no order"\nendpoint = "/{db}/_all_docs"\nmethod = "get"\nunordered = ["body.rows"]\n'
        '[[difference]]\nreason = "a lag"\nendpoint = "/{db}/_all_docs"\nignore = ["body.total_rows"]\n'
    )
    compared = Comparison(MemoryBackend(), lambda backend: True, read_known_differences(file))
    db = CouchDAL(live)
    with installed(compared.compare, live.server_key):
        db.create_database()
        db.bulk_docs([{"_id": "a"}, {"_id": "b"}])
        with installed(change("_all_docs", b'"total_rows":2', b'"total_rows":1'), live.server_key):  # type: ignore[arg-type]
            db.all_docs()
        assert compared.difference is None
        with installed(change("_all_docs", b'"offset":0', b'"offset":1'), live.server_key):  # type: ignore[arg-type]
            db.all_docs()
        assert "body.offset is 1" in str(compared.difference)
    assert compared.excused == {"a lag": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[difference]]\nendpoint = '/{db}'\n", "needs a reason"),
        ("[[difference]]\nreason = 'x'\nendpoint = '/db'\n", "unknown endpoint '/db'"),
        ("[[difference]]\nreason = 'x'\nwhy = 1\n", "unknown name 'why'"),
        ("[[difference]]\nreason = 'x'\nignore = 'body'\n", "must be lists of strings"),
        ("[[difference]]\nreason = 1\n", "must be strings"),
        ("[other]\n", "only [[difference]] entries are known"),
        ("reason =", "known.toml"),
    ],
)
def test_a_wrong_file_of_known_differences_is_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "known.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"known\.toml") as refused:
        read_known_differences(file)
    assert problem in str(refused.value)


def test_a_known_difference_without_paths_excuses_every_answer() -> None:
    known = KnownDifference("because", endpoint="/{db}")
    assert known.excuses(Request("GET", "/tasks"), {"status": 200}, {"status": 500})
    assert not known.excuses(Request("GET", "/tasks/a"), {"status": 200}, {"status": 500})


def test_asynchronous_handles_are_compared(live: MemoryBackend, comparison: Comparison) -> None:
    async def work() -> None:
        db = AsyncCouchDAL(live)
        await db.put_document("a", {"n": 1})
        answer = await db.request("GET", "/_changes?feed=continuous&timeout=1")
        assert [chunk async for chunk in answer.achunks()]

    asyncio.run(work())
    assert comparison.compared == 3
    assert comparison.difference is None


def test_other_servers_are_left_alone(comparison: Comparison) -> None:
    CouchDAL(MemoryBackend()).put_document("a", {})
    assert comparison.compared == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "text"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, "b is missing on CouchDB, 2 on the emulator"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1]}}, "a.b has 2 items on CouchDB, 1 on the emulator"),
        ({"a": [{"x": 1}]}, {"a": [{}]}, "a.0.x is 1 on CouchDB, missing on the emulator"),
        ({"a": True}, {"a": 1}, "a is true on CouchDB, 1 on the emulator"),
    ],
)
def test_the_first_difference_names_its_place(theirs: dict[str, object], ours: dict[str, object], text: str) -> None:
    assert first_difference(theirs, ours) == text  # type: ignore[arg-type]
