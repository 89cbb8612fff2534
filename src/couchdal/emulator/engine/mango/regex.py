"""Regular expressions as CouchDB runs them: PCRE over the bytes of UTF-8, translated for the ``regex`` package.

This module does not know selectors. A search that takes too long fails with an error. The ``regex`` package has a
timeout for this purpose, and the standard library does not. Source: Erlang's ``re``, which CouchDB calls without
options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TypeAlias

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.errors import ServerError

Search: TypeAlias = Callable[[str], bool]

# The limit for one pattern on one text.
TIMEOUT_S = 1.0
# With one of these verbs, a pattern matches characters instead of bytes.
_UTF8_VERBS = ("(*UTF8)", "(*UTF)")
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
# PCRE refuses a pattern that becomes too large when its repetitions are expanded.
_MAX_REPEATED = 65535
# Patterns without groups and with at most one repetition. Their worst case is the square of the text's length, so the
# standard library can search texts of moderate length without a timeout. It takes a fifth of the time.
_SIMPLE = re.compile(r"(?:\(\?[is]+\))?\^?[^\\\[\](){}*+?|^$]*(?:\\[dws.])?[*+?]?[^\\\[\](){}*+?|^$]*\$?\Z")
_QUICK_TEXT = 2000
# Longer patterns are compiled for each query.
_LONGEST_KEPT = 2000

_ESCAPE = r"\\Q(?P<quoted>.*?)(?:\\E|\Z)|\\x(?:\{(?P<code>[0-9A-Fa-f]+)\}|(?P<hex>[0-9A-Fa-f]{0,2}))|\\c(?P<control>.)"
_OUTSIDE = re.compile(
    rf"{_ESCAPE}|\\k[<{{'](?P<name>\w+)[>}}']|\\g(?:(?P<group>\d+)|\{{(?P<braced>\d+)\}})"
    r"|(?P<bare>(?:\\[AGKBbZz]|[\^$])(?P<repeated>[*+?]|\{\d+(?:,\d*)?\})?)"
    r"|\\.|(?P<literal>\{,\d*\})|\(\?(?P<flags>[imsx-]+)\)|[()|]|(?P<set>\[\^?\]?)",
    re.DOTALL,
)
_INSIDE = re.compile(rf"{_ESCAPE}|\[:(?P<negated>\^?)(?P<posix>\w+):\]|\\.|.", re.DOTALL)

# Erlang's character tables are those of Latin-1, with or without a UTF-8 verb.
_UPPER, _LOWER = "A-Z\xc0-\xd6\xd8-\xde", "a-z\xaa\xb5\xba\xdf-\xf6\xf8-\xff"
_PUNCTUATION = "!-/:-@\\[-`{-~\xa0-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7"
_WORD = f"{_UPPER}{_LOWER}0-9_"
_CLASSES = {
    "w": _WORD,
    "d": "0-9",
    "s": "\t-\r ",
    "h": "\t \xa0",
    "v": "\n-\r\x85",
}
_POSIX = {
    "alpha": _UPPER + _LOWER,
    "lower": _LOWER,
    "upper": _UPPER,
    "alnum": f"{_UPPER}{_LOWER}0-9",
    "ascii": "\0-\xff",
    "blank": "\t ",
    "cntrl": "\0-\x1f\x7f-\x9f",
    "digit": "0-9",
    "graph": "!-~\xa0-\xff",
    "print": " -~\xa0-\xff",
    "punct": _PUNCTUATION,
    "space": "\t-\r ",
    "word": _WORD,
    "xdigit": "0-9A-Fa-f",
}
# Python spells PCRE's ``\z`` as ``\Z``.
_OUTSIDE_ESCAPES = {
    r"\N": r"[^\n]",
    r"\z": r"\Z",
    r"\Z": r"(?=\n?\Z)",
    r"\R": "(?:\r\n|[\n-\r\x85])",
    r"\C": r"(?s:.)",
    r"\b": f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))",
    r"\B": f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))",
}
_CHARACTERS = {
    **{f"\\{letter}": letter for letter in "ijmqyFIJMOTY"},
    r"\a": "\a",
    r"\e": "\x1b",
    r"\f": "\f",
    r"\n": "\n",
    r"\r": "\r",
    r"\t": "\t",
}
_CHARACTERS_INSIDE = {r"\b": "\b"}
# PCRE recognizes these only to refuse them.
_REFUSED = {r"\L", r"\U", r"\l", r"\u"}


def compile_regex(pattern: str) -> Search | None:
    """Return a function that searches a text for a pattern, or None if the pattern is malformed.

    The last compiled patterns are kept, except for very long ones.
    """
    return _compile_short(pattern) if len(pattern) <= _LONGEST_KEPT else _compile(pattern)


@lru_cache(maxsize=256)
def _compile_short(pattern: str) -> Search | None:
    return _compile(pattern)


def _compile(pattern: str) -> Search | None:
    """Return a function that searches a text for a pattern, or None if the pattern is malformed.

    Without the verb ``(*UTF8)``, a dot matches one byte, so ``^..$`` matches "é". The function raises ``ServerError``
    (``regex_timeout``) if a search takes longer than ``TIMEOUT_S``.
    """
    import regex  # 15 to 30 ms, and few queries need it

    counts = [(parse_integer(low) or 0, parse_integer(high) or 0) for low, high in _COUNT.findall(pattern)]
    if prod(max(low, high, 1) for low, high in counts) > _MAX_REPEATED:
        return None
    verb = next((verb for verb in _UTF8_VERBS if pattern.startswith(verb)), "")
    # Without the verb, each character of the translated pattern represents one byte.
    text = pattern.removeprefix(verb) if verb else _bytes_as_characters(pattern)
    try:
        translated = _translate(text, characters=bool(verb))
        # The package's own cache has no limit for the size of patterns.
        search = regex.compile(translated, cache_pattern=False).search
        quick = re.compile(translated).search if len(pattern) <= _LONGEST_KEPT and _SIMPLE.match(pattern) else None
    except (regex.error, re.error, OverflowError, RecursionError, ValueError):
        return None
    return _limited(search, quick, str if verb else _bytes_as_characters, pattern)


def _bytes_as_characters(text: str) -> str:
    return text if text.isascii() else text.encode().decode("latin-1")


def _limited(
    search: Callable[..., object], quick: Callable[[str], object] | None, prepare: Callable[[str], str], pattern: str
) -> Search:
    def find(value: str) -> bool:
        text = prepare(value)
        if quick is not None and len(text) <= _QUICK_TEXT:
            return quick(text) is not None
        try:
            return search(text, timeout=TIMEOUT_S) is not None
        except TimeoutError:
            reason = f"the pattern {pattern!r} takes longer than {TIMEOUT_S} s on one text"
            raise ServerError(reason, error="regex_timeout") from None

    return find


def _translate(pattern: str, *, characters: bool) -> str:
    """Rewrite syntax that PCRE and Python spell differently. Raise ``ValueError`` for a pattern that PCRE refuses."""
    done: list[str] = []
    # In PCRE, flags apply up to the end of the open group. In Python they need a group, so each opens one here.
    flags: list[list[str]] = [[]]
    at = 0
    while match := _OUTSIDE.search(pattern, at):
        done.append(pattern[at : match.start()])
        text, groups, at = match.group(), match.groupdict(), match.end()
        if groups["flags"] is not None:
            flags[-1].append(f"(?{groups['flags']}:")
            done.append(flags[-1][-1])
        elif groups["set"] is not None:
            translated, at = _class(pattern, match.start(), characters)
            done.append(translated)
        elif text == "(":
            flags.append([])
            done.append(text)
        elif text == "|":
            done += [_closed(flags[-1]), text, *flags[-1]]
        elif text == ")":
            done.append(_closed(flags.pop()) + text)
            if not flags:
                raise ValueError("unmatched parenthesis")
        elif groups["repeated"]:
            raise ValueError("nothing to repeat")
        else:
            done.append(_escape(text, groups, characters))
    return "".join(done) + pattern[at:] + _closed(flags[-1])


def _closed(flags: Sequence[str]) -> str:
    """Return the ends of the groups that the flags opened. With ``x``, a line feed ends a comment first."""
    return "".join("\n)" if "x" in flag else ")" for flag in reversed(flags))


def _escape(text: str, groups: Mapping[str, str | None], characters: bool) -> str:
    """Translate an escape outside of a character class, or a brace that does not repeat anything."""
    found = _character(text, groups, characters)
    if found is not None:
        return re.escape(found)
    letter = text[1:]
    if text[0] == "\\" and letter.lower() in _CLASSES:
        return f"[{_set(_CLASSES, letter.lower(), letter.isupper())}]"
    if groups["name"] is not None:
        return f"(?P={groups['name']})"
    group = groups["group"] or groups["braced"]
    return f"(?:\\{group})" if group else _OUTSIDE_ESCAPES.get(text, text)


def _character(text: str, groups: Mapping[str, str | None], characters: bool) -> str | None:
    """Return the characters that an escape denotes inside or outside of a class, or None for other escapes."""
    if text in _REFUSED:
        raise ValueError(f"PCRE does not support {text}")
    if groups["quoted"] is not None:
        return groups["quoted"]
    if groups["control"] is not None:
        return chr(ord(groups["control"].upper()) ^ 64)
    hexadecimal = groups["code"] or groups["hex"]
    if hexadecimal is not None:
        code = int(hexadecimal or "0", 16)
        if code > 255 and not characters:
            raise ValueError("the code does not fit into a byte")
        return chr(code)
    return groups.get("literal") or _CHARACTERS.get(text)


def _class(pattern: str, start: int, characters: bool) -> tuple[str, int]:
    """Translate the character class that begins at ``start``, and return the position of its end."""
    at = start + 1
    done = "["
    if pattern[at : at + 1] == "^":
        done, at = done + "^", at + 1
    first = at
    # The character that would begin a range if a hyphen followed, and the one that began the open range.
    before = range_from = ""
    while match := _INSIDE.match(pattern, at):
        text, groups, at = match.group(), match.groupdict(), match.end()
        if text == "]" and match.start() > first:
            return done + text, at
        if text == "-" and before and not range_from and pattern[at : at + 1] not in ("]", ""):
            range_from = before
            continue
        shown = _inside(text, groups, characters)
        single = len(shown) == 1
        if range_from:
            if not single or shown < range_from:
                raise ValueError("invalid range")
            done += "-" + _escaped(shown)
            before = range_from = ""
            continue
        done += shown if _is_set(text, groups) else "".join(map(_escaped, shown))
        before = "" if _is_set(text, groups) else shown[-1:]
    raise ValueError("unterminated character class")


def _is_set(text: str, groups: Mapping[str, str | None]) -> bool:
    return groups["posix"] is not None or (text[0] == "\\" and text[1:].lower() in _CLASSES)


def _inside(text: str, groups: Mapping[str, str | None], characters: bool) -> str:
    """Return the ranges of a set inside a character class, or the characters that another item denotes."""
    if groups["posix"] is not None:
        return _set(_POSIX, groups["posix"], bool(groups["negated"]))
    letter = text[1:]
    if text[0] != "\\":
        return text
    if letter.lower() in _CLASSES:
        return _set(_CLASSES, letter.lower(), letter.isupper())
    found = _character(text, groups, characters)
    if found is None:
        found = _CHARACTERS_INSIDE.get(text, letter)
    return found


def _escaped(character: str) -> str:
    return f"\\{character}" if character in "\\]^-[&~|" else character


def _set(sets: dict[str, str], name: str, negated: bool) -> str:
    """Return the ranges of a named set. Raise ``ValueError`` for an unknown name."""
    if name not in sets:
        raise ValueError(f"unknown character class {name}")
    return _complement(sets[name]) if negated else sets[name]


@lru_cache(maxsize=64)
def _complement(ranges: str) -> str:
    inside = re.compile(f"[{ranges}]")
    outside = [code for code in range(256) if not inside.match(chr(code))]
    return "".join(re.escape(chr(code)) for code in outside) + "\u0100-\U0010ffff"
