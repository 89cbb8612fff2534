"""Bookmarks in CouchDB's format."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "bookmark", ["garbage", "g1AAAA", "abc=", " ", "gw", "nil", OF_A_SCAN[:-9], "g2o", "g2wAAAABYQFq", "é"]
)
def test_unpack_refuses_a_malformed_bookmark(bookmark: str) -> None:
    with pytest.raises(CouchError) as refused:
        unpack_bookmark(bookmark)
    assert (refused.value.status, refused.value.error) == (400, "invalid_bookmark")
    assert refused.value.reason == f'Invalid bookmark value: "{bookmark}"'
