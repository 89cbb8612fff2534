"""``_changes``: parameters, errors, filters, and feeds that wait in real time."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import pytest

from couchdal.backends.memory import MemoryBackend

FEEDS = "Supported `feed` types: normal, continuous, live, longpoll, eventsource"
MALFORMED = "Malformed sequence supplied in 'since' parameter."


@pytest.fixture
def backend():
    """A server with a running clock, unlike other tests."""
    return MemoryBackend(admin=("admin", "secret"))


@pytest.fixture
def db(send):
    assert send("PUT", "/db").status == 201
    docs = [{"_id": "a", "n": 0}, {"_id": "b", "n": 1}, {"_id": "c", "n": 2}]
    assert send("POST", "/db/_bulk_docs", {"docs": docs}).status == 201
    return "/db"


@contextmanager
def after(seconds, call):
    timer = threading.Timer(seconds, call)
    timer.start()
    yield
    timer.join()


def ids(response):
    return [row["id"] for row in response.value()["results"]]


def failure(response):
    body = response.value()
    return response.status, body["error"], body["reason"]


# --- parameters ------------------------------------------------------------------------------------------------------


def test_changes_lists_rows_with_last_seq_and_pending(send, db):
    body = send("GET", f"{db}/_changes?limit=2&include_docs=true").value()
    assert [row["doc"]["n"] for row in body["results"]] == [0, 1]
    assert (body["last_seq"], body["pending"]) == (body["results"][-1]["seq"], 1)


def test_row_of_a_deletion_has_deleted_after_the_body(send, db):
    rev = send("GET", f"{db}/a").value()["_rev"]
    docs = [{"_id": "a", "_rev": rev, "_deleted": True, "why": "x"}]
    assert send("POST", f"{db}/_bulk_docs", {"docs": docs}).status == 201
    row = send("GET", f"{db}/_changes?include_docs=true").value()["results"][-1]
    assert row["deleted"] is True
    assert list(row["doc"]) == ["_id", "_rev", "why", "_deleted"]


def test_parameter_names_have_any_case_and_flags_are_true_only(send, db):
    assert ids(send("GET", f"{db}/_changes?LIMIT=1")) == ["a"]
    assert ids(send("GET", f"{db}/_changes?Descending=true")) == ["c", "b", "a"]
    assert ids(send("GET", f"{db}/_changes?descending=TRUE")) == ["a", "b", "c"]
    assert "doc" not in send("GET", f"{db}/_changes?include_docs=yes").value()["results"][0]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("feed=bogus", (400, "bad_request", FEEDS)),
        ("feed=", (400, "bad_request", FEEDS)),
        ("since=3", (400, "bad_request", MALFORMED)),
        ("since=", (400, "bad_request", MALFORMED)),
        ("limit=x", (500, "unknown_error", "badarg")),
        ("limit=1.5", (500, "unknown_error", "badarg")),
        ("timeout=x", (500, "unknown_error", "badarg")),
        ("style=bogus", (500, "unknown_error", "badarg")),
        ("seq_interval=0", (400, "bad_request", "invalid_seq_interval")),
        ("heartbeat=0", (400, "bad_request", "The heartbeat value should be a positive integer (in milliseconds).")),
        ("filter=f", (400, "bad_request", "`filter` must be of the form `designname/filtername`")),
        ("filter=_nope", (400, "bad_request", "unknown builtin filter name")),
        ("filter=none/f", (404, "not_found", "missing")),
        ("filter=_view", (400, "bad_request", "`view` filter parameter is not provided.")),
        ("filter=_view&view=/", (400, "bad_request", "`view` must be of the form `designname/viewname`")),
        ("filter=_view&view=a/b/c", (500, "case_clause", "abc")),
        ("filter=_doc_ids", (400, "bad_request", "`doc_ids` filter parameter is not a list of doc ids.")),
        ("filter=_selector", (400, "bad_request", "Selector must be specified in POST payload")),
    ],
)
def test_changes_refuses_bad_parameter(send, db, query, expected):
    assert failure(send("GET", f"{db}/_changes?{query}")) == expected


def test_changes_ignores_malformed_since_when_descending(send, db):
    assert ids(send("GET", f"{db}/_changes?descending=true&since=nonsense")) == ["c", "b", "a"]


def test_missing_database_is_reported_before_anything_else(send):
    missing = (404, "not_found", "Database does not exist.")
    assert failure(send("GET", "/none/_changes?feed=bogus")) == missing
    assert failure(send("PUT", "/none/_changes")) == missing


def test_method_override_decides_if_the_body_is_parsed(send, db):
    assert send("POST", f"{db}/_changes").status == 415
    assert send("POST", f"{db}/_changes", **{"x-http-method-override": "GET"}).status == 200


def test_changes_with_other_method_is_refused(send, db):
    response = send("PUT", f"{db}/_changes")
    assert failure(response) == (405, "method_not_allowed", "Only GET,POST,HEAD allowed")
    assert failure(send("DELETE", f"{db}/_changes/x")) == (500, "unknown_error", "function_clause")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"body": b"{}"}, (415, "bad_content_type", "Content-Type must be application/json")),
        ({"payload": [1]}, (400, "bad_request", "Request body must be a JSON object")),
        ({"body": b"{", "content_type": "application/json"}, (400, "bad_request", "invalid UTF-8 JSON")),
    ],
)
def test_changes_refuses_bad_body(send, db, sent, expected):
    assert failure(send("POST", f"{db}/_changes", **sent)) == expected


def test_changes_ignores_options_in_the_body(send, db):
    assert ids(send("POST", f"{db}/_changes", {"limit": 1, "doc_ids": ["a"], "filter": "_doc_ids"})) == ["a", "b", "c"]


def test_changes_keeps_seq_on_every_nth_row(send, db):
    rows = send("GET", f"{db}/_changes?seq_interval=2&limit=3").value()["results"]
    assert [row["seq"] is None for row in rows] == [True, False, True]


def test_normal_feed_has_an_etag_that_changes_with_the_database(send, db):
    tag = send("GET", f"{db}/_changes").headers["etag"]
    assert send("GET", f"{db}/_changes?limit=1", if_none_match=f"W/{tag}").status == 304
    send("PUT", f"{db}/d", {})
    assert send("GET", f"{db}/_changes", if_none_match=tag).status == 200


def test_last_event_id_header_counts_in_event_streams_only(send, db):
    seq = send("GET", f"{db}/_changes?limit=2").value()["last_seq"]
    stream = send("GET", f"{db}/_changes?feed=eventsource&timeout=1", last_event_id=seq)
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.content().count(b"data:") == 1
    assert ids(send("GET", f"{db}/_changes", last_event_id=seq)) == ["a", "b", "c"]


# --- filters ---------------------------------------------------------------------------------------------------------


def test_doc_ids_come_from_the_query_or_the_body(send, db):
    assert ids(send("GET", f'{db}/_changes?filter=_doc_ids&doc_ids=["b"]')) == ["b"]
    assert ids(send("POST", f"{db}/_changes?filter=_doc_ids", {"doc_ids": ["c", "a"]})) == ["a", "c"]


def test_selector_filters_and_fields_project_what_is_included(send, db):
    body = {"selector": {"n": {"$gt": 0}}, "fields": ["n"]}
    rows = send("POST", f"{db}/_changes?filter=_selector&include_docs=true", body).value()["results"]
    assert [row["doc"] for row in rows] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "Selector error: expected a JSON object"),
        ({"selector": {"n": {"$foo": 1}}}, "Invalid operator: $foo"),
        ({"selector": {}, "fields": "n"}, "Selector error: fields must be JSON array"),
        ({"selector": {}, "fields": [1]}, "Invalid JSON for field spec: 1"),
    ],
)
def test_bad_selector_is_refused_with_the_reason_of_find(send, db, body, reason):
    assert failure(send("POST", f"{db}/_changes?filter=_selector", body)) == (400, "bad_request", reason)


@pytest.mark.parametrize("feed", ["normal", "continuous"])
def test_selector_that_fails_on_a_document_fails_the_whole_feed(send, db, feed):
    response = send("POST", f"{db}/_changes?filter=_selector&feed={feed}", {"selector": {"a..b": 1}})
    assert (response.status, response.value()["error"]) == (500, "error")


def test_filter_function_runs_for_each_change(send, db):
    design = {
        "filters": {"f": "function(doc, req) { return doc._id == req.query.id; }"},
        "views": {"v": {"map": "function(doc) { if (doc.x) emit(1); }"}},
    }
    assert send("PUT", f"{db}/_design/d", design).status == 201
    assert failure(send("GET", f"{db}/_changes?filter=d/none")) == (404, "not_found", "missing json key: none")
    assert failure(send("GET", f"{db}/_changes?filter=d/f&since=x")) == (400, "bad_request", MALFORMED)
    assert send("PUT", f"{db}/x", {"x": True}).status == 201
    assert ids(send("GET", f"{db}/_changes?filter=d/f&id=x")) == ["x"]
    assert ids(send("GET", f"{db}/_changes?filter=_view&view=d/v")) == ["x"]


# --- feeds -----------------------------------------------------------------------------------------------------------


def test_longpoll_answers_when_another_thread_writes(send, db):
    response = send("GET", f"{db}/_changes?feed=longpoll&since=now&timeout=10000")
    begun = time.monotonic()
    with after(0.05, lambda: send("PUT", f"{db}/d", {})):
        assert ids(response) == ["d"]
    assert time.monotonic() - begun < 5


def test_longpoll_answers_without_rows_after_its_timeout(send, db):
    body = send("GET", f"{db}/_changes?feed=longpoll&since=now&timeout=30").value()
    assert (body["results"], body["pending"]) == ([], 0)


def test_continuous_feed_yields_each_change_as_it_is_made(send, db):
    chunks = iter(send("GET", f"{db}/_changes?feed=live&since=now&limit=2&heartbeat=true").stream)
    assert next(chunks) == b"\n"
    for doc_id in ("x", "y"):
        with after(0.02, lambda doc_id=doc_id: send("PUT", f"{db}/{doc_id}", {})):
            lines = next(chunks).split(b"\n")
        assert json.loads(lines[1])["id"] == doc_id
    assert json.loads(lines[2])["pending"] == 0
    assert list(chunks) == []


def test_feed_ends_when_another_thread_deletes_the_database(send, db):
    response = send("GET", f"{db}/_changes?feed=continuous&since=now&heartbeat=10000")
    with after(0.05, lambda: send("DELETE", db)):
        lines = response.content().split(b"\n")
    assert json.loads(lines[-3])["pending"] == 0


def test_closed_feed_leaves_no_watcher(send, db, backend):
    stream = iter(send("GET", f"{db}/_changes?feed=continuous&heartbeat=10000").stream)
    assert next(stream)
    assert backend.server.databases["db"].watchers
    stream.close()
    assert not backend.server.databases["db"].watchers


def test_head_of_a_feed_does_not_wait(send, db):
    response = send("HEAD", f"{db}/_changes?feed=continuous&since=now")
    assert (response.status, response.content()) == (200, b"")
