"""JSON values as Erlang prints them, for the reasons of errors. It knows nothing of errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

_Binary: TypeAlias = Callable[[str], str]


def print_term(value: object) -> str:
    """Return a value as ``~w`` prints it: binaries as their bytes.

    >>> print_term({"a": [1, None]})
    '{[{<<97>>,[1,null]}]}'
    """
    return _print(value, _bytes)


def pretty_term(value: object) -> str:
    """Return a value as ``~p`` prints it on one line: binaries as text where they are printable.

    >>> pretty_term({"a": "b"})
    '{[{<<"a">>,<<"b">>}]}'
    """
    return _print(value, _text)


def _print(value: object, binary: _Binary) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return print_float(value)
    if isinstance(value, str):
        return binary(value)
    if isinstance(value, dict):
        members = ",".join(f"{{{binary(name)},{_print(member, binary)}}}" for name, member in value.items())
        return f"{{[{members}]}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_print(item, binary) for item in value)}]"
    return str(value)


def _bytes(text: str) -> str:
    return f"<<{','.join(map(str, text.encode()))}>>"


# How ``~p`` writes the control characters that it takes for printable.
_ESCAPES = str.maketrans(
    {
        "\\": "\\\\",
        '"': '\\"',
        "\b": "\\b",
        "\t": "\\t",
        "\n": "\\n",
        "\v": "\\v",
        "\f": "\\f",
        "\r": "\\r",
        "\x1b": "\\e",
    }
)
_PRINTABLE = frozenset((*range(8, 14), 27, *range(32, 127), *range(160, 256)))


def _text(text: str) -> str:
    # Erlang judges the bytes, as if they were Latin-1: of two bytes of UTF-8, the second may make it give up.
    if not text or not _PRINTABLE.issuperset(text.encode()):
        return _bytes(text)
    return f'<<"{text.translate(_ESCAPES)}">>'


def print_float(value: float) -> str:
    """Return a float as Erlang prints it: the shortest digits, a point, an exponent without padding."""
    text = repr(value)
    digits, _, exponent = text.partition("e")
    if not exponent:
        return _as_erlang(value, digits)
    if "." not in digits:
        digits += ".0"
    return f"{digits}e{int(exponent)}"


def _as_erlang(value: float, digits: str) -> str:
    # Erlang takes the exponent where that is shorter: 1000.0 is 1.0e3.
    plain = re.fullmatch(r"(-?)([1-9])(\d*?)(0*)\.0", digits)
    if plain:
        sign, first, rest, zeros = plain.groups()
        short = f"{sign}{first}.{rest or '0'}e{len(rest) + len(zeros)}"
        return short if len(short) < len(digits) else digits
    return digits
