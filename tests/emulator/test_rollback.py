"""Rollbacks, snapshots and forks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from couchdal import AsyncCouchDAL, Conflict, CouchBackend, CouchDAL, MemoryBackend, MemoryOnly, NotFound
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.mango.json_index import JsonIndex
from couchdal.emulator.engine.server.database import Database

TASK = {"type": "task"}


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(database="db"))
    handle.bulk_docs([{"_id": f"d{number}", "n": number, **TASK} for number in range(5)])
    return handle


def state_of(dal: CouchDAL) -> list[Any]:
    """Return everything that a client can see of a server."""
    seen: list[Any] = [dal.get("/_all_dbs")]
    for name in dal.get("/_all_dbs"):
        handle = dal.database(name)
        query = "/_all_docs?include_docs=true&conflicts=true&update_seq=true"
        seen += [handle.info(), handle.get(query), handle.get("/_changes?style=all_docs"), handle.get("/_local_docs")]
        seen += [handle.get_security(), handle.get_revs_limit(), handle.get("/_index"), handle.get("/_purged_infos")]
        found = handle.get("/_find", "POST", {"selector": {"n": {"$gt": 0}}, "execution_stats": True})
        found["execution_stats"].pop("execution_time_ms")
        seen.append(found)
    return seen


def change_everything(dal: CouchDAL) -> None:
    dal.put_document("new", {"n": 9})
    dal.put_document("d1", {**dal.get_document("d1"), "n": 100})
    dal.delete_document("d2", rev=dal.get_document("d2")["_rev"])
    dal.get("/_bulk_docs", "POST", {"docs": [{"_id": "d3", "_rev": "1-abc", "x": 1}], "new_edits": False})
    rev = dal.get_document("d4")["_rev"]
    dal.purge({"d4": [rev]})
    dal.put_local("checkpoint", {"seq": 1})
    dal.get("/_index", "POST", {"index": {"fields": ["n"]}})
    dal.put_security({"admins": {"names": ["x"], "roles": []}, "members": {"names": [], "roles": []}})
    dal.put_revs_limit(2)
    dal.get("/_compact", "POST", {})
    dal.database("another").create_database()
    dal.database("another").put_document("a", {})


def test_rollback_undoes_every_kind_of_change(dal: CouchDAL) -> None:
    before = state_of(dal)
    with dal.rollback():
        change_everything(dal)
        assert state_of(dal) != before
    assert state_of(dal) == before


def test_rollback_restores_deleted_databases_and_deletes_new_ones(dal: CouchDAL) -> None:
    before = state_of(dal)
    with dal.rollback():
        dal.delete_database()
        dal.create_database()
        dal.put_document("d1", {})
    assert state_of(dal) == before
    dal.put_document("later", {})


def test_rollback_undoes_changes_of_other_handles_and_threads_after_an_error(dal: CouchDAL) -> None:
    before = state_of(dal)

    def in_a_thread() -> None:
        CouchDAL(dal.backend, database="db").put_document("t", {})

    def change_and_fail() -> None:
        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()
        dal.database("other").request("PUT", "/")
        asyncio.run(AsyncCouchDAL(dal.backend).put_document("a", {}))
        dal.put_document("t", {})

    with pytest.raises(Conflict), dal.rollback():
        change_and_fail()
    assert state_of(dal) == before


def test_rollbacks_nest(dal: CouchDAL) -> None:
    before = state_of(dal)
    with dal.rollback():
        dal.put_document("outer", {})
        between = state_of(dal)
        for _ in range(3):
            with dal.rollback():
                change_everything(dal)
            assert state_of(dal) == between
    assert state_of(dal) == before


def test_writes_after_a_rollback_get_the_same_revisions_and_sequences(dal: CouchDAL) -> None:
    with dal.rollback():
        change_everything(dal)
        first = [dal.post_document({"x": 1}), dal.info()["update_seq"]]
    with dal.rollback():
        change_everything(dal)
        again = [dal.post_document({"x": 1}), dal.info()["update_seq"]]
    assert first == again


def test_snapshots_are_restored_repeatedly_and_in_any_order(dal: CouchDAL) -> None:
    first, at_first = dal.snapshot(), state_of(dal)
    dal.put_document("one", {})
    second, at_second = dal.snapshot(), state_of(dal)
    dal.put_document("two", {})
    for snapshot, state in ((second, at_second), (first, at_first), (second, at_second), (second, at_second)):
        change_everything(dal) if snapshot is first else dal.put_document("more", {})
        snapshot.restore()
        assert state_of(dal) == state


def test_many_snapshots_do_not_pile_up(dal: CouchDAL) -> None:
    kept = []
    for number in range(40):
        kept.append((dal.snapshot(), state_of(dal)))
        dal.put_document(f"s{number}", {"n": number})
    for snapshot, state in (kept[0], kept[17], kept[39]):
        snapshot.restore()
        assert state_of(dal) == state


def test_index_is_correct_after_a_rollback(dal: CouchDAL) -> None:
    dal.get("/_index", "POST", {"index": {"fields": ["n"]}})

    def by_n() -> list[object]:
        return [document["n"] for document in dal.find({"n": {"$gte": 0}}, sort=["n"], limit=99)["docs"]]

    before = by_n()
    with dal.rollback():
        dal.bulk_docs([{"_id": f"x{number}", "n": number / 2} for number in range(9)])
        dal.delete_document("d0", rev=dal.get_document("d0")["_rev"])
        dal.purge({"d1": [dal.get_document("d1")["_rev"]]})
        assert by_n() != before
    assert by_n() == before
    dal.put_document("y", {"n": 2.5})
    assert by_n() == sorted([*before, 2.5])


def test_index_sees_writes_after_a_rollback_of_settings_only(dal: CouchDAL) -> None:
    dal.get("/_index", "POST", {"index": {"fields": ["n"]}})
    with dal.rollback():
        for limit in (5, 6, 7):
            dal.put_revs_limit(limit)
        dal.find({"n": {"$gt": 0}})
    dal.put_document("new", {"n": 50})
    assert [document["n"] for document in dal.find({"n": {"$gt": 9}})["docs"]] == [50]


def test_fork_and_original_do_not_affect_each_other(dal: CouchDAL) -> None:
    before = state_of(dal)
    other = dal.fork()
    assert state_of(other) == before
    change_everything(other)
    after = state_of(other)
    assert state_of(dal) == before
    dal.put_document("mine", {})
    third = other.fork()
    assert state_of(third) == state_of(other) == after
    with pytest.raises(NotFound):
        third.get_document("mine")


def test_fork_has_the_built_indexes_and_does_not_change_them(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    def indexed(handle: CouchDAL) -> list[str]:
        return [doc["_id"] for doc in handle.find({"n": {"$gt": 0}}, sort=["n"])["docs"]]

    dal.create_index(["n"])
    assert indexed(dal) == ["d1", "d2", "d3", "d4"]
    read: list[str] = []
    values = JsonIndex.read

    def counted(index: JsonIndex, db: Database, record: DocumentRecord) -> list[object] | None:
        read.append(record.doc_id)
        return values(index, db, record)

    monkeypatch.setattr(JsonIndex, "read", counted)
    other = dal.fork()
    third = other.fork()
    assert indexed(other) == indexed(third) == ["d1", "d2", "d3", "d4"]
    assert read == []
    other.put_document("e", {"n": 2.5})
    dal.delete_document("d4", dal.get_document("d4")["_rev"])
    third.purge({"d1": [third.get_document("d1")["_rev"]]})
    assert indexed(other) == ["d1", "d2", "e", "d3", "d4"]
    assert indexed(dal) == ["d1", "d2", "d3"]
    assert indexed(third) == ["d2", "d3", "d4"]
    assert sorted(read) == ["d4", "e"]


def test_fork_and_original_answer_the_same_requests_alike(dal: CouchDAL) -> None:
    other = dal.fork()
    change_everything(dal)
    change_everything(other)
    assert state_of(dal) == state_of(other)
    assert dal.post_document({}) == other.post_document({})


def test_feed_sees_changes_after_a_rollback(dal: CouchDAL) -> None:
    since = dal.info()["update_seq"]
    seen: list[object] = []
    feed = dal.changes("continuous", since=since, timeout=5_000)
    reader = threading.Thread(target=lambda: seen.append(next(feed)["id"]))
    with dal.rollback():
        reader.start()
    dal.put_document("after", {})
    reader.join(5)
    feed.close()
    assert seen == ["after"]


def test_session_and_users_are_rolled_back() -> None:
    dal = CouchDAL(MemoryBackend(admin=("admin", "secret"), database="db"))
    admin = {"authorization": "Basic YWRtaW46c2VjcmV0"}
    user = {"name": "reader", "password": "p", "roles": [], "type": "user"}
    with dal.rollback():
        path = "/_users/org.couchdb.user:reader"
        assert dal.request("PUT", path, json=user, headers=admin).status == 201
        assert dal.request("POST", "/_session", json={"name": "reader", "password": "p"}).status == 200
    assert dal.request("POST", "/_session", json={"name": "reader", "password": "p"}).status == 401


def test_asynchronous_handle_rolls_back_and_forks() -> None:
    async def run() -> None:
        dal = AsyncCouchDAL(MemoryBackend(database="db"))
        await dal.put_document("a", {})
        with dal.rollback():
            await dal.put_document("b", {})
        other = dal.fork()
        await other.put_document("c", {})
        assert (await dal.info())["doc_count"] == 1
        assert (await other.info())["doc_count"] == 2

    asyncio.run(run())


@pytest.mark.parametrize("what", ["snapshot", "fork"])
def test_real_server_refuses_rollbacks(what: str) -> None:
    dal = CouchDAL(CouchBackend("http://127.0.0.1:9", database="db"))
    with pytest.raises(MemoryOnly, match="only the memory backend"):
        getattr(dal, what)()
    with pytest.raises(MemoryOnly), dal.rollback():
        pytest.fail("the block must not run")
