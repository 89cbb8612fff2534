"""The built-in reduce functions: their results and their errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from couchdal.emulator.engine.views.reduction import reduce_rows
from couchdal.errors import ServerError


class Row(NamedTuple):
    key: Any
    value: Any
    doc_id: str = "d"


def reduced(source: str, *values: object) -> object:
    return reduce_rows(source, [Row(None, value) for value in values])


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1, 2.5], 3.5),
        ([[1, 2], [3], 4], [8, 2]),
        ([{"a": 1, "c": {"d": [1]}}, {"b": 2, "c": {"d": [2, 3]}}], {"a": 1, "b": 2, "c": {"d": [3, 3]}}),
        ([{"a": "x"}], {"a": "x"}),
    ],
)
def test_sum_adds_numbers_arrays_and_objects(values: list[object], total: object) -> None:
    assert reduced("_sum", *values) == total


@pytest.mark.parametrize(("values", "cause"), [([1, "s"], "s"), ([None], None), ([[[1]]], [0]), ([{"a": 1}, [1]], [1])])
def test_sum_of_values_that_cannot_be_added_is_an_error_object(values: list[object], cause: object) -> None:
    found = reduced("_sum", *values)
    assert isinstance(found, dict)
    assert (found["error"], found["caused_by"]) == ("builtin_reduce_error", cause)


@pytest.mark.parametrize("values", [[[1], {"a": 1}], [1, {"a": 1}], [{"error": "x"}]])
def test_sum_fails_for_objects_among_other_values(values: list[object]) -> None:
    with pytest.raises(ServerError) as failed:
        reduced("_sum", *values)
    assert failed.value.error == "case_clause"


def test_stats_accepts_numbers_and_earlier_stats() -> None:
    prepared = {"sum": 10, "count": 2, "min": 3, "max": 7, "sumsqr": 58}
    assert reduced("_stats", 1, prepared) == {"sum": 11, "count": 3, "min": 1, "max": 7, "sumsqr": 59}
    assert reduced("_stats", [1, 2], [3, 4]) == [
        {"sum": 4, "count": 2, "min": 1, "max": 3, "sumsqr": 10},
        {"sum": 6, "count": 2, "min": 2, "max": 4, "sumsqr": 20},
    ]


_FURTHER = ",\n" + " " * 84


@pytest.mark.parametrize(
    ("values", "error", "reason"),
    [
        (["s"], "invalid_value", "non-numeric _stats input: <<115>>"),
        ([1, None], "invalid_value", "or arrays of numbers, not 'null'"),
        # Erlang breaks a tuple into lines at column 80.
        ([[1], 7], "invalid_value", f"or arrays of numbers, not '{{{_FURTHER.join(('7', '1', '7', '7', '49'))}}}'"),
        ([{"sum": 1}], "invalid_value", 'user _stats input missing required field count ([{<<"sum">>,1}])'),
        # It just fits on one line. With the braces of an object it would not.
        ([{"x": 18446744073709552000}], "invalid_value", 'required field sum ([{<<"x">>,18446744073709552000}])'),
        ([[1], [1, 2]], "function_clause", ""),
    ],
)
def test_stats_fails_for_values_that_are_not_numbers(values: list[object], error: str, reason: str) -> None:
    with pytest.raises(ServerError) as failed:
        reduced("_stats", *values)
    assert failed.value.error == error
    assert failed.value.reason.endswith(reason)


def test_ranks_omit_values_that_collate_equal() -> None:
    assert reduced("_top_2", 3, 1, 3.0, 2) == [3, 2]
    assert reduced("_bottom_3", "b", "a", None) == [None, "a", "b"]


def test_first_and_last_go_by_key_and_document() -> None:
    rows = [Row("b", 1, "x"), Row("a", 2, "y"), Row("a", 3, "z"), Row("b", 4, "y")]
    assert (reduce_rows("_first", rows), reduce_rows("_last", rows)) == (2, 4)


@pytest.mark.parametrize("count", [1, 20, 300, 1500])
def test_distinct_keys_are_estimated(count: int) -> None:
    rows = [Row(f"key{n}", None) for n in range(count)] * 2
    found = reduce_rows("_approx_count_distinct", rows)
    assert isinstance(found, int)
    assert abs(found - count) <= count * 0.05


@pytest.mark.parametrize("source", ["_sum", "_stats"])
@pytest.mark.parametrize(
    "values", [[1e308, 1e308], [10**400, 1.5], [[1e308], [1e308]], [1e308, 1e308, -1e308]], ids=repr
)
def test_sum_beyond_doubles_is_erlangs_error(source: str, values: list[object]) -> None:
    with pytest.raises(ServerError) as failed:
        reduced(source, *values)
    assert failed.value.error == "badarith"
