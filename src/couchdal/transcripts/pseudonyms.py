"""Pseudonyms: the replacements for the strings and numbers of a test.

Strings become ``s1``, ``s2`` and so on, numbers become small numbers. Both keep their order, and equal values stay
equal.
"""

from __future__ import annotations

import re
from typing import Final

from couchdal.http.json_text import JSON

#: The prefix of the ids of users.
USER: Final = "org.couchdb.user:"
# Characters that ranges of keys often end with.
_LIMITS = "\ufff0\ufff8\uffff\U0010ffff"
_PIECES = re.compile("([:/])")


class Pseudonyms:
    """The strings and numbers of one test, with their replacements. Mark all as ``seen`` before replacing the first."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._users: set[str] = set()
        self._numbers: set[int | float] = set()
        self._found: dict[str, str] | None = None
        self._found_numbers: dict[int | float, int | float] = {}
        #: References to earlier answers.
        self.references: dict[str, str] = {}

    def finish(self) -> None:
        """Choose the replacements."""
        self._found = {text: f"s{at}" for at, text in enumerate(sorted(self._texts), _first(len(self._texts)))}
        # Users are the server's, so their names contain the database's.
        self._found |= {name: f"{{db}}-{self._found[name]}" for name in self._users if name in self._found}
        positive = sorted(number for number in self._numbers if number > 0)
        negative = sorted((number for number in self._numbers if number < 0), reverse=True)
        for sign, numbers in ((1, positive), (-1, negative)):
            for at, number in enumerate(numbers, 1):
                self._found_numbers[number] = sign * (at if type(number) is int else at + 0.5)

    def leaf(self, value: str | float) -> JSON:
        """Return what replaces a text or a number."""
        if isinstance(value, str):
            return self.text(value)
        if self._found is None:
            self._numbers.add(value)
        return self._found_numbers.get(value, value)

    def text(self, text: str) -> str:
        """Return what replaces a text. Ids keep their ``:`` and ``/``, ranges keep their last character."""
        if text in self.references:
            return self.references[text]
        if text.startswith(USER):
            self._users.add(text.removeprefix(USER))
            return USER + self._piece(text.removeprefix(USER))
        end = len(text.rstrip(_LIMITS))
        return "".join(map(self._piece, _PIECES.split(text[:end]))) + text[end:]

    def _piece(self, piece: str) -> str:
        if not piece or piece in (":", "/") or piece.startswith("_"):
            return piece
        if self._found is None:
            self._texts.add(piece)
            return piece
        return self._found.get(piece, piece)


def _first(count: int) -> int:
    """Return the first of ``count`` numbers that all have as many digits, so that they sort as texts."""
    first = 1
    while first + count > 10 * first:
        first *= 10
    return first
