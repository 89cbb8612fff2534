"""Suggestion of an index for a query that has none, from its selector and sort alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from couchdal.emulator.engine.mango.find_query import parse_sort
from couchdal.emulator.engine.mango.key_range import is_indexable
from couchdal.emulator.engine.mango.selector import Selector, normalize_selector


def suggest_fields(query: Mapping[str, object]) -> tuple[str, ...]:
    """Return the fields of an index that serves a query, given the body of ``_find``.

    Fields with an equality come first, then those of the sort, or one field with a range. So the matching rows are
    adjacent and sorted. Raise ``CouchError`` for a malformed query.

    >>> suggest_fields({"selector": {"type": "task", "due": {"$lt": 9}}, "sort": ["due"]})
    ('type', 'due')
    """
    selector = normalize_selector(cast("Mapping[str, object]", query.get("selector", {})))
    sort_fields = [name for name, _ in parse_sort(query.get("sort", []))]
    conditions = _conditions([selector])
    fields = [name for name, kind in conditions.items() if kind == "equal" and name not in sort_fields]
    if sort_fields:
        fields += dict.fromkeys(sort_fields)
    else:
        fields += [name for name, kind in conditions.items() if kind == "range"][:1]
    if not fields:
        # Every document has an id, so an index on it serves any query.
        fields = [name for name in conditions if name != "_id"][:1] or ["_id"]
    return tuple(fields)


def _conditions(selectors: object) -> dict[str, str]:
    """Return the fields that every match must have, each with its condition: ``equal``, ``range`` or ``other``.

    ``selectors`` is a list of normalized selectors that must all match.
    """
    found: dict[str, str] = {}
    for selector in selectors if isinstance(selectors, list) else ():
        if not selector:
            continue
        name, argument = next(iter(selector.items()))
        if name == "$and":
            for field, kind in _conditions(argument).items():
                found.setdefault(field, kind)
        elif name == "$or":
            branches = [_conditions([branch]) for branch in argument]
            for field in branches[0] if branches else ():
                if all(field in branch for branch in branches):
                    found.setdefault(field, "other")
        elif name and not name.startswith("$") and argument != {"$exists": False}:
            found.setdefault(name, _kind(argument))
    return found


def _kind(condition: Selector) -> str:
    operator = next(iter(condition))
    if operator == "$eq":
        return "equal"
    return "range" if is_indexable(operator) and operator != "$exists" else "other"
