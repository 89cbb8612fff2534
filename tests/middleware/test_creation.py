"""``create=True``: handles that create their database."""

from __future__ import annotations

import asyncio
import gc

import pytest
from handles import backend, couch  # noqa: F401

from couchdal import AsyncCouchDAL, CouchDAL, CouchError, MemoryBackend, NotFound
from couchdal.backends.base import BaseBackend


@pytest.fixture
def name(backend: BaseBackend) -> str:  # noqa: F811
    CouchDAL(backend, database="created").request("DELETE", "/")
    return "created"


def test_handle_creates_its_database_before_its_first_use(backend: BaseBackend, name: str) -> None:  # noqa: F811
    plain = CouchDAL(backend, database=name)
    with pytest.raises(NotFound):
        plain.info()
    dal = CouchDAL(backend, database=name, create=True)
    assert name not in dal.all_dbs()
    assert dal.put_document("a", {})["ok"]
    other = CouchDAL(backend, database=name, create=True)
    assert other.info()["doc_count"] == 1
    plain.delete_database()
    for used in (dal, other):
        with pytest.raises(NotFound):
            used.info()
    assert CouchDAL(backend, database=name, create=True).info()["doc_count"] == 0


def test_views_and_asynchronous_handles_create_theirs(backend: BaseBackend, name: str) -> None:  # noqa: F811
    dal = CouchDAL(backend, database=name)
    assert dal.database(name, create=True).info()["doc_count"] == 0
    dal.delete_database()

    async def use() -> None:
        async with AsyncCouchDAL(backend, database=name, create=True) as handle:
            assert (await handle.info())["doc_count"] == 0
            await handle.delete_database()
            assert (await handle.database(name, create=True).info())["doc_count"] == 0
            with pytest.raises(NotFound):
                await handle.database("others").info()

    asyncio.run(use())


def test_first_call_may_create_or_delete_the_database_itself(backend: BaseBackend, name: str) -> None:  # noqa: F811
    dal = CouchDAL(backend, database=name, create=True)
    assert dal.create_database() == {"ok": True}
    dal.delete_database()
    with pytest.raises(NotFound):
        CouchDAL(backend, database=name, create=True).delete_database()


def test_refused_creation_is_the_answer(backend: BaseBackend) -> None:  # noqa: F811
    dal = CouchDAL(backend, database="Illegal", create=True)
    assert dal.request("GET", "/a").value()["error"] == "illegal_database_name"  # type: ignore[index, call-overload]
    with pytest.raises(CouchError, match="illegal_database_name"):
        dal.info()


def test_creation_is_not_counted(backend: BaseBackend, name: str) -> None:  # noqa: F811
    dal = CouchDAL(backend, database=name, create=True)
    with dal.expect(requests=1):
        dal.info()


def test_handle_creates_its_database_again_after_a_rollback() -> None:
    dal = CouchDAL(MemoryBackend(), database="created", create=True)
    for _ in range(2):
        with dal.rollback():
            dal.put_document("a", {})
        assert "created" not in dal.all_dbs()


def test_server_forgets_handles_that_are_gone() -> None:
    server = MemoryBackend()
    for _ in range(50):
        CouchDAL(server, database="created", create=True).info()
    gc.collect()
    assert len(server.provided) <= 1
