"""Values in the reasons of errors. Erlang/OTP 25 printed every expected text, with ``~w`` or ``~p``."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.erlang.term_text import pretty_term, print_float, print_term


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("", "<<>>"),
        ("é😀", "<<195,169,240,159,152,128>>"),
        ([], "[]"),
        ({}, "{[]}"),
        ({"k": ["v", {"n": None}], "b": True}, "{[{<<107>>,[<<118>>,{[{<<110>>,null}]}]},{<<98>>,true}]}"),
        (12345678901234567890123, "12345678901234567890123"),
    ],
)
def test_print_term_prints_strings_as_bytes(value: object, printed: str) -> None:
    assert print_term(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (100.0, "100.0"),
        (1000.0, "1.0e3"),
        (1500.0, "1.5e3"),
        (123456.789, "123456.789"),
        (0.1, "0.1"),
        (2.5e-7, "2.5e-7"),
        (0.03087440946004727, "0.03087440946004727"),
        (0.0004561280026158903, "4.561280026158903e-4"),
        (9079928934249268.0, "9.079928934249268e15"),
        (5e-324, "5.0e-324"),
        (1e22, "1.0e22"),
    ],
)
def test_print_float_chooses_the_shorter_form(value: float, printed: str) -> None:
    assert print_float(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("é", '<<"é">>'),
        ("É", "<<195,137>>"),
        ('say "\n"', '<<"say \\"\\n\\"">>'),
        ([72, 105], '"Hi"'),
        ([72, 300], "[72,300]"),
        ([{"a": 1.5}, None], '[{[{<<"a">>,1.5}]},null]'),
    ],
)
def test_pretty_term_prints_printable_bytes_as_text(value: object, printed: str) -> None:
    assert pretty_term(value) == printed


def test_pretty_term_aligns_lines_with_the_first_one() -> None:
    value = {"asc": "x" * 40, "list": [1, 2, "y" * 40], "bytes": "\x00" * 30}
    assert "Invalid sort field: " + pretty_term(value, 21) == (
        'Invalid sort field: {[{<<"asc">>,\n'
        f'                       <<"{"x" * 40}">>}},\n'
        '                      {<<"list">>,\n'
        f'                       [1,2,<<"{"y" * 40}">>]}},\n'
        '                      {<<"bytes">>,\n'
        "                       <<0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,\n"
        "                         0,0,0,0,0>>}]}"
    )
