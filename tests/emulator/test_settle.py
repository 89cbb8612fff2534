"""``dal.emulator.settle()``: the background work that is due is done when it returns."""

from __future__ import annotations

from typing import Any

import pytest

from couchdal import CouchBackend, CouchDAL, MemoryBackend, MemoryOnly, ServerError
from couchdal.emulator.engine.indexes.following_index import FollowingIndex

VIEWS = {"by-n": {"map": "function (doc) { emit(doc.n, null); }"}}


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(), database="settling", create=True)
    handle.create_database("other")
    for name in ("settling", "other"):
        database = handle.database(name)
        database.create_index(["n"])
        database.put_document("_design/d", {"views": VIEWS})
        database.bulk_docs({"n": n} for n in range(5))
    return handle


def test_queries_after_it_read_no_document(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    dal.emulator.settle()
    added = []
    add = FollowingIndex.add

    def count(index: FollowingIndex, found: Any, seq: int, prepared: object = None) -> None:
        added.append(found)
        add(index, found, seq, prepared)

    monkeypatch.setattr(FollowingIndex, "add", count)
    for name in ("settling", "other"):
        assert len(dal.database(name).find({"n": {"$gte": 0}})["docs"]) == 5
        assert len(dal.database(name).view("d", "by-n")["rows"]) == 5
    assert added == []
    dal.put_document("late", {"n": 1})
    dal.find({"n": 1})
    assert len(added) == 1


@pytest.mark.parametrize("setting", [False, {"views": False}])
def test_design_document_keeps_its_index_as_it_is(dal: CouchDAL, setting: object) -> None:
    dal.put_document("_design/still", {"views": VIEWS, "autoupdate": setting, "options": {"local_seq": True}})
    dal.put_document(
        "_design/other", {"views": VIEWS, "autoupdate": {"indexes": False}, "options": {"include_design": True}}
    )
    dal.emulator.settle()
    assert dal.get("/_design/still/_view/by-n?update=false")["rows"] == []
    assert len(dal.get("/_design/other/_view/by-n?update=false")["rows"]) > 4
    assert len(dal.get("/_design/still/_view/by-n")["rows"]) == 5


def test_nothing_due_is_nothing_done(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    dal.emulator.settle()
    monkeypatch.setattr(FollowingIndex, "refresh", lambda index, db: pytest.fail("an index was refreshed again"))
    dal.emulator.settle()
    assert dal.emulator.check() == []


def test_index_that_fails_does_not_stop_the_others(dal: CouchDAL) -> None:
    dal.put_document("_design/a", {"language": "erlang", "views": {"x": {"map": "fun({Doc}) -> ok end."}}})
    dal.put_document("_design/b", {"views": {"x": {"map": "function (doc) { throw new Error('no'); }"}}})
    dal.emulator.settle()
    assert len(dal.view("d", "by-n")["rows"]) == 5
    with pytest.raises(ServerError):
        dal.view("a", "x")


def test_only_the_emulator_settles() -> None:
    with pytest.raises(MemoryOnly, match="emulator"):
        CouchDAL(CouchBackend("http://127.0.0.1:9")).emulator.settle()
