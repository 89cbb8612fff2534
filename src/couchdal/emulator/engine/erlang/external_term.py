"""Encode JSON values in Erlang's external term format. CouchDB hashes these bytes into revision ids.

This module does not know documents. Source: the "External Term Format" chapter of ERTS'
documentation, with ``minor_version`` 1 (atoms as ATOM_EXT, floats as NEW_FLOAT_EXT).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, TypeVar

from couchdal.pace import give_way

_T = TypeVar("_T")

_DOUBLE = Struct(">cd").pack
_INT32 = Struct(">ci").pack
_LENGTH = Struct(">cI").pack

_NIL = b"j"
_ATOMS: dict[bool | None, bytes] = {True: b"d\x00\x04true", False: b"d\x00\x05false", None: b"d\x00\x04null"}
_SMALL_INTEGERS = [b"a" + bytes((n,)) for n in range(256)]
# Most strings and objects are short, so their headers are computed in advance.
_SHORT_BINARIES = [_LENGTH(b"m", n) for n in range(256)]
_OBJECTS = [b"h\x01" + _LENGTH(b"l", n) for n in range(256)]

# The headers of object members, by key. Documents usually share few keys. The limit bounds the memory if they do not.
_members: dict[str, bytes] = {}
_MEMBERS_LIMIT = 4096
_LONGEST_KEPT = 256
# How many parts of a term are joined at once.
_MOST_PARTS = 10_000
_LONG_PART = 4096


def binary(data: bytes) -> bytes:
    """Return bytes as BINARY_EXT."""
    return (_SHORT_BINARIES[len(data)] if len(data) < 256 else _LENGTH(b"m", len(data))) + data


def integer(value: int) -> bytes:
    """Return an integer in the form that Erlang chooses on a 64-bit machine.

    Raise ``OverflowError`` for an integer beyond the range of doubles. CouchDB refuses it, because it estimates the
    length of a number by its logarithm.
    """
    if 0 <= value <= 255:
        return _SMALL_INTEGERS[value]
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return _INT32(b"b", value)
    sign, magnitude = (1, -value) if value < 0 else (0, value)
    size = (magnitude.bit_length() + 7) // 8
    if size > 128:
        float(magnitude)
    header = b"n" + bytes((size,)) if size < 256 else _LENGTH(b"o", size)
    return header + bytes((sign,)) + magnitude.to_bytes(size, "little")


def encode_term(value: object) -> bytes:
    """Return a JSON value as an external term, without the version byte.

    As in CouchDB, an object becomes ``{[{Key, Value}, ...]}``, a string a binary, an array a list, and ``true``,
    ``false`` and ``null`` become atoms.
    """
    parts: list[bytes] = []
    _append(value, parts)
    return b"".join(parts)


# These functions run for every value of every document. For speed, values are untyped and common cases come first.


def _append(value: Any, parts: list[bytes]) -> None:
    kind = type(value)
    if kind is dict:
        _append_object(value, parts)
    elif kind is list:
        _append_list(value, parts)
    elif kind is str:
        parts.append(binary(value.encode()))
    elif kind is int:
        parts.append(integer(value))
    elif kind is float:
        parts.append(_DOUBLE(b"F", value))
    else:
        parts.append(_ATOMS[value])


def _append_object(members: dict[str, Any], parts: list[bytes]) -> None:
    append = parts.append
    if not members:
        append(b"h\x01j")
        return
    size = len(members)
    append(_OBJECTS[size] if size < 256 else b"h\x01" + _LENGTH(b"l", size))
    for key, value in members.items() if size <= _MOST_PARTS else _joining(members.items(), parts):
        append(_members.get(key) or _member_header(key))
        kind = type(value)
        if kind is str:
            data = value.encode()
            size = len(data)
            append(_SHORT_BINARIES[size] if size < 256 else _LENGTH(b"m", size))
            append(data)
        elif kind is int:
            append(_SMALL_INTEGERS[value] if 0 <= value <= 255 else integer(value))
        elif kind is float:
            append(_DOUBLE(b"F", value))
        elif kind is dict:
            _append_object(value, parts)
        elif kind is list:
            _append_list(value, parts)
        else:
            append(_ATOMS[value])
    append(_NIL)
    if len(parts) > _MOST_PARTS:
        _join(parts)


def _member_header(key: str) -> bytes:
    header = b"h\x02" + binary(key.encode())
    if len(_members) < _MEMBERS_LIMIT and len(header) < _LONGEST_KEPT:
        _members[key] = header
    return header


def _append_list(items: list[Any], parts: list[bytes]) -> None:
    append = parts.append
    if not items:
        append(_NIL)
        return
    # Erlang treats a list of bytes as a string, which has another form if it has at most 65,535 items.
    if type(items[0]) is int and len(items) < 65536 and all(type(one) is int and 0 <= one <= 255 for one in items):
        append(b"k" + len(items).to_bytes(2, "big") + bytes(items))
        return
    append(_LENGTH(b"l", len(items)))
    for item in items if len(items) <= _MOST_PARTS else _joining(items, parts):
        if type(item) is str:
            append(binary(item.encode()))
        else:
            _append(item, parts)
    append(_NIL)
    if len(parts) > _MOST_PARTS:
        _join(parts)


def _joining(items: Iterable[_T], parts: list[bytes]) -> Iterator[_T]:
    """Yield many items, and join the parts that were added for them meanwhile."""
    for item in items:
        yield item
        if len(parts) > _MOST_PARTS:
            _join(parts)


def _join(parts: list[bytes]) -> None:
    """Join the parts that follow the first long ones. Joining millions at once would hold up others."""
    give_way()
    first = next((place for place, part in enumerate(parts) if len(part) < _LONG_PART), len(parts))
    parts[first:] = [b"".join(parts[first:])]
