"""Queries with an index: the rows that they read, and the updates of the index."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from couchdal import CouchDAL, CouchError, MemoryBackend

COUNT = 1000


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend())
    handle.bulk_docs([{"_id": f"d{number:04d}", "n": number % 500, "even": number % 2 == 0} for number in range(COUNT)])
    handle.create_index(["n"], ddoc="by-n", name="by-n")
    return handle


def find(dal: CouchDAL, **query: object) -> Any:
    return dal.get("/_find", "POST", {"execution_stats": True, **query})


def ids(answer: Any) -> list[str]:
    return [doc["_id"] for doc in answer["docs"]]


def test_page_of_an_index_reads_one_row_more_than_it_returns(dal: CouchDAL) -> None:
    answer = find(dal, selector={"n": {"$gt": 100}}, sort=[{"n": "desc"}], limit=25)
    assert len(answer["docs"]) == 25
    # The query reads one row beyond the page.
    assert answer["execution_stats"]["total_keys_examined"] == 26
    assert ids(answer)[:3] == ["d0999", "d0499", "d0998"]
    assert "warning" not in answer


def test_pages_of_an_index_are_consecutive(dal: CouchDAL) -> None:
    found: list[str] = []
    bookmark = None
    while True:
        answer = find(dal, selector={"n": {"$lt": 40}}, sort=["n"], limit=7, bookmark=bookmark)
        if not answer["docs"]:
            break
        found += ids(answer)
        bookmark = answer["bookmark"]
    assert found == [f"d{number:04d}" for n in range(40) for number in (n, n + 500)]


def test_index_follows_updates_deletions_and_purges(dal: CouchDAL) -> None:
    selector = {"n": {"$gte": 499}}
    assert ids(find(dal, selector=selector)) == ["d0499", "d0999"]
    dal.put_document("d0001", {**dal.get_document("d0001"), "n": 700})
    dal.put_document("new", {"n": "text"})
    dal.put_document("without", {"m": 1})
    assert ids(find(dal, selector=selector)) == ["d0499", "d0999", "d0001", "new"]
    gone = dal.get_document("d0499")
    dal.delete_document("d0499", gone["_rev"])
    dal.put_document("d0999", {"_rev": dal.get_document("d0999")["_rev"], "n": None})
    assert ids(find(dal, selector=selector)) == ["d0001", "new"]
    dal.purge({"new": [dal.get_document("new")["_rev"]]})
    assert ids(find(dal, selector=selector)) == ["d0001"]


def test_redefined_index_is_rebuilt(dal: CouchDAL) -> None:
    assert ids(find(dal, selector={"n": 3})) == ["d0003", "d0503"]
    dal.create_index(["even"], ddoc="by-n", name="by-n")
    assert ids(find(dal, selector={"even": True}, limit=2)) == ["d0000", "d0002"]
    assert "No matching index" in find(dal, selector={"n": 3})["warning"]


def test_query_that_is_equal_in_python_is_another_query(dal: CouchDAL) -> None:
    assert ids(find(dal, selector={"n": 1})) == ["d0001", "d0501"]
    assert ids(find(dal, selector={"n": True})) == []
    assert ids(find(dal, selector={"n": 0.0})) == ids(find(dal, selector={"n": 0})) == ["d0000", "d0500"]


class Field(StrEnum):
    """Names of members, as programs may define them."""

    NUMBER = "n"


def test_name_in_a_selector_may_be_of_a_subclass_of_str(dal: CouchDAL) -> None:
    assert ids(find(dal, selector={Field.NUMBER: 3})) == ids(find(dal, selector={"n": 3}))


def test_changed_answer_or_selector_does_not_change_the_next_answer(dal: CouchDAL) -> None:
    selector = {"$and": [{"n": {"$in": [3]}}, {"even": False}]}
    for doc in find(dal, selector=selector, fields=["_id", "n"])["docs"]:
        doc["n"] = "changed"
    assert [doc["n"] for doc in find(dal, selector=selector, fields=["_id", "n"])["docs"]] == [3, 3]
    selector["$and"] = [{"n": 4}]
    assert ids(find(dal, selector=selector)) == ["d0004", "d0504"]


def test_covered_query_does_not_read_documents(dal: CouchDAL) -> None:
    answer = find(dal, selector={"n": {"$lt": 1}}, fields=["n", "_id"])
    assert answer["docs"] == [{"n": 0, "_id": "d0000"}, {"n": 0, "_id": "d0500"}]
    assert answer["execution_stats"]["total_docs_examined"] == 0


def test_result_of_a_covered_query_is_a_copy(dal: CouchDAL) -> None:
    dal.put_document("list", {"n": [1, {"a": 2}]})
    query = {"selector": {"n": {"$gt": []}}, "fields": ["n"]}
    dal.get("/_find", "POST", query)["docs"][0]["n"][1]["a"] = 3
    assert dal.get("/_find", "POST", query)["docs"] == [{"n": [1, {"a": 2}]}]
    assert dal.get_document("list")["n"] == [1, {"a": 2}]


def test_bookmark_beyond_the_range_is_refused(dal: CouchDAL) -> None:
    bookmark = find(dal, selector={"n": 400}, limit=1)["bookmark"]
    with pytest.raises(CouchError) as refused:
        find(dal, selector={"n": {"$lt": 300}}, bookmark=bookmark)
    assert (refused.value.status, refused.value.error) == (400, "query_parse_error")
    assert refused.value.reason == (
        "No rows can match your key range, reverse your start_key and end_key or set descending=true"
    )


def test_partial_index_fails_while_a_document_makes_its_filter_fail(dal: CouchDAL) -> None:
    definition = {"fields": ["n"], "partial_filter_selector": {"m": {"$mod": [0, 0]}}}
    dal.get("/_index", "POST", {"index": definition, "ddoc": "partial", "name": "partial"})
    query = {"selector": {"n": {"$gte": 0}}, "use_index": "partial"}
    assert find(dal, **query)["docs"] == []
    written = dal.put_document("bad", {"n": 1, "m": 1})
    with pytest.raises(CouchError) as failed:
        find(dal, **query)
    assert failed.value.status == 500
    dal.delete_document("bad", written["rev"])
    assert find(dal, **query)["docs"] == []
