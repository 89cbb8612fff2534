"""The choice of an index: which indexes can serve a query, and which one CouchDB prefers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from couchdal import CouchDAL, CouchError, MemoryBackend
from couchdal.emulator.engine.mango.index_definition import ALL_DOCS, IndexDefinition
from couchdal.emulator.engine.mango.index_suggestion import suggest_fields
from couchdal.emulator.engine.mango.planner import rejection
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.errors import ServerError


def index(*fields: str) -> IndexDefinition:
    return IndexDefinition("_design/d", "i", {"fields": dict.fromkeys(fields, "asc")}, False)


@pytest.mark.parametrize(
    ("fields", "selector", "sort", "reasons"),
    [
        (["a"], {"a": 1}, [], ()),
        (["a", "b"], {"a": 1}, [], ("field_mismatch",)),
        (["a", "b"], {"a": 1}, ["b"], ()),
        (["a", "b"], {"a": {"$gt": 1}}, ["b"], ("sort_order_mismatch",)),
        (["a", "b"], {}, ["a", "b"], ()),
        (["a", "b"], {}, ["b", "a"], ("sort_order_mismatch",)),
        (["a", "_id", "_rev"], {"a": 1}, [], ()),
        (["a"], {"a": {"$exists": False}}, [], ("field_mismatch",)),
        (["a"], {"a": {"$regex": "x"}}, [], ()),
        (["a"], {"$or": [{"a": 1}, {"a": {"$gt": 5}}]}, [], ()),
        (["a"], {"$or": [{"a": 1}, {"b": 1}]}, [], ("field_mismatch",)),
        (["a"], {"$or": []}, [], ()),
        (["a"], {"$text": "x"}, ["z"], ("needs_text_search", "field_mismatch", "sort_order_mismatch")),
        ([], {"z": 1}, [], ()),
    ],
)
def test_rejection_names_missing_columns_and_other_sort_orders(
    fields: list[str], selector: dict[str, object], sort: list[str], reasons: tuple[str, ...]
) -> None:
    assert rejection(index(*fields), normalize_selector(selector), sort) == reasons


def test_special_index_serves_every_query_and_only_the_sort_by_id() -> None:
    assert rejection(ALL_DOCS, {}, []) == ()
    assert rejection(ALL_DOCS, {"_id": {"$gt": None}}, ["_id"]) == ()
    assert rejection(ALL_DOCS, {}, ["_id"]) == ("field_mismatch",)
    assert rejection(ALL_DOCS, {}, ["a"]) == ("field_mismatch", "sort_order_mismatch")


@pytest.mark.parametrize("value", [[None], [1, [2]], {"x": 1, "y": 2}, {"x": [None]}])
def test_rejection_fails_for_arguments_that_couchdb_mistakes_for_selectors(value: object) -> None:
    with pytest.raises(ServerError) as failed:
        rejection(index("a"), {"a": {"$eq": value}}, [])
    assert (failed.value.status, failed.value.error, failed.value.reason) == (500, "unknown_error", "function_clause")


@pytest.fixture
def dal() -> CouchDAL:
    return CouchDAL(MemoryBackend())


@pytest.fixture
def chosen(dal: CouchDAL) -> Callable[..., str | None]:
    """A function that creates an index for each list of fields and returns the name of the index that a query uses."""

    def choose(indexes: list[str], **query: object) -> str | None:
        for fields in indexes:
            dal.get("/_index", "POST", {"index": {"fields": fields.split()}, "ddoc": fields, "name": fields})
        return dal.get("/_explain", "POST", query)["index"]["name"]

    return choose


@pytest.mark.parametrize(
    ("indexes", "query", "name"),
    [
        (["a", "b"], {"selector": {"c": 1}}, "_all_docs"),
        (["b", "a"], {"selector": {"a": 1, "b": 1}}, "a"),
        (["a", "a b"], {"selector": {"a": 1, "b": 1}}, "a b"),
        (["a c", "a"], {"selector": {"a": 1, "c": {"$ne": 1}}}, "a"),
        (["a", "b"], {"selector": {"a": 1, "b": 1}, "use_index": "b"}, "b"),
        (["a", "b"], {"selector": {"a": 1}, "use_index": "b"}, "a"),
        (["a"], {"selector": {"_id": "x", "a": 1}}, "a"),
        (["_id"], {"selector": {}}, "_id"),
    ],
)
def test_planner_chooses_the_best_index(
    chosen: Callable[..., str | None], indexes: list[str], query: dict[str, object], name: str
) -> None:
    assert chosen(indexes, **query) == name


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"selector": {"type": "task"}}, ("type",)),
        ({"selector": {"due": {"$lt": 9}, "type": "task"}}, ("type", "due")),
        ({"selector": {"due": {"$lt": 9}, "n": {"$gt": 1}}}, ("due",)),
        ({"selector": {"type": "task", "n": {"$gt": 1}}, "sort": [{"due": "desc"}]}, ("type", "due")),
        ({"selector": {"type": "task"}, "sort": ["type", "due"]}, ("type", "due")),
        ({"selector": {"name": {"$regex": "^a"}}}, ("name",)),
        ({"selector": {"$or": [{"a": 1, "b": 1}, {"b": 2}]}}, ("b",)),
        ({"selector": {"$or": [{"a": 1}, {"b": 2}]}}, ("_id",)),
        ({"selector": {"a": {"$exists": False}}}, ("_id",)),
        ({"selector": {}}, ("_id",)),
    ],
)
def test_suggested_index_serves_the_query(
    chosen: Callable[..., str | None], query: dict[str, object], fields: tuple[str, ...]
) -> None:
    assert suggest_fields(query) == fields
    assert chosen([" ".join(fields)], **query) == " ".join(fields)


def test_sort_without_an_index_is_refused(dal: CouchDAL) -> None:
    with pytest.raises(CouchError) as refused:
        dal.find({"a": 1}, sort=["a"])
    assert (refused.value.status, refused.value.error) == (400, "no_usable_index")
    assert refused.value.reason == "No index exists for this sort, try indexing by the sort fields."
