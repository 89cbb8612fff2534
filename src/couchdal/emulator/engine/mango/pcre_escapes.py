"""Escapes and character classes of PCRE, in the syntax of the ``regex`` package.

Erlang's character tables are those of Latin-1, with or without a UTF-8 verb.
"""

from __future__ import annotations

import re
from functools import lru_cache

from couchdal.errors import NotSupported

_UPPER, _LOWER = "A-Z\xc0-\xd6\xd8-\xde", "a-z\xaa\xb5\xba\xdf-\xf6\xf8-\xff"
_PUNCTUATION = "!-/:-@\\[-`{-~\xa0-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7"
_WORD = f"{_UPPER}{_LOWER}0-9_"
_SETS = {"w": _WORD, "d": "0-9", "s": "\t-\r ", "h": "\t \xa0", "v": "\n-\r\x85"}
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
#: Escapes that match a place. PCRE does not repeat them. Searches begin at the start of the text, so ``\G`` is there.
PLACES = {
    "A": r"\A",
    "B": f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))",
    "G": r"\A",
    "K": r"\K",
    "Z": r"(?=\n?\Z)",
    "b": f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))",
    "z": r"\Z",
}
#: Escapes that match characters. The flag tells whether they match exactly one.
TYPES = {
    "C": ("(?s:.)", True),
    "N": (r"[^\n]", True),
    "R": ("(?:\r\n|[\n-\r\x85])", False),
    "X": (r"\X", False),
}
_CONTROLS = {"a": "\a", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
#: Letters that a backslash does not change, except after ``(?X)``.
LITERAL_LETTERS = frozenset("ijmqyFIJMOTY")
_HEXADECIMAL = re.compile(r"x(?:\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{0,2}))")
_BRACED_HEXADECIMAL = re.compile(r"x\{[0-9A-Fa-f]+\}")
_BRACED_OCTAL = re.compile(r"o\{([0-7]+)\}")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{0,2}")
_PROPERTY = re.compile(r"([pP])(?:\{(\^?)(L&|[A-Za-z_]+)\}|([A-Z]))")
_CATEGORY = re.compile(r"C[cfnos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|Any")
# The text that PCRE takes for a POSIX class: it ends before another one begins, and may hold an escaped bracket.
_POSIX_ITEM = re.compile(r"\[:(\^?)((?:\\[\\\]]|(?!\[:|:?\]).)*):\]", re.DOTALL)
_COLLATING = re.compile(r"\[([.=])[^\]]*?\1\]")
_LARGEST_CODE = 0x10FFFF
# A search for a class with more items takes too long.
_MOST_ITEMS = 512


# The properties of PCRE's own, as the insides of classes: the characters that have one, and all others.
_SPACE = r"\t\n\v\f\r\x85\u180e\p{Z}"
_NO_SPACE = r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cn}\p{Co}\p{Cs}" + (
    # Cf without U+180E
    r"\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_NO_WORD = r"\p{M}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\p{S}\p{Z}\p{C}\u203f\u2040\u2054\ufe33\ufe34\ufe4d-\ufe4f\uff3f"
_OWN_PROPERTIES = {
    "Xan": (r"\p{L}\p{N}", r"\p{M}\p{P}\p{S}\p{Z}\p{C}"),
    "Xwd": (r"\p{L}\p{N}_", _NO_WORD),
    "Xsp": (_SPACE, _NO_SPACE),
    "Xps": (_SPACE, _NO_SPACE),
    "Xuc": (r"$@`\xa0-\ud7ff\ue000-\U0010ffff", r"\x00-#%-?A-_a-\x9f\ud800-\udfff"),
}


def read_character(pattern: str, at: int, *, utf: bool) -> tuple[str, int] | None:
    r"""Return the character of the escape whose backslash is before ``at``, and its end. Return None for other escapes.

    ``\1`` to ``\377`` count as octal numbers here. Raise ``ValueError`` if PCRE refuses the escape.
    """
    letter = pattern[at : at + 1]
    if not letter:
        raise ValueError("a backslash at the end")
    if letter in "LUlu":
        raise ValueError(f"PCRE does not support \\{letter}")
    if letter == "c":
        control = pattern[at + 1 : at + 2]
        if not control or not control.isascii():
            raise ValueError("no ASCII character after \\c")
        return chr(ord(control.upper()) ^ 64), at + 2
    if pattern.startswith("x{", at) and not _BRACED_HEXADECIMAL.match(pattern, at):
        raise ValueError("no hexadecimal digits in \\x{}")
    for number, base in ((_HEXADECIMAL, 16), (_BRACED_OCTAL, 8), (_OCTAL, 8)):
        if match := number.match(pattern, at):
            digits = match.group() if number is _OCTAL else next(filter(None, match.groups()), "0")
            code = int(digits, base) if len(digits) < 16 else _LARGEST_CODE + 1
            if code > (_LARGEST_CODE if utf else 255) or 0xD800 <= code < 0xE000:
                raise ValueError("the code of a character is too large")
            return chr(code), match.end()
    if letter in "ox":
        raise ValueError("digits are missing")
    if letter in _CONTROLS:
        return _CONTROLS[letter], at + 1
    return (letter, at + 1) if letter in "89" or letter in LITERAL_LETTERS or not letter.isalnum() else None


def read_set(pattern: str, at: int) -> tuple[str, int] | None:
    """Return the inside of a class for an escape such as ``\\w`` or ``\\p{Lu}``, and its end, or None."""
    letter = pattern[at : at + 1]
    if letter and letter.lower() in _SETS:
        ranges = _SETS[letter.lower()]
        return (_complement(ranges) if letter.isupper() else ranges), at + 1
    if letter not in ("p", "P"):
        return None
    match = _PROPERTY.match(pattern, at)
    if match is None:
        raise ValueError("malformed \\p")
    kind, negated, name, short = match.groups()
    name = name or short
    sign = "P" if (kind == "P") != bool(negated) else "p"
    if name in _OWN_PROPERTIES:
        return _OWN_PROPERTIES[name][sign == "P"], match.end()
    if name == "L&":
        name = "LC"
    elif name.startswith("X"):
        raise ValueError("unknown property name after \\p")
    elif not _CATEGORY.fullmatch(name):
        name = _script(name)
    return f"\\{sign}{{{name}}}", match.end()


@lru_cache(maxsize=64)
def _script(name: str) -> str:
    """Return the property of a script for the ``regex`` package. Raise ``ValueError`` for an unknown script."""
    import regex  # 15 to 30 ms, and few patterns name a script

    try:
        regex.compile(f"\\p{{Script={name}}}", cache_pattern=False)
    except regex.error:
        raise ValueError("unknown property name after \\p") from None
    return f"Script={name}"


@lru_cache(maxsize=64)
def _complement(ranges: str) -> str:
    inside = re.compile(f"[{ranges}]")
    outside = [code for code in range(256) if not inside.match(chr(code))]
    return "".join(re.escape(chr(code)) for code in outside) + "\u0100-\U0010ffff"


def check_outside_class(pattern: str, at: int) -> None:
    """Raise ``ValueError`` for a POSIX class, such as ``[:alpha:]``, outside of a character class."""
    if _POSIX_ITEM.match(pattern, at) or _COLLATING.match(pattern, at):
        raise ValueError("POSIX classes are supported only within a class")


class CharacterClass:
    """A character class that begins at ``start``: its translation, its end, and its only character if it has one."""

    __slots__ = ("_before", "_items", "_range_from", "_utf", "end", "negated", "only", "text", "wide")

    def __init__(self, pattern: str, start: int, *, utf: bool) -> None:
        self._utf = utf
        # Keep each item once, because the package compares each character of a text with each item.
        self._items: dict[str, None] = {}
        # The character that would begin a range if a hyphen followed, and the one that began the open range.
        self._before = self._range_from = ""
        self.negated: bool = pattern[start + 1 : start + 2] == "^"
        #: How many bytes PCRE needs for characters beyond Latin-1.
        self.wide: int = 0
        first = start + 1 + self.negated
        if pattern.startswith(("[:<:]]", "[:>:]]"), first):
            raise NotSupported("the emulator does not support [[:<:]] and [[:>:]] in a $regex")
        self.end: int = self._read(pattern, first) + 1
        if len(self._items) > _MOST_ITEMS:
            raise NotSupported(
                f"the emulator supports at most {_MOST_ITEMS} characters and ranges in a character class"
            )
        self.only: str | None = self._before if len(self._items) == 1 and self._before else None
        self.text: str = f"[{'^' * self.negated}{''.join(self._items)}]"

    def _read(self, pattern: str, first: int) -> int:
        """Read the items of the class, and return the position of its closing bracket."""
        at = first
        while at < len(pattern):
            character = pattern[at]
            if character == "]" and at > first:
                return at
            if character == "-" and self._before and not self._range_from and pattern[at + 1 : at + 2] not in ("]", ""):
                self._range_from, at = self._before, at + 1
            elif character == "[" and pattern[at + 1 : at + 2] in (":", ".", "="):
                at = self._posix(pattern, at)
            elif character == "\\":
                at = self._escape(pattern, at + 1)
            else:
                self._add(character)
                at += 1
        raise ValueError("unterminated character class")

    def _posix(self, pattern: str, at: int) -> int:
        if _COLLATING.match(pattern, at):
            raise ValueError("PCRE does not support POSIX collating elements")
        match = _POSIX_ITEM.match(pattern, at)
        if match is None:
            self._add("[")
            return at + 1
        if match[2] not in _POSIX:
            raise ValueError(f"unknown character class {match[2]}")
        self._add_set(_complement(_POSIX[match[2]]) if match[1] else _POSIX[match[2]])
        return match.end()

    def _escape(self, pattern: str, at: int) -> int:
        letter = pattern[at : at + 1]
        if letter == "Q":
            end = pattern.find("\\E", at)
            quoted = pattern[at + 1 : None if end < 0 else end]
            for character in quoted:
                self._add(character)
            return len(pattern) if end < 0 else end + 2
        if letter == "E":
            return at + 1
        if letter == "b":
            self._add("\b")
            return at + 1
        if found := read_set(pattern, at):
            self._add_set(found[0])
            return found[1]
        if found := read_character(pattern, at, utf=self._utf):
            self._add(found[0])
            return found[1]
        if letter == "N":
            raise ValueError("\\N in a character class")
        self._add(letter)
        return at + 1

    def _add(self, character: str) -> None:
        if ord(character) > 255:
            self.wide += 1 + len(character.encode())
        if not self._range_from:
            self._items[_escaped(character)] = None
            self._before = character
            return
        if character < self._range_from:
            raise ValueError("invalid range")
        self._items[f"{_escaped(self._range_from)}-{_escaped(character)}"] = None
        self._before = self._range_from = ""

    def _add_set(self, ranges: str) -> None:
        if self._range_from:
            raise ValueError("invalid range")
        self._items[ranges] = None
        self._before = ""


def _escaped(character: str) -> str:
    return f"\\{character}" if character in "\\]^-[&~|" else character
