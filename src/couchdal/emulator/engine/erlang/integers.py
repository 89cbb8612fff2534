"""Integers in text, as Erlang parses them.

CouchDB parses query parameters, array indexes and revision numbers with ``list_to_integer`` and
``binary_to_integer``. Both accept a sign and ASCII digits, and nothing else: no spaces, no underscores.
"""

from __future__ import annotations

import re

# Python refuses to parse more than 4,300 digits, because the time grows with their square.
MOST_DIGITS = 4000

_DECIMAL = re.compile(r"[+-]?[0-9]+\Z")
# A string, which Python compiles on first use: hardly any request needs it.
_HEXADECIMAL = r"[+-]?[0-9A-Fa-f]+\Z"


def parse_integer(text: str) -> int | None:
    """Return the integer that a text spells, or None.

    Only the first ``MOST_DIGITS`` characters count, so a longer number comes out smaller. It still exceeds every count,
    size and index that it is compared with.

    >>> parse_integer("+7"), parse_integer("-07"), parse_integer("7 "), parse_integer("")
    (7, -7, None, None)
    """
    return int(text[:MOST_DIGITS]) if _DECIMAL.match(text) else None


def parse_hex(text: str) -> int | None:
    """Return the integer that a text spells in hexadecimal, or None.

    >>> parse_hex("ff"), parse_hex("-A"), parse_hex("0xff")
    (255, -10, None)
    """
    return int(text, 16) if re.match(_HEXADECIMAL, text) else None
