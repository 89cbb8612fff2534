"""Normalised selectors as functions: compiled once a query, called once a document.

It knows nothing of databases. Source: ``mango_selector:match``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from dal.engine.collation import json_key, string_key
from dal.engine.field_path import NOT_FOUND, Missing, get_field, parse_field
from dal.engine.grapheme import begins_with
from dal.engine.regex import compile_regex
from dal.engine.selector import Selector, invalid_operator
from dal.engine.term_order import is_same_term, term_key
from dal.errors import CouchError, ServerError

Matcher: TypeAlias = Callable[[object], bool]


def compile_selector(selector: Mapping[str, object]) -> Callable[[Mapping[str, object]], bool]:
    """Return a function that tells whether a document matches a normalised selector.

    Some errors show only when a document reaches the condition: an empty part in a field path, a division by zero.
    """
    return cast("Callable[[Mapping[str, object]], bool]", _compile(selector, raw=False) if selector else _always)


def reads_metadata(selector: Mapping[str, object]) -> bool:
    """Whether a normalised selector looks at more of a document than its own members: at ``_id``, ``_rev`` and such."""
    if not selector:
        return False
    name, argument = next(iter(selector.items()))
    if name in ("$and", "$or", "$not"):
        return any(map(reads_metadata, argument if type(argument) is list else [cast(Selector, argument)]))
    # An escaped or an empty name is looked at more closely later, if at all.
    return not name or name[0] in "_\\$"


def _always(value: object) -> bool:
    return True


def _never(value: object) -> bool:
    return False


def _compile(selector: Mapping[str, object], raw: bool) -> Matcher:
    """Compile one condition; ``raw`` compares by Erlang's order of terms, as ``_id`` is compared."""
    name, argument = next(iter(selector.items()))
    if not name.startswith("$"):
        return _field(name, cast(Selector, argument), raw)
    if name in ("$and", "$or"):
        return _combination(name, [_compile(item, raw) for item in cast("list[Selector]", argument)])
    if name in ("$not", "$elemMatch", "$allMatch", "$keyMapMatch"):
        return _NESTED[name](_compile(cast(Selector, argument), raw))
    if name in _RANGES:
        return _range(name, argument, raw)
    if name in ("$eq", "$ne"):
        equal = _equal(argument, raw)
        return equal if name == "$eq" else lambda value: not equal(value)
    if name in ("$in", "$nin"):
        return _membership(name, [_equal(item, raw) for item in cast("list[object]", argument)])
    make = _OPERATORS.get(name)
    return make(argument) if make is not None else _unknown(name)


def _unknown(name: str) -> Matcher:
    def match(value: object) -> bool:
        raise invalid_operator(name)

    return match


def _combination(name: str, matchers: Sequence[Matcher]) -> Matcher:
    if len(matchers) < 2:
        return matchers[0] if matchers else _always
    if name == "$and":

        def match_all(value: object) -> bool:
            for matcher in matchers:  # noqa: SIM110 - a generator costs more than the loop
                if not matcher(value):
                    return False
            return True

        return match_all

    def match_any(value: object) -> bool:
        for matcher in matchers:  # noqa: SIM110 - as above
            if matcher(value):
                return True
        return False

    return match_any


def _field(name: str, condition: Selector, raw: bool) -> Matcher:
    """Match what a field path leads to. Where it leads nowhere, only ``$exists: false`` matches."""
    matcher = _compile(condition, raw or name == "_id")
    if name == "":
        return matcher
    absent = condition == {"$exists": False}
    try:
        path = parse_field(name)
    except CouchError as error:
        return _failing(error)
    if len(path) == 1:
        (only,) = path

        def match_member(value: object) -> bool:
            if type(value) is dict:
                found = value.get(only, NOT_FOUND)
                return matcher(found) if found is not NOT_FOUND else absent
            found = get_field(value, path)
            return not isinstance(found, Missing) and matcher(found)

        return match_member

    def match_path(value: object) -> bool:
        found = get_field(value, path)
        if isinstance(found, Missing):
            return absent and found is NOT_FOUND
        return matcher(found)

    return match_path


def _failing(error: CouchError) -> Matcher:
    def match(value: object) -> bool:
        raise error

    return match


# --- comparisons -----------------------------------------------------------------------------------------------------

_RANGES: dict[str, Callable[[object, object], bool]] = {
    "$lt": lambda a, b: a < b,  # type: ignore[operator]
    "$lte": lambda a, b: a <= b,  # type: ignore[operator]
    "$gt": lambda a, b: a > b,  # type: ignore[operator]
    "$gte": lambda a, b: a >= b,  # type: ignore[operator]
}


def _range(name: str, argument: object, raw: bool) -> Matcher:
    compare, make_key = _RANGES[name], term_key if raw else json_key
    bound = make_key(argument)
    if not raw and type(argument) in (int, float):

        def match_number(value: object) -> bool:
            if type(value) is int or type(value) is float:
                return compare(value, argument)
            return compare(json_key(value), bound)

        return match_number
    return lambda value: compare(make_key(value), bound)


def _equal(argument: object, raw: bool) -> Matcher:
    kind = type(argument)
    if kind is str:
        return (lambda value: value == argument) if raw else _equal_string(cast(str, argument))
    if kind is bool or argument is None:
        return lambda value: value is argument
    if kind is int or kind is float:
        return lambda value: value == argument and type(value) is not bool
    make_key = term_key if raw else json_key
    key = make_key(argument)
    return lambda value: type(value) is kind and make_key(value) == key


def _equal_string(argument: str) -> Matcher:
    # Printable ASCII holds no character that collation ignores: two such strings are equal only if they are the same.
    plain = argument.isascii() and argument.isprintable()

    def match(value: object) -> bool:
        if value == argument:
            return True
        if type(value) is not str or (plain and value.isascii() and value.isprintable()):
            return False
        return string_key(value) == string_key(argument)

    return match


def _membership(name: str, matchers: Sequence[Matcher]) -> Matcher:
    """``$in``: the value, or where it is an array one of its items, equals one of the arguments."""

    def match(value: object) -> bool:
        if type(value) is list:
            return any(matcher(item) for matcher in matchers for item in value)
        return any(matcher(value) for matcher in matchers)

    if name == "$in":
        return match
    return lambda value: not match(value)


# --- operators over parts of a value ---------------------------------------------------------------------------------


def _negation(matcher: Matcher) -> Matcher:
    return lambda value: not matcher(value)


def _element(matcher: Matcher) -> Matcher:
    def match(value: object) -> bool:
        try:
            return type(value) is list and any(matcher(item) for item in value)
        except CouchError:
            return False

    return match


def _every_element(matcher: Matcher) -> Matcher:
    def match(value: object) -> bool:
        try:
            return type(value) is list and bool(value) and all(matcher(item) for item in value)
        except CouchError:
            return False

    return match


def _key_of(matcher: Matcher) -> Matcher:
    def match(value: object) -> bool:
        try:
            return type(value) is dict and any(matcher(name) for name in value)
        except CouchError:
            return False

    return match


_NESTED: dict[str, Callable[[Matcher], Matcher]] = {
    "$not": _negation,
    "$elemMatch": _element,
    "$allMatch": _every_element,
    "$keyMapMatch": _key_of,
}

# --- operators of one kind of value ----------------------------------------------------------------------------------


def _all(argument: object) -> Matcher:
    wanted = cast("list[object]", argument)
    if not wanted:
        return _never
    nested = term_key(wanted[0]) if len(wanted) == 1 and type(wanted[0]) is list else None

    def match(value: object) -> bool:
        if type(value) is not list:
            return False
        if all(any(is_same_term(item, one) for one in value) for item in wanted):
            return True
        return nested is not None and term_key(value) == nested

    return match


_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _type(argument: object) -> Matcher:
    kinds = tuple(kind for kind, name in _TYPES.items() if name == argument)
    return lambda value: type(value) in kinds


def _remainder(argument: object) -> Matcher:
    divisor, expected = cast("list[int]", argument)

    def match(value: object) -> bool:
        if type(value) is not int:
            return False
        if divisor == 0:
            raise ServerError("badarith")
        remainder = abs(value) % abs(divisor)
        return (-remainder if value < 0 else remainder) == expected

    return match


def _regex(argument: object) -> Matcher:
    search = compile_regex(cast(str, argument)) or _never
    return lambda value: type(value) is str and search(value)


def _begins_with(argument: object) -> Matcher:
    prefix = cast(str, argument)
    return lambda value: type(value) is str and begins_with(value, prefix)


_OPERATORS: dict[str, Callable[[object], Matcher]] = {
    "$all": _all,
    # A missing field never comes here, see _field: so what comes exists.
    "$exists": lambda argument: _always if argument else _never,
    "$type": _type,
    "$mod": _remainder,
    "$regex": _regex,
    "$beginsWith": _begins_with,
    "$size": lambda argument: lambda value: type(value) is list and len(value) == argument,
    "$default": lambda argument: _always,
}
