"""Conditions that compare a value with another: equality, order, and membership in a list.

It knows nothing of fields or documents. ``raw`` compares by Erlang's order of terms, as ids are compared; otherwise
CouchDB's order of JSON values counts, to which differently written strings can be equal. Source:
``mango_selector:match``, ``mango_json:cmp``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from couchdal.emulator.engine.collation.collation import json_key, string_key
from couchdal.emulator.engine.erlang.term_order import term_key

# What follows runs for every document of a query: hence the untyped values and the order of the tests.
Matcher: TypeAlias = Callable[[Any], bool]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}
ORDER_OPERATORS: Final = frozenset(_COMPARE)


def is_plain(text: str) -> bool:
    """Whether a string is all printable ASCII: two of these are equal to collation only if they are the same."""
    return text.isascii() and text.isprintable()


def ordered(name: str, argument: Any, *, raw: bool) -> Matcher:
    """Return the condition of ``$lt``, ``$lte``, ``$gt`` or ``$gte``: values of all types have their order."""
    compare = _COMPARE[name]
    kind = type(argument)
    if raw:
        raw_bound = term_key(argument)
        return lambda value: compare(term_key(value), raw_bound)
    # A value of another type is on one side of the bound, whatever it is.
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
        # To Python, true is 1.
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
    """Return the condition that a member of an object equals a string: two steps in one, since most queries ask it."""
    if not is_plain(argument):
        match = _equal_string(argument)
        return lambda value: match(value.get(name))

    # Values that were found to differ: most members repeat.
    different: set[object] = set()

    def match_member(value: Any) -> bool:
        found = value.get(name)
        try:
            if found in different:
                return False
        except TypeError:
            # An array or an object.
            return False
        if found == argument:
            return True
        if type(found) is str and not is_plain(found) and string_key(found) == string_key(argument):
            return True
        different.add(found)
        return False

    return match_member


def one_of(name: str, arguments: Sequence[Any], *, raw: bool) -> Matcher:
    """Return the condition of ``$in`` or ``$nin``: an array is asked for its items, not as a whole."""
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
    # Apart from the numbers: to Python, true is 1.
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
