"""Make the bundled collation table, `root_collation.z`, from the root collation data of CLDR.

    python tools/make_root_collation.py common/uca

``common/uca`` is a folder of a CLDR release. The table is text, compressed by zlib: a line with the version, a line
with all ideographs in their order (``A-Z`` for those from A to Z), and a line for each other character or sequence,
``KEY:ELEMENT;ELEMENT...``. A key is the distance from the character before (nothing for 1) or, behind an equals sign,
a sequence. An element is ``PRIMARY,SECONDARY,TERTIARY``: distances from the primary weight before, from the usual
secondary weight and from the usual tertiary one, where those are not 0.
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
# What version 15 of the data mends in version 14: these have the weights of others.
CORRECTIONS = {"\u0f82": "\u0901", "\u0f83": "\u0901", "\U000101fd": "\ufe27"}
_ELEMENT = re.compile(r"\[[.*]([0-9A-F]+)\.([0-9A-F]+)\.([0-9A-F]+)\]")

Table = dict[str, list[Element]]


def read_keys(text: str) -> tuple[str, Table]:
    """Return the version of the data and the elements of each character or sequence."""
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
    """Return the ideographs in the order of their radicals and strokes."""
    return "".join(line.partition(":")[2].rstrip("]") for line in text.splitlines() if line.startswith("[radical "))


def ranked(elements: list[Element], ranks: dict[int, int]) -> list[Element]:
    """Return the elements with those of ideographs, which the data orders by number, in the order of the ideographs."""
    found = list(elements)
    for at, (first, second, third) in enumerate(elements):
        if IDEOGRAPHS <= first < UNASSIGNED and at + 1 < len(elements):
            rank = ranks[(first & 0x3F) << 15 | elements[at + 1][0] & 0x7FFF]
            found[at : at + 2] = (IDEOGRAPHS + (rank >> 15), second, third), (rank & 0x7FFF | 0x8000, 0, 0)
    return found


def is_derived(key: str, table: Table, ideographs: Collection[int]) -> bool:
    """Whether a character needs no line of its own, because its canonical decomposition gives the same elements."""
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
