"""Integers that Erlang accepts, and text that it refuses."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.erlang.integers import parse_hex, parse_integer


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("+3", 3), ("-4", -4), ("007", 7), ("-0", 0)])
def test_parse_integer_accepts_a_sign_and_digits(text: str, number: int) -> None:
    assert parse_integer(text) == number


@pytest.mark.parametrize("text", ["", "+", "-", "--1", "1.0", "1e3", " 1", "1 ", "1\n", "1_000", "0x1", "\u0663", "a"])
def test_parse_integer_returns_none_for_other_text(text: str) -> None:
    assert parse_integer(text) is None


@pytest.mark.parametrize("sign", ["", "+", "-"])
def test_parse_integer_accepts_more_digits_than_python(sign: str) -> None:
    number = parse_integer(sign + "9" * 100_000)
    assert number is not None
    assert abs(number) > 10**3000
    assert (number < 0) is (sign == "-")


def test_parse_hex_accepts_both_cases_and_a_sign() -> None:
    assert parse_hex("ffFF") == 0xFFFF
    assert parse_hex("+a") == 10
    assert parse_hex("-10") == -16


@pytest.mark.parametrize("text", ["", "g", "0x1", "1 ", "1_0", "1\n"])
def test_parse_hex_returns_none_for_other_text(text: str) -> None:
    assert parse_hex(text) is None
