"""The statistics of a node: counters follow the requests."""

from __future__ import annotations

import re

import pytest

from couchdal.backends.memory import MemoryBackend

NODE = "/_node/_local"


def counters(send) -> dict[str, int]:
    """Return all counters and gauges by path."""
    found: dict[str, int] = {}

    def walk(path: str, tree: dict) -> None:
        if isinstance(tree.get("desc"), str):
            if tree["type"] != "histogram":
                found[path] = tree["value"]
            return
        for name, below in tree.items():
            walk(f"{path}/{name}".lstrip("/"), below)

    walk("", send("GET", f"{NODE}/_stats").value())
    return found


def counted(send, *request) -> dict[str, int]:
    """Return the counters that one request changes, without those that reading them changes."""
    before = counters(send)
    send(*request)
    after = counters(send)
    ignored = ("couchdb/httpd/requests", "couchdb/httpd_status_codes", "couchdb/httpd_request_methods")
    return {name: after[name] - before[name] for name in after if after[name] != before[name] and
            not name.startswith(ignored)}  # fmt: skip


@pytest.fixture
def db(send) -> None:
    send("PUT", "/db")
    send("POST", "/db/_bulk_docs", {"docs": [{"_id": name, "n": len(name)} for name in ("a", "bb", "ccc")]})


# What a live CouchDB counted for each request.
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (("PUT", "/db/new", {}), {"database_writes": 1, "document_inserts": 1, "document_writes": 1}),
        (("PUT", "/db/a", {}), {"database_writes": 1, "fabric/doc_update/errors": 1}),
        (("GET", "/db/a"), {"database_reads": 1}),
        (("HEAD", "/db/a"), {"database_reads": 1}),
        (("GET", "/db/missing"), {"database_reads": 1}),
        (("GET", "/db/a?open_revs=all"), {"database_reads": 1}),
        (("PUT", "/db/_local/x", {}), {"database_writes": 1, "local_document_writes": 1}),
        (("GET", "/db/_local/x"), {"database_reads": 1}),
        (("GET", "/db/_all_docs"), {}),
        (("GET", "/db/_all_docs?include_docs=true"), {"database_reads": 3}),
        (("POST", "/db/_all_docs?include_docs=true", {"keys": ["a", "zz"]}), {"database_reads": 2}),
        (
            ("POST", "/db/_bulk_get", {"docs": [{"id": "a"}, {"id": "z"}]}),
            {"database_reads": 2, "httpd/bulk_requests": 1},
        ),
        (
            ("POST", "/db/_bulk_docs", {"docs": [{"_id": "x"}, {"_id": "y"}, {"_id": "a"}]}),
            {
                "database_writes": 1,
                "document_inserts": 2,
                "document_writes": 2,
                "httpd/bulk_requests": 1,
                "fabric/doc_update/errors": 1,
            },
        ),
        (
            ("POST", "/db/_changes?filter=_selector", {"selector": {"n": 1}}),
            {"database_reads": 3, "mango/evaluate_selector": 3},
        ),
        (("GET", "/db/_changes?include_docs=true"), {"database_reads": 3}),
        (
            ("POST", "/db/_purge", {"a": ["1-x"]}),
            {
                "database_purges": 1,
                "document_purges/success": 1,
                "document_purges/total": 1,
                "httpd/purge_requests": 1,
            },
        ),
        (("PUT", "/other"), {"document_inserts": 1, "document_writes": 1, "open_databases": 1}),
        (("DELETE", "/db"), {"document_writes": 1, "open_databases": -1}),
        (("POST", "/db/_revs_diff", {"a": ["1-a"]}), {}),
        (("GET", "/db"), {}),
    ],
)  # fmt: skip
def test_request_counts_as_on_couchdb(send, request_, expected):
    paths = {name if name.startswith(("fabric/", "mango/")) else f"couchdb/{name}": name for name in expected}
    assert counted(send, *request_) == {path: expected[name] for path, name in paths.items()}


@pytest.mark.usefixtures("db")
def test_query_counts_what_it_examines(send):
    found = counted(send, "POST", "/db/_find", {"selector": {"n": {"$gt": 2}}})
    assert found == {
        "couchdb/database_reads": 3,
        "mango/docs_examined": 3,
        "mango/evaluate_selector": 3,
        "mango/keys_examined": 3,
        "mango/results_returned": 1,
        "mango/unindexed_queries": 1,
    }


def prompts(found: dict[str, int]) -> dict[str, int]:
    """Return what query servers were asked."""
    return {name.rpartition("/")[2]: number for name, number in found.items() if "query_server/" in name}


def test_functions_and_indexes_are_counted(send):
    # As a CouchDB counts the same requests.
    views = {"v": {"map": "function (doc) { emit(doc.n, 1); emit(doc.n, 2); }"}}
    filters = {"f": "function () { return true; }"}
    shows = {"s": "function () { return 'x'; }"}
    send("PUT", "/counted")
    send("POST", "/counted/_bulk_docs", {"docs": [{"_id": name, "n": 1} for name in "abc"]})
    defined = counted(send, "PUT", "/counted/_design/d", {"views": views, "filters": filters, "shows": shows})
    assert prompts(defined) == {"acquired_processes": 1, "reset": 1, "add_fun": 1, "process_prompts": 2}
    built = counted(send, "GET", "/counted/_design/d/_view/v")
    assert prompts(built) == {"acquired_processes": 1, "reset": 1, "add_fun": 1, "map": 3, "process_prompts": 5}
    assert (built["couchdb/mrview/emits"], built["couchdb/mrview/map_doc"]) == (6, 3)
    assert counted(send, "GET", "/counted/_design/d/_view/v") == {"couchdb/httpd/view_reads": 1}
    shown = counted(send, "GET", "/counted/_design/d/_show/s")
    assert prompts(shown) == {"acquired_processes": 1, "reset": 1, "ddoc_other": 1, "process_prompts": 2}
    filtered = counted(send, "GET", "/counted/_changes?filter=d/f")
    assert prompts(filtered) == {"acquired_processes": 4, "reset": 4, "ddoc_filter": 4, "process_prompts": 8}
    summed = {"map": "function (doc) { emit(doc.n, 1); }", "reduce": "function (k, v) { return sum(v); }"}
    send("PUT", "/counted/_design/r", {"views": {"r": summed}})
    send("GET", "/counted/_design/r/_view/r")
    reduced = prompts(counted(send, "GET", "/counted/_design/r/_view/r?group=true"))
    assert reduced["reduce"] == reduced["reset"] >= 1
    send("POST", "/counted/_index", {"index": {"fields": ["n"]}})
    found = counted(send, "POST", "/counted/_find", {"selector": {"n": 1}, "use_index": "none"})
    assert (found["couchdb/mrview/emits"], found["couchdb/mrview/map_doc"]) == (3, 3)
    assert found["mango/query_invalid_index"] == 1
    validate = "function (doc) { if (doc.bad) throw {forbidden: 'bad'}; }"
    send("PUT", "/counted/_design/e", {"validate_doc_update": validate})
    refused = counted(send, "PUT", "/counted/d", {"bad": True})
    assert refused["couchdb/query_server/calls/ddoc_vdu"] == refused["couchdb/query_server/vdu_rejects"] == 1


def test_answers_are_counted_by_method_and_status(send):
    before = counters(send)
    for request in (("GET", "/"), ("HEAD", "/"), ("PUT", "/db"), ("PUT", "/db"), ("DELETE", "/db"), ("GET", "/db")):
        send(*request)
    after = counters(send)
    grown = {name: after[name] - before[name] for name in after}
    methods = {name: grown[f"couchdb/httpd_request_methods/{name}"] for name in ("GET", "HEAD", "PUT", "DELETE")}
    codes = {code: grown[f"couchdb/httpd_status_codes/{code}"] for code in (200, 201, 404, 412)}
    # A request for the counters is counted in the next answer.
    assert methods == {"GET": 3, "HEAD": 1, "PUT": 2, "DELETE": 1}
    assert codes == {200: 4, 201: 1, 404: 1, 412: 1}
    assert grown["couchdb/httpd/requests"] == 7


def test_open_databases_is_a_gauge(send):
    before = counters(send)["couchdb/open_databases"]
    send("PUT", "/db")
    assert counters(send)["couchdb/open_databases"] == before + 1
    send("DELETE", "/db")
    assert counters(send)["couchdb/open_databases"] == before


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("couchdb/document_writes/value", 0),
        ("couchdb/document_writes/type", "counter"),
        ("couchdb/document_writes/value/x", None),
        ("couchdb/missing", None),
        ("couchdb//document_writes/desc", "number of document write operations"),
    ],
)
def test_path_below_the_statistics_chooses_a_part(send, path, expected):
    answer = send("GET", f"{NODE}/_stats/{path}")
    assert (answer.status, answer.value()) == (200, expected)


def test_prometheus_shows_the_same_figures(send):
    send("PUT", "/db")
    send("PUT", "/db/a", {})
    answer = send("GET", f"{NODE}/_prometheus")
    text = answer.content().decode()
    assert answer.headers["content-type"] == "text/plain; version=2.0"
    # One of them is that of the database.
    assert "\ncouchdb_document_writes_total 2\n" in text
    assert re.search(r'couchdb_httpd_request_methods\{method="PUT"\} 2\n', text)
    assert re.search(r"# TYPE couchdb_open_databases gauge\ncouchdb_open_databases 3\n", text)
    assert 'couchdb_request_time_seconds{quantile="0.999"} 0.0\n' in text


def test_node_has_figures_and_versions(send, backend: MemoryBackend):
    backend.clock.advance(90)
    assert send("GET", f"{NODE}/_system").value()["uptime"] == 90
    versions = send("GET", f"{NODE}/_versions").value()
    assert versions["javascript_engine"] == {"name": "quickjs"}
    assert "sha256" in versions["erlang"]["supported_hashes"]
    channels = send("GET", f"{NODE}/_smoosh/status").value()["channels"]
    assert channels["ratio_dbs"] == {"waiting": {"size": 0, "min": 0, "max": 0}, "starting": 0, "active": 0}


def test_atom_is_a_node_that_is_down(send):
    answer = send("GET", "/_node/error/_stats")
    assert (answer.status, answer.value()) == (412, {"error": "nodedown", "reason": "error is down"})


def test_restart_begins_to_count_anew(send):
    send("PUT", "/db")
    assert send("POST", f"{NODE}/_restart").value() == {"ok": True}
    assert send("GET", f"{NODE}/_stats/couchdb/httpd_request_methods/PUT/value").value() == 0


@pytest.mark.parametrize("path", ["_stats", "_system", "_prometheus"])
def test_figures_are_for_administrators_and_metrics_users(send, path):
    answer = send("GET", f"{NODE}/{path}", user=None)
    assert (answer.status, answer.value()["error"]) == (401, "unauthorized")
    assert answer.value()["reason"] == "You are not a server admin or read-only metrics user"
