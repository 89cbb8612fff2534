from __future__ import annotations

import pytest

from couchdal import CouchDAL
from couchdal.backends.memory import MemoryBackend
from couchdal.http.messages import Request

MISSING = {"error": "not_found", "reason": "Database does not exist."}


def test_put_creates_and_delete_removes(send):
    response = send("PUT", "/a%2Fb%2Bc", host="h")
    assert (response.status, response.value()) == (201, {"ok": True})
    assert response.headers["location"] == "http://h/a%2Fb%2Bc"
    assert send("GET", "/a%2Fb%2Bc").value()["db_name"] == "a/b+c"
    assert send("DELETE", "/a%2Fb%2Bc").value() == {"ok": True}
    response = send("GET", "/a%2Fb%2Bc")
    assert (response.status, response.value()) == (404, MISSING)


def test_put_of_an_existing_database_is_refused(send):
    send("PUT", "/db")
    response = send("PUT", "/db?q=2")
    reason = "The database could not be created, the file already exists."
    assert (response.status, response.value()) == (412, {"error": "file_exists", "reason": reason})


@pytest.mark.parametrize("name", ["A", "1a", "_a", "a.b", "a b", "é", "_users/a", "-a", "a\n"])
def test_put_of_an_illegal_name_is_refused(send, name):
    from urllib.parse import quote

    response = send("PUT", "/" + quote(name, safe=""))
    assert (response.status, response.value()["error"]) == (400, "illegal_database_name")
    assert response.value()["reason"].startswith(f"Name: '{name}'. Only lowercase characters (a-z), digits")


@pytest.mark.parametrize("name", ["a_$()+-/9", "a.1234567890", "a.couch", "_global_changes", "a/_users", "b" * 238])
def test_put_of_a_legal_name_is_accepted(send, name):
    from urllib.parse import quote

    assert send("PUT", "/" + quote(name, safe="")).status == 201


@pytest.mark.parametrize("name", ["b" * 239, "a%2F" + "b" * 239, "b" * 256 + "%2Fa"])
def test_put_of_a_long_name_is_refused(send, name):
    response = send("PUT", "/" + name)
    reason = f"At least one path segment of `{name.replace('%2F', '/')}` is too long."
    assert (response.status, response.value()) == (400, {"error": "database_name_too_long", "reason": reason})


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("q=0", "The `q` value should be a positive integer."),
        ("n=x", "The `n` value should be a positive integer."),
        ("partitioned=maybe", "Invalid `partitioned` parameter"),
        ("engine=nope", "invalid_engine_extension"),
        ("placement=a", "The `placement` value should be in a format `zone:n`."),
    ],
)
def test_put_refuses_bad_parameters(send, query, reason):
    response = send("PUT", f"/db?{query}")
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": reason})


@pytest.mark.parametrize("shards", [4097, 10**12, 10**5000], ids=["4,097", "a million million", "10^5000"])
def test_put_refuses_more_shards_than_it_can_list(send, shards):
    """A list of as many ranges would take all memory, and the server would answer nobody meanwhile."""
    assert send("PUT", "/most?q=4096").status == 201
    assert len(send("GET", "/most/_shards").value()["shards"]) == 4096
    answer = send("PUT", f"/db?q={'9' * 5000 if shards > 10**4000 else shards}")
    assert (answer.status, answer.value()["error"]) == (501, "not_implemented")
    assert send("GET", "/db").status == 404


def test_delete_with_rev_is_refused(send):
    send("PUT", "/db")
    response = send("DELETE", "/db?rev=1-a")
    assert (response.status, response.value()["error"]) == (400, "bad_request")
    assert send("GET", "/db").status == 200


def test_missing_database_is_reported_before_a_wrong_method(send):
    for method, path in (("PATCH", "/none"), ("GET", "/none/_bulk_docs"), ("POST", "/none/_purge")):
        response = send(method, path)
        assert (response.status, response.value()) == (404, MISSING)


def test_wrong_method_names_the_allowed_methods(send):
    send("PUT", "/db")
    response = send("PATCH", "/db")
    reason = "Only DELETE,GET,HEAD,POST allowed"
    assert (response.status, response.value()) == (405, {"error": "method_not_allowed", "reason": reason})
    assert response.headers["allow"] == "DELETE,GET,HEAD,POST"


def test_post_writes_a_document_and_locates_it(send):
    send("PUT", "/db")
    response = send("POST", "/db", {"_id": "y/z ü", "a": 1}, host="h")
    assert response.status == 201
    assert response.headers["location"] == "http://h/db/y%2Fz%20%C3%BC"
    assert "etag" not in response.headers
    response = send("POST", "/db", {"_id": "y/z ü"})
    assert (response.status, response.value()["error"]) == (409, "conflict")


def test_post_in_a_batch_hides_the_outcome(send):
    send("PUT", "/db")
    for _ in range(2):
        response = send("POST", "/db?batch=ok", {"_id": "a"})
        assert (response.status, response.value()) == (202, {"ok": True, "id": "a"})
    assert send("GET", "/db/a").value()["_rev"].startswith("1-")


def test_head_has_the_headers_of_get_and_no_body(send):
    send("PUT", "/db")
    response = send("HEAD", "/db")
    assert (response.status, response.content()) == (200, b"")
    assert response.headers["content-length"] == str(len(send("GET", "/db").content()))


def test_method_override_counts_for_post_only_and_in_capitals(send):
    send("PUT", "/db")
    assert send("POST", "/db/a", {}, x_http_method_override="PUT").status == 201
    assert send("GET", "/db/a", x_http_method_override="DELETE").status == 200
    assert send("POST", "/db/a", {}, x_http_method_override="get").value()["reason"] == "Referer header required."


@pytest.mark.parametrize("path", ["/db/a%zz", "/db?x=%2", "/%"])
def test_bad_percent_sign_is_refused_anywhere(send, path):
    response = send("GET", path)
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": "invalid_url_encoding"})


def test_dbs_info_keeps_the_order_of_keys(send):
    send("PUT", "/db")
    rows = send("POST", "/_dbs_info", {"keys": ["none", "db", 1]}).value()
    assert rows[0] == {"key": "none", "error": "not_found"}
    assert (rows[1]["key"], rows[1]["info"]["doc_count"]) == ("db", 0)
    assert rows[2] == {"key": 1, "error": "not_found"}


@pytest.mark.parametrize(
    ("doc_id", "error", "reason"),
    [
        ("a", "illegal_docid", "Doc id must be of form partition:id"),
        (":a", "illegal_partition", "Partition must not be empty"),
        ("a:", "illegal_docid", "Document id must not be empty"),
        ("a:_b", "illegal_docid", "Only reserved document ids may start with underscore."),
    ],
)
def test_partitioned_database_refuses_ids_without_partition(send, doc_id, error, reason):
    send("PUT", "/db?partitioned=true")
    for method, path, payload in (("PUT", f"/db/{doc_id}", {}), ("POST", "/db", {"_id": doc_id})):
        response = send(method, path, payload)
        assert (response.status, response.value()) == (400, {"error": error, "reason": reason})


def test_partition_counts_its_documents(send):
    send("PUT", "/db?partitioned=true")
    for doc_id in ("a:1", "a:2", "b:1"):
        send("PUT", f"/db/{doc_id}", {})
    send("DELETE", f"/db/a:2?rev={send('GET', '/db/a:2').value()['_rev']}")
    info = send("GET", "/db/_partition/a").value()
    assert (info["partition"], info["doc_count"], info["doc_del_count"]) == ("a", 1, 1)


def test_unsupported_route_is_501(send):
    response = send("POST", "/_search_analyze", {})
    assert (response.status, response.value()["error"]) == (501, "not_implemented")
    assert "there is no full-text search" in response.value()["reason"]


@pytest.mark.parametrize(("count", "status"), [("0", 200), ("3", 200), ("x", 400), ("-1", 400), ("1001", 400)])
def test_uuids_returns_count_ids(send, count, status):
    response = send("GET", f"/_uuids?count={count}")
    assert response.status == status
    if status == 200:
        assert len(set(response.value()["uuids"])) == int(count)


def test_generated_ids_sort_in_the_order_of_their_documents(send):
    send("PUT", "/db")
    made = [send("POST", "/db", {"n": number}).value()["id"] for number in range(20)]
    assert made == sorted(made)
    assert all(len(doc_id) == 32 for doc_id in made)


def test_same_requests_get_the_same_answers_in_every_run():
    def run():
        backend = MemoryBackend()
        for method, path, value in (("PUT", "/db", None), ("POST", "/db", {"a": 1}), ("GET", "/db", None)):
            headers = {"content-type": "application/json"}
            yield backend.send(Request(method, path, "", headers, json=value)).value()
        yield backend.send(Request("GET", "/_uuids")).value()

    assert list(run()) == list(run())


@pytest.mark.parametrize("place", ["_all_docs", "_design_docs", "_local_docs"])
def test_listings_accept_limits_of_any_size(send, place):
    db = "/db"
    send("PUT", db)
    huge = 10**30
    send("PUT", f"{db}/a", {})
    assert send("GET", f"{db}/{place}?skip={huge}").value()["rows"] == []
    assert send("GET", f"{db}/{place}?skip={huge}&limit={2**59 - 1}").status == 200


def test_revs_limit_may_have_any_size(send):
    db = "/db"
    send("PUT", db)
    assert send("PUT", f"{db}/_revs_limit", 10**30).status == 200
    docs = [{"_id": "a", "_revisions": {"start": 2, "ids": [tip * 32, "0" * 32]}} for tip in "bc"]
    send("POST", f"{db}/_bulk_docs", {"docs": docs, "new_edits": False})
    assert len(send("GET", f"{db}/a?open_revs=all&revs=true").value()) == 2
    assert send("PUT", f"{db}/a?rev=2-{'b' * 32}", {}).status == 201


@pytest.mark.parametrize(
    ("bounds", "answer"),
    [
        ({"end_key": ""}, {"total_rows": 1, "offset": 0, "rows": []}),
        ({"descending": True, "start_key": ""}, {"total_rows": 1, "offset": 1, "rows": []}),
    ],
)
def test_empty_key_excludes_all_design_documents(bounds: dict[str, object], answer: dict[str, object]) -> None:
    dal = CouchDAL(MemoryBackend())
    dal.put_document("_design/d", {})
    dal.put_document("a", {})
    assert dal.get("/_design_docs", "POST", bounds) == answer
