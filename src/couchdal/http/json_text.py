"""JSON as CouchDB parses and writes it, copies of JSON values, and the limit of nesting."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import inf, isfinite, pow as power
from sys import float_info
from typing import Any, TypeAlias, cast

from couchdal.errors import BadRequest
from couchdal.pace import here

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"

# Many rules recurse through values, and the caller may already be deep in the interpreter's stack.
MOST_DEPTH = 300
# In a server, longer texts are decoded in pieces, so that other requests work in between.
_LONGEST_AT_ONCE = 65536
_EXACT = frozenset((int, bool, type(None)))
_ATOMIC = _EXACT | {float}
_SURROGATE = re.compile("[\ud800-\udfff]")


_LEAST_NORMAL, _GREATEST = float_info.min, float_info.max
# CouchDB parses numbers with more characters in another way.
_LONG_NUMBER = 32
# More digits than a double can hold, and fewer than Python refuses.
_MOST_DIGITS = 400
# A string, or a number with an exponent or the sign of zero.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-0\.0(?![0-9e])|(-?)(\d)(?:\.(\d+))?e([+-]\d+)')


def refuse_constant(name: str) -> object:
    """Raise ``ValueError`` for NaN and Infinity, which Python would parse."""
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if len(text) < _LONG_NUMBER and (_LEAST_NORMAL <= abs(number) <= _GREATEST or not number):
        return number
    whole, _, exponent = text.lower().partition("e")
    if exponent and "." not in whole:
        # CouchDB multiplies numbers that are long or at the edge of doubles, and so takes 5e-324 for zero.
        number = float(int(whole[:_MOST_DIGITS])) * power(10.0, float(exponent))
    if not isfinite(number):
        raise OverflowError(f"{text} does not fit a double")
    return number


def parse_float(text: str) -> float:
    """Return the float that CouchDB reads, or infinity if it would refuse the text."""
    try:
        return _parse_float(text)
    except OverflowError:
        return inf


def _object_of_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    # CouchDB keeps the last value of a duplicate key, at the position of the last.
    members = {}
    for name, value in pairs:
        if holds_surrogate(members.pop(name, None)):
            raise ValueError("a lone surrogate is not JSON, even where another value replaces it")
        members[name] = value
    return members


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_of_pairs, parse_constant=refuse_constant, parse_float=_parse_float
)
# CouchDB refuses a number that does not fit a double, but not if a later value of the same key replaces it.
_DECODER_OF_ANY_NUMBER = json.JSONDecoder(
    object_pairs_hook=_object_of_pairs, parse_constant=refuse_constant, parse_float=parse_float
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)


def decode_json(data: bytes) -> JSON:
    """Return the value of a JSON text. Raise ``BadRequest("invalid UTF-8 JSON")``."""
    try:
        text = data.decode("utf-8")
        decode = (
            _decode_in_pieces if len(data) > _LONGEST_AT_ONCE and here.pace is not None else json.JSONDecoder.decode
        )
        try:
            value = decode(_DECODER, text)
        except OverflowError:
            value = copy_json(decode(_DECODER_OF_ANY_NUMBER, text))
        # Only an escape such as \ud800 can put a character into decoded text that UTF-8 cannot encode.
        if "\\u" in text and holds_surrogate(value):
            raise ValueError("a lone surrogate is not JSON")
    except (ValueError, RecursionError):
        raise BadRequest("invalid UTF-8 JSON") from None
    return cast(JSON, value)


def _decode_in_pieces(decoder: json.JSONDecoder, text: str) -> object:
    from couchdal.http.json_pieces import Decoding  # only servers need it

    return Decoding(text, decoder, _object_of_pairs).value()


def decode_request(data: bytes) -> JSON:
    """Return the value of a JSON text from a client, as ``decode_json`` does. Also refuse a value that ``is_deep``."""
    value = decode_json(data)
    if data.count(b"{") + data.count(b"[") > MOST_DEPTH and is_deep(value):
        raise BadRequest("invalid UTF-8 JSON")
    return value


def is_deep(value: object) -> bool:
    """Return whether arrays and objects are nested more than ``MOST_DEPTH`` times."""
    level: list[Any] = [[value]]
    depth = -1
    while level and depth < MOST_DEPTH:
        parts = [item.values() if type(item) is dict else item for item in level]
        level = [member for part in parts for member in part if type(member) in (dict, list)]
        depth += 1
    return bool(level)


def holds_surrogate(value: object) -> bool:
    """Return whether a string, or a string in a JSON value, has a character that UTF-8 cannot encode."""
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(holds_surrogate(name) or holds_surrogate(member) for name, member in value.items())
    return isinstance(value, list) and any(map(holds_surrogate, value))


def encode_json(value: object) -> bytes:
    """Return a value as compact UTF-8 JSON, with the keys in their order and numbers as CouchDB writes them."""
    text = _ENCODER.encode(value)
    if "e-0" in text or "e+" in text or "-0.0" in text:
        text = _TOKEN.sub(_respelled, text)
    return text.encode()


def _respelled(token: re.Match[str]) -> str:
    """Return a string unchanged, and a number as CouchDB writes it: with an exponent below 0.000001 and from 1e21."""
    if token[4] is None:
        return "0.0" if token[0] == "-0.0" else token[0]
    sign, digits, exponent = token[1], token[2] + (token[3] or ""), int(token[4])
    if 0 <= exponent < 21:
        return f"{sign}{digits.ljust(exponent + 1, '0')}.0"
    if -6 <= exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{sign}{token[2]}{f'.{token[3]}' if token[3] else ''}e{exponent:+d}"


def is_same(value: object, other: object) -> bool:
    """Return True for two equal JSON values. Unlike in Python, 1, 1.0 and True differ."""
    return value == other and encode_json(value) == encode_json(other)


def encode_in_pieces(value: object) -> bytes:
    """Return the same text as ``encode_json``, and empty the value. Other threads work meanwhile."""
    from couchdal.http.json_pieces import encode, release  # only servers need it

    encoded = encode(value, encode_json)
    release(value)
    return encoded


def copy_json(value: object, most_depth: int = 2 * MOST_DEPTH) -> JSON:
    """Return a deep copy of a JSON value. Tuples become lists.

    Raise ``TypeError`` for a type that JSON does not have (``datetime``, ``set``, a key that is not a string). Raise
    ``ValueError`` for a value that JSON cannot express (NaN, a lone surrogate), or one that is nested too deeply or
    contains itself.
    """
    try:
        return _copy(value, most_depth)
    except RecursionError:
        raise ValueError("the value is nested too deeply, or contains itself") from None


# The next two functions run for every value of every payload. For speed, values are untyped and common types first.


def _copy(value: Any, left: int) -> JSON:
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        if not left:
            raise RecursionError
        if kind is dict:
            return _copy_members(value, left - 1)
        return [item if type(item) is int else _copy(item, left - 1) for item in value]
    if kind is str:
        if not value.isascii() and _SURROGATE.search(value):
            raise ValueError("a lone surrogate is not JSON")
        return cast(str, value)
    if kind is float and not _LEAST_NORMAL <= abs(value) <= _GREATEST:
        if not isfinite(value):
            raise ValueError(f"{value!r} is not JSON")
        # Parse the text of the number, as if the client had sent it.
        return _parse_float(repr(value))
    return cast(JSON, value) if kind in _ATOMIC else _copy_subclass(value, left)


def _copy_members(members: dict[Any, Any], left: int) -> dict[str, JSON]:
    copied = members.copy()
    for name, member in members.items():
        kind = type(member)
        if kind is str:
            if member.isascii():
                continue
        elif kind in _EXACT:
            continue
        copied[name] = _copy(member, left)
    try:
        plain = "".join(copied).isascii()
    except TypeError:
        plain = False
    # Some key may be a subclass of str or hold a surrogate: check each.
    return copied if plain else {_copy_key(name): member for name, member in copied.items()}


def _copy_key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a key of a JSON object must be a string, not {type(name).__name__}")
    return str(_copy(str(name), 0))


def _copy_subclass(value: object, left: int) -> JSON:
    # Treat a subclass (IntEnum, OrderedDict, a str subclass) as the JSON type that it extends.
    if isinstance(value, str):
        return _copy(str.__str__(value), left)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _copy(float(value), left)
    if isinstance(value, Mapping):
        return _copy(dict(value), left)
    if isinstance(value, (list, tuple)):
        return _copy(list(value), left)
    raise TypeError(f"a {type(value).__name__} is not JSON")
