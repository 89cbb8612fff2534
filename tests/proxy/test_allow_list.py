"""Requests that the proxy allows: by the API's table, by rules, by database, and when it is read-only."""

from __future__ import annotations

import pytest

from couchdal.api.routes import ROUTES
from couchdal.errors import Forbidden, NotConfigured
from couchdal.http.urls import split_path
from couchdal.proxy.allow_list import AllowList


def passes(method: str, path: str, allowed: AllowList) -> bool:
    try:
        allowed.check(method, split_path(path))
    except Forbidden:
        return False
    return True


# Documents, queries, and what replication needs.
ALLOWED = """
GET /
GET /_up
GET /_uuids
GET /_session
POST /_session
DELETE /_session
GET /db
HEAD /db
POST /db
GET /db/doc
PUT /db/doc
DELETE /db/doc
COPY /db/doc
OPTIONS /db/doc
GET /db/_design/d
PUT /db/_design/d
PUT /db/_design%2Fd
GET /db/doc/file.txt
PUT /db/doc/a/b.txt
GET /db/_design/d/logo.png
GET /db/_local/checkpoint
PUT /db/_local/checkpoint
PUT /db/_local%2Fcheckpoint
GET /db/_all_docs
POST /db/_all_docs
POST /db/_all_docs/queries
GET /db/_local_docs
POST /db/_find
POST /db/_explain
GET /db/_index
POST /db/_index
DELETE /db/_index/_design/d/json/i
POST /db/_bulk_docs
POST /db/_bulk_get
GET /db/_changes
POST /db/_changes
POST /db/_revs_diff
POST /db/_missing_revs
POST /db/_ensure_full_commit
GET /db/_revs_limit
GET /db/_partition/p
POST /db/_partition/p/_find
GET /db/_partition/p/_all_docs
GET /a%2Fb/doc
""".strip().splitlines()
REFUSED = """
PUT /db
DELETE /db
GET /_all_dbs
GET /_dbs_info
POST /_dbs_info
GET /_active_tasks
GET /_membership
GET /_node/_local/_config
PUT /_node/_local/_config/admins/x
GET /_node/_local/_stats
POST /_replicate
GET /_scheduler/jobs
GET /_db_updates
GET /_utils/index.html
POST /_cluster_setup
GET /_anything
GET /_users/_all_docs
GET /_users/org.couchdb.user:x
PUT /_replicator/doc
GET /%5Fusers/doc
GET /db/_security
PUT /db/_security
PUT /db/_revs_limit
POST /db/_purge
POST /db/_compact
POST /db/_view_cleanup
GET /db/_shards
POST /db/_sync_shards
GET /db/_design/d/_view/v
POST /db/_design/d/_view/v
GET /db/_design/d/_rewrite/x
GET /db/_design/d/_list/l/v
PUT /db/_design/d/_update/u/doc
GET /db/_design/d/_unknown
GET /db/_partition/p/_design/d/_view/v
DELETE /db/_partition/p/_find
GET /db/_unknown
PUT /db/_unknown/x
PATCH /db/doc
TRACE /db/doc
CONNECT /db
""".strip().splitlines()


@pytest.mark.parametrize("request_line", ALLOWED)
def test_documents_queries_and_replication_are_allowed(request_line: str) -> None:
    assert passes(*request_line.split(" "), AllowList())


@pytest.mark.parametrize("request_line", REFUSED)
def test_everything_else_is_refused(request_line: str) -> None:
    assert not passes(*request_line.split(" "), AllowList())


def test_everything_allowed_is_in_the_table() -> None:
    for route in ROUTES:
        if route.unsupported:
            path = route.pattern.replace("{", "").replace("...}", "").replace("}", "")
            assert not any(passes(method, path, AllowList()) for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS"))


def test_refusal_names_the_method_and_the_route() -> None:
    with pytest.raises(Forbidden) as refused:
        AllowList().check("PUT", ["db"])
    assert (refused.value.status, refused.value.error) == (403, "forbidden")
    assert refused.value.reason == "the proxy does not allow PUT /{db}"


@pytest.mark.parametrize(
    ("rule", "request_line"),
    [
        ("PUT /{db}", "PUT /db"),
        ("/{db}", "DELETE /db"),
        ("* /{db}", "DELETE /db"),
        ("GET /_all_dbs", "HEAD /_all_dbs"),
        ("GET /{db}/_design/{name}/_view/{view}", "GET /db/_design/d/_view/v"),
        ("GET /_node/{node}/_stats/{rest...}", "GET /_node/_local/_stats/couchdb/httpd"),
        ("GET /{db}/_security", "GET /db/_security"),
    ],
)
def test_rule_allows_what_it_names(rule: str, request_line: str) -> None:
    assert not passes(*request_line.split(" "), AllowList())
    assert passes(*request_line.split(" "), AllowList([rule]))


@pytest.mark.parametrize(
    ("rule", "request_line"),
    [
        ("PUT /{db}", "DELETE /db"),
        ("PUT /{db}", "PUT /db/_security"),
        ("PUT /tasks", "PUT /other"),
        ("GET /{db}/_design/{name}/_view/{view}", "GET /db/_design/d/_view/v/more"),
        ("GET /{db}/_security", "PUT /db/_security"),
        ("/{db}", "PUT /_users"),
    ],
)
def test_rule_allows_nothing_else(rule: str, request_line: str) -> None:
    assert not passes(*request_line.split(" "), AllowList([rule]))


@pytest.mark.parametrize("rule", ["", "db", "put /db", "PUT", "PUT /a b"])
def test_invalid_rule_is_an_error(rule: str) -> None:
    with pytest.raises(NotConfigured, match="is not a rule"):
        AllowList([rule])


def test_databases_are_allowed_by_pattern() -> None:
    allowed = AllowList(databases=["app_*", "_users"])
    assert passes("GET", "/app_1/doc", allowed)
    assert passes("GET", "/_users/org.couchdb.user:x", allowed)
    assert passes("GET", "/_up", allowed)
    for other in ("/other/doc", "/_replicator/doc", "/app/doc", "/other%2Fapp_1/doc", "/%61pp/doc"):
        assert not passes("GET", other, allowed)


def test_preflights_run_no_function() -> None:
    # CouchDB runs update and show functions for OPTIONS, as for any method that it does not refuse.
    for path in ("/db/_design/d/_update/f", "/db/_design/d/_update/f/doc", "/db/_design/d/_show/f"):
        assert not passes("OPTIONS", path, AllowList())
    assert passes("OPTIONS", "/db/doc", AllowList())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "FOO"])
@pytest.mark.parametrize("path", ["/db/_design/d/_update/f", "/db/_design/d/_update/f/doc", "/db/_design/d/_rewrite/x"])
def test_functions_that_may_write_are_refused_when_read_only(method: str, path: str) -> None:
    assert passes(method, path, AllowList(["/{db}/{rest...}"]))
    assert not passes(method, path, AllowList(["/{db}/{rest...}"], read_only=True))


READS = [line for line in ALLOWED if line.startswith(("GET", "HEAD", "OPTIONS"))]
READS_BY_POST = ["_find", "_explain", "_all_docs", "_bulk_get", "_changes", "_revs_diff", "_partition/p/_find"]


@pytest.mark.parametrize("request_line", [*READS, *(f"POST /db/{name}" for name in READS_BY_POST), "POST /_session"])
def test_reads_are_allowed_when_read_only(request_line: str) -> None:
    assert passes(*request_line.split(" "), AllowList(read_only=True))


@pytest.mark.parametrize(
    "request_line",
    ["PUT /db/doc", "DELETE /db/doc", "COPY /db/doc", "POST /db", "POST /db/_bulk_docs", "POST /db/_index",
     "PUT /db/doc/file", "PUT /db/_local/c", "DELETE /db/_index/_design/d/json/i", "POST /db/_index/_bulk_delete",
     "POST /db/_partition/p/_index", "PUT /db"],
)  # fmt: skip
def test_writes_are_refused_when_read_only_even_if_a_rule_allows_them(request_line: str) -> None:
    assert not passes(*request_line.split(" "), AllowList(["/{db}", "/{db}/{doc_id}"], read_only=True))


def test_view_queries_are_allowed_when_read_only() -> None:
    allowed = AllowList(["/{db}/_design/{name}/_view/{view}"], read_only=True)
    assert passes("POST", "/db/_design/d/_view/v", allowed)
    assert not passes("PUT", "/db/_design/d/_view/v", allowed)


def test_clients_cannot_log_in_if_the_proxy_uses_its_account() -> None:
    allowed = AllowList(sessions=False)
    assert passes("GET", "/_session", allowed)
    assert not passes("POST", "/_session", allowed)
    assert not passes("DELETE", "/_session", allowed)
