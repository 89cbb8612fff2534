"""Conditions that compare a value with an argument: equality, order, membership in a list, prefix.

This module does not know fields or documents. By default, values compare by CouchDB's collation of JSON, where strings
with different code points can be equal. With ``raw``, they compare by Erlang's order of terms, as CouchDB compares ids.
Source: ``mango_selector:match``, ``mango_json:cmp``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

from couchdal.emulator.engine.collation.collation import json_key, string_key
from couchdal.emulator.engine.erlang.term_order import term_key

# A matcher runs once per document. For speed, its values are untyped and its common cases come first.
Matcher: TypeAlias = Callable[[Any], bool]

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
    match = _equal_to_any(arguments, raw)

    def match_in(value: Any) -> bool:
        if type(value) is not list:
            return match(value)
        for item in value:  # noqa: SIM110 - a generator costs more than the loop
            if match(item):
                return True
        return False

    return match_in if name == "$in" else lambda value: not match_in(value)


def _equal_to_any(arguments: Sequence[Any], raw: bool) -> Matcher:
    if raw or any(type(argument) is list or type(argument) is dict for argument in arguments):
        matchers = [equal_to(argument, raw=raw) for argument in arguments]
        return lambda value: any(matcher(value) for matcher in matchers)
    strings = frozenset(argument for argument in arguments if type(argument) is str)
    numbers = frozenset(argument for argument in arguments if type(argument) is int or type(argument) is float)
    # Kept apart from the numbers because Python's True equals 1.
    words = frozenset(argument for argument in arguments if type(argument) is bool or argument is None)
    plain = all(map(is_plain, strings))

    def match(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            if value in strings:
                return True
            if plain and value.isascii() and value.isprintable():
                return False
            return string_key(value) in map(string_key, strings)
        if kind is int or kind is float:
            return value in numbers
        return kind is not list and kind is not dict and value in words

    return match


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
