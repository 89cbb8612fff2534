"""Within a partition, endpoints answer as outside of it, for its documents only."""

from __future__ import annotations

import pytest

from couchdal import CouchDAL, CouchError, MemoryBackend


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(database="parts"))
    handle.create_database(partitioned=True)
    handle.bulk_docs([{"_id": f"{'ab'[n % 2]}:{n}", "n": n} for n in range(6)])
    return handle


@pytest.mark.parametrize("path", ["/_partition/a/_find", "/_find?partition=a"])
def test_find_sees_one_partition(dal: CouchDAL, path: str) -> None:
    found = dal.get(path, "POST", {"selector": {"n": {"$gt": 0}}})
    assert [document["_id"] for document in found["docs"]] == ["a:2", "a:4"]


def test_index_is_created_used_and_deleted_within_a_partition(dal: CouchDAL) -> None:
    made = dal.get("/_partition/a/_index", "POST", {"index": {"fields": ["n"]}, "ddoc": "d", "name": "i"})
    assert made == {"result": "created", "id": "_design/d", "name": "i"}
    assert [index["name"] for index in dal.get("/_partition/b/_index")["indexes"]] == ["_all_docs", "i"]
    query = {"selector": {"n": {"$gt": 0}}, "sort": [{"n": "desc"}]}
    assert [document["n"] for document in dal.get("/_partition/b/_find", "POST", query)["docs"]] == [5, 3, 1]
    assert dal.get("/_partition/a/_index/d/json/i", "DELETE") == {"ok": True}
    with pytest.raises(CouchError) as refused:
        dal.get("/_partition/a/_index/d/json/i", "DELETE")
    assert (refused.value.status, refused.value.error, refused.value.reason) == (404, "not_found", "missing")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/_partition/a/_index", "GET,POST"),
        ("GET", "/_partition/a/_index/_bulk_delete", "POST"),
        ("GET", "/_partition/a/_index/d/json/i", "DELETE"),
        ("GET", "/_partition/a/_index/_design/d/i", "DELETE"),
        ("GET", "/_partition/a/_find", "POST"),
        ("GET", "/_partition/a/_all_docs/queries", "POST"),
        ("PUT", "/_partition/a/_all_docs", "GET,HEAD,POST"),
    ],
)
def test_wrong_method_within_a_partition(dal: CouchDAL, method: str, path: str, allowed: str) -> None:
    with pytest.raises(CouchError) as refused:
        dal.get(path, method)
    assert (refused.value.status, refused.value.error) == (405, "method_not_allowed")
    assert refused.value.reason == f"Only {allowed} allowed"


def test_queries_see_one_partition(dal: CouchDAL) -> None:
    found = dal.get("/_partition/a/_all_docs/queries", "POST", {"queries": [{"limit": 1}, {"skip": 2}]})
    assert [[row["id"] for row in result["rows"]] for result in found["results"]] == [["a:0"], ["a:4"]]


def test_functions_of_design_documents_run_within_a_partition(dal: CouchDAL) -> None:
    shows = {"s": "function(doc, req) { return [doc._id, req.path.join('/'), toJSON(req.query)].join(' '); }"}
    dal.put_document("_design/d", {"shows": shows})
    shown = dal.request("GET", "/_partition/a/_design/d/_show/s/a%3A0?b=1").content()
    assert shown == b'a:0 parts/_design/d/_show/s/a:0 {"b":"1"}'
    with pytest.raises(CouchError) as refused:
        dal.get("/_partition/a/_design/none/_show/s")
    assert (refused.value.status, refused.value.reason) == (404, "missing")


def test_errors_within_a_partition_come_in_couchdbs_order(dal: CouchDAL) -> None:
    plain = CouchDAL(dal.backend, database="plain")
    plain.create_database()
    errors = []
    for handle, path in (
        (plain, "/_partition/_a/_find"),
        (dal, "/_partition/_a/_find?partition=b"),
        (dal, "/_partition/a/_find?partition=b"),
        (dal, "/_partition/a/_unknown"),
    ):
        with pytest.raises(CouchError) as refused:
            handle.get(path, "PUT")
        errors.append((refused.value.status, refused.value.reason))
    assert errors == [
        (400, "database is not partitioned"),
        (400, "Partition must not start with an underscore"),
        (400, "Conflicting value for `partition` in query string"),
        (404, "missing"),
    ]


def test_index_refuses_a_number_that_does_not_fit_a_double(dal: CouchDAL) -> None:
    index = {"fields": ["n"], "partial_filter_selector": {"n": 10**400}}
    with pytest.raises(CouchError) as refused:
        dal.get("/_index", "POST", {"index": index})
    assert (refused.value.status, refused.value.error, refused.value.reason) == (
        500,
        "unknown_error",
        "function_clause",
    )
    assert dal.get("/_index")["total_rows"] == 1
