"""JSON values as Erlang terms: their order, and when two are the same one.

It knows nothing of selectors. CouchDB compares ids so, where it compares other values by collation.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

Term: TypeAlias = "tuple[Any, ...]"


def term_key(value: object) -> Term:
    """Return a key for Erlang's order of terms: numbers, atoms, objects, arrays, strings by their bytes."""
    kind = type(value)
    if kind is str:
        return (4, cast(str, value).encode())
    if kind is int or kind is float:
        return (0, value)
    if value is None or kind is bool:
        return (1, {None: "null", True: "true", False: "false"}[cast("bool | None", value)])
    if kind is list:
        return (3, [term_key(item) for item in cast("list[object]", value)])
    members = cast("dict[str, object]", value).items()
    return (2, [(name.encode(), term_key(member)) for name, member in members])


def is_same_term(a: object, b: object) -> bool:
    """Whether two values are one term: 1 is not 1.0, and the order of members counts."""
    if type(a) is not type(b):
        return False
    if type(a) is list:
        other = cast("list[object]", b)
        return len(a) == len(other) and all(map(is_same_term, a, other))
    if type(a) is dict:
        members = cast("dict[str, object]", b)
        return list(a) == list(members) and all(map(is_same_term, a.values(), members.values()))
    return a == b
