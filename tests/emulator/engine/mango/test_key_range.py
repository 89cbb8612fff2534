"""The ranges of values that a selector can match in an index."""

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
        # "A" collates after "a".
        ({"a": {"$gt": "a", "$lt": "A"}}, [("a", KeyRange("$gt", "a", "$lt", "A"))]),
    ],
)
def test_conditions_on_one_field_narrow_its_range(selector: dict[str, object], ranges: list[object]) -> None:
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
def test_contradiction_returns_only_the_empty_range(condition: dict[str, object]) -> None:
    assert field_ranges(normalize_selector({"a": 1, "b": condition, "c": 1})) == [("b", None)]


def test_strict_bound_after_an_equality_replaces_only_the_low_bound() -> None:
    assert field_ranges(normalize_selector({"a": {"$eq": 1, "$gt": 1}})) == [("a", KeyRange("$gt", 1, "$eq", 1))]


def test_prefix_that_contradicts_an_earlier_condition_fails() -> None:
    with pytest.raises(ServerError) as failed:
        field_ranges(normalize_selector({"a": {"$lt": "a", "$beginsWith": "b"}}))
    assert (failed.value.status, failed.value.error, failed.value.reason) == (500, "badmatch", "empty")


def test_missing_bounds_are_the_extremes() -> None:
    assert (EVERYTHING.low, EVERYTHING.high) == (LOWEST, HIGHEST)
