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


def is_same_term(a: object, b: object) -> bool:
    """Return True if two values are identical terms. 1 differs from 1.0, and the order of members matters."""
    if type(a) is not type(b):
        return False
    if type(a) is list and type(b) is list:
        return len(a) == len(b) and all(map(is_same_term, a, b))
    if type(a) is dict and type(b) is dict:
        return list(a) == list(b) and all(map(is_same_term, a.values(), b.values()))
    return a == b
