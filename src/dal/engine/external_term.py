"""JSON values as bytes of Erlang's external term format, as CouchDB hashes them into revision ids.

It knows nothing of documents: a value goes in, bytes come out. Source: the "External Term Format" chapter of ERTS'
documentation, with ``minor_version`` 1 (atoms as ATOM_EXT, floats as NEW_FLOAT_EXT).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import cast

_DOUBLE = Struct(">cd").pack
_INT32 = Struct(">ci").pack
_LENGTH = Struct(">cI").pack

_NIL = b"j"
_ATOMS = {True: b"d\x00\x04true", False: b"d\x00\x05false", None: b"d\x00\x04null"}
_SMALL_INTEGERS = [b"a" + bytes((n,)) for n in range(256)]
# Most strings are short: their headers are made once.
_SHORT_BINARIES = [_LENGTH(b"m", n) for n in range(256)]

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
    if type(value) is dict:
        _append_object(cast("dict[str, object]", value), parts.append)
    else:
        _append(value, parts.append)
    return b"".join(parts)


def _append_object(members: dict[str, object], append: Callable[[bytes], None]) -> None:
    append(b"h\x01")
    if not members:
        append(_NIL)
        return
    append(_LENGTH(b"l", len(members)))
    known = _members
    for key, value in members.items():
        append(known.get(key) or _member_header(key))
        kind = type(value)
        if kind is str:
            data = cast(str, value).encode()
            size = len(data)
            append(_SHORT_BINARIES[size] if size < 256 else _LENGTH(b"m", size))
            append(data)
        elif kind is int:
            append(integer(cast(int, value)))
        else:
            _append(value, append)
    append(_NIL)


def _member_header(key: str) -> bytes:
    header = b"h\x02" + binary(key.encode())
    if len(_members) < _MEMBERS_LIMIT:
        _members[key] = header
    return header


def _append(value: object, append: Callable[[bytes], None]) -> None:
    kind = type(value)
    if kind is str:
        append(binary(cast(str, value).encode()))
    elif kind is bool or value is None:
        append(_ATOMS[cast("bool | None", value)])
    elif kind is int:
        append(integer(cast(int, value)))
    elif kind is float:
        append(_DOUBLE(b"F", cast(float, value)))
    elif kind is dict:
        _append_object(cast("dict[str, object]", value), append)
    else:
        _append_list(cast("list[object]", value), append)


def _append_list(items: list[object], append: Callable[[bytes], None]) -> None:
    if not items:
        append(_NIL)
        return
    # To Erlang, a list of bytes is a string, and it has a form of its own for those of up to 65535.
    if len(items) < 65536 and all(type(item) is int and 0 <= item <= 255 for item in items):
        append(b"k" + len(items).to_bytes(2, "big") + bytes(cast("list[int]", items)))
        return
    append(_LENGTH(b"l", len(items)))
    for item in items:
        _append(item, append)
    append(_NIL)
