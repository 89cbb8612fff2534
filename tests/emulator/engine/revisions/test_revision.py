"""Parsing and formatting of revisions, and the ids that CouchDB computes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.revisions.revision import format_revision, new_revision_id, parse_revision
from couchdal.errors import BadRequest
from couchdal.http.json_text import decode_json


@pytest.mark.parametrize(
    ("body", "rev_id"),
    [
        ("{}", "967a00dff5e02add41819138abb3284d"),
        ('{"type": "task"}', "64a8ebf8051dca919983846be357b98c"),
        ('{"q": 1}', "43c2bbff1656570ec5ebb361b5b89091"),
        ('{"n": 1}', "731bef401491606a3b246ed178e697c1"),
        ('{"v": 1e-400}', "68432df6fda388de9a3864ac7b1129d3"),
        ('{"v": 1.7976931348623157e308}', "a60ecdc46cf6843f53168d88b75d418b"),
    ],
)
def test_first_revision_has_couchdbs_id(body: str, rev_id: str) -> None:
    assert new_revision_id(False, None, encode_term(decode_json(body.encode()))).hex() == rev_id


def test_deletion_has_couchdbs_id() -> None:
    parent = parse_revision("1-731bef401491606a3b246ed178e697c1")
    assert new_revision_id(True, parent, encode_term({})).hex() == "bfa217b130671a8782e04560da45345b"


def test_id_depends_on_the_order_of_keys_and_on_the_kind_of_number() -> None:
    ids = {new_revision_id(False, None, encode_term(body)) for body in ({"a": 1, "b": 2}, {"b": 2, "a": 1})}
    assert len(ids) == 2
    assert encode_term({"v": 1}) != encode_term({"v": 1.0})
    assert encode_term({"v": 0.0}) != encode_term({"v": -0.0})


def test_list_of_bytes_is_an_erlang_string() -> None:
    assert encode_term([1, 255]) == b"k\x00\x02\x01\xff"
    assert encode_term([1, 256]).startswith(b"l\x00\x00\x00\x02")
    assert encode_term([]) == b"j"
    assert encode_term([True]).startswith(b"l")


@pytest.mark.parametrize("text", ["", "1", "a-b", "-1-a", "1.0-a", "1-" + "g" * 32, " 1-a", "1_0-a"])
def test_parse_refuses_a_malformed_revision(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_revision(text)
    assert (refused.value.status, refused.value.reason) == (400, "Invalid rev format")


def test_parse_normalises_hex_zeros_and_plus() -> None:
    assert format_revision(*parse_revision("+01-" + "AB" * 16)) == "1-" + "ab" * 16


def test_sixteen_bytes_are_written_as_hex() -> None:
    assert format_revision(*parse_revision("1-abcdefghijklmnop")) == "1-6162636465666768696a6b6c6d6e6f70"


def test_ids_of_hex_digits_compare_as_bytes() -> None:
    assert parse_revision("1-" + "a" * 32) > parse_revision("1-z")
    assert parse_revision("1-" + "1" * 32) < parse_revision("1-b")
    assert parse_revision("10-a") > parse_revision("9-z")


@given(st.integers(0, 10**9), st.binary(min_size=16, max_size=16))
def test_parse_reads_what_format_writes(position: int, rev_id: bytes) -> None:
    assert parse_revision(format_revision(position, rev_id)) == (position, rev_id)


@given(st.integers())
def test_integers_are_encoded_whole(value: int) -> None:
    try:
        float(value)
    except OverflowError:
        with pytest.raises(OverflowError):
            encode_term(value)
        return
    term = encode_term(value)
    assert int.from_bytes(term[3:], "little") == abs(value) if term[:1] == b"n" else term[:1] in (b"a", b"b")
