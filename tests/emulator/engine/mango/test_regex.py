"""Regular expressions: matches of PCRE as Erlang runs it, in bytes and in characters."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.mango.regex import compile_regex


def found(pattern: str, text: str) -> bool:
    search = compile_regex(pattern)
    assert search is not None, f"{pattern!r} is ill-formed"
    return search(text)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        # A character beyond ASCII has two or more bytes. PCRE classifies each of them as Latin-1.
        ("^..$", "é", True),
        ("^.$", "é", False),
        ("(*UTF8)^.$", "é", True),
        ("^\\w\\W$", "é", True),
        ("(*UTF8)^\\w$", "é", True),
        ("(*UTF8)^\\w$", "日", False),
        ("(*UTF8)^[\\w]$", "ª", True),
        ("(*UTF8)^[^\\W]$", "µ", True),
        ("(*UTF8)\\bé\\b", "é", True),
        ("(?i)^É$", "é", False),
        ("(*UTF8)(?i)^É$", "é", True),
        ("^[[:alpha:]]{3}$", "abc", True),
        ("^[[:^alpha:]]$", "1", True),
        ("^[[:punct:]]$", "~", True),
        ("^\\s$", "\x0b", True),
        ("(*UTF8)^\\s$", "\xa0", False),
        ("(*UTF8)^\\h$", "\xa0", True),
        ("^\\R$", "\r\n", True),
        # Flags apply up to the end of their group, also in later alternatives.
        ("a(?i)B|c", "C", True),
        ("a(?i)B|c", "ab", True),
        ("a(?i)B|c", "AB", False),
        ("(a(?i)b)C", "aBc", False),
        ("(?i)a(?-i)b", "Ab", True),
        ("(?i)a(?-i)b", "AB", False),
        ("(?x) a b # comment", "ab", True),
        ("(a(?x) b # comment\n) c", "abc", False),
        # Literals.
        ("^a{,3}$", "a{,3}", True),
        ("^\\Qa.b\\E$", "a.b", True),
        ("^\\Qa.b\\E$", "axb", False),
        ("^\\i$", "i", True),
        ("^[]a]$", "]", True),
        ("^[\\d-z]$", "-", True),
        ("^[a[]$", "[", True),
        ("^[&&|~-]$", "&", True),
        ("^[\\b]$", "\b", True),
        ("^\\x41\\x$", "A\0", True),
        ("^\\x{41}\\cA\\e$", "A\x01\x1b", True),
        # Anchors and references.
        ("a$", "a\n", True),
        ("a\\z", "a\n", False),
        ("a\\Z", "a\n", True),
        ("^b", "a\nb", False),
        ("(?m)^b", "a\nb", True),
        ("a.b", "a\nb", False),
        ("a\\Cb", "a\nb", True),
        ("^(?<n>a|b)\\k<n>$", "bb", True),
        ("^(a|b)\\g{1}\\g1$", "aaa", True),
        ("^(?>a+)ab", "aab", False),
        ("^(?|(a)|(b))\\1$", "bb", True),
    ],
)
def test_search_matches_as_pcre_does(pattern: str, text: str, matches: bool) -> None:
    assert found(pattern, text) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[a",
        "*a",
        "a**",
        "a|*",
        "[z-a]",
        "[a-\\d]",
        "[[:foo:]]",
        "\\",
        "^*",
        "\\b+",
        "\\u0041",
        "(?z)",
        "\\x{100}",
    ],
)
def test_compile_returns_none_for_a_pattern_that_pcre_refuses(pattern: str) -> None:
    assert compile_regex(pattern) is None


def test_compile_bounds_the_product_of_repetitions() -> None:
    assert compile_regex("a{65535}") is not None
    assert compile_regex("(a{1000}){1000}") is None
