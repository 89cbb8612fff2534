"""Selectors in one canonical form: every operator explicit, every field path whole, every negation pushed inwards.

Both the matcher and the planner read only this form. It knows nothing of documents. Source: ``mango_selector``'s
``normalize``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.errors import BadRequest, CouchError

Selector: TypeAlias = "dict[str, object]"

_UNSUPPORTED = frozenset(("$where", "$geoWithin", "$geoIntersects", "$near", "$nearSphere"))
_COMPARISONS = frozenset(("$lt", "$lte", "$eq", "$ne", "$gte", "$gt"))
# Operators whose arguments are selectors, asked of the same value, or of a value's parts.
_COMBINATIONS = frozenset(("$and", "$or", "$nor"))
_QUANTIFIERS = frozenset(("$elemMatch", "$allMatch", "$keyMapMatch"))
_OPPOSITES = {
    "$lt": "$gte",
    "$lte": "$gt",
    "$eq": "$ne",
    "$ne": "$eq",
    "$gte": "$lt",
    "$gt": "$lte",
    "$in": "$nin",
    "$nin": "$in",
}


def normalize_selector(selector: Mapping[str, object]) -> Selector:
    """Return the canonical form of a selector; the empty selector stays empty and matches everything.

    Raises ``CouchError`` with CouchDB's words: ``bad_arg``, ``invalid_operator``, ``not_supported``, ``bad_field``,
    ``invalid_selector``.

    >>> normalize_selector({"$not": {"a": {"b": 1, "c": {"$gt": 2}}}})
    {'$or': [{'a.b': {'$ne': 1}}, {'a.c': {'$lte': 2}}]}
    """
    if not selector:
        return {}
    normal = _push_negations(_join_paths(_explicit(selector), ""))
    if "" in normal:
        raise BadRequest("One or more conditions is missing a field name.", error="invalid_selector")
    return normal


def _single(selector: Mapping[str, object]) -> tuple[str, object]:
    return next(iter(selector.items()))


def _is_integer(value: object) -> bool:
    return type(value) is int


_ARGUMENTS: dict[str, Callable[[object], bool]] = {
    "$in": lambda value: type(value) is list,
    "$nin": lambda value: type(value) is list,
    "$all": lambda value: type(value) is list,
    "$exists": lambda value: type(value) is bool,
    "$type": lambda value: type(value) is str,
    "$size": lambda value: type(value) is int and value >= 0,
    "$mod": lambda value: type(value) is list and len(value) == 2 and all(map(_is_integer, value)),
}


def _explicit(value: object) -> Selector:
    """Make implied operators explicit, and check the arguments of each."""
    if type(value) is not dict or not value:
        return {"$eq": value}
    if len(value) > 1:
        return {"$and": [_explicit({name: member}) for name, member in value.items()]}
    name, argument = _single(cast("dict[str, object]", value))
    if not name.startswith("$"):
        return {name: _explicit(argument)}
    return _operator(name, argument)


def _operator(name: str, argument: object) -> Selector:
    if name in _COMPARISONS or name == "$default":
        return {name: argument}
    if name in _COMBINATIONS:
        if type(argument) is not list:
            raise _bad_argument(name, argument)
        return {name: [_explicit(item) for item in argument]}
    if name == "$not" or name in _QUANTIFIERS:
        if type(argument) is not dict:
            raise _bad_argument(name, argument)
        return {name: _explicit(argument)}
    check = _ARGUMENTS.get(name)
    if check is not None:
        if not check(argument):
            raise _bad_argument(name, argument)
        return {name: argument}
    if name == "$regex" and type(argument) is str:
        if compile_regex(argument) is None:
            raise _bad_argument(name, argument)
        return {name: argument}
    if name == "$beginsWith" and type(argument) is str:
        return {name: argument}
    if name == "$text":
        if type(argument) not in (str, int, float, bool):
            raise _bad_argument(name, argument)
        return {"$default": {"$text": argument}}
    if name in _UNSUPPORTED:
        raise BadRequest(f"Unsupported operator: {name}", error="not_supported")
    raise invalid_operator(name)


def _bad_argument(name: str, argument: object) -> CouchError:
    return BadRequest(f"Bad argument for operator {name}: {print_term(argument)}", error="bad_arg")


def invalid_operator(name: str) -> CouchError:
    """Return the error for an operator that CouchDB doesn't know, or not for such an argument."""
    return BadRequest(f"Invalid operator: {name}", error="invalid_operator")


def _join_paths(selector: Selector, path: str) -> Selector:
    """Push field names down to the conditions, through the operators that leave the value as it is."""
    name, argument = _single(selector)
    if name in _COMBINATIONS:
        return {name: [_join_paths(item, path) for item in cast("list[Selector]", argument)]}
    if name == "$not":
        return {name: _join_paths(cast(Selector, argument), path)}
    if name in _QUANTIFIERS:
        return {path: {name: _join_paths(cast(Selector, argument), "")}}
    if name == "$default":
        if path == "" and type(argument) is dict and list(argument) == ["$text"]:
            return selector
        raise BadRequest(f"Invalid field normalization on selector: {print_term(selector)}", error="bad_field")
    if name.startswith("$"):
        return {path: selector}
    return _join_paths(cast(Selector, argument), f"{path}.{name}" if path else name)


def _push_negations(selector: Selector) -> Selector:
    """Move negations as far inwards as they go, where an index may still serve the condition."""
    name, argument = _single(selector)
    if name == "$not":
        return _negate(cast(Selector, argument))
    if name == "$nor":
        return {"$and": [_negate(item) for item in cast("list[Selector]", argument)]}
    if name in ("$and", "$or"):
        return {name: [_push_negations(item) for item in cast("list[Selector]", argument)]}
    return selector


def _negate(selector: Selector) -> Selector:
    name, argument = _single(selector)
    if name == "$not":
        return _push_negations(cast(Selector, argument))
    if name == "$nor":
        return {"$or": [_push_negations(item) for item in cast("list[Selector]", argument)]}
    if name in ("$and", "$or"):
        other = "$or" if name == "$and" else "$and"
        return {other: [_negate(item) for item in cast("list[Selector]", argument)]}
    if name == "$default":
        raise _bad_argument("$not", selector)
    if name in _OPPOSITES:
        return {_OPPOSITES[name]: argument}
    if name == "$exists":
        return {name: not argument}
    if name.startswith("$"):
        return {"$not": selector}
    return {name: _negate(cast(Selector, argument))}
