from __future__ import annotations

import pytest


@pytest.fixture
def db(send):
    assert send("PUT", "/db").status == 201
    return "/db"


def put(send, path, **document):
    return send("PUT", path, document).value()["rev"]


def numbers(send, db):
    info = send("GET", db).value()
    return int(info["purge_seq"].split("-")[0]), int(info["update_seq"].split("-")[0]), info["doc_count"]


def test_purge_of_the_only_leaf_removes_the_document(send, db):
    rev = put(send, f"{db}/a", n=1)
    response = send("POST", f"{db}/_purge", {"a": [rev]})
    assert (response.status, response.value()) == (201, {"purge_seq": None, "purged": {"a": [rev]}})
    response = send("GET", f"{db}/a")
    assert (response.status, response.value()) == (404, {"error": "not_found", "reason": "missing"})
    assert numbers(send, db) == (1, 2, 0)
    assert put(send, f"{db}/a", n=1) == rev


def test_purge_of_one_conflict_leaves_the_other_with_a_new_sequence(send, db):
    ids = ["1-a", "1-b"]
    docs = [{"_id": "c", "_rev": rev} for rev in ids]
    send("POST", f"{db}/_bulk_docs", {"docs": docs, "new_edits": False})
    put(send, f"{db}/z")
    assert send("POST", f"{db}/_purge", {"c": ["1-b"]}).value()["purged"] == {"c": ["1-b"]}
    document = send("GET", f"{db}/c?conflicts=true&local_seq=true").value()
    assert document == {"_id": "c", "_rev": "1-a", "_local_seq": 3}


def test_purge_ignores_inner_and_unknown_revisions(send, db):
    first = put(send, f"{db}/a", n=1)
    put(send, f"{db}/a", n=2, _rev=first)
    purged = send("POST", f"{db}/_purge", {"a": [first, "9-x"], "none": ["1-a"]}).value()["purged"]
    assert purged == {"a": [], "none": []}
    assert numbers(send, db) == (2, 3, 1)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"a": ["xyz"]}, "Invalid rev format"),
        ({"a": "1-a"}, "Invalid list of revisions"),
        ([], "Request body must be a JSON object"),
        ({f"d{n}": [] for n in range(101)}, "Exceeded maximum number of documents."),
        ({"a": [f"1-{n}" for n in range(1001)]}, "Exceeded maximum number of revisions."),
    ],
)
def test_purge_refuses_malformed_and_too_large_requests(send, db, payload, reason):
    response = send("POST", f"{db}/_purge", payload)
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": reason})


def test_purged_infos_list_requests_by_id(send, db):
    rev = put(send, f"{db}/b")
    send("POST", f"{db}/_purge", {"b": [rev], "a": []})
    infos = send("GET", f"{db}/_purged_infos").value()["purged_infos"]
    assert infos == [{"id": "a", "revs": []}, {"id": "b", "revs": [rev]}]


@pytest.mark.parametrize("value", [0, -5, "5", 1.5, None])
def test_purged_infos_limit_must_be_a_positive_integer(send, db, value):
    response = send("PUT", f"{db}/_purged_infos_limit", value)
    reason = "`purged_infos_limit` must be positive integer"
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": reason})


def test_compaction_drops_the_bodies_of_inner_revisions(send, db):
    first = put(send, f"{db}/d", n=1)
    second = put(send, f"{db}/d", n=2, _rev=first)
    assert send("GET", f"{db}/d?rev={first}").status == 200
    before = numbers(send, db)
    assert send("POST", f"{db}/_compact", {}).status == 202
    response = send("GET", f"{db}/d?rev={first}")
    assert (response.status, response.value()) == (404, {"error": "not_found", "reason": "missing"})
    document = send("GET", f"{db}/d?revs_info=true").value()
    assert document["_revs_info"] == [{"rev": second, "status": "available"}, {"rev": first, "status": "missing"}]
    assert document["n"] == 2
    assert numbers(send, db) == before


def test_compaction_keeps_every_leaf_of_a_conflict(send, db):
    root = "1-" + "a" * 32
    tips = [f"2-{letter * 32}" for letter in "bc"]
    docs = [{"_id": "c", "_rev": root, "n": 0}] + [
        {"_id": "c", "_revisions": {"start": 2, "ids": [tip[2:], root[2:]]}, "n": tip} for tip in tips
    ]
    for doc in docs:
        send("POST", f"{db}/_bulk_docs", {"docs": [doc], "new_edits": False})
    send("POST", f"{db}/_compact", {})
    rows = send("GET", f"{db}/c?open_revs=all&revs=true").value()
    assert [row["ok"]["n"] for row in rows] == tips
    assert all(row["ok"]["_revisions"]["ids"][1] == root[2:] for row in rows)
    assert put(send, f"{db}/c", _rev=tips[0]).startswith("3-")


def test_compaction_of_views_needs_the_design_document(send, db):
    response = send("POST", f"{db}/_compact/none", {})
    assert (response.status, response.value()) == (404, {"error": "not_found", "reason": "missing"})


@pytest.mark.parametrize(
    ("query", "status"), [("", 201), ("?w=1", 201), ("?w=2", 202), ("?w=%2B2", 202), ("?w=x", 201)]
)
def test_purge_is_202_when_more_copies_are_requested(send, db, query, status):
    rev = put(send, f"{db}/a")
    response = send("POST", f"{db}/_purge{query}", {"a": [rev]})
    assert (response.status, response.value()["purged"]) == (status, {"a": [rev]})
    assert send("POST", f"{db}/_purge{query}", {}).status == 201
