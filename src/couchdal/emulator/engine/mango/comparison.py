"""Conditions that compare a value with an argument: equality, order, membership in a list, prefix.

This module does not know fields or documents. By default, values compare by CouchDB's collation of JSON, where strings
with different code points can be equal. With ``raw``, they compare by Erlang's order of terms, as CouchDB compares ids.
Source: ``mango_selector:match``, ``mango_json:cmp``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, Generic, TypeAlias, TypeVar

from couchdal.emulator.engine.collation.collation import json_key, string_key
from couchdal.emulator.engine.erlang.term_order import term_key

# A matcher runs once per document. For speed, its values are untyped and its common cases come first.
Matcher: TypeAlias = Callable[[Any], bool]
Entry = TypeVar("Entry")

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}
ORDER_OPERATORS: Final = frozenset(_COMPARE)


def is_plain(text: str) -> bool:
    """Return True for printable ASCII. Two such strings collate as equal only if they are identical."""
    return text.isascii() and text.isprintable()


def ordered(name: str, argument: Any, *, raw: bool) -> Matcher:
    """Return the condition of ``$lt``, ``$lte``, ``$gt`` or ``$gte``. Values of different types have an order too."""
    compare = _COMPARE[name]
    kind = type(argument)
    if raw:
        raw_bound = term_key(argument)
        return lambda value: compare(term_key(value), raw_bound)
    # The type alone decides when it differs from the bound's: strings, arrays and objects sort above numbers.
    above = name in ("$gt", "$gte")
    if kind is int or kind is float:

        def match_number(value: Any) -> bool:
            kind = type(value)
            if kind is int or kind is float:
                return compare(value, argument)
            return (kind is str or kind is list or kind is dict) is above

        return match_number
    bound = json_key(argument)
    if kind is str:
        bound_key = string_key(argument)

        def match_string(value: Any) -> bool:
            kind = type(value)
            if kind is str:
                return compare(string_key(value), bound_key)
            return (kind is list or kind is dict) is above

        return match_string
    return lambda value: compare(json_key(value), bound)


def equal_to(argument: Any, *, raw: bool) -> Matcher:
    """Return the condition of ``$eq``."""
    kind = type(argument)
    if kind is str:
        return (lambda value: bool(value == argument)) if raw else _equal_string(argument)
    if kind is bool or argument is None:
        return lambda value: value is argument
    if kind is int or kind is float:
        # Python's True equals 1; CouchDB's does not.
        return lambda value: value == argument and type(value) is not bool
    make_key = term_key if raw else json_key
    key = make_key(argument)
    return lambda value: type(value) is kind and make_key(value) == key


def _equal_string(argument: str) -> Matcher:
    plain = is_plain(argument)

    def match(value: Any) -> bool:
        if value == argument:
            return True
        if type(value) is not str or (plain and value.isascii() and value.isprintable()):
            return False
        return string_key(value) == string_key(argument)

    return match


def member_equal_to(name: str, argument: str) -> Matcher:
    """Return the condition that an object's member equals a string.

    Most queries contain this condition, so one function does the lookup and the comparison.
    """
    if not is_plain(argument):
        match = _equal_string(argument)
        return lambda value: match(value.get(name))

    # Values already found to differ. Members such as a type repeat in most documents.
    different: set[object] = set()

    def match_member(value: Any) -> bool:
        found = value.get(name)
        try:
            if found in different:
                return False
        except TypeError:
            # Arrays and objects are not hashable, and never equal a string.
            return False
        if found == argument:
            return True
        if type(found) is str and not is_plain(found) and string_key(found) == string_key(argument):
            return True
        different.add(found)
        return False

    return match_member


def one_of(name: str, arguments: Sequence[Any], *, raw: bool) -> Matcher:
    """Return the condition of ``$in`` or ``$nin``. An array matches by its items, not as a whole."""
    table: EqualityTable[bool] = EqualityTable(raw=raw)
    for argument in arguments:
        table.add(argument, True)
    find = table.find

    def match_in(value: Any) -> bool:
        if type(value) is not list:
            return bool(find(value))
        for item in value:  # noqa: SIM110 - a generator costs more than the loop
            if find(item):
                return True
        return False

    return match_in if name == "$in" else lambda value: not match_in(value)


def equality_key(value: object, *, raw: bool) -> object:
    """Return a hashable key that two values share if CouchDB considers them equal."""
    return _hashable((term_key if raw else json_key)(value))


def _hashable(key: object) -> object:
    return tuple(map(_hashable, key)) if type(key) is tuple or type(key) is list else key


class EqualityTable(Generic[Entry]):
    """Entries by the value that a document's value must equal. A look-up costs the same for any number of them."""

    __slots__ = ("_containers", "_is_plain", "_keys", "_numbers", "_raw", "_strings", "_words")

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._strings: dict[str, list[Entry]] = {}
        # The same entries by sort key. Only strings that are not plain need this table.
        self._keys: dict[bytes, list[Entry]] | None = None
        self._is_plain = True
        self._numbers: dict[int | float, list[Entry]] = {}
        # Kept apart from the numbers because Python's True equals 1.
        self._words: dict[bool | None, list[Entry]] = {}
        self._containers: dict[object, list[Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._strings or self._numbers or self._words or self._containers)

    def add(self, argument: Any, entry: Entry) -> None:
        kind = type(argument)
        if kind is str:
            self._is_plain = self._is_plain and is_plain(argument)
            self._keys = None
            self._strings.setdefault(argument, []).append(entry)
        elif kind is int or kind is float:
            self._numbers.setdefault(argument, []).append(entry)
        elif kind is list or kind is dict:
            self._containers.setdefault(equality_key(argument, raw=self._raw), []).append(entry)
        else:
            self._words.setdefault(argument, []).append(entry)

    def find(self, value: Any) -> Sequence[Entry]:
        """Return the entries of the argument that equals a value."""
        kind = type(value)
        if kind is str:
            if self._raw or (self._is_plain and value.isascii() and value.isprintable()):
                return self._strings.get(value, ())
            return self._by_key().get(string_key(value), ()) if self._strings else ()
        if kind is int or kind is float:
            return self._numbers.get(value, ())
        if kind is list or kind is dict:
            return self._containers.get(equality_key(value, raw=self._raw), ()) if self._containers else ()
        return self._words.get(value, ())

    def _by_key(self) -> dict[bytes, list[Entry]]:
        keys = self._keys
        if keys is None:
            keys = {}
            for text, entries in self._strings.items():
                keys.setdefault(string_key(text), []).extend(entries)
            self._keys = keys
        return keys


def begins_with(prefix: str) -> Matcher:
    """Return the condition of ``$beginsWith``: the prefix must end where a grapheme of the text ends.

    "é" can be an "e" followed by an accent. Such a text does not begin with "e". Erlang's ``string:prefix`` segments
    the text from the last code point of the prefix on and ignores what comes before. A flag consists of two letters, so
    in a row of flags this finds other boundaries than segmentation from the start.
    """
    size = len(prefix)

    def match(value: Any) -> bool:
        if type(value) is not str or not value.startswith(prefix):
            return False
        return not prefix or size == len(value) or not _is_one_grapheme(value[size - 1 : size + 1])

    return match


def _is_one_grapheme(pair: str) -> bool:
    """Return True if no grapheme boundary separates two code points."""
    if pair.isascii():
        return pair == "\r\n"
    return _fullmatch_grapheme()(pair) is not None


@cache
def _fullmatch_grapheme() -> Callable[[str], object]:
    import regex  # 15 to 30 ms, and only text beyond ASCII needs it

    # Erlang 25 implements Unicode 14. Since Unicode 15.1, a virama joins the consonant that follows it: the lookahead
    # undoes this. It is the only rule that joins Extend with Other in a text of two code points.
    return regex.compile(r"(?!\p{GCB=Extend}\p{GCB=Other})\X").fullmatch
