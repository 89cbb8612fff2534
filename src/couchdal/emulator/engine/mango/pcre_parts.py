"""Translated pieces of a PCRE pattern: their text for the ``regex`` package, and their size in PCRE's compiled form."""

from __future__ import annotations

import re
from typing import NamedTuple

CHARACTER, GROUP = "character", "group"
CLASS_SIZE = 33
# The package prepares strings in cubic time, and searches for them without looking at its time limit.
_LONGEST_STRING = 32
# Marks in the translation until the whole pattern is known. Such characters do not occur in patterns.
CAPTURE, _STRING, _STRING_END = "\ud800", "\ud801", "\ud802"
_CAPTURE_MARK = re.compile(rf"{CAPTURE}(\w*)\)", re.ASCII)


class Part(NamedTuple):
    """A translated piece: its size for PCRE, its length if that is fixed, and its cost for the package."""

    text: str
    size: int
    length: int | None
    kind: str = ""
    cost: int = 1


class Open:
    """An open group, and its parts so far. Flags apply up to its end."""

    __slots__ = ("branches", "first_number", "flags", "most_number", "opening", "size")

    def __init__(self, opening: str, flags: frozenset[str], number: int, size: int = 6) -> None:
        self.opening: str = opening
        self.flags: frozenset[str] = flags
        self.size: int = size
        self.first_number: int = number
        self.most_number: int = number
        self.branches: list[list[Part]] = [[]]


def length_of(branch: list[Part]) -> int | None:
    total = 0
    for part in branch:
        if part.length is None:
            return None
        total += part.length
    return total


def size_of_item(size: int, least: int, most: int | None) -> int:
    """Return the size of a repeated character, type or class."""
    if size >= CLASS_SIZE:
        return size + (1 if (least, most) in ((0, None), (1, None), (0, 1)) else 5)
    exact = 0 if least == 0 else size if least == 1 else size + 2
    if most == least:
        return exact
    if most is None:
        return size if least < 2 else exact + size
    return size if (least, most) == (0, 1) else exact + size + 2


def size_of_group(size: int, least: int, most: int | None) -> int:
    """Return the size of a repeated group. PCRE copies it."""
    if most is None:
        return size * max(least, 1) + (least == 0)
    optional = most - least
    return size * max(most, 1) + optional + 6 * max(optional - 1, 0) + (most == 0)


def emit(parts: list[Part]) -> str:
    """Return the text of some parts, their strings in pieces that the package can search for in bounded time."""
    done: list[str] = []
    at = 0
    while at < len(parts):
        kind, end = parts[at].kind, at + 1
        if not kind.startswith(CHARACTER):
            done.append(parts[at].text)
        else:
            while end < len(parts) and parts[end].kind == kind and end - at < _LONGEST_STRING:
                end += 1
            text = re.escape("".join(part.text for part in parts[at:end]))
            text = f"{_STRING}{text}{_STRING_END}"
            done.append(f"(?i:{text})" if kind.endswith("True") else text)
        at = end
    return "".join(done)


def finished(text: str, *, captures: bool, long: bool) -> str:
    """Return the text without the marks in it: with or without captures, and with long strings in pieces or whole."""
    # A capture costs memory for each repetition.
    text = _CAPTURE_MARK.sub(_capturing if captures else "?:", text)
    return text.replace(_STRING, "(?>" if long else "").replace(_STRING_END, ")" if long else "")


def _capturing(mark: re.Match[str]) -> str:
    return f"?P<{mark[1]}>" if mark[1] else ""
