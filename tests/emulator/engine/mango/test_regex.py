"""Regular expressions: matches of PCRE as Erlang runs it, in bytes and in characters."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.errors import NotSupported


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


@pytest.mark.parametrize(
    ("accepted", "refused"),
    [
        ("a{65535}", "a{65536}"),
        ("(a{1000}){5000}", "(a{1000}){6000}"),
        ("s" * 32760, "s" * 32770),
        ("(?i)" + "s" * 32760, "(?i)" + "s" * 32770),
        ("[ab]" * 1900, "[ab]" * 2000),
        ("(?:ab){6000}", "(?:ab){7000}"),
        ("(a?)" * 6000, "(a?)" * 7000),
        ("x" + "|ab" * 9000, "x" + "|ab" * 10000),
        ("(" * 10 + "a" + "){2}" * 10, "(" * 12 + "a" + "){2}" * 12),
    ],
    ids=lambda pattern: pattern[:12],
)
def test_compile_refuses_patterns_that_are_too_large_for_pcre(accepted: str, refused: str) -> None:
    """The sizes are those at which CouchDB answers "regular expression is too large"."""
    assert compile_regex(refused) is None
    with suppress(NotSupported):
        assert compile_regex(accepted) is not None


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^(?:ab){e<=1}$", "ac", False),
        ("^a{e}$", "a{e}", True),
        ("^(?:ab){i<=2,d<=1}$", "ab{i<=2,d<=1}", True),
        ("^[a||b]$", "|", True),
        ("^[a&&b]$", "&", True),
        ("^[[a]~~[b]]$", "a~", False),
        ("(?U)^a+$", "aa", True),
        ("(?J)a", "a", None),
    ],
)
def test_search_reads_extensions_of_the_package_as_pcre_does(pattern: str, text: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(NotSupported):
            compile_regex(pattern)
    else:
        assert found(pattern, text) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "(?e)a",
        "(?b)a",
        "(?r)a",
        "(?V1)a",
        "(?f)a",
        "(?p)a",
        "(?w)a",
        "(?u)a",
        "(?a)a",
        r"\L<name>",
        r"(?<=a+)b",
        "[a--b]",
    ],
)
def test_compile_refuses_what_only_the_package_accepts(pattern: str) -> None:
    assert compile_regex(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    ["a(?R)?b", "(a)(?1)", "(?<n>a)(?&n)", "(?P<n>a)(?P>n)", r"(a)\g<1>", "(?+1)(a)", "(*COMMIT)a", "(*CRLF)a"],
)
def test_compile_does_not_guess_at_what_the_package_does_otherwise(pattern: str) -> None:
    with pytest.raises(NotSupported):
        compile_regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?i)" + "s" * 20000, ("s" * 19999 + "x") * 5),
        ("(?:s)" * 5000, ("s" * 4999 + "x") * 5),
        ("[s]" * 5000, ("s" * 4999 + "x") * 5),
        ("(a|aa)+$", "a" * 10000 + "b"),
        ("(a+)+$", "a" * 10000 + "b"),
        ("(a{0,50}){0,50}b?$", "a" * 10000 + "c"),
        ("(*UTF8)[" + "".join(map(chr, range(0x4E00, 0x4F00, 2))) + "]", "a" * 1_000_000),
        ("[" + "".join(map(chr, range(0x4E00, 0x5E00))) + "]", "a" * 1_000_000),
    ],
    ids=lambda value: value[:12],
)
def test_search_ends_in_time_and_finds_nothing(monkeypatch: pytest.MonkeyPatch, pattern: str, text: str) -> None:
    """As on CouchDB: PCRE gives up after ten million steps, and CouchDB takes that for no match."""
    monkeypatch.setattr("couchdal.emulator.engine.mango.regex.TIMEOUT_S", 0.1)
    began = time.process_time()
    assert found(pattern, text) is False
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "pattern", ["(" * 90 + "a" + ")+" * 90, "s{200}" * 8000, "(" * 200 + "a" + ")" * 200, "(a{1000}){5000}"]
)
def test_compile_ends_in_time_and_little_memory(pattern: str) -> None:
    began = time.process_time()
    with pytest.raises(NotSupported):
        compile_regex(pattern)
    assert time.process_time() - began < 3


def test_search_bounds_its_memory() -> None:
    search = compile_regex("^(ab?|cd)*$")
    assert search is not None
    assert search("ab" * 100_000)
    with pytest.raises(NotSupported):
        search("ab" * 4_000_000)


def test_other_threads_run_during_a_search() -> None:
    search = compile_regex("(a|aa)+$")
    assert search is not None
    searching = threading.Thread(target=search, args=("a" * 10000 + "b",))
    searching.start()
    turns = 0
    while searching.is_alive():
        time.sleep(0.002)
        turns += 1
    # A search that keeps the interpreter to itself leaves room for one turn.
    assert turns > 10
