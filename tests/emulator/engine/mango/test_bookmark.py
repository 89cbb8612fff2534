"""Bookmarks: the very ones that CouchDB gives out."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from couchdal.emulator.engine.mango.bookmark import pack_bookmark, unpack_bookmark
from couchdal.errors import CouchError

# Copied from CouchDB 3.5.0: of a scan, and of an index.
OF_A_SCAN = "g1AAAAAyeJzLYWBgYMpgSmHgKy5JLCrJTq2MT8lPzkzJBYozJoMkOGASEKEsAE8wDX0"
OF_AN_INDEX = "g2wAAAACaAJkAA5zdGFydGtleV9kb2NpZG0AAAADejo2aAJkAAhzdGFydGtleWsAAQBq"


@pytest.mark.parametrize(("bookmark", "doc_id", "key"), [(OF_A_SCAN, "c", "c"), (OF_AN_INDEX, "z:6", [0])])
def test_bookmarks_are_couchdbs(bookmark: str, doc_id: str, key: object) -> None:
    assert unpack_bookmark(bookmark) == (doc_id, key)
    assert pack_bookmark(doc_id, key) == bookmark


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
def test_bookmarks_carry_every_key(key: object) -> None:
    assert unpack_bookmark(pack_bookmark("é", key)) == ("é", key)


@given(st.text(max_size=80), st.text("ab", max_size=9), st.integers(1, 40))
def test_short_bookmarks_are_compressed_like_long_ones(doc_id: str, part: str, times: int) -> None:
    packed = pack_bookmark(doc_id, part * times)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("couchdal.emulator.engine.mango.bookmark._SHORT_TERM", 0)
        assert pack_bookmark(doc_id, part * times) == packed


@pytest.mark.parametrize(
    "bookmark", ["garbage", "g1AAAA", "abc=", " ", "gw", "nil", OF_A_SCAN[:-9], "g2o", "g2wAAAABYQFq", "é"]
)
def test_malformed_bookmark_is_refused(bookmark: str) -> None:
    with pytest.raises(CouchError) as refused:
        unpack_bookmark(bookmark)
    assert (refused.value.status, refused.value.error) == (400, "invalid_bookmark")
    assert refused.value.reason == f'Invalid bookmark value: "{bookmark}"'
