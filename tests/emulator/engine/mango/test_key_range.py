"""Ranges of values that a selector can match, as far as an index can serve them."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.key_range import HIGHEST, LOWEST, KeyRange, field_ranges
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.errors import ServerError

EVERYTHING = KeyRange()


@pytest.mark.parametrize(
    ("selector", "ranges"),
    [
        ({}, []),
        ({"b": 1, "a": {"$exists": True}}, [("a", EVERYTHING), ("b", KeyRange("$eq", 1, "$eq", 1))]),
        ({"a": {"$gt": None}}, [("a", KeyRange("$gt", None, "$lt", HIGHEST))]),
        ({"a": {"$gt": 1, "$gte": 2, "$lt": 9, "$lte": 10}}, [("a", KeyRange("$gte", 2, "$lt", 9))]),
        ({"a": {"$gte": 1, "$lte": 1}}, [("a", KeyRange("$eq", 1, "$eq", 1))]),
        ({"a": {"$eq": 1, "$gte": 1, "$lt": 5}}, [("a", KeyRange("$eq", 1, "$eq", 1))]),
        ({"a": {"$beginsWith": "x"}}, [("a", KeyRange("$gte", "x", "$lte", "x\uffff"))]),
        ({"$and": [{"a": {"$lt": 3}}, {"$and": [{"a": {"$gt": 1}}]}]}, [("a", KeyRange("$gt", 1, "$lt", 3))]),
        ({"a": {"$ne": 1}, "b": {"$in": [1]}, "c": {"$regex": "x"}}, []),
        ({"$or": [{"a": 1}, {"b": 1}]}, []),
        # By collation "A" comes behind "a".
        ({"a": {"$gt": "a", "$lt": "A"}}, [("a", KeyRange("$gt", "a", "$lt", "A"))]),
    ],
)
def test_conditions_on_one_field_are_narrowed_to_a_range(selector: dict[str, object], ranges: list[object]) -> None:
    assert field_ranges(normalize_selector(selector)) == ranges


@pytest.mark.parametrize(
    "condition",
    [
        {"$gt": 2, "$lt": 1},
        {"$gt": 1, "$lt": 1},
        {"$gt": 1, "$lte": 1},
        {"$gte": 1, "$lt": 1},
        {"$eq": 1, "$lt": 1},
        {"$gt": 1, "$eq": 1},
        {"$gt": "A", "$lt": "a"},
    ],
)
def test_contradiction_leaves_nothing_but_the_empty_range(condition: dict[str, object]) -> None:
    assert field_ranges(normalize_selector({"a": 1, "b": condition, "c": 1})) == [("b", None)]


def test_equality_with_another_bound_is_kept_as_couchdb_keeps_it() -> None:
    assert field_ranges(normalize_selector({"a": {"$eq": 1, "$gt": 1}})) == [("a", KeyRange("$gt", 1, "$eq", 1))]


def test_prefix_that_contradicts_what_came_before_fails() -> None:
    with pytest.raises(ServerError) as failed:
        field_ranges(normalize_selector({"a": {"$lt": "a", "$beginsWith": "b"}}))
    assert (failed.value.status, failed.value.error, failed.value.reason) == (500, "badmatch", "empty")


def test_bounds_that_are_not_set_are_beyond_every_value() -> None:
    assert (EVERYTHING.low, EVERYTHING.high) == (LOWEST, HIGHEST)
