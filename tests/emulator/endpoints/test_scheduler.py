"""``_scheduler``, ``_active_tasks`` and documents in ``_replicator``: answers as CouchDB 3.5.0 gave them."""

from __future__ import annotations

import pytest

URL = "http://admin:secret@127.0.0.1:5984"


@pytest.fixture(autouse=True)
def databases(send):
    for name in ("a", "b"):
        send("PUT", f"/{name}")
    send("PUT", "/a/1", {"n": 1})


def write(send, doc_id="job", **options):
    body = {"source": f"{URL}/a", "target": f"{URL}/b", **options}
    return send("PUT", f"/_replicator/{doc_id}", {name: value for name, value in body.items() if value is not None})


def docs(send, query=""):
    return send("GET", f"/_scheduler/docs{query}").value()["docs"]


def jobs(send):
    return send("GET", "/_scheduler/jobs").value()["jobs"]


def test_document_replicates_and_is_completed(send):
    assert write(send).status == 201
    assert send("GET", "/b/1").status == 200
    seq = send("GET", "/a").value()["update_seq"]
    stats = {
        "revisions_checked": 1,
        "missing_revisions_found": 1,
        "docs_read": 1,
        "docs_written": 1,
        "changes_pending": None,
        "doc_write_failures": 0,
        "bulk_get_docs": 1,
        "bulk_get_attempts": 1,
        "checkpointed_source_seq": seq,
    }
    time = "2023-11-14T22:13:20Z"
    document = send("GET", "/_replicator/job").value()
    assert document.pop("_rev").startswith("2-")
    assert document == {
        "_id": "job",
        "source": f"{URL}/a",
        "target": f"{URL}/b",
        "owner": "admin",
        "_replication_state": "completed",
        "_replication_state_time": time,
        "_replication_stats": {**stats, "start_time": time},
    }
    assert send("GET", "/_scheduler/docs/_replicator/job").value() == {
        "database": "_replicator",
        "doc_id": "job",
        "id": None,
        "source": "http://127.0.0.1:5984/a/",
        "target": "http://127.0.0.1:5984/b/",
        "state": "completed",
        "error_count": 0,
        "info": stats,
        "start_time": time,
        "last_updated": time,
    }
    assert jobs(send) == []


def test_continuous_replication_follows_its_source_until_its_document_is_deleted(send):
    rev = write(send, continuous=True).value()["rev"]
    for number in range(2, 5):
        send("PUT", f"/a/{number}", {})
        assert send("GET", f"/b/{number}").status == 200
    assert [(doc["state"], doc["info"]["docs_written"]) for doc in docs(send)] == [("running", 4)]
    (task,) = send("GET", "/_active_tasks").value()
    assert (task["type"], task["doc_id"], task["docs_written"]) == ("replication", "job", 4)
    assert "secret" not in str((task, jobs(send), docs(send)))
    send("DELETE", f"/_replicator/job?rev={rev}")
    send("PUT", "/a/9", {})
    assert (jobs(send), send("GET", "/b/9").status) == ([], 404)


def test_request_begins_and_cancels_a_continuous_replication(send):
    body = {"source": "a", "target": "b", "continuous": True}
    begun = send("POST", "/_replicate", body)
    assert begun.status == 202
    job_id = begun.value()["_local_id"]
    assert job_id.endswith("+continuous")
    assert send("POST", "/_replicate", body).value() == begun.value()
    (job,) = jobs(send)
    assert (job["id"], job["user"], job["doc_id"], job["info"]["docs_written"]) == (job_id, "admin", None, 1)
    assert [event["type"] for event in job["history"]] == ["started", "added"]
    assert send("GET", f"/_scheduler/jobs/{job_id}").value() == job
    cancelled = send("POST", "/_replicate", {**body, "cancel": True})
    assert (cancelled.status, cancelled.value()) == (200, {"ok": True, "_local_id": job_id})
    for again in ({**body, "cancel": True}, {"cancel": True, "replication_id": job_id}):
        assert send("POST", "/_replicate", again).value() == {"error": "not_found", "reason": "missing"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"source": "a"}, "local_endpoints_not_supported"),
        ({"target": None}, "Missing replicator database"),
        ({"target": 3}, "{error,function_clause}"),
        ({"continuous": "x"}, '{throw,{bad_request,<<"parameter `continuous` must be a boolean">>}}'),
        ({"filter": "x"}, "Invalid filter. Must match `ddocname/filtername`."),
        ({"filter": 3}, "{error,badarg}"),
        ({"selector": {"$bad": 1}}, '{throw,{mango_error,mango_selector,{invalid_operator,<<"$bad">>}}}'),
        (
            {"doc_ids": ["a"], "selector": {}},
            '{throw,{bad_request,"`doc_ids`,`filter`,`selector` are mutually exclusive"}}',
        ),
        ({"worker_processes": "x"}, "{error,badarg}"),
    ],
)
def test_malformed_document_is_refused(send, options, reason):
    response = write(send, **options)
    assert (response.status, response.value()) == (403, {"error": "forbidden", "reason": reason})
    assert send("GET", "/_replicator/job").status == 404


def test_replicated_document_that_is_malformed_fails(send):
    bad = {"_id": "job", "_rev": "1-a", "source": "a", "target": "b"}
    send("POST", "/_replicator/_bulk_docs", {"docs": [bad], "new_edits": False})
    document = send("GET", "/_replicator/job").value()
    reason = document["_replication_state_reason"]
    assert (document["_replication_state"], reason) == ("failed", "local_endpoints_not_supported")
    (doc,) = docs(send)
    assert (doc["state"], doc["error_count"], doc["info"]) == ("failed", 1, {"error": reason})


def test_crashing_replication_backs_off_and_recovers(send, backend):
    write(send, source=f"{URL}/missing")
    for crashes, wait_s in ((1, 29.9), (2, 59.9), (3, 119.9)):
        (doc,) = docs(send)
        assert (doc["state"], doc["error_count"]) == ("crashing", crashes)
        assert doc["info"] == {"error": "db_not_found: could not open http://127.0.0.1:5984/missing/"}
        backend.clock.advance(wait_s)
        assert docs(send)[0]["error_count"] == crashes
        backend.clock.advance(0.1)
    history = [event["type"] for event in jobs(send)[0]["history"]]
    assert history == ["crashed", "started", "crashed", "started", "crashed", "started", "crashed", "started", "added"]
    assert "_replication_state" not in send("GET", "/_replicator/job").value()
    send("PUT", "/missing")
    backend.clock.advance(240)
    assert docs(send)[0]["state"] == "completed"


def test_document_whose_filter_is_missing_has_an_error(send, backend):
    write(send, filter="f/odd")
    (doc,) = docs(send)
    assert (doc["state"], doc["id"], doc["error_count"]) == ("error", None, 1)
    assert doc["info"]["error"].startswith("Couldn't open document `_design/f` from source database")
    send("PUT", "/a/_design/f", {"filters": {"odd": "function(doc) { return doc.n % 2; }"}})
    backend.clock.advance(32)
    assert docs(send)[0]["state"] == "completed"


def test_changed_filter_function_begins_another_replication(send, backend):
    def define(code):
        rev = send("GET", "/a/_design/f").value().get("_rev")
        body = {"filters": {"odd": code}, **({"_rev": rev} if rev else {})}
        assert send("PUT", "/a/_design/f", body).status == 201

    define("function(doc) { return doc.n % 2; }")
    write(send, filter="f/odd", continuous=True)
    (before,) = jobs(send)
    define("function(doc) { return true; }")
    send("PUT", "/a/2", {"n": 2})
    backend.clock.advance(60)
    assert [job["id"] for job in jobs(send)] == [before["id"]]
    backend.clock.advance(2)
    (after,) = jobs(send)
    assert after["id"] != before["id"]
    assert send("GET", "/b/2").status == 200
    # A document whose filter function is missing has an error, and its replication goes on.
    send("DELETE", "/a/_design/f?rev=" + send("GET", "/a/_design/f").value()["_rev"])
    backend.clock.advance(62)
    assert [job["id"] for job in jobs(send)] == [after["id"]]
    assert [(doc["state"], doc["error_count"]) for doc in docs(send)] == [("error", 1)]


def test_second_document_for_the_same_replication_fails(send):
    write(send, "one", continuous=True)
    write(send, "two", continuous=True)
    one, two = docs(send)
    text = f"Replication `{one['id']}` specified by document `two` already started, triggered by document `one`"
    assert (two["state"], two["info"]) == ("failed", {"error": f"{text} from db `_replicator`"})


def test_changed_document_replaces_its_replication(send):
    rev = write(send, continuous=True).value()["rev"]
    send("PUT", "/c")
    write(send, continuous=True, target=f"{URL}/c", _rev=rev)
    assert [job["target"] for job in jobs(send)] == ["http://127.0.0.1:5984/c/"]
    assert send("GET", "/c/1").status == 200


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/_scheduler", 404, {"error": "not found"}),
        ("/_scheduler/x", 404, {"error": "not found"}),
        ("/_scheduler/jobs/nope", 404, {"error": "not_found", "reason": "missing"}),
        ("/_scheduler/jobs?limit=x", 400, {"error": "query_parse_error", "reason": "limit must be an integer"}),
        (
            "/_scheduler/jobs?skip=-1",
            400,
            {"error": "query_parse_error", "reason": "skip not in range of [0,infinity]"},
        ),
        ("/_scheduler/docs", 200, {"total_rows": 0, "offset": 0, "docs": []}),
        ("/_scheduler/docs/x", 400, {"error": "bad_request", "reason": "Invalid path"}),
        ("/_scheduler/docs/_replicator/none", 404, {"error": "not_found", "reason": "missing"}),
        ("/_scheduler/docs/x/_replicator", 404, {"error": "not_found", "reason": "Database does not exist."}),
        (
            "/_scheduler/docs?states=running,foo",
            400,
            {
                "error": "query_parse_error",
                "reason": "Unknown states [foo]. Choose from:"
                " [initializing,error,running,pending,crashing,completed,failed]",
            },
        ),
    ],
)
def test_scheduler_answers_as_couchdb_does(send, path, status, answer):
    response = send("GET", path)
    assert (response.status, response.value()) == (status, answer)


def test_scheduler_docs_are_limited_before_they_are_chosen(send):
    for number in range(3):
        send("PUT", f"/to{number}")
        write(send, f"done{number}", target=f"{URL}/to{number}")
    write(send, "running", continuous=True)
    answer = send("GET", "/_scheduler/docs?skip=1&limit=2").value()
    assert (answer["total_rows"], answer["offset"]) == (4, 1)
    assert [doc["doc_id"] for doc in answer["docs"]] == ["done1", "done2"]
    assert [doc["doc_id"] for doc in docs(send, "?states=RUNNING")] == ["running"]
    assert docs(send, "?states=running&limit=2") == []
    assert [doc["doc_id"] for doc in docs(send, "?descending=true&limit=1")] == ["running"]


def test_other_users_see_no_credentials_and_change_nothing(send):
    for name in ("ann", "bob"):
        user = {"name": name, "password": "pw", "roles": [], "type": "user"}
        send("PUT", f"/_users/org.couchdb.user:{name}", user)
    send("PUT", "/x%2F_replicator")
    send("PUT", "/x%2F_replicator/_security", {"members": {"roles": []}, "admins": {"roles": []}})
    body = {"source": f"{URL}/a", "target": {"url": f"{URL}/b", "auth": {"basic": "secret"}}, "continuous": True}
    assert send("PUT", "/x%2F_replicator/job", body, user=("ann", "pw")).status == 201
    paths = ("/job", "/job?open_revs=all", "/_all_docs?include_docs=true", "/_changes?include_docs=true")
    for path in paths:
        assert "secret" in str(send("GET", f"/x%2F_replicator{path}", user=("ann", "pw")).value())
        assert "secret" not in str(send("GET", f"/x%2F_replicator{path}", user=("bob", "pw")).value())
    rev = send("GET", "/x%2F_replicator/job").value()["_rev"]
    refused = send("PUT", "/x%2F_replicator/job", {**body, "owner": "ann", "_rev": rev}, user=("bob", "pw"))
    assert refused.value()["reason"] == "Can't update replication documents from other users."
    assert [job["database"] for job in jobs(send)] == ["x/_replicator"]
    cancel = {"cancel": True, "id": jobs(send)[0]["id"]}
    assert send("POST", "/_replicate", cancel, user=("bob", "pw")).status == 401


def test_no_more_jobs_run_than_the_configuration_allows(send, backend):
    backend.config["replicator/max_jobs"] = "1"
    for name in ("one", "two"):
        send("PUT", f"/{name}")
        write(send, name, target=f"{URL}/{name}", continuous=True)
        backend.clock.advance(1)
    assert [doc["state"] for doc in docs(send)] == ["running", "pending"]
    assert send("GET", "/two/1").status == 404
    # Once in an interval, those that wait take the places of others.
    backend.clock.advance(60)
    assert [doc["state"] for doc in docs(send)] == ["pending", "running"]
    assert send("GET", "/two/1").status == 200
    (one,) = (job for job in jobs(send) if job["doc_id"] == "one")
    assert [event["type"] for event in one["history"]] == ["stopped", "started", "added"]
    send("PUT", "/a/2", {})
    assert (send("GET", "/one/2").status, send("GET", "/two/2").status) == (404, 200)
    backend.clock.advance(60)
    assert send("GET", "/one/2").status == 200


def test_history_of_a_job_has_the_configured_length(send, backend):
    backend.config["replicator/max_history"] = "2"
    write(send, source=f"{URL}/missing")
    assert [event["type"] for event in jobs(send)[0]["history"]] == ["crashed", "started"]


def test_protocols_of_replication_documents_are_configured(send, backend):
    backend.config["replicator/valid_endpoint_protocols"] = "https, ftp"
    response = write(send)
    assert (response.status, response.value()["reason"]) == (403, "endpoint has an invalid url")
    refused = send("POST", "/_replicate", {"source": "a", "target": "b"})
    assert (refused.status, refused.value()["error"]) == (400, "invalid_replication")


def test_configuration_gives_the_defaults_of_options(send, backend):
    backend.config["replicator/use_checkpoints"] = "false"
    answer = send("POST", "/_replicate", {"source": "a", "target": "b"}).value()
    assert answer == {"ok": True, "use_checkpoints": False}
    backend.config["replicator/checkpoint_interval"] = "5000"
    send("POST", "/_replicate", {"source": "a", "target": "b", "continuous": True})
    assert send("GET", "/_active_tasks").value()[0]["checkpoint_interval"] == 5000


def test_long_ids_are_not_replicated_if_the_configuration_limits_them(send, backend):
    backend.config["replicator/max_document_id_length"] = "3"
    for doc_id in ("abc", "abcd"):
        send("PUT", f"/a/{doc_id}", {})
    entry = send("POST", "/_replicate", {"source": "a", "target": "b"}).value()["history"][0]
    assert (entry["docs_written"], entry["doc_write_failures"]) == (2, 1)
    assert send("GET", "/b/abcd").status == 404


def test_rollback_ends_what_was_begun_and_begins_what_was_ended(send, backend):
    with backend.rollback():
        write(send, continuous=True)
        assert len(jobs(send)) == 1
    assert jobs(send) == []
    rev = write(send, continuous=True).value()["rev"]
    with backend.rollback():
        send("DELETE", f"/_replicator/job?rev={rev}")
        assert jobs(send) == []
    send("PUT", "/a/2", {})
    assert send("GET", "/b/2").status == 200
    send("DELETE", "/_replicator")
    assert jobs(send) == []


def test_settle_does_what_is_due(send, backend):
    write(send)
    backend.settle()
    assert backend.server.databases["b"].doc_count == 1
    forked = backend.fork()
    assert forked.check() == backend.check() == []


def test_revision_is_that_of_the_document_with_its_owner(send):
    sides = {"source": "http://admin:password@127.0.0.1:1/x", "target": "http://admin:password@127.0.0.1:1/x"}
    body = {**sides, "_replication_state": "failed"}
    # CouchDB 3.5.0 gave these revisions.
    rev = send("PUT", "/_replicator/job", body).value()["rev"]
    assert rev == "1-f87540864adfdd6c1ff70dac41c6bd5a"
    deleted = send("DELETE", f"/_replicator/job?rev={rev}").value()["rev"]
    assert deleted == "2-bee1bab2e975ed8196a6b1bae48f939d"
