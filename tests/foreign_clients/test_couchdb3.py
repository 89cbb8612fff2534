"""couchdb3, a client on top of httpx, works as usual."""

from __future__ import annotations

import asyncio
from typing import Any

import couchdb3
import pytest
from couchdb3.exceptions import ConflictError, NotFoundError, UnauthorizedError

IS_PYTHON = True


@pytest.fixture
def couch(server: Any) -> couchdb3.Server:
    return couchdb3.Server(server.url, user=server.user, password=server.password)


@pytest.fixture
def database(couch: couchdb3.Server, db: str) -> couchdb3.Database:
    return couch.get(db)


def test_database_is_created_listed_and_deleted(server: Any, couch: couchdb3.Server, name: str) -> None:
    couch.create(name)
    assert name in couch.all_dbs()
    assert server.look(f"/{name}")["doc_count"] == 0
    couch.delete(name)
    assert server.look(f"/{name}") == 404


def test_document_is_created_updated_and_deleted(server: Any, db: str, database: couchdb3.Database) -> None:
    _, ok, rev = database.create({"_id": "a", "n": 1})
    assert ok
    _, ok, second = database.save({"_id": "a", "_rev": rev, "n": 2})
    assert second.startswith("2-")
    assert server.look(f"/{db}/a")["n"] == 2
    with pytest.raises(ConflictError):
        database.save({"_id": "a", "_rev": rev, "n": 3})
    assert database.delete("a", second)
    with pytest.raises(NotFoundError):
        database["a"]


def test_bulk_find_and_views(server: Any, db: str, database: couchdb3.Database) -> None:
    database.bulk_docs([{"_id": f"t{n}", "n": n} for n in range(5)])
    found = database.find({"n": {"$gte": 3}})
    assert [doc["_id"] for doc in found["docs"]] == ["t3", "t4"]
    database.put_design("count", views={"by_n": {"map": "function (doc) { emit(doc.n, 1); }"}})
    assert [row["key"] for row in database.view("count", "by_n", startkey=2).rows] == [2, 3, 4]
    assert len(server.look(f"/{db}/_all_docs")["rows"]) == 6


def test_attachment_is_saved_read_and_deleted(server: Any, db: str, database: couchdb3.Database) -> None:
    _, _, rev = database.create({"_id": "a"})
    database.put_attachment("a", "f.txt", content=b"text " * 1000, content_type="text/plain", rev=rev)
    assert database.get_attachment("a", "f.txt").content == b"text " * 1000
    assert server.look(f"/{db}/a/f.txt") == b"text " * 1000
    assert database.delete_attachment("a", "f.txt", rev=server.look(f"/{db}/a")["_rev"])


def test_changes_are_listed(server: Any, db: str, database: couchdb3.Database) -> None:
    server.look(f"/{db}/a", "PUT", {})
    assert [row["id"] for row in database.changes()["results"]] == ["a"]


def test_event_loop_is_served(server: Any, db: str) -> None:
    async def work() -> None:
        async with couchdb3.AsyncServer(server.url, user=server.user, password=server.password) as couch:
            database = await couch.get(db)
            await database.create({"_id": "a", "n": 1})
            assert (await database.get("a"))["n"] == 1

    asyncio.run(work())
    assert server.look(f"/{db}/a")["n"] == 1


def test_wrong_password_is_refused(server: Any, db: str) -> None:
    with pytest.raises(UnauthorizedError):
        couchdb3.Server(server.url, user="nobody", password="wrong").get(db).info()
