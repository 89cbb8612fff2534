"""``$beginsWith``: a prefix must end at a grapheme boundary. Erlang's ``string:prefix`` gave the expected results."""

from __future__ import annotations

import subprocess
import sys

import pytest

from couchdal.emulator.engine.mango.comparison import begins_with


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("abc", ""),
        ("", ""),
        ("abc", "ab"),
        ("e\u0301x", "e\u0301"),
        ("a\u200bb", "a"),
        # Segmentation starts at the joiner, so it does not join the emoji that follows it.
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d"),
        ("\uac00a", "\uac00"),
        # Unicode 15.1 joins a virama and the consonant after it. Erlang 25 implements Unicode 14.
        ("\u0915\u094d\u0937", "\u0915\u094d"),
    ],
)
def test_begins_with_matches_a_prefix_of_whole_graphemes(text: str, prefix: str) -> None:
    assert begins_with(prefix)(text)


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
def test_begins_with_refuses_a_prefix_that_splits_a_grapheme(text: str, prefix: str) -> None:
    assert not begins_with(prefix)(text)


@pytest.mark.parametrize("value", [None, True, 1, ["a"], {"a": 1}])
def test_begins_with_matches_only_strings(value: object) -> None:
    assert not begins_with("")(value)


def test_begins_with_on_ascii_does_not_import_regex() -> None:
    program = (
        "import sys; from couchdal.emulator.engine.mango.comparison import begins_with;"
        "assert begins_with('ab')('abc'); assert 'regex' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
