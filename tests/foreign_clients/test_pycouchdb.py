"""pycouchdb, a client on top of requests, works as usual."""

from __future__ import annotations

from typing import Any

import pycouchdb
import pytest
from pycouchdb.exceptions import AuthenticationFailed, Conflict, NotFound
from pycouchdb.feedreader import BaseFeedReader

IS_PYTHON = True


@pytest.fixture(params=["basic", "session"])
def database(server: Any, db: str, request: pytest.FixtureRequest) -> pycouchdb.client.Database:
    return pycouchdb.Server(server.with_credentials + "/", authmethod=request.param).database(db)


def test_database_is_created_listed_and_deleted(server: Any, name: str) -> None:
    couch = pycouchdb.Server(server.with_credentials + "/")
    couch.create(name)
    assert name in couch
    with pytest.raises(Conflict):
        couch.create(name)
    assert server.look(f"/{name}")["doc_count"] == 0
    couch.delete(name)
    with pytest.raises(NotFound):
        couch.database(name)


def test_document_is_created_updated_and_deleted(server: Any, db: str, database: Any) -> None:
    doc = database.save({"_id": "a", "n": 1})
    assert doc["_rev"].startswith("1-")
    doc["n"] = 2
    assert database.save(doc)["_rev"].startswith("2-")
    assert server.look(f"/{db}/a")["n"] == 2
    with pytest.raises(Conflict):
        database.save({"_id": "a", "_rev": doc["_rev"].replace("2-", "1-"), "n": 3})
    database.delete("a")
    with pytest.raises(NotFound):
        database.get("a")


def test_bulk_find_and_views(server: Any, db: str, database: Any) -> None:
    database.save_bulk([{"_id": f"t{n}", "n": n} for n in range(5)])
    assert [doc["_id"] for doc in database.find({"n": {"$gte": 3}})] == ["t3", "t4"]
    view = {"map": "function (doc) { emit(doc.n, 1); }", "reduce": "_sum"}
    database.save({"_id": "_design/count", "views": {"by_n": view}})
    rows = database.query("count/by_n", reduce=False, startkey=2, as_list=True)
    assert [row["key"] for row in rows] == [2, 3, 4]
    assert database.one("count/by_n", flat="value") == 5
    assert [row["id"] for row in database.all(as_list=True)][1:] == [f"t{n}" for n in range(5)]


def test_attachment_is_saved_read_and_deleted(server: Any, db: str, database: Any, tmp_path: Any) -> None:
    doc = database.save({"_id": "a"})
    file = tmp_path / "data.txt"
    file.write_bytes(b"text " * 10_000)
    with file.open("rb") as content:
        doc = database.put_attachment(doc, content, "data.txt")
    assert database.get_attachment(doc, "data.txt") == b"text " * 10_000
    assert server.look(f"/{db}/a/data.txt") == b"text " * 10_000
    database.delete_attachment(doc, "data.txt")
    assert "_attachments" not in server.look(f"/{db}/a")


def test_changes_are_listed_and_followed(server: Any, db: str, database: Any) -> None:
    database.save({"_id": "a"})
    _, rows = database.changes_list()
    assert [row["id"] for row in rows] == ["a"]

    class Reader(BaseFeedReader):
        def on_message(self, message: dict[str, Any]) -> None:
            seen.append(message.get("id"))
            if len(seen) == 2:
                raise pycouchdb.exceptions.FeedReaderExited

        def on_heartbeat(self) -> None:
            if "b" not in seen:
                server.look(f"/{db}/b", "PUT", {})

    seen: list[Any] = []
    database.changes_feed(Reader(), feed="continuous", heartbeat=100)
    assert seen == ["a", "b"]


def test_wrong_password_is_refused(server: Any, db: str) -> None:
    wrong = server.url.replace("://", "://nobody:wrong@")
    with pytest.raises((AuthenticationFailed, pycouchdb.exceptions.GenericError)):
        pycouchdb.Server(wrong + "/").database(db)
