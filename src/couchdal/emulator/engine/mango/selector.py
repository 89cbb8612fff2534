"""The canonical form of selectors: explicit operators, whole field paths, negations pushed inwards.

The matcher and the planner read only this form. This module does not know documents. Source: ``mango_selector``'s
``normalize``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from couchdal.emulator.engine.erlang.term_text import Atom, print_term
from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.errors import BadRequest, CouchError

Selector: TypeAlias = "dict[str, object]"

_UNSUPPORTED = frozenset(("$where", "$geoWithin", "$geoIntersects", "$near", "$nearSphere"))
_COMPARISONS = frozenset(("$lt", "$lte", "$eq", "$ne", "$gte", "$gt"))
# The arguments of these are selectors. Combinations test the same value, quantifiers test its parts.
_COMBINATIONS = frozenset(("$and", "$or", "$nor"))
_QUANTIFIERS = frozenset(("$elemMatch", "$allMatch", "$keyMapMatch"))
OPPOSITES = {
    "$lt": "$gte",
    "$lte": "$gt",
    "$eq": "$ne",
    "$ne": "$eq",
    "$gte": "$lt",
    "$gt": "$lte",
    "$in": "$nin",
    "$nin": "$in",
}


class InvalidSelector(BadRequest):
    """A selector that CouchDB does not accept. ``term`` is its exception, which a replication reports."""

    term: tuple[object, ...] = ()


def _invalid(reason: str, word: str, *term: object) -> InvalidSelector:
    error = InvalidSelector(reason, error=word)
    error.term = (Atom(word), *term)
    return error


def normalize_selector(selector: Mapping[str, object]) -> Selector:
    """Return the canonical form of a selector: nested objects with one member each.

    The empty selector stays empty and matches everything. Raise ``CouchError`` in CouchDB's words: ``bad_arg``,
    ``invalid_operator``, ``not_supported``, ``bad_field``, ``invalid_selector``.

    >>> normalize_selector({"$not": {"a": {"b": 1, "c": {"$gt": 2}}}})
    {'$or': [{'a.b': {'$ne': 1}}, {'a.c': {'$lte': 2}}]}
    """
    if not selector:
        return {}
    normal = _push_negations(_join_paths(_explicit(selector), ""))
    if "" in normal:
        reason = "One or more conditions is missing a field name."
        raise _invalid(reason, "invalid_selector", Atom("missing_field_name"))
    return normal


def only_member(selector: Mapping[str, object]) -> tuple[str, object]:
    """Return the operator or field of a canonical selector, and its argument."""
    return next(iter(selector.items()))


def subselector(argument: object) -> Selector:
    """Return the argument of a field, of ``$not`` or of a quantifier: one canonical selector."""
    assert isinstance(argument, dict)
    return argument


def subselectors(argument: object) -> list[Selector]:
    """Return the argument of ``$and``, ``$or`` or ``$nor``: a list of canonical selectors."""
    assert isinstance(argument, list)
    return argument


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
    """Make implied operators explicit and check the argument of each operator."""
    if type(value) is not dict or not value:
        return {"$eq": value}
    if len(value) > 1:
        return {"$and": [_explicit({name: member}) for name, member in value.items()]}
    name, argument = only_member(value)
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
        raise _invalid(f"Unsupported operator: {name}", "not_supported", Atom(f"'{name}'"))
    raise invalid_operator(name)


def _bad_argument(name: str, argument: object) -> CouchError:
    reason = f"Bad argument for operator {name}: {print_term(argument)}"
    return _invalid(reason, "bad_arg", Atom(f"'{name}'"), argument)


def invalid_operator(name: str) -> CouchError:
    """Return the error for an unknown operator, or for one that does not accept this type of argument."""
    return _invalid(f"Invalid operator: {name}", "invalid_operator", name)


def _join_paths(selector: Selector, path: str) -> Selector:
    """Push field names down to the conditions, through the operators that test the same value."""
    name, argument = only_member(selector)
    if name in _COMBINATIONS:
        return {name: [_join_paths(item, path) for item in subselectors(argument)]}
    if name == "$not":
        return {name: _join_paths(subselector(argument), path)}
    if name in _QUANTIFIERS:
        return {path: {name: _join_paths(subselector(argument), "")}}
    if name == "$default":
        if path == "" and type(argument) is dict and list(argument) == ["$text"]:
            return selector
        reason = f"Invalid field normalization on selector: {print_term(selector)}"
        raise _invalid(reason, "bad_field", selector)
    if name.startswith("$"):
        return {path: selector}
    return _join_paths(subselector(argument), f"{path}.{name}" if path else name)


def _push_negations(selector: Selector) -> Selector:
    """Move negations inwards as far as possible. There, an index can still serve the condition."""
    name, argument = only_member(selector)
    if name == "$not":
        return _negate(subselector(argument))
    if name == "$nor":
        return {"$and": [_negate(item) for item in subselectors(argument)]}
    if name in ("$and", "$or"):
        return {name: [_push_negations(item) for item in subselectors(argument)]}
    return selector


def _negate(selector: Selector) -> Selector:
    name, argument = only_member(selector)
    if name == "$not":
        return _push_negations(subselector(argument))
    if name == "$nor":
        return {"$or": [_push_negations(item) for item in subselectors(argument)]}
    if name in ("$and", "$or"):
        other = "$or" if name == "$and" else "$and"
        return {other: [_negate(item) for item in subselectors(argument)]}
    if name == "$default":
        raise _bad_argument("$not", selector)
    if name in OPPOSITES:
        return {OPPOSITES[name]: argument}
    if name == "$exists":
        return {name: not argument}
    if name.startswith("$"):
        return {"$not": selector}
    return {name: _negate(subselector(argument))}
