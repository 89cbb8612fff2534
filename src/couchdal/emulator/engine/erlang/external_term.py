"""JSON values as bytes of Erlang's external term format, as CouchDB hashes them into revision ids.

It knows nothing of documents: a value goes in, bytes come out. Source: the "External Term Format" chapter of ERTS'
documentation, with ``minor_version`` 1 (atoms as ATOM_EXT, floats as NEW_FLOAT_EXT).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

_DOUBLE = Struct(">cd").pack
_INT32 = Struct(">ci").pack
_LENGTH = Struct(">cI").pack

_NIL = b"j"
_ATOMS: dict[bool | None, bytes] = {True: b"d\x00\x04true", False: b"d\x00\x05false", None: b"d\x00\x04null"}
_SMALL_INTEGERS = [b"a" + bytes((n,)) for n in range(256)]
# Most strings and objects are short: their headers are made once.
_SHORT_BINARIES = [_LENGTH(b"m", n) for n in range(256)]
_OBJECTS = [b"h\x01" + _LENGTH(b"l", n) for n in range(256)]

# The headers of object members by key. Documents share few keys, but nothing promises it: hence the bound.
_members: dict[str, bytes] = {}
_MEMBERS_LIMIT = 4096


def binary(data: bytes) -> bytes:
    """Return BINARY_EXT of some bytes."""
    return (_SHORT_BINARIES[len(data)] if len(data) < 256 else _LENGTH(b"m", len(data))) + data


def integer(value: int) -> bytes:
    """Return the shortest integer form that Erlang chooses on a 64-bit machine.

    Raises ``OverflowError`` for one that no double can hold: CouchDB, which estimates the length of a number by its
    logarithm, takes none.
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
    """Return the external term, without version byte, of a JSON value as CouchDB's decoder would hold it.

    An object is ``{[{Key, Value}, ...]}``, a string a binary, ``true``, ``false`` and ``null`` atoms, an array a list.
    """
    parts: list[bytes] = []
    _append(value, parts.append)
    return b"".join(parts)


# What follows runs for every value of every document: hence the untyped values and the order of the tests.


def _append(value: Any, append: Callable[[bytes], None]) -> None:
    kind = type(value)
    if kind is dict:
        _append_object(value, append)
    elif kind is list:
        _append_list(value, append)
    elif kind is str:
        append(binary(value.encode()))
    elif kind is int:
        append(integer(value))
    elif kind is float:
        append(_DOUBLE(b"F", value))
    else:
        append(_ATOMS[value])


def _append_object(members: dict[str, Any], append: Callable[[bytes], None]) -> None:
    if not members:
        append(b"h\x01j")
        return
    size = len(members)
    append(_OBJECTS[size] if size < 256 else b"h\x01" + _LENGTH(b"l", size))
    for key, value in members.items():
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
            _append_object(value, append)
        elif kind is list:
            _append_list(value, append)
        else:
            append(_ATOMS[value])
    append(_NIL)


def _member_header(key: str) -> bytes:
    header = b"h\x02" + binary(key.encode())
    if len(_members) < _MEMBERS_LIMIT:
        _members[key] = header
    return header


def _append_list(items: list[Any], append: Callable[[bytes], None]) -> None:
    if not items:
        append(_NIL)
        return
    # To Erlang, a list of bytes is a string, and it has a form of its own for those of up to 65535.
    if type(items[0]) is int and len(items) < 65536 and all(type(one) is int and 0 <= one <= 255 for one in items):
        append(b"k" + len(items).to_bytes(2, "big") + bytes(items))
        return
    append(_LENGTH(b"l", len(items)))
    for item in items:
        if type(item) is str:
            append(binary(item.encode()))
        else:
            _append(item, append)
    append(_NIL)
