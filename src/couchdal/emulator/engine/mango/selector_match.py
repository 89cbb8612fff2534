"""Compile normalized selectors into functions, once per query, that run once per document.

This module does not know databases. Source: ``mango_selector:match``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from couchdal.emulator.engine.erlang.term_order import exact_key, term_key
from couchdal.emulator.engine.mango.comparison import (
    ORDER_OPERATORS,
    Matcher,
    begins_with,
    equal_to,
    member_equal_to,
    one_of,
    ordered,
)
from couchdal.emulator.engine.mango.condition_groups import FEWEST, any_true, flattened, grouped
from couchdal.emulator.engine.mango.field_path import BAD_PATH, NOT_FOUND, get_field, parse_field
from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.emulator.engine.mango.selector import (
    Selector,
    invalid_operator,
    only_member,
    subselector,
    subselectors,
)
from couchdal.errors import CouchError, ServerError


def compile_selector(selector: Mapping[str, object]) -> Callable[[Mapping[str, object]], bool]:
    """Return a function that returns True for the documents that match a normalized selector.

    The function raises errors that occur only when a document reaches the condition, such as a division by zero or an
    empty part of a field path.
    """
    return _compile(selector, False, True) if selector else _always


def reads_metadata(selector: Mapping[str, object]) -> bool:
    """Return True if a normalized selector may test more than a document's own members, for example ``_id``."""
    if not selector:
        return False
    name, argument = only_member(selector)
    if name == "$not":
        return reads_metadata(subselector(argument))
    if name in ("$and", "$or"):
        return any(map(reads_metadata, subselectors(argument)))
    # Escaped names could begin with an underscore, and empty ones test the whole document.
    return not name or name[0] in "_\\$"


def _always(value: Any) -> bool:
    return True


def _never(value: Any) -> bool:
    return False


def _compile(selector: Mapping[str, object], raw: bool, of_object: bool) -> Matcher:
    """Compile one condition. With ``of_object``, its values are always objects, as documents are."""
    name, argument = only_member(selector)
    if not name.startswith("$"):
        return _field(name, subselector(argument), raw, of_object)
    if name in ("$and", "$or"):
        items = subselectors(argument)
        if len(items) > 1:
            items = flattened(name, items)
        if len(items) >= FEWEST:
            return _combination(name, grouped(name, items, _compile, raw, of_object))
        return _combination(name, [_compile(item, raw, of_object) for item in items])
    if name == "$not":
        return _negation(_compile(subselector(argument), raw, of_object))
    if name in _QUANTIFIERS:
        return _QUANTIFIERS[name](_compile(subselector(argument), raw, False))
    if name in ORDER_OPERATORS:
        return ordered(name, argument, raw=raw)
    if name in ("$eq", "$ne"):
        equal = equal_to(argument, raw=raw)
        return equal if name == "$eq" else _negation(equal)
    if name in ("$in", "$nin"):
        assert isinstance(argument, list)
        return one_of(name, argument, raw=raw)
    make = _OPERATORS.get(name)
    return make(argument) if make is not None else _unknown(name)


def _unknown(name: str) -> Matcher:
    def match(value: Any) -> bool:
        raise invalid_operator(name)

    return match


def _combination(name: str, matchers: Sequence[Matcher]) -> Matcher:
    if len(matchers) < 2:
        return matchers[0] if matchers else _always
    if len(matchers) == 2:
        first, second = matchers
        if name == "$and":
            return lambda value: first(value) and second(value)
        return lambda value: first(value) or second(value)
    if name == "$and":

        def match_all(value: Any) -> bool:
            for matcher in matchers:  # noqa: SIM110 - a generator costs more than the loop
                if not matcher(value):
                    return False
            return True

        return match_all

    return lambda value: any_true(matchers, value)


def _negation(matcher: Matcher) -> Matcher:
    return lambda value: not matcher(value)


def _field(name: str, condition: Selector, raw: bool, of_object: bool) -> Matcher:
    """Compile a condition on the value at a field path. If there is no value, only ``$exists: false`` matches."""
    raw = raw or name == "_id"
    if name == "":
        return _compile(condition, raw, of_object)
    matcher = _compile(condition, raw, False)
    absent = condition == {"$exists": False}
    try:
        path = parse_field(name)
    except CouchError as error:
        return _failing(error)
    if len(path) == 1 and of_object:
        operator, argument = only_member(condition)
        if operator == "$eq" and type(argument) is str and not raw:
            return member_equal_to(path[0], argument)
        return _member(path[0], matcher, absent)

    def match_path(value: Any) -> bool:
        found = get_field(value, path)
        if found is NOT_FOUND:
            return absent
        return found is not BAD_PATH and matcher(found)

    return match_path


def _member(name: str, matcher: Matcher, absent: bool) -> Matcher:
    def match(value: Any) -> bool:
        found = value.get(name, NOT_FOUND)
        return matcher(found) if found is not NOT_FOUND else absent

    return match


def _failing(error: CouchError) -> Matcher:
    def match(value: Any) -> bool:
        raise error

    return match


def _element(matcher: Matcher) -> Matcher:
    def match(value: Any) -> bool:
        if type(value) is not list:
            return False
        try:
            for item in value:
                if matcher(item):
                    return True
        except CouchError:
            return False
        return False

    return match


def _every_element(matcher: Matcher) -> Matcher:
    def match(value: Any) -> bool:
        try:
            return type(value) is list and bool(value) and all(matcher(item) for item in value)
        except CouchError:
            return False

    return match


def _key_of(matcher: Matcher) -> Matcher:
    def match(value: Any) -> bool:
        try:
            return type(value) is dict and any(matcher(name) for name in value)
        except CouchError:
            return False

    return match


_QUANTIFIERS: dict[str, Callable[[Matcher], Matcher]] = {
    "$elemMatch": _element,
    "$allMatch": _every_element,
    "$keyMapMatch": _key_of,
}

# The functions below compile an operator from its argument, whose type the normalization has checked.


def _all(wanted: object) -> Matcher:
    assert isinstance(wanted, list)
    if not wanted:
        return _never
    nested = term_key(wanted[0]) if len(wanted) == 1 and type(wanted[0]) is list else None
    distinct = set(map(exact_key, wanted))

    def match(value: Any) -> bool:
        if type(value) is not list:
            return False
        if len(distinct) <= len(value) and distinct.issubset(map(exact_key, value)):
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
    assert isinstance(argument, list)
    divisor: int = argument[0]
    expected: int = argument[1]

    def match(value: Any) -> bool:
        if type(value) is not int:
            return False
        if divisor == 0:
            raise ServerError("badarith")
        remainder = abs(value) % abs(divisor)
        return (-remainder if value < 0 else remainder) == expected

    return match


def _regex(pattern: object) -> Matcher:
    assert isinstance(pattern, str)
    search = compile_regex(pattern) or _never
    return lambda value: type(value) is str and search(value)


def _begins_with(prefix: object) -> Matcher:
    assert isinstance(prefix, str)
    return begins_with(prefix)


_OPERATORS: dict[str, Callable[[object], Matcher]] = {
    "$all": _all,
    # _field handles missing values, so a value that gets here exists.
    "$exists": lambda argument: _always if argument else _never,
    "$type": _type,
    "$mod": _remainder,
    "$regex": _regex,
    "$beginsWith": _begins_with,
    "$size": lambda argument: lambda value: type(value) is list and len(value) == argument,
    "$default": lambda argument: _always,
}
