"""aiocouch, a client for event loops, works as usual."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiocouch import ConflictError, CouchDB, NotFoundError, PreconditionFailedError, UnauthorizedError
from aiocouch.database import Database
from aiocouch.event import ChangedEvent, DeletedEvent

IS_PYTHON = True

# aiocouch passes credentials to its HTTP client in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:(BasicAuth|The 'auth' parameter) is deprecated:DeprecationWarning")


def within(server: Any, work: Callable[[CouchDB], Awaitable[None]], **how: Any) -> None:
    """Run some work with the admin's connection, or another user's."""

    async def run() -> None:
        async with CouchDB(server.url, **(how or {"user": server.user, "password": server.password})) as couch:
            async with asyncio.timeout(30):
                await work(couch)

    asyncio.run(run())


@pytest.fixture
def in_database(server: Any, db: str) -> Callable[[Callable[[Database], Awaitable[None]]], None]:
    def run(work: Callable[[Database], Awaitable[None]]) -> None:
        async def opened(couch: CouchDB) -> None:
            await work(await couch[db])

        within(server, opened)

    return run


def test_database_is_created_listed_and_deleted(server: Any, name: str) -> None:
    async def work(couch: CouchDB) -> None:
        database = await couch.create(name)
        assert (await database.info())["db_name"] == name
        assert name in await couch.keys()
        with pytest.raises(PreconditionFailedError):
            await couch.create(name)
        assert (await (await couch.create(name, exists_ok=True)).info())["doc_count"] == 0
        assert server.look(f"/{name}")["db_name"] == name
        await database.delete()
        assert server.look(f"/{name}") == 404
        with pytest.raises(NotFoundError):
            await couch[name]

    within(server, work)


def test_document_is_created_read_updated_and_deleted(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        doc = await database.create("a b/é", data={"n": 1})
        response = await doc.save()
        assert (response.status, response.etag) == (201, doc.rev)
        assert server.look(f"/{db}/a%20b%2F%C3%A9") == {"_id": "a b/é", "_rev": doc.rev, "n": 1}
        first = doc.rev
        doc["n"] = 2
        await doc.save()
        assert str(doc.rev).startswith("2-")
        assert (await database.get("a b/é", rev=first))["n"] == 1
        assert await doc.revs() == [doc.rev, first]
        assert (await doc.copy("copied")).status == 201
        assert (await database["copied"])["n"] == 2
        assert (await doc.delete()).status == 200
        with pytest.raises(NotFoundError):
            await database["a b/é"]
        assert server.look(f"/{db}/a%20b%2F%C3%A9") == 404
        assert server.look(f"/{db}")["doc_del_count"] == 1

    in_database(work)


def test_second_of_two_writers_conflicts(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        await (await database.create("a", data={"n": 1})).save()
        one, other = await database["a"], await database["a"]
        one["n"], other["n"] = 2, 3
        await one.save()
        with pytest.raises(ConflictError):
            await other.save()
        assert server.look(f"/{db}/a")["n"] == 2
        await other.fetch(discard_changes=True)
        other["n"] = 3
        await other.save()
        assert server.look(f"/{db}/a") == {"_id": "a", "_rev": other.rev, "n": 3}

    in_database(work)


def test_conflicting_leaves_are_listed(server: Any, db: str, in_database: Any) -> None:
    docs = [{"_id": "a", "_rev": f"1-{letter * 32}", "n": letter} for letter in "ab"]
    assert server.look(f"/{db}/_bulk_docs", "POST", {"docs": docs, "new_edits": False}) == []

    async def work(database: Database) -> None:
        doc = await database["a"]
        assert doc.rev == f"1-{'b' * 32}"
        assert await doc.conflicts() == [f"1-{'a' * 32}"]

    in_database(work)


def test_bulk_writes_report_conflicts(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        async with database.create_docs(["a", "b", "c"]) as bulk:
            async for doc in bulk:
                doc["n"] = 1
        assert [doc.id for doc in bulk.ok] == ["a", "b", "c"]
        async with database.update_docs(["a", "b", "d"], create=True) as bulk:
            async for doc in bulk:
                doc["n"] = 2
            server.look(f"/{db}/b", "PUT", {"_rev": server.look(f"/{db}/b")["_rev"], "n": 9})
        assert [doc.id for doc in bulk.ok] == ["a", "d"]
        assert [doc.id for doc in bulk.error] == ["b"]
        assert next(row for row in bulk.response if row["id"] == "b")["error"] == "conflict"
        rows = server.look(f"/{db}/_all_docs?include_docs=true")["rows"]
        assert {row["id"]: row["doc"]["n"] for row in rows} == {"a": 2, "b": 9, "c": 1, "d": 2}
        assert [doc.id async for doc in database.docs(["a", "c"])] == ["a", "c"]

    in_database(work)


def test_find_uses_an_index(server: Any, db: str, in_database: Any) -> None:
    docs = [{"_id": f"t{n}", "n": n, "even": n % 2 == 0} for n in range(10)]
    server.look(f"/{db}/_bulk_docs", "POST", {"docs": docs})

    async def work(database: Database) -> None:
        made = await database.index({"fields": ["n"]}, name="by-n", ddoc="queries")
        assert made == {"result": "created", "id": "_design/queries", "name": "by-n"}
        query = {"selector": {"n": {"$gt": 4}, "even": True}, "sort": [{"n": "desc"}]}
        found = [doc.id async for doc in database.find(**query)]
        assert found == ["t8", "t6"]
        explained = server.look(f"/{db}/_explain", "POST", query)
        assert explained["index"]["name"] == "by-n"

    in_database(work)


def test_attachment_is_saved_fetched_and_deleted(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        doc = await database.create("a")
        await doc.save()
        attachment = doc.attachment("picture.bin")
        assert not await attachment.exists()
        await attachment.save(bytes(range(256)) * 100, "application/octet-stream")
        assert str(doc.rev).startswith("2-")
        assert await doc.attachment("picture.bin").fetch() == bytes(range(256)) * 100
        assert server.look(f"/{db}/a")["_attachments"]["picture.bin"]["length"] == 25600
        assert server.look(f"/{db}/a/picture.bin") == bytes(range(256)) * 100
        await attachment.delete()
        assert "_attachments" not in server.look(f"/{db}/a")

    in_database(work)


def test_changes_are_read_once_and_followed(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        for doc_id in ("a", "b"):
            await (await database.create(doc_id)).save()
        await (await database["b"]).delete()
        events = [event async for event in database.changes()]
        assert [(type(event), event.id) for event in events] == [(ChangedEvent, "a"), (DeletedEvent, "b")]
        assert (await events[0].doc())["_id"] == "a"

        async def write() -> None:
            for n in range(3):
                await (await database.create(f"new{n}")).save()

        writing = None
        followed: list[str] = []
        feed = database.changes(feed="continuous", since=events[-1].sequence, heartbeat=1000)
        writing = asyncio.create_task(write())
        async for event in feed:
            followed.append(event.id)
            if len(followed) == 3:
                break
        await feed.aclose()
        await writing
        assert followed == ["new0", "new1", "new2"]

    in_database(work)


def test_security_is_saved(server: Any, db: str, in_database: Any) -> None:
    async def work(database: Database) -> None:
        security = await database.security()
        security.add_member("reader")
        await security.save()
        assert server.look(f"/{db}/_security")["members"]["names"] == ["reader"]

    in_database(work)


def test_credentials_are_checked(server: Any, db: str) -> None:
    async def refused(couch: CouchDB) -> None:
        with pytest.raises(UnauthorizedError):
            await couch.check_credentials()

    async def nobody(couch: CouchDB) -> None:
        with pytest.raises(UnauthorizedError):
            await couch.create(f"{db}x")
        with pytest.raises(UnauthorizedError):
            await (await (await couch[db]).create("a", exists_ok=True)).save()

    async def admin(couch: CouchDB) -> None:
        await couch.check_credentials()
        await (await (await couch[db]).create("a")).save()

    within(server, refused, user=server.user, password="wrong")
    within(server, nobody, timeout=aiohttp.ClientTimeout(10))
    within(server, admin)
    assert server.look(f"/{db}/a")["_rev"].startswith("1-")


def test_cookie_of_a_session_is_accepted(server: Any, db: str) -> None:
    async def log_in() -> str:
        account = {"name": server.user, "password": server.password}
        async with aiohttp.ClientSession() as session, session.post(f"{server.url}/_session", json=account) as answer:
            assert answer.status == 200
            return answer.cookies["AuthSession"].value

    async def work(couch: CouchDB) -> None:
        await couch.check_credentials()
        await (await (await couch[db]).create("by-cookie")).save()

    within(server, work, cookie=asyncio.run(log_in()))
    assert server.look(f"/{db}/by-cookie")["_id"] == "by-cookie"
