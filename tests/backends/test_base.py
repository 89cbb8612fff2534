"""The seam: backends by name, and the members that only the emulator has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from couchdal import (
    AsyncCouchDAL,
    BaseBackend,
    CouchBackend,
    CouchDAL,
    Emulator,
    MemoryBackend,
    MemoryOnly,
    NotConfigured,
    NotFound,
    Request,
    ResetRefused,
    Response,
)
from couchdal.backends import open_backend, register

EMULATOR_ONLY: dict[str, Callable[[CouchDAL | AsyncCouchDAL], object]] = {
    "emulator": lambda dal: dal.emulator,
    "clock": lambda dal: dal.clock,
    "seed_ids()": lambda dal: dal.seed_ids(1),
    "snapshot()": lambda dal: dal.snapshot(),
    "rollback()": lambda dal: dal.rollback(),
    "fork()": lambda dal: dal.fork(),
}


def real_server() -> CouchBackend:
    return CouchBackend("http://127.0.0.1:9", database="db")


@pytest.mark.parametrize("member", EMULATOR_ONLY)
@pytest.mark.parametrize("handle", [CouchDAL, AsyncCouchDAL])
def test_real_server_refuses_what_only_the_emulator_has(
    handle: type[CouchDAL] | type[AsyncCouchDAL], member: str
) -> None:
    with pytest.raises(MemoryOnly) as refused:
        EMULATOR_ONLY[member](handle(real_server()))
    assert str(refused.value) == (
        f"http://127.0.0.1:9 does not support {member}; only the memory backend does."
        " Use CouchDAL('memory'), or mark the test with @pytest.mark.dal(emulator=True)."
    )


def test_real_server_refuses_a_reset() -> None:
    with pytest.raises(ResetRefused, match=r"http://127.0.0.1:9 does not support reset\(\)"):
        CouchDAL(real_server()).reset()
    with pytest.raises(ResetRefused, match=r"http://127.0.0.1:9 does not support reset\(\)"):
        asyncio.run(AsyncCouchDAL(real_server()).reset())


@pytest.mark.parametrize("handle", [CouchDAL, AsyncCouchDAL])
def test_emulator_has_what_the_short_forms_have(handle: type[CouchDAL] | type[AsyncCouchDAL]) -> None:
    backend = MemoryBackend(database="db")
    dal, plain = handle(backend), CouchDAL(backend)
    assert isinstance(dal.emulator, Emulator)
    plain.put_document("a", {})
    before = dal.clock.now()
    with dal.emulator.rollback():
        dal.emulator.clock.advance(60)
        assert dal.clock.now() == before + 60
        plain.put_document("b", {})
    snapshot = dal.emulator.snapshot()
    fork = CouchDAL(dal.emulator.fork())
    fork.put_document("c", {})
    dal.emulator.seed_ids(1)
    first = plain.uuids(1)
    dal.seed_ids(1)
    assert plain.uuids(1) == first
    assert (plain.info()["doc_count"], fork.info()["doc_count"]) == (1, 2)
    dal.emulator.reset()
    assert plain.info()["doc_count"] == 0
    snapshot.restore()
    assert plain.info()["doc_count"] == 1


def test_async_handle_resets_and_forks() -> None:
    async def run() -> None:
        dal = AsyncCouchDAL(MemoryBackend(database="db"), indexes="watch")
        await dal.find({"n": 1})
        fork = dal.fork()
        await fork.put_document("a", {})
        await dal.reset()
        assert ((await dal.info())["doc_count"], (await fork.info())["doc_count"]) == (0, 1)
        # The fork watches its queries too, and a reset forgets those of its handle.
        assert (dal.suggest_indexes(), fork.suggest_indexes()) == ([], [])
        await fork.find({"n": 1})
        assert [index.fields for index in fork.suggest_indexes()] == [("n",)]

    asyncio.run(run())


class Canned(BaseBackend):
    """A user's backend: it has only what the contract names."""

    database = "db"

    def send(self, request: Request) -> Response:
        return Response(200, json={"path": request.path})


def test_backend_of_a_user_needs_only_send() -> None:
    assert CouchDAL(Canned()).get("/a") == {"path": "/db/a"}
    assert asyncio.run(AsyncCouchDAL(Canned()).get("/a")) == {"path": "/db/a"}
    assert CouchDAL(Canned(), indexes="watch").database("other").get("/") == {"path": "/other"}
    with pytest.raises(MemoryOnly, match="the server does not support clock"):
        _ = CouchDAL(Canned()).clock


def test_registered_backend_opens_by_its_name() -> None:
    remove = register("canned", Canned)
    try:
        assert CouchDAL("canned").get("/a") == {"path": "/db/a"}
    finally:
        remove()
    with pytest.raises(ValueError, match="'canned'"):
        open_backend("canned")


def test_refused_payload_creates_no_database() -> None:
    dal = CouchDAL(MemoryBackend(database="new"))
    with pytest.raises(TypeError):
        dal.get("/a", "PUT", {"x": {1}})
    assert "new" not in dal.all_dbs()


def test_default_database_is_created_once() -> None:
    dal = CouchDAL(MemoryBackend(database="a+b"))
    dal.get("/_all_dbs")
    assert dal.request("GET", "/_session").status == 200
    assert "a+b" not in dal.all_dbs()
    assert dal.info()["db_name"] == "a+b"
    dal.delete_database()
    with pytest.raises(NotFound):
        dal.info()


def test_missing_database_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUCHDB_DATABASE", raising=False)
    with pytest.raises(NotConfigured, match=r"no database is named for http://127.0.0.1:9: set COUCHDB_DATABASE"):
        CouchDAL(CouchBackend("http://127.0.0.1:9")).info()
