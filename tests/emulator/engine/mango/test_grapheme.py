"""``$beginsWith``: a prefix ends where a character ends. What is expected was seen of Erlang's ``string:prefix``."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.grapheme import begins_with


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("abc", ""),
        ("", ""),
        ("abc", "ab"),
        ("e\u0301x", "e\u0301"),
        ("a\u200bb", "a"),
        # Looked at from the joiner on, what follows it is a character of its own.
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d"),
        ("\uac00a", "\uac00"),
    ],
)
def test_text_begins_with_whole_characters(text: str, prefix: str) -> None:
    assert begins_with(text, prefix)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("abc", "b"),
        ("", "a"),
        ("e\u0301", "e"),
        ("\r\n", "\r"),
        ("\u0301\u0302a", "\u0301"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d"),
        ("\U0001f1e6\U0001f1e7\U0001f1e8", "\U0001f1e6\U0001f1e7"),
        ("\u1100\u1160", "\u1100"),
        ("\uac00\u11a8", "\uac00"),
        ("\u0600a", "\u0600"),
    ],
)
def test_text_does_not_begin_with_a_part_of_a_character(text: str, prefix: str) -> None:
    assert not begins_with(text, prefix)
