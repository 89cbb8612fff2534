"""couchdb-python, a client on top of ``http.client``, works as usual."""

from __future__ import annotations

import io
from typing import Any

import couchdb
import pytest

IS_PYTHON = True


@pytest.fixture
def couch(server: Any) -> couchdb.Server:
    return couchdb.Server(server.with_credentials)


@pytest.fixture
def database(couch: couchdb.Server, db: str) -> couchdb.Database:
    return couch[db]


def test_database_is_created_listed_and_deleted(server: Any, couch: couchdb.Server, name: str) -> None:
    database = couch.create(name)
    assert database.info()["doc_count"] == 0
    assert name in list(couch)
    with pytest.raises(couchdb.PreconditionFailed):
        couch.create(name)
    del couch[name]
    assert server.look(f"/{name}") == 404


def test_document_is_created_updated_and_deleted(server: Any, db: str, database: couchdb.Database) -> None:
    doc_id, rev = database.save({"_id": "a", "n": 1})
    assert (doc_id, rev[:2]) == ("a", "1-")
    doc = database["a"]
    doc["n"] = 2
    database.save(doc)
    assert server.look(f"/{db}/a")["n"] == 2
    with pytest.raises(couchdb.ResourceConflict):
        database.save({"_id": "a", "_rev": rev})
    database.delete(doc)
    with pytest.raises(couchdb.ResourceNotFound):
        database["a"]


def test_bulk_find_and_views(server: Any, db: str, database: couchdb.Database) -> None:
    database.update([{"_id": f"t{n}", "n": n} for n in range(5)])
    assert [doc["_id"] for doc in database.find({"selector": {"n": {"$gte": 3}}})] == ["t3", "t4"]
    database.save({"_id": "_design/count", "views": {"by_n": {"map": "function (doc) { emit(doc.n, 1); }"}}})
    assert [row.key for row in database.view("count/by_n", startkey=2)] == [2, 3, 4]
    assert server.look(f"/{db}/_all_docs")["total_rows"] == 6


def test_attachment_is_saved_read_and_deleted(server: Any, db: str, database: couchdb.Database) -> None:
    database.save({"_id": "a"})
    content = bytes(range(256)) * 1000
    # Files are sent in chunks.
    database.put_attachment(database["a"], io.BytesIO(content), "f", "application/octet-stream")
    assert database.get_attachment("a", "f").read() == content
    assert server.look(f"/{db}/a/f") == content
    database.delete_attachment(database["a"], "f")
    assert database.get_attachment("a", "f") is None


def test_changes_are_listed_and_followed(server: Any, db: str, database: couchdb.Database) -> None:
    database.save({"_id": "a"})
    assert [row["id"] for row in database.changes()["results"]] == ["a"]
    feed = database.changes(feed="continuous", heartbeat=1000)
    assert next(feed)["id"] == "a"
    server.look(f"/{db}/b", "PUT", {})
    assert next(feed)["id"] == "b"


def test_users_log_in_and_out(server: Any, couch: couchdb.Server, name: str) -> None:
    try:
        couch.add_user(name, "secret")
    except couchdb.Forbidden:
        assert server.url != server.behind, "only the proxy refuses the database of users"
        return
    anonymous = couchdb.Server(server.url)
    assert anonymous.login(name, "secret")
    with pytest.raises(couchdb.Unauthorized):
        anonymous.login(name, "wrong")
    couch.remove_user(name)
