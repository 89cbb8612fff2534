"""Bookmarks: opaque strings from which a query continues with the next page.

The format is CouchDB's: an Erlang term in Base64. Each server therefore accepts the bookmarks of the other. Source:
``mango_json_bookmark``; the "External Term Format" chapter of ERTS' documentation.
"""

from __future__ import annotations

import struct
import zlib
from base64 import urlsafe_b64encode
from functools import lru_cache
from math import isfinite
from typing import Final

from couchdal.emulator.engine.erlang.base64_text import decode_base64
from couchdal.emulator.engine.erlang.external_term import binary, encode_term
from couchdal.errors import BadRequest, CouchError
from couchdal.http.json_text import encode_json

_VERSION = b"\x83"
_COMPRESSED = b"P"
_DOC_ID_ATOM, _KEY_ATOM = b"d\x00\x0estartkey_docid", b"d\x00\x08startkey"
# A few compressed bytes can claim any size. Real keys are much smaller than this.
_MAX_SIZE = 16_000_000
# Python's decoder accepts more padding than Erlang's.
_LONGEST_KEPT = 512


def pack_bookmark(doc_id: str, key: object) -> str:
    """Return the bookmark for a page whose last row has this document and key."""
    return _pack_id(doc_id) if key == doc_id and len(doc_id) <= _LONGEST_KEPT else _pack(doc_id, key)


# Queries without an index use the id as the key, and the same ids occur again and again.
@lru_cache(maxsize=256)
def _pack_id(doc_id: str) -> str:
    return _pack(doc_id, doc_id)


def _pack(doc_id: str, key: object) -> str:
    entries = b"h\x02" + _DOC_ID_ATOM + binary(doc_id.encode()) + b"h\x02" + _KEY_ATOM + encode_term(key)
    term = b"l\x00\x00\x00\x02" + entries + b"j"
    # Use the smallest buffers: allocating Python's default ones takes longer than the rest of the query.
    deflate = zlib.compressobj(wbits=14, memLevel=1)
    compressed = deflate.compress(term) + deflate.flush()
    if len(compressed) + 5 < len(term) + 1:
        term = _COMPRESSED + len(term).to_bytes(4, "big") + compressed
    return urlsafe_b64encode(_VERSION + term).decode().rstrip("=")


def unpack_bookmark(bookmark: str) -> tuple[str, object]:
    """Return the document and the key of a bookmark's row. Raise ``BadRequest`` (``invalid_bookmark``)."""
    try:
        entries = _Reader(_term(bookmark)).read()
    except (ValueError, struct.error, RecursionError, zlib.error):
        raise _invalid(bookmark) from None
    found: dict[str, object] = {}
    for entry in entries if type(entries) is list else ():
        if type(entry) is tuple and len(entry) == 2 and isinstance(entry[0], _Atom):
            found.setdefault(entry[0].name, entry[1])
    doc_id = found.get("startkey_docid")
    if type(doc_id) is not str or "startkey" not in found:
        raise _invalid(bookmark)
    return doc_id, _json(found["startkey"])


def _invalid(bookmark: str) -> CouchError:
    return BadRequest(f"Invalid bookmark value: {encode_json(bookmark).decode()}", error="invalid_bookmark")


def _term(bookmark: str) -> bytes:
    """Return the bytes of a bookmark's term, decompressed and without the version byte."""
    text = bookmark.replace("-", "+").replace("_", "/")
    text = "".join(text.split()) + "=" * (-len(text) % 4)
    data = decode_base64(text)
    if data[:1] != _VERSION:
        raise ValueError("not an external term")
    if data[1:2] != _COMPRESSED:
        return data[1:]
    size = int.from_bytes(data[2:6], "big")
    if not 0 < size <= _MAX_SIZE:
        # For zlib, zero means no limit.
        raise ValueError("the term is empty or too large")
    inflate = zlib.decompressobj()
    term = inflate.decompress(data[6:], size)
    # The end of the compressed bytes may still be to come when the last byte of the term is there.
    if len(term) < size or inflate.decompress(inflate.unconsumed_tail, 1) or not inflate.eof:
        raise ValueError("the term has another size than it claims")
    return term


class _Atom:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_WORDS: Final = {"null": None, "true": True, "false": False}


def _json(term: object) -> object:
    """Return the JSON value that a term encodes. Terms that encode none become null or an object."""
    if isinstance(term, _Atom):
        return _WORDS.get(term.name)
    if type(term) is list:
        return [_json(item) for item in term]
    if type(term) is tuple:
        members = term[0] if len(term) == 1 else None
        if type(members) is not list or not all(type(member) is tuple and len(member) == 2 for member in members):
            return {}
        return {str(name): _json(value) for name, value in members}
    return term


class _Reader:
    """Decoder of external terms. Raises ``ValueError`` or ``struct.error`` for malformed bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("the term is truncated")
        self._at += size
        return taken

    def _size(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _count(self) -> int:
        count = self._size(4)
        if count > len(self._data):
            raise ValueError("the term is truncated")
        return count

    def read(self) -> object:
        tag = self._take(1)
        if tag in (b"a", b"b"):
            return self._size(1) if tag == b"a" else int(struct.unpack(">i", self._take(4))[0])
        if tag == b"F":
            number = float(struct.unpack(">d", self._take(8))[0])
            if not isfinite(number):
                raise ValueError("the number is not finite")
            return number
        if tag == b"m":
            return self._take(self._size(4)).decode()
        if tag in (b"d", b"v", b"s", b"w"):
            return _Atom(self._take(self._size(2 if tag in (b"d", b"v") else 1)).decode())
        if tag == b"j":
            return []
        if tag == b"k":
            return list(self._take(self._size(2)))
        if tag == b"l":
            items = [self.read() for _ in range(self._count())]
            if self.read() != []:
                raise ValueError("the list is improper")
            return items
        if tag in (b"h", b"i"):
            return tuple(self.read() for _ in range(self._size(1) if tag == b"h" else self._count()))
        if tag in (b"n", b"o"):
            size = self._size(1) if tag == b"n" else self._count()
            sign = self._size(1)
            magnitude = int.from_bytes(self._take(size), "little")
            return -magnitude if sign else magnitude
        raise ValueError(f"tag {tag!r} does not occur in JSON")
