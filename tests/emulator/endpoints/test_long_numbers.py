"""Numbers with more digits than Python parses: bounds exceed everything, and revisions are refused."""

from __future__ import annotations

import pytest

LONG = "9" * 5000
REVISION = f"{LONG}-967a00dff5e02add41819138abb3284d"


@pytest.fixture
def db(send):
    send("PUT", "/db")
    send("PUT", "/db/a", {"list": [1]})
    return "/db"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/db/_all_docs?limit=", 400, "Limit is too large, must not exceed 576460752303423487"),
        ("/_uuids?count=", 400, "count parameter too large"),
        ("/db/_changes?since=", 400, "Malformed sequence supplied in 'since' parameter."),
        ("/db/a?rev=", 400, "Invalid rev format"),
    ],
)
def test_bound_is_too_large(send, db, path, status, reason):
    response = send("GET", path + (REVISION if path.endswith("rev=") else LONG))
    assert (response.status, response.value()["reason"]) == (status, reason)


@pytest.mark.parametrize(("query", "count"), [("limit=", 1), ("skip=", 0)])
def test_bound_exceeds_all_rows(send, db, query, count):
    rows = "/db/_changes" if query == "limit=" else "/db/_all_docs"
    found = send("GET", f"{rows}?{query}{LONG}").value()
    assert len(found["results" if query == "limit=" else "rows"]) == count


def test_array_index_exceeds_all_items(send, db):
    asked = {"selector": {"_id": "a"}, "fields": ["_id", f"list.{LONG}"]}
    assert send("POST", "/db/_find", asked).value()["docs"] == [{"_id": "a"}]


@pytest.mark.parametrize(
    ("method", "path", "payload"),
    [
        ("PUT", "/db/a", {"_rev": REVISION}),
        ("PUT", "/db/b?new_edits=false", {"_rev": REVISION}),
        ("PUT", "/db/_local/b", {"_rev": f"0-{LONG}"}),
        ("DELETE", f"/db/a?rev={REVISION}", None),
        ("POST", "/db/_revs_diff", {"a": [REVISION]}),
        ("POST", "/db/_purge", {"a": [REVISION]}),
    ],
)
def test_revision_is_refused_and_changes_nothing(send, db, method, path, payload):
    before = send("GET", "/db").value()
    response = send(method, path, payload) if payload else send(method, path)
    status = 500 if "_local" in path else 400
    assert (response.status, response.value()["reason"]) == (status, "Invalid rev format")
    assert send("GET", "/db").value() == before
