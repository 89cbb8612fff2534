"""``_replicate``: answers and errors as CouchDB 3.5.0 gave them."""

from __future__ import annotations

import pytest

from couchdal.http.json_text import encode_json


@pytest.fixture
def databases(backend, send):
    """A source of three documents and an empty target, on a server with a known uuid and address."""
    backend.config["couchdb/uuid"] = "376aabee426a7ee8a734b759ae957f37"
    backend.config["chttpd/port"] = "5994"
    for name in ("repl_a", "repl_b"):
        send("PUT", f"/{name}")
    for number in range(3):
        send("PUT", f"/repl_a/d{number}", {"n": number})


def replicate(send, **options):
    body = {"source": "repl_a", "target": "repl_b", **options}
    response = send("POST", "/_replicate", {name: value for name, value in body.items() if value is not None})
    return response.status, response.value()


def ids_in(send, name):
    return [row["id"] for row in send("GET", f"/{name}/_all_docs").value()["rows"]]


@pytest.mark.usefixtures("databases")
def test_replication_copies_documents_and_keeps_a_checkpoint(send):
    status, answer = replicate(send)
    assert (status, list(answer)) == (200, ["ok", "session_id", "source_last_seq", "replication_id_version", "history"])
    (entry,) = answer["history"]
    assert entry == {
        "session_id": answer["session_id"],
        "start_time": "Tue, 14 Nov 2023 22:13:20 GMT",
        "end_time": "Tue, 14 Nov 2023 22:13:20 GMT",
        "start_last_seq": 0,
        "end_last_seq": answer["source_last_seq"],
        "recorded_seq": answer["source_last_seq"],
        "missing_checked": 3,
        "missing_found": 3,
        "docs_read": 3,
        "docs_written": 3,
        "doc_write_failures": 0,
        "bulk_get_docs": 3,
        "bulk_get_attempts": 3,
    }
    assert ids_in(send, "repl_b") == ["d0", "d1", "d2"]
    for name in ("repl_a", "repl_b"):
        # A CouchDB with this uuid and this address gave the replication this id.
        log = send("GET", f"/{name}/_local/9ac3cfd8c73830d367838106901ff575").value()
        assert {**log, "ok": True, "_id": 0, "_rev": 0} == {**answer, "_id": 0, "_rev": 0}


@pytest.mark.usefixtures("databases")
def test_second_session_goes_on_from_the_first(send):
    first = replicate(send)[1]
    assert replicate(send)[1] == {**first, "no_changes": True}
    send("PUT", "/repl_a/d3", {})
    second = replicate(send)[1]
    assert [entry["docs_written"] for entry in second["history"]] == [4, 3]
    assert second["history"][0]["start_last_seq"] == first["source_last_seq"]
    assert second["history"][1] == first["history"][0]


@pytest.mark.usefixtures("databases")
def test_history_keeps_fifty_sessions(send):
    for number in range(52):
        send("PUT", f"/repl_a/more{number}", {})
        answer = replicate(send)[1]
    assert len(answer["history"]) == 50


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize(
    ("options", "copied"),
    [
        ({"doc_ids": ["d2", "d%30", "zz"]}, ["d0", "d2"]),
        ({"selector": {"n": {"$gt": 1}}}, ["d2"]),
        ({"filter": "f/least", "query_params": {"least": "1"}}, ["d1", "d2"]),
        ({"filter": "_design"}, ["_design/f"]),
        ({"filter": "_view", "query_params": {"view": "f/odd"}}, ["d1"]),
    ],
)
def test_filters_choose_documents(send, options, copied):
    views = {"odd": {"map": "function(doc) { if (doc.n % 2) emit(); }"}}
    filters = {"least": "function(doc, req) { return doc.n >= Number(req.query.least); }"}
    send("PUT", "/repl_a/_design/f", {"filters": filters, "views": views})
    status, answer = replicate(send, **options)
    assert (status, ids_in(send, "repl_b")) == (200, copied)
    assert answer["history"][0]["docs_written"] == len(copied)
    assert ("start_time" in answer) == ("doc_ids" in options)


@pytest.mark.usefixtures("databases")
def test_winning_revisions_only_leaves_conflicts_behind(send):
    conflict = {"_id": "d0", "_rev": "1-0", "n": 9}
    send("POST", "/repl_a/_bulk_docs", {"docs": [conflict], "new_edits": False})
    assert replicate(send, winning_revs_only=True)[1]["history"][0]["docs_written"] == 3
    assert replicate(send)[1]["history"][0]["docs_written"] == 1
    assert send("GET", "/repl_b/d0?conflicts=true").value()["_conflicts"] == ["1-0"]


@pytest.mark.usefixtures("databases")
def test_since_and_no_checkpoints(send):
    since = send("GET", "/repl_a/_changes?limit=2").value()["last_seq"]
    assert replicate(send, since_seq=since, use_checkpoints=False) == (200, {"ok": True, "use_checkpoints": False})
    assert ids_in(send, "repl_b") == ["d2"]
    assert send("GET", "/repl_b/_local_docs").value()["rows"] == []


@pytest.mark.usefixtures("databases")
def test_target_is_created_with_its_parameters(send):
    created = {"target": "repl_c", "create_target": True, "create_target_params": {"q": 3}}
    assert replicate(send, **created)[0] == 200
    assert send("GET", "/repl_c").value()["cluster"]["q"] == 3


@pytest.mark.usefixtures("databases")
def test_attachments_keep_their_digests(send):
    data = {"content_type": "text/plain", "data": "aGVsbG8gaGVsbG8gaGVsbG8="}
    rev = send("PUT", "/repl_a/d", {"_attachments": {"a.txt": data}}).value()["rev"]
    assert replicate(send)[0] == 200
    stubs = send("GET", "/repl_a/d").value()["_attachments"]
    # The target has the attachment, so it comes as a stub.
    send("PUT", "/repl_a/d", {"_rev": rev, "n": 1, "_attachments": stubs})
    status, answer = replicate(send)
    assert (status, answer["history"][0]["docs_written"]) == (200, 5)
    same = [send("GET", f"/{name}/d?attachments=true").value() for name in ("repl_a", "repl_b")]
    assert same[0] == same[1]


@pytest.mark.usefixtures("databases")
def test_refused_documents_are_counted(send):
    refuse = {"validate_doc_update": "function(doc) { if (doc.n === 1) throw({forbidden: 'no'}); }"}
    send("PUT", "/repl_b/_design/v", refuse)
    entry = replicate(send)[1]["history"][0]
    assert (entry["docs_written"], entry["doc_write_failures"]) == (2, 1)
    assert ids_in(send, "repl_b") == ["_design/v", "d0", "d2"]


@pytest.mark.usefixtures("databases")
@pytest.mark.parametrize(
    ("options", "status", "error", "reason"),
    [
        ({"source": None}, 500, "error", "Missing replicator database"),
        ({"source": "nope"}, 500, "db_not_found", "could not open http://127.0.0.1:5994/nope/"),
        ({"source": 5}, 500, "db_not_found", "could not open http://127.0.0.1:5994/5/"),
        ({"source": "Bad Name"}, 500, "db_not_found", "could not open http://127.0.0.1:5994/Bad+Name/"),
        ({"source": "ftp://x/y"}, 500, "db_not_found", "could not open http://127.0.0.1:5994/ftp%3A%2F%2Fx%2Fy/"),
        ({"source": "http://"}, 400, "invalid_replication", "endpoint has an invalid url"),
        ({"source": {}}, 400, "invalid_replication", "endpoint has an invalid url"),
        ({"cancel": "x"}, 400, "bad_request", "parameter `cancel` must be a boolean"),
        ({"doc_ids": "x"}, 400, "bad_request", "parameter `doc_ids` must be an array"),
        ({"selector": 3}, 400, "bad_request", "parameter `selector` must be a JSON object"),
        ({"query_params": 3}, 400, "bad_request", "parameter `query_params` must be an object"),
        ({"selector": {}, "doc_ids": []}, 400, "bad_request", "`doc_ids`,`filter`,`selector` are mutually exclusive"),
        ({"filter": "x"}, 500, "error", "Invalid filter. Must match `ddocname/filtername`."),
        ({"filter": "_view", "query_params": {"view": "x"}}, 400, "bad_request", "Invalid `view` parameter."),
        (
            {"filter": "x/y"},
            404,
            "not_found",
            "Couldn't open document `_design/x` from source database `http://127.0.0.1:5994/repl_a/`:"
            ' {error,<<"not_found">>}',
        ),
        (
            {"since_seq": "bad"},
            500,
            "error",
            "{changes_req_failed,400,#Fun<couch_replicator_httpc.0.11803075>}",
        ),
        ({"proxy": 3}, 500, "error", "Invalid proxy url"),
        (
            {"proxy": "http://x", "source_proxy": "http://y"},
            400,
            "bad_request",
            "`proxy` is mutually exclusive with `source_proxy`",
        ),
    ],
)
def test_errors_are_couchdbs(send, options, status, error, reason):
    assert replicate(send, **options) == (status, {"error": error, "reason": reason})


@pytest.mark.usefixtures("databases")
def test_refusal_of_a_batch_is_printed_as_a_term(send):
    send("PUT", "/repl_p?partitioned=true")
    assert replicate(send, target="repl_p")[1]["reason"] == (
        "{revs_diff_failed,400,\n"
        '                  {[{<<"error">>,<<"illegal_docid">>},\n'
        '                    {<<"reason">>,\n'
        '                     <<"Doc id must be of form partition:id">>}]}}'
    )


def test_body_is_checked_before_its_type(send):
    assert send("POST", "/_replicate", body=b"[]").value()["reason"] == "Request body must be a JSON object"
    assert send("POST", "/_replicate", body=b"{}", content_type="text/plain").status == 415
    assert send("GET", "/_replicate").value()["reason"] == "Missing request body"
    assert send("PUT", "/_replicate", {}).status == 405
    assert send("POST", "/_replicate", {}, user=None).value()["reason"] == "You are not an authenticated user"


@pytest.mark.usefixtures("databases")
def test_databases_are_opened_with_the_rights_of_the_caller(send):
    user = {"name": "ann", "password": "pw", "roles": [], "type": "user"}
    send("PUT", "/_users/org.couchdb.user:ann", user)
    body = {"source": "repl_a", "target": "repl_b"}
    answer = send("POST", "/_replicate", body=encode_json(body), user=("ann", "pw"), content_type="application/json")
    assert (answer.status, answer.value()["error"]) == (403, "forbidden")
