"""JSON text as CouchDB reads it, where Python's own decoder differs. CouchDB 3.5.0 answered each of these alike."""

from __future__ import annotations

import pytest

from couchdal.errors import BadRequest
from couchdal.http.json_text import decode_json


@pytest.mark.parametrize(
    "text",
    [
        r'{"a":"\ud800"}',
        r'{"\ud800":1}',
        r'{"a":"\ud83dA"}',
        # Also where a later value of the same key replaces it.
        r'{"a":"\ud800","a":1}',
        r'{"a":{"b":"\ud800"},"a":2}',
        r'{"\ud800":1,"a":1}',
        '{"a":3e400}',
        "[-1e309]",
        '{"a":1,"a":[3e400]}',
    ],
)
def test_text_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="invalid UTF-8 JSON"):
        decode_json(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":3e400,"a":1}', {"a": 1}),
        ('{"b":2,"a":{"x":1e999},"a":[1.5]}', {"b": 2, "a": [1.5]}),
        (r'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        ('{"a":1,"b":2,"a":3}', {"b": 2, "a": 3}),
    ],
)
def test_last_value_of_a_key_counts(text: str, value: object) -> None:
    decoded = decode_json(text.encode())
    assert decoded == value
    assert isinstance(decoded, dict)
    assert isinstance(value, dict)
    assert list(decoded) == list(value)
