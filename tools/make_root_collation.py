"""Generate the bundled collation table, ``root_collation.z``, from the root collation data of CLDR.

    python tools/make_root_collation.py common/uca

``common/uca`` is a folder of a CLDR release. The table is text that zlib compresses. Its lines are:

- the version of the data
- all ideographs in order, where ``A-Z`` denotes the characters from A to Z
- one line for each other character or sequence: ``KEY:ELEMENT;ELEMENT...``

A key is a distance from the character of the line before, where an empty key means 1. For a sequence, it is an equals
sign and the sequence. An element is ``PRIMARY,SECONDARY,TERTIARY``. The first is a distance from the previous primary
weight. The others are distances from the usual weights, and empty for 0.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import zlib
from collections.abc import Collection
from pathlib import Path

from couchdal.emulator.engine.collation.root_collation import (
    IDEOGRAPHS,
    SECONDARY,
    TERTIARY,
    UNASSIGNED,
    Element,
    spread,
)

TARGET = Path(__file__).parent.parent / "src/couchdal/emulator/engine/collation/root_collation.z"
# Corrections of version 15 to the data of version 14: each key gets the weights of its value.
CORRECTIONS = {"\u0f82": "\u0901", "\u0f83": "\u0901", "\U000101fd": "\ufe27"}
_ELEMENT = re.compile(r"\[[.*]([0-9A-F]+)\.([0-9A-F]+)\.([0-9A-F]+)\]")

Table = dict[str, list[Element]]


def read_keys(text: str) -> tuple[str, Table]:
    """Return the version of the data, and the elements of each character or sequence."""
    version, table = "", Table()
    for line in text.splitlines():
        if line.startswith("@version"):
            version = line.split()[1]
        elif ";" in line and line[0] not in "#@":
            key, elements = line.split(";", 1)
            table["".join(chr(int(code, 16)) for code in key.split())] = [
                (int(one, 16), int(two, 16), int(three, 16)) for one, two, three in _ELEMENT.findall(elements)
            ]
    table.update({key: table[like] for key, like in CORRECTIONS.items()})
    return version, table


def read_ideographs(text: str) -> str:
    """Return the ideographs in the order of radicals and strokes."""
    return "".join(line.partition(":")[2].rstrip("]") for line in text.splitlines() if line.startswith("[radical "))


def ranked(elements: list[Element], ranks: dict[int, int]) -> list[Element]:
    """Return elements in which ideographs are ranked by radical and stroke. The data ranks them by code point."""
    found = list(elements)
    for at, (first, second, third) in enumerate(elements):
        if IDEOGRAPHS <= first < UNASSIGNED and at + 1 < len(elements):
            rank = ranks[(first & 0x3F) << 15 | elements[at + 1][0] & 0x7FFF]
            found[at : at + 2] = (IDEOGRAPHS + (rank >> 15), second, third), (rank & 0x7FFF | 0x8000, 0, 0)
    return found


def is_derived(key: str, table: Table, ideographs: Collection[int]) -> bool:
    """Return True for a character whose decomposition has the same elements. The table does not need it."""
    parts = unicodedata.normalize("NFD", key)
    if len(key) != 1 or parts == key:
        return False
    if len(parts) == 1 and ord(parts) in ideographs:
        return True
    elements, at = [], 0
    while at < len(parts):
        size = next((size for size in (3, 2, 1) if parts[at : at + size] in table), 0)
        if size == 0:
            return False
        elements += table[parts[at : at + size]]
        at += size
    return elements == table[key]


def pack(version: str, table: Table, ideographs: str) -> bytes:
    """Return the compressed table."""
    lines, before, primary = [version, ideographs], 0, 0
    ranks = {ord(ideograph): rank for rank, ideograph in enumerate(spread(ideographs))}
    for key in sorted(key for key in table if not is_derived(key, table, ranks)):
        elements = []
        for first, second, third in ranked(table[key], ranks):
            elements.append(f"{first - primary if first else ''},{second - SECONDARY or ''},{third - TERTIARY or ''}")
            primary = first or primary
        if len(key) > 1:
            name = f"={key}"
        else:
            name = "" if ord(key) == before + 1 else str(ord(key) - before)
            before = ord(key)
        lines.append(f"{name}:{';'.join(elements)}")
    return zlib.compress("\n".join(lines).encode(), 9)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    order = read_ideographs((folder / "FractionalUCA.txt").read_text("utf-8"))
    TARGET.write_bytes(pack(*read_keys((folder / "allkeys_CLDR.txt").read_text("utf-8")), order))
