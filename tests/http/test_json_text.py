"""JSON text as CouchDB reads it, where Python's own decoder differs. CouchDB 3.5.0 answered each of these alike."""

from __future__ import annotations

import pytest

from couchdal.errors import BadRequest
from couchdal.http.json_text import decode_json, encode_in_pieces, encode_json


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


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1e-5, b"0.00001"),
        (-1.25e-6, b"-0.00000125"),
        (1e-7, b"1e-7"),
        (1.5e-310, b"1.5e-310"),
        (1e16, b"10000000000000000.0"),
        (9.007199254740994e16, b"90071992547409940.0"),
        (1.5e20, b"150000000000000000000.0"),
        (1e21, b"1e+21"),
        (-1.5e300, b"-1.5e+300"),
        (-0.0, b"0.0"),
        (-0.05, b"-0.05"),
        ({"a-0.0e-05": [1e-5, "e+1\"6", -0.0, 10**9]}, b'{"a-0.0e-05":[0.00001,"e+1\\"6",0.0,1000000000]}'),
    ],
)  # fmt: skip
def test_numbers_are_written_as_couchdb_writes_them(number, text):
    assert encode_json(number) == text
    assert encode_in_pieces([number]) == b"[" + text + b"]"
