"""The index watch: queries without an index are counted or refused, on any backend."""

from __future__ import annotations

import asyncio

import pytest

from couchdal import AsyncCouchDAL, BadRequest, BaseBackend, CouchDAL, Request, Response
from couchdal.backends.base import collect
from couchdal.config import choose_indexes
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options

QUERY = {"type": "task", "due": {"$lt": 9}}


def handle(backend: BaseBackend, dal: CouchDAL, mode: str | None) -> CouchDAL:
    return CouchDAL(backend, database=dal.name, indexes=mode)


def test_refusal_of_a_query_names_the_index_it_needs(backend: BaseBackend, dal: CouchDAL) -> None:
    strict = handle(backend, dal, "require")
    with pytest.raises(BadRequest) as refused:
        strict.find(QUERY)
    assert (refused.value.status, refused.value.error) == (400, "index_required")
    assert refused.value.reason == (
        f'No index serves this query, and one is required: POST {{"index": {{"fields": ["type", "due"]}}}} '
        f"to /{dal.name}/_index"
    )
    (suggestion,) = strict.suggest_indexes()
    strict.get("/_index", "POST", suggestion.definition)
    assert strict.find(QUERY)["docs"] == []


def test_watched_queries_are_answered_and_counted(backend: BaseBackend, dal: CouchDAL) -> None:
    watched = handle(backend, dal, "watch")
    watched.create_index(["indexed"])
    for _ in range(2):
        assert watched.find({"type": "task"}) == handle(backend, dal, None).find({"type": "task"})
    assert watched.find({"indexed": 1})["docs"] == []
    with pytest.raises(BadRequest) as refused:
        watched.find({}, sort=["name"])
    assert refused.value.error == "no_usable_index"
    other = watched.database(f"{dal.name}-b")
    other.create_database()
    other.find({"type": "note"})
    other.delete_database()
    assert [(*index[1:], index.database == dal.name) for index in watched.suggest_indexes()] == [
        (("type",), 2, True),
        (("name",), 1, True),
        (("type",), 1, False),
    ]


def test_only_watched_handles_suggest(backend: BaseBackend, dal: CouchDAL) -> None:
    with pytest.raises(RuntimeError, match="indexes="):
        handle(backend, dal, None).suggest_indexes()


def test_async_handle_watches_too(backend: BaseBackend, dal: CouchDAL) -> None:
    async def query() -> None:
        strict = AsyncCouchDAL(backend, database=dal.name, indexes="require")
        try:
            with pytest.raises(BadRequest) as refused:
                await strict.find(QUERY)
            assert refused.value.error == "index_required"
            assert [index.fields for index in strict.suggest_indexes()] == [("type", "due")]
        finally:
            await strict.aclose()

    asyncio.run(query())


def test_served_backend_watches_with_the_option_indexes() -> None:
    async def query() -> Response:
        application = build_application(read_options({"backend": "memory", "indexes": "require"}, {}))
        backend = application.backend
        await backend.exchange(Request("PUT", "/served"))
        headers = {"content-type": "application/json"}
        return await collect(
            await backend.exchange(Request("POST", "/served/_find", headers=headers, json={"selector": QUERY}))
        )

    answer = asyncio.run(query()).value()
    assert isinstance(answer, dict)
    assert answer["error"] == "index_required"


def test_mode_is_the_argument_or_the_variable() -> None:
    assert choose_indexes(None, {}) is None
    assert choose_indexes(None, {"DAL_INDEXES": " Require "}) == "require"
    assert choose_indexes("watch", {"DAL_INDEXES": "require"}) == "watch"
    with pytest.raises(ValueError, match=r"indexes is 'no'.*watch, require"):
        choose_indexes("no", {})
