"""Field paths: parsing, lookup and projection, with CouchDB's treatment of arrays."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.field_path import BAD_PATH, NOT_FOUND, compile_projection, get_field, parse_field
from couchdal.errors import CouchError


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("a", ["a"]),
        ("a.b", ["a", "b"]),
        ("a\\.b.c", ["a.b", "c"]),
        ("\\$x", ["$x"]),
        ("a\\.", ["a."]),
        ("a.\\", ["a", ""]),
        ("a\\\\.b", ["a.b"]),
    ],
)
def test_parse_splits_at_unescaped_dots(field: str, path: list[str]) -> None:
    assert parse_field(field) == path


@pytest.mark.parametrize("field", ["", ".", "a..b", ".a", "a.", "a\\.b..c"])
def test_parse_refuses_an_empty_part(field: str) -> None:
    with pytest.raises(CouchError) as refused:
        parse_field(field)
    assert (refused.value.status, refused.value.error) == (400, "invalid_field_name")
    assert refused.value.reason == f"Invalid field name: {field}"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("a.0.b", 1),
        ("a.00.b", 1),
        ("a.+1", "x"),
        ("a.-0.b", 1),
        ("a.-1", BAD_PATH),
        ("a.2", BAD_PATH),
        ("a.b", BAD_PATH),
        ("a.0.c", NOT_FOUND),
        ("s.x", BAD_PATH),
        ("z", NOT_FOUND),
        ("n", None),
    ],
)
def test_get_field_descends_into_objects_and_arrays(field: str, found: object) -> None:
    assert get_field({"a": [{"b": 1}, "x"], "s": "text", "n": None}, parse_field(field)) == found


@pytest.mark.parametrize(
    ("fields", "projected"),
    [
        (["b", "a"], {"b": 2, "a": {"x": 1, "y": [10, 20, 30]}}),
        (["a.x", "z"], {"a": {"x": 1}}),
        (["a.y.1"], {"a": {"y": {"1": 20}}}),
        (["a.y", "a.x"], {"a": {"y": [10, 20, 30], "x": 1}}),
        (["a", "a.y.1"], {"a": {"x": 1, "y": [20, 20, 30]}}),
        (["a", "a.y.1", "a.y.2"], {"a": {"x": 1, "y": [30, 30, 30]}}),
        (["a", "a.y.7"], {"a": {"x": 1, "y": [10, 20, 30]}}),
    ],
)
def test_projection_returns_the_fields_in_order(fields: list[str], projected: object) -> None:
    document = {"a": {"x": 1, "y": [10, 20, 30]}, "b": 2}
    assert compile_projection(fields)(document) == projected
    assert document == {"a": {"x": 1, "y": [10, 20, 30]}, "b": 2}


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        ([""], "invalid_field_name", "Invalid field name: "),
        (["a", "a.y.0"], "unknown_error", "function_clause"),
        ([{"a": 1}], "unknown_error", "badarg"),
    ],
)
def test_invalid_projection_fails_when_it_runs(fields: list[object], error: str, reason: str) -> None:
    project = compile_projection(fields)
    with pytest.raises(CouchError) as refused:
        project({"a": {"x": 1, "y": [10, 20, 30]}})
    assert (refused.value.error, refused.value.reason) == (error, reason)
