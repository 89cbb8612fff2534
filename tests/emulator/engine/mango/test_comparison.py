"""Comparison conditions: equality and order, by collation and by Erlang's order of terms."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.comparison import equal_to, one_of, ordered

# In CouchDB's order.
ASCENDING: list[object] = [
    None,
    False,
    True,
    -1,
    0.5,
    1,
    2**53,
    2**53 + 1,
    "",
    "a",
    "A",
    "b",
    [],
    ["a"],
    {},
    {"a": 1},
]


@pytest.mark.parametrize("bound", ASCENDING)
def test_order_operators_agree_with_the_order_of_all_values(bound: object) -> None:
    place = next(place for place, value in enumerate(ASCENDING) if value is bound)
    for name, expected in (
        ("$lt", ASCENDING[:place]),
        ("$lte", ASCENDING[: place + 1]),
        ("$gt", ASCENDING[place + 1 :]),
        ("$gte", ASCENDING[place:]),
    ):
        matches = ordered(name, bound, raw=False)
        # Compare by identity, because Python's True equals 1.
        assert [id(value) for value in ASCENDING if matches(value)] == [id(value) for value in expected], name


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        (True, 1, False),
        (0, False, False),
        (2**53, 2.0**53, True),
        (2**53 + 1, 2.0**53, False),
        ("e\u0301", "é", True),
        ("ab", "a\u0000b", True),
        ("ab", "aB", False),
        ("ﬁ", "fi", False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ([], {}, False),
        (None, False, False),
    ],
)
def test_eq_compares_by_collation(argument: object, value: object, expected: bool) -> None:
    assert equal_to(argument, raw=False)(value) is expected
    assert one_of("$in", [argument], raw=False)([value]) is expected
    assert one_of("$nin", ["no", argument], raw=False)([value]) is not expected


@pytest.mark.parametrize(
    ("name", "bound", "value", "expected"),
    [
        ("$lt", "a", "B", True),
        ("$gt", "é", "z", False),
        ("$gt", None, 1, False),
        ("$gt", 5, "a", True),
        ("$lt", "", [], True),
        ("$lt", [], {}, True),
        ("$lt", None, False, True),
        ("$lt", {"a": 1}, {}, True),
    ],
)
def test_raw_comparison_uses_the_order_of_terms(name: str, bound: object, value: object, expected: bool) -> None:
    assert ordered(name, bound, raw=True)(value) is expected


def test_raw_equality_compares_bytes() -> None:
    assert not equal_to("e\u0301", raw=True)("é")
    assert not one_of("$in", ["e\u0301"], raw=True)("é")
    assert one_of("$in", ["a", "é"], raw=True)("é")


def test_in_tests_the_items_of_an_array() -> None:
    matches = one_of("$in", [1, "a", None], raw=False)
    assert matches([2, "a"])
    assert matches(None)
    assert not matches([[1]])
    assert not matches([])
    assert one_of("$in", [[1]], raw=False)([[1]])
    assert not one_of("$in", [[1]], raw=False)([1])
