"""Selectors: the canonical form, and the documents that match."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.emulator.engine.mango.selector_match import compile_selector
from couchdal.errors import CouchError


def matches(selector: dict[str, object], document: dict[str, object]) -> bool:
    return compile_selector(normalize_selector(selector))(document)


@pytest.mark.parametrize(
    ("selector", "normal"),
    [
        ({}, {}),
        ({"a": 1}, {"a": {"$eq": 1}}),
        ({"a": {"b": 1}}, {"a.b": {"$eq": 1}}),
        ({"a": {"$gt": 1, "$lt": 5}}, {"$and": [{"a": {"$gt": 1}}, {"a": {"$lt": 5}}]}),
        ({"$not": {"a": {"$gt": 1}}}, {"a": {"$lte": 1}}),
        ({"$nor": [{"a": 1}, {"b": 2}]}, {"$and": [{"a": {"$ne": 1}}, {"b": {"$ne": 2}}]}),
        ({"$not": {"$not": {"a": 1}}}, {"a": {"$eq": 1}}),
        ({"$not": {"a": {"$size": 1}}}, {"a": {"$not": {"$size": 1}}}),
    ],
)
def test_normalize_returns_the_canonical_form(selector: dict[str, object], normal: dict[str, object]) -> None:
    assert normalize_selector(selector) == normal


@pytest.mark.parametrize(
    ("selector", "error", "reason"),
    [
        ({"a": {"$foo": 1}}, "invalid_operator", "Invalid operator: $foo"),
        ({"a": {"$in": 1}}, "bad_arg", "Bad argument for operator $in: 1"),
        ({"a": {"$size": -1}}, "bad_arg", "Bad argument for operator $size: -1"),
        ({"a": {"$regex": "("}}, "bad_arg", "Bad argument for operator $regex: <<40>>"),
        ({"$not": {}}, "invalid_selector", "One or more conditions is missing a field name."),
        ({"a": {"$where": "x"}}, "not_supported", "Unsupported operator: $where"),
    ],
)
def test_normalize_raises_couchdbs_errors(selector: dict[str, object], error: str, reason: str) -> None:
    with pytest.raises(CouchError) as refused:
        normalize_selector(selector)
    assert (refused.value.status, refused.value.error, refused.value.reason) == (400, error, reason)


@pytest.mark.parametrize(
    ("selector", "document", "expected"),
    [
        ({"a": {"$lt": 1}}, {}, False),
        ({"a": {"$lt": "a"}}, {"a": 5}, True),
        ({"a": {"$ne": 1}}, {}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": "é"}, {"a": "e\u0301"}, True),
        ({"a": {"$all": [1]}}, {"a": [1.0]}, False),
        ({"a": {"$in": [2]}}, {"a": [1, 2]}, True),
        ({"a": {"$exists": False}}, {"b": 1}, True),
        ({"a.b": {"$exists": False}}, {"a": {}}, True),
        ({"a.b": {"$exists": False}}, {"a": 1}, False),
        ({"a.1": 5}, {"a": [4, 5]}, True),
        ({"a.-1": 5}, {"a": [4, 5]}, False),
        ({"a": {"$mod": [3, -1]}}, {"a": -4}, True),
        ({"a": {"$mod": [3, 1]}}, {"a": 4.0}, False),
        ({"a": {"$elemMatch": {"$gt": 3}}}, {"a": [1, 4]}, True),
        ({"a": {"$allMatch": {"$gt": 3}}}, {"a": []}, False),
        ({"a": {"$keyMapMatch": {"$eq": "x"}}}, {"a": {"x": 1}}, True),
        ({"a": {"$regex": "^..$"}}, {"a": "é"}, True),
        ({"a": {"$regex": "(*UTF8)^.$"}}, {"a": "é"}, True),
        ({"a": {"$beginsWith": "e"}}, {"a": "e\u0301"}, False),
        ({"a": {}}, {"a": {}}, True),
        ({"$and": [{}]}, {"a": 1}, False),
        ({"b": 1, "$or": []}, {"b": 1}, True),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
        ({"a": {"$eq": {"x": 1, "y": 2}}}, {"a": {"y": 2, "x": 1}}, False),
    ],
)
def test_selector_matches_as_in_couchdb(
    selector: dict[str, object], document: dict[str, object], expected: bool
) -> None:
    assert matches(selector, document) is expected


def test_empty_path_part_fails_only_when_a_document_is_tested() -> None:
    match = compile_selector(normalize_selector({"a..b": 1}))
    with pytest.raises(CouchError) as refused:
        match({"a": 1})
    assert (refused.value.status, refused.value.error) == (400, "invalid_field_name")


def test_pathological_pattern_finds_nothing_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("couchdal.emulator.engine.mango.regex.TIMEOUT_S", 0.02)
    assert not matches({"a": {"$regex": "^(a|aa)+$"}}, {"a": "a" * 60 + "b"})


def test_normalize_refuses_repetitions_beyond_the_limit_of_pcre() -> None:
    with pytest.raises(CouchError) as refused:
        normalize_selector({"a": {"$regex": "a{99999999}"}})
    assert refused.value.error == "bad_arg"
