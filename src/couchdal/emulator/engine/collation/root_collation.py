"""Sort keys for systems without ICU: the root collation of CLDR, from a bundled table.

The order is the one of ICU's root collator with its defaults: three levels, no variable elements, and no normalization
of the text. Source: UTS #10, sections 7 and 9.1; UTS #35 part 5, "Root Collation". ``tools/make_root_collation.py``
generates the table.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from couchdal.emulator.engine.collation.icu import Collator

# The weights of a collation element on the three levels. 0 means no weight.
Element: TypeAlias = tuple[int, int, int]
# The bytes that a character or a sequence adds to each level of a key.
_Weights: TypeAlias = tuple[bytes, bytes, bytes]

# The secondary weight of characters without accent, and the tertiary weight of characters that are not variants.
SECONDARY, TERTIARY = 0x20, 0x02

_TABLE = Path(__file__).with_name("root_collation.z")
_IGNORABLE: _Weights = (b"", b"", b"")
_MOST_KEPT = 65536
_LEVEL_END = b"\0\0"
# This character separates fields that are sorted one after the other. It is the lowest on each level.
_SEPARATOR = "\ufffe"

# The first weights of characters that are not in the table: ideographs, and unassigned code points.
IDEOGRAPHS, UNASSIGNED = 0xFB40, 0xFBC0
# The scripts between them that sort by code point: first weight, first code point, blocks. Source: UTS #10, table 16.
_BY_CODE_POINT = (
    (0xFB00, 0x17000, (range(0x17000, 0x18B00), range(0x18D00, 0x18D80))),
    (0xFB01, 0x1B170, (range(0x1B170, 0x1B300),)),
    (0xFB02, 0x18B00, (range(0x18B00, 0x18D00),)),
)


# How ICU numbers the collator of its release with the same data.
_VERSION = "153.120"


def load_collator() -> Collator:
    """Return the collator of the table."""
    version, ideographs, table = zlib.decompress(_TABLE.read_bytes()).decode().split("\n", 2)
    return Collator(f"CLDR root of Unicode {version}, bundled", _VERSION, _Collator(ideographs, table).sort_key)


def spread(text: str) -> Iterator[str]:
    """Yield the characters of a list in which ``A-Z`` denotes the characters from A to Z."""
    at = 0
    while at < len(text):
        last = text[at + 2] if text[at + 1 : at + 2] == "-" else text[at]
        yield from map(chr, range(ord(text[at]), ord(last) + 1))
        at += 3 if text[at + 1 : at + 2] == "-" else 1


class _Collator:
    def __init__(self, ideographs: str, table: str) -> None:
        # The elements of the table, and the weights computed so far.
        self._table: dict[str, list[tuple[int | str, str, str]]] = {}
        self._weights: dict[str, _Weights] = {}
        self._ideographs = ideographs
        self._ranks: dict[str, int] | None = None
        # The first characters of sequences, and the length of the longest sequence of each.
        self._starts: dict[str, int] = {}
        self._read(table)
        self._weights[_SEPARATOR] = (b"\0\1", b"\0\1", b"\0\1")

    def _read(self, table: str) -> None:
        code = primary = 0
        for line in table.split("\n"):
            name, _, listed = line.rpartition(":")
            elements: list[tuple[int | str, str, str]] = []
            for element in listed.split(";"):
                first, second, third = element.split(",")
                if first:
                    primary += int(first)
                elements.append((first and primary, second, third))
            if name.startswith("="):
                key = name[1:]
                self._starts[key[0]] = max(len(key), self._starts.get(key[0], 0))
            else:
                code += int(name) if name else 1
                key = chr(code)
            self._table[key] = elements

    def sort_key(self, text: str) -> bytes:
        weights = self._weights
        if self._starts.keys().isdisjoint(text):
            found = [weights.get(character) or self._weigh(character) for character in text]
        else:
            found = self._in_sequences(text)
        return _LEVEL_END.join(_joined(found) if found else _IGNORABLE)

    def _in_sequences(self, text: str) -> list[_Weights]:
        """Return the weights of a text that can contain sequences."""
        found, rest = [], list(reversed(text))
        while rest:
            found.append(self._first(rest))
        return found

    def _first(self, rest: list[str]) -> _Weights:
        """Remove the next sequence from the end of a reversed text, and return its weights.

        The longest sequence wins. A sequence continues with a later mark if no mark between them blocks it.
        """
        table, longest = self._table, self._starts.get(rest[-1], 1)
        size = min(longest, len(rest))
        while size > 1 and "".join(rest[: -size - 1 : -1]) not in table:
            size -= 1
        taken = "".join(rest[: -size - 1 : -1])
        del rest[-size:]
        at, blocking = 1, 0
        while len(taken) < longest and at <= len(rest):
            combining = unicodedata.combining(rest[-at])
            if combining == 0:
                break
            if combining > blocking and taken + rest[-at] in table:
                taken += rest.pop(-at)
            else:
                blocking = combining
                at += 1
        return self._weights.get(taken) or self._weigh(taken)

    def _weigh(self, key: str) -> _Weights:
        """Return and cache the weights of a character, or of a sequence in the table."""
        listed = self._table.get(key)
        if listed is not None:
            elements = [(int(a or 0), SECONDARY + int(b or 0), TERTIARY + int(c or 0)) for a, b, c in listed]
            made = _packed(elements)
        else:
            parts = unicodedata.normalize("NFD", key)
            made = _joined(self._in_sequences(parts)) if parts != key else _packed(self._implicit(key))
        if len(self._weights) < _MOST_KEPT:
            self._weights[key] = made
        return made

    def _implicit(self, character: str) -> list[Element]:
        """Return the elements of a character that is not in the table."""
        if self._ranks is None:
            self._ranks = {ideograph: rank for rank, ideograph in enumerate(spread(self._ideographs))}
        rank = self._ranks.get(character)
        if rank is not None:
            return _pair(IDEOGRAPHS + (rank >> 15), rank & 0x7FFF)
        code = ord(character)
        for first, start, blocks in _BY_CODE_POINT:
            if any(code in block for block in blocks):
                return _pair(first, code - start)
        return _pair(UNASSIGNED + (code >> 15), code & 0x7FFF)


def _joined(weights: Sequence[_Weights]) -> _Weights:
    one, two, three = (b"".join(level) for level in zip(*weights, strict=True))
    return one, two, three


def _packed(elements: Iterable[Element]) -> _Weights:
    one, two, three = (_level([element[level] for element in elements]) for level in range(3))
    return one, two, three


def _level(weights: Sequence[int]) -> bytes:
    present = [weight for weight in weights if weight]
    return struct.pack(f">{len(present)}H", *present)


def _pair(first: int, second: int) -> list[Element]:
    return [(first, SECONDARY, TERTIARY), (second | 0x8000, 0, 0)]
