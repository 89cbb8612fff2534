"""Choose the index of a query and the keys to read, as CouchDB does, and say why other indexes do not fit.

This module does not know rows or documents. Source: ``mango_idx:get_usable_indexes``, ``mango_idx_view:is_usable``,
``mango_cursor:create``, ``mango_cursor_view:choose_best_index``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from couchdal.emulator.engine.mango.find_query import FindQuery
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.key_range import (
    HIGHEST,
    Extreme,
    KeyRange,
    Range,
    field_ranges,
    indexable_fields,
    required_conditions,
)
from couchdal.emulator.engine.mango.selector import Selector, only_member, subselectors
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import BadRequest, CouchError, ServerError


# Every query constructs these two classes. They are not frozen because that makes construction slower by 80 %.
@dataclass(slots=True)
class Ranked:
    """A usable index, the ranges of its leading columns, and the number of the selector's ranges left out."""

    index: IndexDefinition
    ranges: tuple[Range, ...]
    left_out: int


@dataclass(slots=True)
class Plan:
    """The index that answers a query, and the steps of the choice.

    ``index`` is None if no index can serve the query. Only ``_explain`` gets such a plan. The steps are:

    - ``present``: the indexes of the database
    - ``unfiltered``: the present ones that are not partial
    - ``in_scope``: the ones for the query's partition, or for the whole database
    - ``usable``: the ones in scope that can serve the query
    - ``unusable``: the others in scope, with the reasons
    - ``allowed``: the usable ones that ``use_index`` permits
    - ``ranked``: the allowed ones of the preferred type, best first
    """

    index: IndexDefinition | None
    ranges: tuple[Range, ...] = ()
    present: tuple[IndexDefinition, ...] = ()
    unfiltered: tuple[IndexDefinition, ...] = ()
    in_scope: tuple[IndexDefinition, ...] = ()
    usable: tuple[IndexDefinition, ...] = ()
    unusable: tuple[tuple[IndexDefinition, tuple[str, ...]], ...] = ()
    allowed: tuple[IndexDefinition, ...] = ()
    ranked: tuple[Ranked, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if the query can match nothing. CouchDB then does not run it."""
        return self.ranges == (None,)


def make_plan(db: Database, query: FindQuery, *, explain: bool = False) -> Plan:
    """Choose an index.

    Raise ``CouchError`` if no index serves the sort, or if the query allows only ``use_index`` and that index does not
    fit. With ``explain``, return a plan without an index instead of failing for the sort.
    """
    selector, sort_fields = query.selector, [name for name, _ in query.sort]
    present = db.indexes.definitions(db)
    unfiltered = tuple([index for index in present if index.partial_filter is None])
    candidates = unfiltered
    if query.use_index and len(unfiltered) < len(present):
        named = set(map(_identity, named_by(present, query.use_index)))
        candidates = tuple([index for index in present if index in unfiltered or _identity(index) in named])
    partitioned = query.partition != ""
    in_scope = tuple([index for index in candidates if not index.is_json or index.partitioned is partitioned])
    verdicts = [(index, rejection(index, selector, sort_fields)) for index in in_scope]
    usable = tuple([index for index, reasons in verdicts if not reasons])
    if not usable and not explain:
        raise _no_index_for_sort(db, partitioned)
    allowed = _allowed(usable, query)
    ranked = _rank(allowed, selector)
    empty = _never_matches(selector)
    return Plan(
        index=ranked[0].index if ranked else None,
        ranges=((None,) if empty else ranked[0].ranges) if ranked else (),
        present=present,
        unfiltered=unfiltered,
        in_scope=in_scope,
        usable=usable,
        unusable=tuple([verdict for verdict in verdicts if verdict[1]]),
        allowed=allowed,
        ranked=ranked,
    )


def _identity(index: IndexDefinition) -> tuple[str | None, str]:
    return (index.ddoc, index.name)


def named_by(indexes: Iterable[IndexDefinition], use_index: Sequence[str]) -> tuple[IndexDefinition, ...]:
    """Return the indexes that ``use_index`` names."""
    if not use_index:
        return ()
    ddoc = use_index[0] if use_index[0].startswith("_design/") else "_design/" + use_index[0]
    return tuple(index for index in indexes if index.ddoc == ddoc and use_index[1:] in ([], [index.name]))


def shown_use_index(use_index: Sequence[str]) -> str:
    """Return the text of ``use_index`` in errors and warnings."""
    return ", ".join(["_design/" + use_index[0].removeprefix("_design/"), *use_index[1:]])


def _no_index_for_sort(db: Database, partitioned: bool) -> CouchError:
    kind = ("partitioned " if partitioned else "global ") if db.partitioned else ""
    reason = f"No {kind}index exists for this sort, try indexing by the sort fields."
    return BadRequest(reason, error="no_usable_index")


def _allowed(usable: tuple[IndexDefinition, ...], query: FindQuery) -> tuple[IndexDefinition, ...]:
    named = named_by(usable, query.use_index)
    if named:
        return named
    if query.allow_fallback or (not query.use_index and len(usable) > 1):
        return usable
    if not query.use_index:
        raise BadRequest("You must specify an index with the `use_index` parameter.", error="invalid_index")
    name = shown_use_index(query.use_index)
    reason = f"{name} specified by `use_index` could not be found or it is not suitable."
    raise BadRequest(reason, error="invalid_index")


def _never_matches(selector: Selector) -> bool:
    """Return True for a selector that only has an empty list. Next to other conditions, such a list is true."""
    return len(selector) == 1 and next(iter(selector.items())) in (("$and", []), ("$or", []), ("$all", []), ("$in", []))


def rejection(index: IndexDefinition, selector: Selector, sort_fields: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons why an index cannot serve a query. The result is empty if it can.

    A JSON index contains only the documents that have all its columns. Therefore the selector or the sort must require
    every column.
    """
    reasons = []
    if not index.is_json:
        if sort_fields and "_id" not in indexable_fields(selector):
            reasons.append("field_mismatch")
        if sort_fields and list(sort_fields) != ["_id"]:
            reasons.append("sort_order_mismatch")
        return tuple(reasons)
    columns = index.columns
    required = set(columns) - set(sort_fields) - {"_id", "_rev"}
    may_lack_fields = bool(_not_required([selector], required))
    if _is_text_search(selector):
        reasons.append("needs_text_search")
    if may_lack_fields:
        reasons.append("field_mismatch")
    if not _serves_sort(columns, sort_fields, selector):
        reasons.append("sort_order_mismatch")
    return tuple(reasons)


def _not_required(selectors: Sequence[Selector], fields: set[str]) -> set[str]:
    """Return the fields that a document can lack and still match all the selectors."""
    for selector in selectors:
        if not fields or not selector:
            break
        name, argument = only_member(selector)
        if name == "$and":
            fields = _not_required(subselectors(argument), fields)
        elif name == "$or":
            fields = _not_required_by_one(subselectors(argument), fields)
        elif name in fields and argument != {"$exists": False}:
            fields = fields - {name}
    return fields


def _not_required_by_one(selectors: Sequence[Selector], fields: set[str]) -> set[str]:
    """Return the fields that a document can lack and still match one of the selectors."""
    missing: set[str] = set()
    for selector in selectors:
        missing |= _not_required([selector], fields)
        if len(missing) == len(fields):
            break
    return missing


def _is_text_search(value: object) -> bool:
    """Return True if a selector needs a text index.

    CouchDB searches the arguments of comparisons as if they were selectors, and fails for some of them.
    """
    if type(value) in (int, float, bool, str):
        return False
    if type(value) is not dict or len(value) > 1:
        raise ServerError("function_clause", error="unknown_error")
    for name, argument in value.items():
        if name == "$default":
            return True
        if type(argument) is list:
            return any(_is_text_search(item) for item in argument)
        if type(argument) is dict:
            return _is_text_search(argument)
    return False


def _serves_sort(columns: Sequence[str], sort_fields: Sequence[str], selector: Selector) -> bool:
    """Return True if an index over these columns is in the order of the sort. Constant leading columns are skipped."""
    if not sort_fields:
        return True
    constant = {field for field, operator, _ in required_conditions(selector) if operator == "$eq"}
    for position, column in enumerate(columns):
        if column == sort_fields[0]:
            return list(columns[position : position + len(sort_fields)]) == list(sort_fields)
        if column not in constant:
            return False
    return False


def _rank(indexes: Sequence[IndexDefinition], selector: Selector) -> tuple[Ranked, ...]:
    """Return the indexes of the preferred type, best first. CouchDB prefers JSON indexes to the special index."""
    if not indexes:
        return ()
    chosen = [index for index in indexes if index.is_json]
    ranges = field_ranges(selector)
    if not chosen:
        chosen = list(indexes)
        # If the selector does not restrict the id, this range covers every id.
        ranges.append(("_id", KeyRange("$gt", None)))
    ranked = [_ranked(index, ranges) for index in chosen]
    if len(ranked) == 1:
        return tuple(ranked)
    return tuple(sorted(ranked, key=lambda one: (one.left_out, len(one.index.columns), one.index.sort_key())))


def _ranked(index: IndexDefinition, ranges: Sequence[tuple[str, Range]]) -> Ranked:
    by_field: dict[str, Range] = {}
    for name, one in ranges:
        by_field.setdefault(name, one)
    leading: list[Range] = []
    for column in index.columns:
        if column not in by_field:
            break
        leading.append(by_field[column])
    return Ranked(index, tuple(leading), len(ranges) - len(leading))


def key_bounds(plan: Plan) -> tuple[object, object]:
    """Return the start and end key of a plan's scan, not yet reversed: lists for a JSON index, ids otherwise.

    Raise ``ServerError`` if an equality is combined with another bound in a way that makes CouchDB fail.
    """
    ranges = [one for one in plan.ranges if one is not None]
    if plan.is_empty:
        return None, None
    if plan.index is None or plan.index.is_json:
        return _start_key(ranges), _end_key(ranges)
    (only,) = ranges
    low, high = only.low, only.high
    _check_bounds(only)
    return "" if isinstance(low, Extreme) else low, HIGHEST if isinstance(high, Extreme) else high


def _check_bounds(one: KeyRange) -> None:
    if "$eq" in (one.low_operator, one.high_operator) and one.low_operator != one.high_operator:
        raise ServerError("function_clause", error="unknown_error")


def _start_key(ranges: Sequence[KeyRange]) -> list[object]:
    key: list[object] = []
    for one in ranges:
        if isinstance(one.low, Extreme):
            break
        if one.low_operator == "$eq":
            _check_bounds(one)
        key.append(one.low)
    return key


def _end_key(ranges: Sequence[KeyRange]) -> list[object]:
    key: list[object] = []
    for one in ranges:
        if isinstance(one.high, Extreme):
            break
        if one.high_operator == "$eq":
            _check_bounds(one)
        key.append(one.high)
    return [*key, HIGHEST]


def covers(index: IndexDefinition, fields: Iterable[object] | None) -> bool:
    """Return True if an index contains all the fields, so that a query reads no document. None means all fields."""
    if fields is None or not index.is_json:
        return False
    available: set[object] = {"_id", *index.columns}
    return all(type(name) is str and name in available for name in fields)


def selector_fields(selector: Mapping[str, object]) -> list[str]:
    """Return the fields that a normalized selector names, with repetitions."""
    if not selector:
        return []
    name, argument = only_member(selector)
    if name.startswith("$") and type(argument) is list:
        return [found for item in argument for found in selector_fields(item)]
    return [name]
