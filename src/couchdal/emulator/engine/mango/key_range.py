"""The range of a field's values that a selector can match. A query reads only this part of an index.

This module does not know indexes or documents. Source: ``mango_idx_view:range``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.collation.collation import compare_json
from couchdal.emulator.engine.mango.selector import only_member, subselector, subselectors
from couchdal.errors import ServerError

_INDEXABLE = frozenset(("$lt", "$lte", "$eq", "$gt", "$gte", "$beginsWith", "$exists"))
# The upper bound of ``$beginsWith`` is its prefix with this character appended.
_LAST_CHARACTER = "\uffff"


@dataclass(frozen=True, slots=True, eq=False)
class Extreme:
    """A bound below or above every value."""

    sign: int


LOWEST: Final = Extreme(-1)
HIGHEST: Final = Extreme(1)


class KeyRange(NamedTuple):
    """The bounds ``low`` and ``high``, each with its operator: ``$gt``, ``$gte``, ``$lt``, ``$lte`` or ``$eq``."""

    low_operator: str = "$gt"
    low: object = LOWEST
    high_operator: str = "$lt"
    high: object = HIGHEST


# None is the empty range.
Range: TypeAlias = "KeyRange | None"


def is_indexable(operator: str) -> bool:
    """Return True if a condition narrows the range. Queries test the other conditions row by row."""
    return operator in _INDEXABLE


def indexable_fields(selector: Mapping[str, object]) -> list[str]:
    """Return the sorted fields of a normalized selector that have an indexable condition."""
    return sorted({field for field, operator, _ in required_conditions(selector) if operator in _INDEXABLE})


def required_conditions(selector: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Yield the conditions on fields that every match meets: each field, operator and argument, in their order."""
    pending = [selector] if selector else []
    while pending:
        name, argument = only_member(pending.pop())
        if name == "$and":
            pending.extend(reversed([one for one in subselectors(argument) if one]))
        elif not name.startswith("$"):
            yield name, *only_member(subselector(argument))


def field_ranges(selector: Mapping[str, object]) -> list[tuple[str, Range]]:
    """Return the indexable fields of a normalized selector, each with the range of values that can match.

    If the conditions on a field contradict each other, return only that field with the empty range. Raise
    ``ServerError`` if a prefix contradicts an earlier condition: CouchDB fails too.
    """
    conditions: dict[str, list[tuple[str, object]]] = {}
    for field, operator, value in required_conditions(selector):
        if operator in _INDEXABLE:
            conditions.setdefault(field, []).append((operator, value))
    ranges: list[tuple[str, Range]] = []
    for field in sorted(conditions):
        found: Range = KeyRange()
        for operator, value in conditions[field]:
            found = _narrowed(operator, value, found) if found is not None else None
        if found is None:
            return [(field, None)]
        ranges.append((field, found))
    return ranges


def _narrowed(operator: str, value: object, within: KeyRange) -> Range:
    if operator == "$beginsWith":
        assert isinstance(value, str)
        lower = _bounded("$gte", value, within)
        if lower is None:
            raise ServerError("empty", error="badmatch")
        return _bounded("$lte", value + _LAST_CHARACTER, lower)
    return _bounded(operator, value, within)


def _position(value: object, within: KeyRange) -> str:
    """Return the position of a value: ``below``, ``low``, ``inside``, ``high`` or ``above``."""
    if not isinstance(within.low, Extreme):
        compared = compare_json(value, within.low)
        if compared <= 0:
            return "below" if compared < 0 else "low"
    if not isinstance(within.high, Extreme):
        compared = compare_json(value, within.high)
        if compared >= 0:
            return "above" if compared > 0 else "high"
    return "inside"


def _bounded(operator: str, value: object, within: KeyRange) -> Range:
    if operator not in _OUTCOMES:
        return within
    return _OUTCOMES[operator][_position(value, within)](operator, value, within)


def _none(operator: str, value: object, within: KeyRange) -> Range:
    return None


def _same(operator: str, value: object, within: KeyRange) -> Range:
    return within


def _below(operator: str, value: object, within: KeyRange) -> Range:
    return KeyRange(within.low_operator, within.low, operator, value)


def _above(operator: str, value: object, within: KeyRange) -> Range:
    return KeyRange(operator, value, within.high_operator, within.high)


def _exactly(operator: str, value: object, within: KeyRange) -> Range:
    return KeyRange("$eq", value, "$eq", value)


def _on_low(operator: str, value: object, within: KeyRange) -> Range:
    return _exactly(operator, value, within) if within.low_operator in ("$gte", "$eq") else None


def _on_high(operator: str, value: object, within: KeyRange) -> Range:
    return _exactly(operator, value, within) if within.high_operator in ("$lte", "$eq") else None


# The range that remains after a condition, by the condition's operator and the position of its value.
_OUTCOMES: Final[dict[str, dict[str, Callable[[str, object, KeyRange], Range]]]] = {
    "$lt": {"below": _none, "low": _none, "inside": _below, "high": _below, "above": _same},
    "$lte": {"below": _none, "low": _on_low, "inside": _below, "high": _same, "above": _same},
    "$eq": {"below": _none, "low": _on_low, "inside": _exactly, "high": _on_high, "above": _none},
    "$gte": {"below": _same, "low": _same, "inside": _above, "high": _on_high, "above": _none},
    "$gt": {"below": _same, "low": _above, "inside": _above, "high": _none, "above": _none},
}
