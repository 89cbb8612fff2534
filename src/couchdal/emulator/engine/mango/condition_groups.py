"""Groups of many conditions below one ``$and`` or ``$or``: a document costs a few look-ups, not a test per condition.

Equalities on one field become a table by value. Of several ranges, only the one that decides is kept. Only conditions
that never raise an error are grouped: the order of the others matters, because the first error ends the query. This
module does not know databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from couchdal.emulator.engine.collation.collation import json_key
from couchdal.emulator.engine.erlang.term_order import term_key
from couchdal.emulator.engine.mango.comparison import ORDER_OPERATORS, EqualityTable, Matcher, equality_key, ordered
from couchdal.emulator.engine.mango.field_path import BAD_PATH, NOT_FOUND, get_field, parse_field
from couchdal.emulator.engine.mango.selector import OPPOSITES, Selector, only_member, subselector, subselectors
from couchdal.errors import CouchError

# With fewer conditions, testing them one after the other is as fast.
FEWEST = 8
# A deeper condition is not grouped, so that the search for groups costs little.
_MOST_LEVELS = 3
_NEVER_FAIL = ORDER_OPERATORS | {"$eq", "$ne", "$in", "$nin", "$exists", "$type", "$size", "$beginsWith"}

#: Compiles one condition. Its further arguments are those of ``compile_condition``.
Compile: TypeAlias = Callable[[Selector, bool, bool], Matcher]
#: A field path, and the test of a value there.
_Test: TypeAlias = tuple[list[str], Callable[[Any, Any], bool]]


def flattened(name: str, selectors: Iterable[Selector]) -> list[Selector]:
    """Return the arguments of ``$and`` or ``$or``, and those of the same operator nested in it, in their order."""
    flat: list[Selector] = []
    pending = list(selectors)
    pending.reverse()
    while pending:
        one = pending.pop()
        # An empty list is true, even below "$or".
        if one.get(name):
            pending.extend(reversed(subselectors(one[name])))
        else:
            flat.append(one)
    return flat


def grouped(
    name: str, selectors: Sequence[Selector], compile_one: Compile, raw: bool, of_object: bool
) -> list[Matcher]:
    """Return the matchers of ``$and`` or ``$or``. Each run of many conditions that never fail becomes one."""
    matchers: list[Matcher] = []
    group = _all_of if name == "$and" else _any_of
    for groupable, run in groupby(selectors, lambda one: _never_fails(one, _MOST_LEVELS)):
        conditions = list(run)
        if groupable and len(conditions) >= FEWEST:
            matchers.append(group(conditions, compile_one, raw, of_object))
        else:
            matchers += [compile_one(one, raw, of_object) for one in conditions]
    return matchers


def _never_fails(selector: Selector, levels: int) -> bool:
    name, argument = only_member(selector)
    if name in ("$and", "$or"):
        return levels > 0 and all(_never_fails(one, levels - 1) for one in subselectors(argument))
    if not name or name.startswith("$"):
        return False
    try:
        parse_field(name)
    except CouchError:
        return False
    return next(iter(subselector(argument))) in _NEVER_FAIL


class _Field:
    """Conditions on one field, of which one must be true."""

    __slots__ = (
        "_bounds",
        "_compile_one",
        "_items",
        "_others",
        "_unequal",
        "_values",
        "if_absent",
        "if_present",
        "path",
        "raw",
    )

    def __init__(self, name: str, raw: bool, compile_one: Compile) -> None:
        self.path: list[str] = parse_field(name)
        self.raw: bool = raw or name == "_id"
        #: Whether one of the conditions is met by a missing value, and whether one is met by an existing value.
        self.if_absent: bool = False
        self.if_present: bool = False
        # By argument: further conditions on the object, for a value or an item of it that equals the argument.
        self._values: EqualityTable[Matcher] = EqualityTable(raw=self.raw)
        self._items: EqualityTable[Matcher] = EqualityTable(raw=self.raw)
        self._unequal: set[object] = set()
        self._bounds: dict[bool, tuple[Any, str]] = {}
        self._others: dict[object, Matcher] = {}
        self._compile_one = compile_one

    def add(self, operator: str, argument: Any, further: Matcher) -> None:
        """Add a condition. ``further`` is a second condition, which the whole object must match."""
        self.if_present = True
        if operator == "$eq":
            self._values.add(argument, further)
        elif operator == "$in":
            for item in argument:
                self._items.add(item, further)
        elif operator == "$ne":
            # Every value differs from one of two arguments that differ.
            self._unequal.add(equality_key(argument, raw=self.raw))
            self._others["$ne"] = _always if len(self._unequal) > 1 else self._compiled(operator, argument)
        elif operator in ORDER_OPERATORS:
            self._add_bound(operator, argument)
        elif operator == "$nin":
            self._others[len(self._others)] = self._compiled(operator, argument)
        elif (operator, argument) not in self._others:
            self._others[operator, argument] = self._compiled(operator, argument)

    def add_opposite(self, operator: str, argument: Any) -> None:
        """Add the opposite of a condition."""
        self.if_present = True
        if operator in OPPOSITES:
            self.add(OPPOSITES[operator], argument, _always)
        elif (operator, argument) not in self._others:
            matcher = self._compiled(operator, argument)
            self._others[operator, argument] = lambda value: not matcher(value)

    def _compiled(self, operator: str, argument: object) -> Matcher:
        return self._compile_one({operator: argument}, self.raw, False)

    def _add_bound(self, operator: str, argument: object) -> None:
        """Keep the widest range in each direction. Of two equal bounds, the one that includes its value is wider."""
        upward = operator in ("$gt", "$gte")
        key = (term_key if self.raw else json_key)(argument)
        if upward in self._bounds:
            known, known_operator = self._bounds[upward]
            if (known < key if upward else known > key) or (known == key and known_operator in ("$gte", "$lte")):
                return
        self._bounds[upward] = key, operator
        self._others["up" if upward else "down"] = ordered(operator, argument, raw=self.raw)

    def matcher(self) -> Callable[[Any, Any], bool]:
        """Return a function that tests whether an existing value meets one of the conditions.

        Its second argument is the object that has the value.
        """
        find, find_item, others = self._values.find, self._items.find, tuple(self._others.values())
        if not self._items and not others:
            return lambda found, document: any_true(find(found), document)
        has_items = bool(self._items)

        def matches(found: Any, document: Any) -> bool:
            if any_true(find(found), document):
                return True
            if has_items:
                for item in found if type(found) is list else (found,):
                    if any_true(find_item(item), document):
                        return True
            return any_true(others, found)

        return matches


def any_true(matchers: Iterable[Matcher], value: Any) -> bool:
    """Return whether one of the matchers accepts a value."""
    for matcher in matchers:  # noqa: SIM110 - a generator costs more than the loop
        if matcher(value):
            return True
    return False


def _always(value: Any) -> bool:
    return True


def _any_of(run: Sequence[Selector], compile_one: Compile, raw: bool, of_object: bool) -> Matcher:
    fields: dict[str, _Field] = {}
    rest: list[Matcher] = []
    for one in run:
        name, argument = only_member(one)
        guard = one if not name.startswith("$") else _guard(one)
        if guard is None:
            rest.append(compile_one(one, raw, of_object))
            continue
        further = _always if guard is one else compile_one(one, raw, of_object)
        name, argument = only_member(guard)
        field = fields.get(name) or fields.setdefault(name, _Field(name, raw, compile_one))
        operator, value = only_member(subselector(argument))
        if operator == "$exists" and not value:
            field.if_absent = True
        else:
            field.add(operator, value, further)
    by_name: dict[str, list[_Test]] = {}
    for field in fields.values():
        if field.if_present:
            by_name.setdefault(field.path[0], []).append((field.path, field.matcher()))
    absent = [field.path for field in fields.values() if field.if_absent]

    def match(value: Any) -> bool:
        # The names in the conditions, or those in the document if it has fewer.
        names = value if type(value) is dict and len(value) < len(by_name) else by_name
        for name in names:
            for path, matches in by_name.get(name, ()):
                found = get_field(value, path)
                if found is not NOT_FOUND and found is not BAD_PATH and matches(found, value):
                    return True
        for path in absent:
            if get_field(value, path) is NOT_FOUND:
                return True
        return any_true(rest, value)

    return match


def _guard(selector: Selector) -> Selector | None:
    """Return an equality of a field that an ``$and`` contains."""
    for one in subselectors(selector.get("$and", [])):
        name, argument = only_member(one)
        if not name.startswith("$") and next(iter(subselector(argument))) == "$eq":
            return one
    return None


def _all_of(run: Sequence[Selector], compile_one: Compile, raw: bool, of_object: bool) -> Matcher:
    """Return the condition that no field meets the opposite of one of its conditions."""
    fields: dict[str, _Field] = {}
    rest: list[Matcher] = []
    for one in run:
        name, argument = only_member(one)
        if name.startswith("$"):
            rest.append(compile_one(one, raw, of_object))
            continue
        field = fields.get(name) or fields.setdefault(name, _Field(name, raw, compile_one))
        operator, value = only_member(subselector(argument))
        if operator == "$exists":
            if value:
                field.if_present = True
            else:
                field.if_absent = True
        else:
            field.add_opposite(operator, value)
    if any(field.if_absent and field.if_present for field in fields.values()):
        return lambda value: False
    absent = [field for field in fields.values() if field.if_absent]
    absent_names = frozenset(field.path[0] for field in absent if len(field.path) == 1)
    absent = [field for field in absent if len(field.path) > 1]
    present = [(field.path, field.matcher()) for field in fields.values() if field.if_present]

    def match(value: Any) -> bool:
        if absent_names and (type(value) is not dict or not value.keys().isdisjoint(absent_names)):
            return False
        for path, matches in present:
            found = get_field(value, path)
            if found is NOT_FOUND or found is BAD_PATH or matches(found, value):
                return False
        for field in absent:
            if get_field(value, field.path) is not NOT_FOUND:
                return False
        for matcher in rest:  # noqa: SIM110 - a generator costs more than the loop
            if not matcher(value):
                return False
        return True

    return match
