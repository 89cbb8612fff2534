"""Large JSON texts in pieces: other threads work between two pieces, and a stopped request ends there.

Python's JSON module decodes or encodes a whole value in one call, and no other thread can work meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json import decoder as json_decoder

from couchdal.pace import MOST_VALUES, give_way, size_of

# The most characters that are decoded at once.
_WINDOW = 32768
# A longer text is encoded in parts.
_LONGEST_TEXT = MOST_VALUES * 256
# How many items of an array are released at once.
_MOST_RELEASED = 500

_scan_string: Callable[[str, int, bool], tuple[str, int]] = json_decoder.scanstring  # type: ignore[attr-defined]
_skip = re.compile(rf"[ \t\n\r]{{,{_WINDOW}}}").match


class Decoding:
    """Decodes one text. ``decoder`` decodes values that are short; ``object_of`` makes objects of pairs."""

    def __init__(
        self, text: str, decoder: json.JSONDecoder, object_of: Callable[[list[tuple[str, object]]], object]
    ) -> None:
        self._text = text
        self._scan: Callable[[str, int], tuple[object, int]] = decoder.scan_once  # type: ignore[attr-defined]
        self._object_of = object_of
        # A part of the text, and where it starts.
        self._window = text[:_WINDOW]
        self._start = 0

    def value(self) -> object:
        """Return the value. Raise ``ValueError`` or ``RecursionError`` for a text that is not JSON."""
        value, end = self._value(self._after_space(0))
        if self._after_space(end) < len(self._text):
            raise ValueError("more text follows the value")
        return value

    def _after_space(self, at: int) -> int:
        while found := _skip(self._text, at):
            at, start = found.end(), at
            if at - start < _WINDOW:
                break
            give_way()
        return at

    def _value(self, at: int) -> tuple[object, int]:
        """Return the value at a position, and its end."""
        if at - self._start < len(self._window):
            found = self._short_value(at)
            if found is not None:
                return found
        if at > self._start:
            give_way()
            self._window, self._start = self._text[at : at + _WINDOW], at
            found = self._short_value(at)
            if found is not None:
                return found
        first = self._text[at : at + 1]
        if first == "[":
            return self._array(at)
        if first == "{":
            return self._object(at)
        if first == '"':
            return _scan_string(self._text, at + 1, True)
        try:
            return self._scan(self._text, at)
        except StopIteration:
            raise ValueError("a value is missing") from None

    def _short_value(self, at: int) -> tuple[object, int] | None:
        """Return a value that ends within the window, and its end; otherwise None."""
        window, start = self._window, self._start
        try:
            value, end = self._scan(window, at - start)
        except (StopIteration, ValueError):
            return None
        # A number may continue after the window, even after "1." or "1e+".
        if end > len(window) - 3 and start + end < len(self._text):
            return None
        return value, start + end

    def _array(self, at: int) -> tuple[object, int]:
        items: list[object] = []
        at = self._after_space(at + 1)
        if self._text[at : at + 1] == "]":
            return items, at + 1
        while True:
            item, at = self._value(at)
            items.append(item)
            at, is_last = self._next(at, "]")
            if is_last:
                return items, at

    def _object(self, at: int) -> tuple[object, int]:
        pairs: list[tuple[str, object]] = []
        at = self._after_space(at + 1)
        if self._text[at : at + 1] == "}":
            return self._object_of(pairs), at + 1
        while True:
            if self._text[at : at + 1] != '"':
                raise ValueError("a name is missing")
            name, at = _scan_string(self._text, at + 1, True)
            at = self._after_space(at)
            if self._text[at : at + 1] != ":":
                raise ValueError("a colon is missing")
            value, at = self._value(self._after_space(at + 1))
            pairs.append((name, value))
            at, is_last = self._next(at, "}")
            if is_last:
                return self._object_of(pairs), at

    def _next(self, at: int, last: str) -> tuple[int, bool]:
        """Return the position after a comma, and False; or the one after the ``last`` mark, and True."""
        at = self._after_space(at)
        mark = self._text[at : at + 1]
        if mark == last:
            return at + 1, True
        if mark != ",":
            raise ValueError("a comma is missing")
        return self._after_space(at + 1), False


def encode(value: object, encoded: Callable[[object], bytes]) -> bytes:
    """Return the JSON text of a value. ``encoded`` returns the text of a small one."""
    pieces: list[bytes] = []
    _encode(value, encoded, pieces.append)
    return b"".join(pieces)


def _encode(value: object, encoded: Callable[[object], bytes], add: Callable[[bytes], None]) -> None:
    give_way()
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        add(b'"')
        for start in range(0, len(value), _LONGEST_TEXT):
            add(encoded(value[start : start + _LONGEST_TEXT])[1:-1])
        add(b'"')
    elif not value or not isinstance(value, (dict, list)) or size_of(value, MOST_VALUES) <= MOST_VALUES:
        add(encoded(value))
    elif isinstance(value, dict):
        mark = b"{"
        for name, member in value.items():
            add(mark + encoded(name) + b":")
            _encode(member, encoded, add)
            mark = b","
        add(b"}")
    else:
        mark = b"["
        for items in _groups(value):
            add(mark)
            if len(items) == 1:
                _encode(items[0], encoded, add)
            else:
                add(encoded(items)[1:-1])
            mark = b","
        add(b"]")


def _groups(items: list[object]) -> Iterator[list[object]]:
    """Yield the items in groups that are encoded at once. A large item has a group of its own."""
    group: list[object] = []
    left = MOST_VALUES
    for item in items:
        size = size_of(item, MOST_VALUES)
        if size > left and group:
            give_way()
            yield group
            group, left = [], MOST_VALUES
        group.append(item)
        left -= size
    if group:
        yield group


def release(value: object) -> None:
    """Empty an answer that was sent, a few members at a time: Python itself releases a large one without a pause."""
    if isinstance(value, dict):
        for member in value.values():
            release(member)
        while len(value) > _MOST_RELEASED:
            for _ in range(_MOST_RELEASED):
                value.popitem()
            give_way()
    elif isinstance(value, list) and len(value) > _MOST_RELEASED:
        while value:
            del value[-_MOST_RELEASED:]
            give_way()
