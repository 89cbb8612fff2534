"""Views beyond the transcripts: index updates, limits of functions, and isolation between functions."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from couchdal import CouchDAL, CouchError, MemoryBackend, NotFound
from couchdal.emulator.engine.javascript import runtime
from couchdal.emulator.engine.views.view_index import ViewIndex

BY_N = "function(doc) { emit(doc.n, doc._id); }"


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(database="db"))
    handle.bulk_docs([{"_id": f"d{n}", "n": n} for n in range(5)])
    handle.put_document("_design/x", {"views": {"n": {"map": BY_N}, "sum": {"map": BY_N, "reduce": "_count"}}})
    return handle


def ids(answer: Any) -> list[str]:
    return [row["id"] for row in answer["rows"]]


def failure(call: Any) -> tuple[int, str, str]:
    with pytest.raises(CouchError) as failed:
        call()
    return failed.value.status, failed.value.error, failed.value.reason


def test_view_method_returns_rows_keys_and_groups(dal: CouchDAL) -> None:
    assert ids(dal.view("x", "n", startkey=1, endkey=3)) == ["d1", "d2", "d3"]
    assert ids(dal.view("x", "n", keys=[4, 0])) == ["d4", "d0"]
    assert ids(dal.view("x", "n", key=2, include_docs=True)) == ["d2"]
    assert dal.view("x", "sum", group=True, limit=1) == {"rows": [{"key": 0, "value": 1}]}
    assert dal.view("x", "sum", key=None) == {"rows": []}


def test_only_changed_documents_are_mapped_again(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[str] = []
    rows_of = ViewIndex._emitted_rows

    def counted(index: ViewIndex, record: Any, emitted: Any) -> Any:
        mapped.append(record.doc_id)
        return rows_of(index, record, emitted)

    monkeypatch.setattr(ViewIndex, "_emitted_rows", counted)
    dal.view("x", "n")
    assert len(mapped) == 5
    dal.put_document("d1", {"n": 9}, rev=dal.get_document("d1")["_rev"])
    assert ids(dal.view("x", "n")) == ["d0", "d2", "d3", "d4", "d1"]
    assert mapped[5:] == ["d1"]


def test_index_follows_a_rollback_and_a_fork(dal: CouchDAL) -> None:
    assert ids(dal.view("x", "n", startkey=3)) == ["d3", "d4"]
    with dal.rollback():
        dal.put_document("d9", {"n": 9})
        other = dal.fork()
        other.delete_document("d3", other.get_document("d3")["_rev"])
        assert ids(dal.view("x", "n", startkey=3)) == ["d3", "d4", "d9"]
        assert ids(other.view("x", "n", startkey=3)) == ["d4", "d9"]
    assert ids(dal.view("x", "n", startkey=3)) == ["d3", "d4"]


def test_purge_removes_emitted_rows_a_document_that_stays(dal: CouchDAL) -> None:
    dal.view("x", "n")
    dal.purge({"d1": ["9-none"]})
    assert ids(dal.view("x", "n")) == ["d0", "d2", "d3", "d4"]
    dal.put_document("d1", {"n": 1}, rev=dal.get_document("d1")["_rev"])
    assert ids(dal.view("x", "n")) == ["d0", "d1", "d2", "d3", "d4"]


def test_update_false_leaves_the_index_unchanged(dal: CouchDAL) -> None:
    dal.view("x", "n")
    dal.put_document("d9", {"n": 9})
    assert dal.get("/_design/x/_view/n?update=false")["total_rows"] == 5
    assert dal.get("/_design/x/_view/n?update=lazy")["total_rows"] == 5
    assert dal.get("/_design/x/_view/n?update=false")["total_rows"] == 6


def test_indexes_of_deleted_views_are_dropped(dal: CouchDAL) -> None:
    for n in range(5):
        rev = dal.get_document("_design/x")["_rev"]
        dal.put_document("_design/x", {"views": {"n": {"map": f"function(doc) {{ emit({n}); }}"}}}, rev=rev)
        assert dal.view("x", "n", limit=1)["rows"][0]["key"] == n
    database = dal.backend.server.databases["db"]  # type: ignore[attr-defined]
    assert len(database.indexes._view_indexes) == 1


def test_rows_are_copies(dal: CouchDAL) -> None:
    dal.put_document("_design/y", {"views": {"v": {"map": "function(doc) { emit([doc.n], {a: [1]}); }"}}})
    row: Any = dal.view("y", "v", limit=1)["rows"][0]
    row["key"].append(1)
    row["value"]["a"].append(2)
    assert dal.view("y", "v", limit=1)["rows"][0] == {"id": "d0", "key": [0], "value": {"a": [1]}}


def test_endless_function_is_stopped_without_harm_to_others(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "TIME_LIMIT_S", 0.05)
    dal.put_document("_design/loop", {"views": {"v": {"map": "function(doc) { while (true) {} }"}}})
    for _ in range(2):
        stopped = failure(lambda: dal.view("loop", "v"))
        assert stopped == (500, "os_process_error", "OS process timed out.")
    assert len(ids(dal.view("x", "n"))) == 5


def test_function_that_exhausts_memory_gets_an_error(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MEMORY_LIMIT", 4_000_000)
    greedy = "function(doc) { var a = []; while (true) a.push(new Array(10000).fill(1)); }"
    dal.put_document("_design/greedy", {"views": {"v": {"map": greedy}}})
    assert failure(lambda: dal.view("greedy", "v"))[:2] == (500, "InternalError")
    assert len(ids(dal.view("x", "n"))) == 5


@pytest.mark.parametrize(
    "tampered",
    [
        "function(doc) { JSON.stringify = function() { return '[true, 1]'; }; emit(1, 2); }",
        "function(doc) { Array.prototype.toJSON = function() { return 7; }; Object.prototype.x = 1; emit(1, 2); }",
        "function(doc) { globalThis.emit = null; }",
    ],
)
def test_function_that_changes_globals_harms_no_other(dal: CouchDAL, tampered: str) -> None:
    dal.put_document("_design/bad", {"views": {"v": {"map": tampered}}})
    assert dal.view("bad", "v")["total_rows"] in (0, 5)
    assert ids(dal.view("x", "n")) == ["d0", "d1", "d2", "d3", "d4"]


def test_lone_surrogate_is_emitted_as_a_replacement_character(dal: CouchDAL) -> None:
    source = "function(doc) { if (doc.n == 0) emit('a\\ud83dz', '\\ud83d\\ude00'); }"
    dal.put_document("_design/s", {"views": {"v": {"map": source}}})
    assert dal.view("s", "v")["rows"] == [{"id": "d0", "key": "a\ufffdz", "value": "\U0001f600"}]


def test_concurrent_readers_and_writers_see_whole_rows(dal: CouchDAL) -> None:
    def work(n: int) -> list[str]:
        dal.put_document(f"t{n}", {"n": 100 + n})
        return ids(dal.view("x", "n", startkey=100 + n, endkey=100 + n))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [[f"t{n}"] for n in range(40)]


def test_view_within_a_partition_shows_only_its_documents() -> None:
    dal = CouchDAL(MemoryBackend(database="parts"))
    dal.create_database(partitioned=True)
    dal.bulk_docs([{"_id": f"{'ab'[n % 2]}:{n}", "n": n} for n in range(6)])
    dal.put_document("_design/x", {"views": {"n": {"map": BY_N, "reduce": "_count"}, "m": {"map": BY_N}}})
    assert ids(dal.get("/_partition/a/_design/x/_view/m")) == ["a:0", "a:2", "a:4"]
    assert dal.get("/_partition/b/_design/x/_view/n?startkey=2") == {"rows": [{"key": None, "value": 2}]}
    needed = failure(lambda: dal.view("x", "m"))
    assert needed == (400, "query_parse_error", "`partition` parameter is mandatory for queries to this view.")
    assert failure(lambda: dal.get("/_partition/a/_design/x/_view/m", "PUT"))[0] == 405
    dal.put_document("_design/y", {"views": {"v": {"map": BY_N}}, "options": {"partitioned": False}})
    assert len(ids(dal.view("y", "v"))) == 6
    with pytest.raises(CouchError, match="not supported in this design doc"):
        dal.get("/_partition/a/_design/y/_view/v")


def test_functions_are_refused_without_the_javascript_engine(dal: CouchDAL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quickjs", None)
    dal.put_document("_design/z", {"views": {"v": {"map": "not even JavaScript"}}})
    assert failure(lambda: dal.view("z", "v"))[:2] == (501, "not_implemented")
    refused = failure(lambda: dal.put_document("_design/v", {"validate_doc_update": "function() {}"}))
    assert refused[:2] == (501, "not_implemented")
    with pytest.raises(NotFound):
        dal.get_document("_design/v")


def test_validation_runs_for_every_way_to_write(dal: CouchDAL) -> None:
    source = "function(doc, old, user, sec) { if (doc.n === 7) throw({forbidden: 'no ' + (old ? old.n : 'new')}); }"
    dal.put_document("_design/v", {"validate_doc_update": source})
    rev = dal.get_document("d0")["_rev"]
    assert failure(lambda: dal.put_document("e", {"n": 7})) == (403, "forbidden", "no new")
    assert failure(lambda: dal.put_document("d0", {"n": 7}, rev=rev)) == (403, "forbidden", "no 0")
    assert failure(lambda: dal.post_document({"n": 7})) == (403, "forbidden", "no new")
    rows: Any = dal.bulk_docs([{"_id": "e", "n": 7}, {"_id": "f", "n": 8}])
    assert (rows[0]["reason"], rows[1]["ok"]) == ("no new", True)
    replicated: Any = dal.bulk_docs([{"_id": "g", "_rev": "1-a", "n": 7}], new_edits=False)
    assert [row["reason"] for row in replicated] == ["no new"]
    assert dal.info()["doc_count"] == 5 + 2 + 1
    dal.delete_document("_design/v", dal.get_document("_design/v")["_rev"])
    assert dal.put_document("e", {"n": 7})["ok"]


def test_show_list_and_update_functions_answer(dal: CouchDAL) -> None:
    design = {
        "views": {"n": {"map": BY_N}},
        "shows": {
            "s": "function(doc, req) { return {code: 203, headers: {'X-A': 'b'}, body: String(doc ? doc.n : req.id)}; }"
        },
        "lists": {
            "l": "function(head, req) { var row; while (row = getRow()) send(row.key + ','); return 'end'; }",
            "nothing": "function(head, req) { start({code: 203, headers: {'X-A': 'b'}}); }",
        },
        "updates": {"u": "function(doc, req) { doc.n += 10; return [doc, {json: {was: doc.n - 10}}]; }"},
    }
    dal.put_document("_design/f", design)
    shown = dal.request("GET", "/_design/f/_show/s/d3")
    assert (shown.status, shown.headers["x-a"], shown.body) == (203, "b", b"3")
    assert dal.request("GET", "/_design/f/_list/l/n?limit=2").body == b"0,1,end"
    assert dal.request("GET", "/_design/f/_list/l/x/n?startkey=4").body == b"4,end"
    silent = dal.request("GET", "/_design/f/_list/nothing/n")
    assert (silent.status, silent.headers.get("x-a"), silent.body) == (200, None, b"")
    updated = dal.request("PUT", "/_design/f/_update/u/d3")
    assert (updated.status, updated.value()) == (201, {"was": 3})
    assert dal.get_document("d3") == {"_id": "d3", "_rev": updated.headers["x-couch-update-newrev"], "n": 13}


def test_functions_get_no_credentials(dal: CouchDAL) -> None:
    dal.put_document("_design/f", {"shows": {"s": "function(doc, req) { return toJSON(req); }"}})
    headers = {"x-auth-couchdb-token": "secret", "cookie": "a=secret", "x-kept": "yes"}
    told = dal.request("GET", "/_design/f/_show/s", headers=headers).body.decode()
    assert '"X-Kept":"yes"' in told
    assert "secret" not in told
