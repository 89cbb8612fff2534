"""The users database when its security object lets everybody in, as CouchDB 3.5.0 answered.

The recordings cannot hold this, because they must not open the users database of the server that they are replayed on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from couchdal import MemoryBackend, Request, Response
from couchdal.transcripts.scenario import basic_credentials

ADMIN = ("admin", "pw")
ANN, BOB = ("ann", "s"), ("bob", "s")
REFUSED_DESIGN = "Only administrators can view design docs in the users database."


@pytest.fixture
def backend() -> MemoryBackend:
    """Return a server with two users, whose users database is open to everybody."""
    backend = MemoryBackend(admin=ADMIN)
    # Real hashes take half a second.
    assert _send(backend, "PUT", "/_node/_local/_config/chttpd_auth/iterations", "1").status == 200
    for name, _ in (ANN, BOB):
        user = {"name": name, "type": "user", "roles": ["r"], "password": "s", "mail": f"{name}@x", "plan": "free"}
        assert _send(backend, "PUT", f"/_users/org.couchdb.user:{name}", user).status == 201
    design = {"views": {"v": {"map": "function(doc) { emit(doc.name, doc.mail); }"}}}
    assert _send(backend, "PUT", "/_users/_design/d", design).status == 201
    assert _send(backend, "PUT", "/_node/_local/_config/couchdb/users_db_security_editable", "true").status == 200
    assert _send(backend, "PUT", "/_users/_security", {"admins": {}, "members": {}}).status == 200
    return backend


def _send(
    backend: MemoryBackend,
    method: str,
    path: str,
    body: object = None,
    user: tuple[str, str] | None = ADMIN,
    headers: Mapping[str, str] | None = None,
) -> Response:
    own = {} if user is None else {"authorization": basic_credentials(*user)}
    path, _, query = path.partition("?")
    sent = b"" if body is None else json.dumps(body).encode()
    return backend.exchange(
        Request(method, path, query, {**own, "content-type": "application/json", **(headers or {})}, sent)
    )


def _publish(backend: MemoryBackend, fields: str) -> None:
    assert _send(backend, "PUT", "/_node/_local/_config/chttpd_auth/public_fields", fields).status == 200


def _find(
    backend: MemoryBackend, body: dict[str, object], user: tuple[str, str] | None = ANN
) -> list[dict[str, object]]:
    answer = _send(backend, "POST", "/_users/_find", body, user).value()
    docs: list[dict[str, object]] = answer["docs"]
    return docs


def _error(response: Response) -> tuple[int, str]:
    return response.status, response.value()["reason"]


def test_find_skips_documents_of_others(backend: MemoryBackend) -> None:
    assert [one["name"] for one in _find(backend, {"selector": {}})] == ["ann"]
    assert _find(backend, {"selector": {"name": "bob"}}) == []
    assert _find(backend, {"selector": {}, "skip": 1}) == []
    assert _find(backend, {"selector": {"mail": "ann@x"}, "fields": ["plan"]}) == [{"plan": "free"}]
    assert _find(backend, {"selector": {}}, user=None) == []


def test_find_sees_only_the_public_fields_of_others(backend: MemoryBackend) -> None:
    _publish(backend, "name,mail")
    assert [sorted(one) for one in _find(backend, {"selector": {"name": "bob"}})] == [["_id", "_rev", "mail", "name"]]
    assert _find(backend, {"selector": {"plan": "free"}, "fields": ["name"]}) == [{"name": "ann"}]
    assert _find(backend, {"selector": {"salt": {"$exists": True}}, "fields": ["name"]}, user=None) == []
    assert _find(backend, {"selector": {}, "fields": ["name", "plan"]}, user=None) == [{"name": "ann"}, {"name": "bob"}]


def test_find_counts_no_documents_that_the_user_may_not_read(backend: MemoryBackend) -> None:
    answer = _send(backend, "POST", "/_users/_find", {"selector": {}, "execution_stats": True}, ANN).value()
    stats = answer["execution_stats"]
    # The keys are those of two users and of the design documents d and _auth.
    assert (stats["total_keys_examined"], stats["total_docs_examined"], stats["results_returned"]) == (4, 1, 1)


def test_indexes_and_views_need_an_administrator(backend: MemoryBackend) -> None:
    assert _send(backend, "POST", "/_users/_index", {"index": {"fields": ["mail"]}, "ddoc": "i"}).status == 200
    for method, path, body in (
        ("POST", "/_users/_find", {"selector": {"mail": {"$gt": None}}}),
        ("GET", "/_users/_design/d/_view/v?include_docs=true", None),
        ("POST", "/_users/_design/d/_view/v/queries", {"queries": [{}]}),
    ):
        assert _error(_send(backend, method, path, body, ANN)) == (403, REFUSED_DESIGN)
        assert _send(backend, method, path, body).status == 200
    rows = _send(backend, "GET", "/_users/_design_docs?include_docs=true", None, ANN).value()["rows"]
    assert [row["doc"] for row in rows] == [None, None, None]


@pytest.mark.parametrize("accept", ["application/json", "multipart/mixed"])
def test_bulk_get_fails_for_all_documents_if_the_user_may_not_read_one(backend: MemoryBackend, accept: str) -> None:
    def read(*names: str) -> str:
        wanted = {"docs": [{"id": f"org.couchdb.user:{name}"} for name in names]}
        response = _send(backend, "POST", "/_users/_bulk_get", wanted, ANN, {"accept": accept})
        assert response.status == 200
        return response.content().decode()

    assert "ann@x" in read("ann", "none")
    refused = read("ann", "bob", "none")
    assert "@x" not in refused
    assert refused.count('"internal_fabric_error"') == refused.count('"reason":"not_found"') == 3
    _publish(backend, "mail")
    shown = read("ann", "bob")
    assert "bob@x" in shown
    assert shown.count("derived_key") == 1


def test_users_may_not_change_their_roles(backend: MemoryBackend) -> None:
    path = "/_users/org.couchdb.user:ann"
    document = _send(backend, "GET", path, None, ANN).value()
    for roles, reason in (
        ([], "Only _admin may edit roles"),
        (["r", "s"], "Only _admin may edit roles"),
        (["_admin"], "Only _admin may edit roles"),
    ):
        assert _error(_send(backend, "PUT", path, {**document, "roles": roles}, ANN)) == (403, reason)
    assert _send(backend, "PUT", path, {**document, "plan": "paid"}, ANN).status == 201
    assert _error(_send(backend, "PUT", path, document, BOB)) == (404, "missing")


def test_anonymous_users_sign_up_without_roles(backend: MemoryBackend) -> None:
    cleo: dict[str, object] = {"name": "cleo", "type": "user", "password": "s"}
    path = "/_users/org.couchdb.user:cleo"
    assert _error(_send(backend, "PUT", path, {**cleo, "roles": ["r"]}, None)) == (403, "Only _admin may set roles")
    assert _send(backend, "PUT", path, {**cleo, "roles": []}, None).status == 201


def test_anonymous_users_change_no_document(backend: MemoryBackend) -> None:
    path = "/_users/org.couchdb.user:ann"
    document = _send(backend, "GET", path).value()
    assert _error(_send(backend, "PUT", path, document, None)) == (500, "function_clause")
    assert _error(_send(backend, "DELETE", f"{path}?rev={document['_rev']}", None, None)) == (404, "missing")
    _publish(backend, "name")
    assert _error(_send(backend, "PUT", path, document, None)) == (403, "You may only update your own user document.")
    refused = _send(backend, "DELETE", f"{path}?rev={document['_rev']}", None, None)
    assert _error(refused) == (403, "Only admins may delete other user docs.")
    assert _send(backend, "GET", path).value() == document
