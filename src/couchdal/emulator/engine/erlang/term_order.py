"""Erlang's order of terms, and identity of terms, for JSON values.

This module does not know selectors. CouchDB compares ids this way, and other values by collation.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Term: TypeAlias = "tuple[Any, ...]"


def term_key(value: object) -> Term:
    """Return a sort key for Erlang's order: numbers, atoms, objects, arrays, strings. Strings compare by bytes."""
    if type(value) is str:
        return (4, value.encode())
    kind = type(value)
    if kind is int or kind is float:
        return (0, value)
    if value is None:
        return (1, "null")
    if kind is bool:
        return (1, "true" if value else "false")
    if type(value) is list:
        return (3, [term_key(item) for item in value])
    assert isinstance(value, dict)
    return (2, [(name.encode(), term_key(member)) for name, member in value.items()])


def exact_key(value: object) -> object:
    """Return a hashable key that only identical terms share. 1 differs from 1.0, and the order of members matters."""
    if type(value) is str:
        return value
    if type(value) is list:
        return list, tuple(map(exact_key, value))
    if type(value) is dict:
        return dict, tuple((name, exact_key(member)) for name, member in value.items())
    return type(value), value
