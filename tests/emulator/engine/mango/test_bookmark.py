"""Bookmarks in CouchDB's format."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from base64 import urlsafe_b64encode

import pytest

from couchdal.emulator.engine.mango.bookmark import pack_bookmark, unpack_bookmark
from couchdal.errors import CouchError

# Bookmarks of CouchDB 3.5.0: for a scan (compressed) and for an index.
OF_A_SCAN = "g1AAAAAyeJzLYWBgYMpgSmHgKy5JLCrJTq2MT8lPzkzJBYozJoMkOGASEKEsAE8wDX0"
OF_AN_INDEX = "g2wAAAACaAJkAA5zdGFydGtleV9kb2NpZG0AAAADejo2aAJkAAhzdGFydGtleWsAAQBq"


@pytest.mark.parametrize(("bookmark", "doc_id", "key"), [(OF_A_SCAN, "c", "c"), (OF_AN_INDEX, "z:6", [0])])
def test_unpack_reads_the_bookmarks_of_couchdb(bookmark: str, doc_id: str, key: object) -> None:
    assert unpack_bookmark(bookmark) == (doc_id, key)


def test_pack_returns_the_bookmark_of_couchdb() -> None:
    assert pack_bookmark("z:6", [0]) == OF_AN_INDEX


def test_pack_compresses_a_bookmark_when_couchdb_does() -> None:
    packed = pack_bookmark("c", "c")
    # Only the stream's header differs: it names a smaller window.
    assert unpack_bookmark(packed) == ("c", "c")
    assert (packed[:8], packed[11:]) == (OF_A_SCAN[:8], OF_A_SCAN[11:])


@pytest.mark.parametrize(
    "key",
    [
        [None, True, False],
        [0, 255, 256, -1, 2**31, -(2**40), 2**1000],
        [1.5, -0.0, 1e300],
        ["", "é" * 300],
        [[], {}, {"b": [1, {"a": None}], "a": 2}],
        [[1] * 70000],
    ],
)
def test_bookmark_keeps_every_kind_of_key(key: object) -> None:
    assert unpack_bookmark(pack_bookmark("é", key)) == ("é", key)


def row(key: bytes) -> bytes:
    """Return the term of a bookmark, with a key as a term."""
    return b"l\0\0\0\2h\2d\0\x0estartkey_docidm\0\0\0\1ah\2d\0\x08startkey" + key + b"j"


def text_of(term: bytes) -> str:
    return urlsafe_b64encode(b"\x83" + term).decode().rstrip("=")


ROW = row(b"m\0\0\0\1a")
PACKED = zlib.compress(ROW)


@pytest.mark.parametrize(
    "term",
    [
        # The claimed size is not the size. For zlib, the limit 0 means none.
        *(b"P" + size.to_bytes(4, "big") + PACKED for size in (0, 1, len(ROW) - 1, len(ROW) + 1, 2**32 - 1)),
        b"P" + len(ROW).to_bytes(4, "big") + PACKED[:-2],
        b"P\0\0\0\0" + zlib.compress(bytes(50_000_000)),
        row(b"F" + struct.pack(">d", float("nan"))),
        row(b"F" + struct.pack(">d", float("inf"))),
    ],
)
def test_unpack_refuses_what_couchdb_refuses(term: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CouchError, match="Invalid bookmark value"):
            unpack_bookmark(text_of(term))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["=", "=="])
def test_unpack_refuses_padding_that_is_too_long(end: str) -> None:
    text = text_of(ROW)
    assert len(text) % 4 == 0
    assert unpack_bookmark(text) == ("a", "a")
    with pytest.raises(CouchError):
        unpack_bookmark(text + end)


@pytest.mark.parametrize("term", [ROW + b"x", b"P" + len(ROW).to_bytes(4, "big") + PACKED + b"x"])
def test_unpack_ignores_what_follows_a_term(term: bytes) -> None:
    assert unpack_bookmark(text_of(term)) == ("a", "a")


@pytest.mark.parametrize(
    "bookmark", ["garbage", "g1AAAA", "abc=", " ", "gw", "nil", OF_A_SCAN[:-9], "g2o", "g2wAAAABYQFq", "é"]
)
def test_unpack_refuses_a_malformed_bookmark(bookmark: str) -> None:
    with pytest.raises(CouchError) as refused:
        unpack_bookmark(bookmark)
    assert (refused.value.status, refused.value.error) == (400, "invalid_bookmark")
    assert refused.value.reason == f'Invalid bookmark value: "{bookmark}"'
