"""``_explain``: the chosen index, the key range, and the reasons against the other indexes.

This module does not know requests, and reads no documents. Source: ``mango_cursor:explain``,
``mango_cursor_view:explain``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from couchdal.emulator.engine.mango.find import required_fields
from couchdal.emulator.engine.mango.find_query import FindQuery
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.key_range import Extreme, indexable_fields
from couchdal.emulator.engine.mango.planner import Plan, Ranked, covers, key_bounds, make_plan, selector_fields
from couchdal.emulator.engine.server.database import Database
from couchdal.http.json_text import JSON, copy_json

_HIGHEST = "<MAX>"


def explain(db: Database, query: FindQuery) -> JSON:
    """Return the answer of ``_explain``. Raise ``CouchError`` as a query would."""
    plan = make_plan(db, query, explain=True)
    shown_fields = [] if query.fields is None else list(query.fields)
    answer: dict[str, object] = {
        "dbname": db.name,
        "index": None if plan.index is None else plan.index.to_json(),
        "partitioned": db.partitioned,
        "selector": query.selector,
        "opts": _shown_query(query, shown_fields),
        "limit": query.limit,
        "skip": query.skip,
        "fields": shown_fields,
        "index_candidates": _candidates(plan, query),
        "selector_hints": [_selector_hints(query.selector)],
    }
    if plan.index is not None:
        covering = covers(plan.index, required_fields(query))
        answer["mrargs"] = _view_arguments(plan, query, covering)
        answer["covering"] = covering
    return copy_json(answer)


def _shown_query(query: FindQuery, fields: Sequence[object]) -> dict[str, object]:
    return {
        "use_index": query.use_index,
        "bookmark": query.bookmark or "nil",
        "limit": query.limit,
        "skip": query.skip,
        "sort": dict(query.sort),
        "fields": fields,
        "partition": query.partition,
        "r": query.r,
        "conflicts": query.conflicts,
        "stale": query.stale,
        "update": query.update,
        "stable": query.stable,
        "execution_stats": query.execution_stats,
        "allow_fallback": query.allow_fallback,
    }


def _selector_hints(selector: Mapping[str, object]) -> dict[str, object]:
    # In a text index, a colon and a type follow the name of a field.
    indexable = {name.partition(":")[0] for name in indexable_fields(selector)}
    others = set(selector_fields(selector)) - indexable
    return {"type": "json", "indexable_fields": sorted(indexable), "unindexable_fields": sorted(others)}


def _view_arguments(plan: Plan, query: FindQuery, covering: bool) -> dict[str, object]:
    start, end = key_bounds(plan)
    descending = bool(query.sort) and query.sort[0][1] == "desc"
    if descending:
        start, end = end, start
    return {
        "include_docs": query.r == 1 and not covering,
        "view_type": "map",
        "reduce": False,
        "partition": query.partition or None,
        "start_key": _shown_key(start),
        "end_key": _shown_key(end),
        "direction": "rev" if descending else "fwd",
        "stable": query.stable or query.stale == "ok",
        "update": query.is_updating,
        "conflicts": query.conflicts or "undefined",
    }


def _shown_key(key: object) -> object:
    if isinstance(key, Extreme):
        return _HIGHEST
    return [_shown_key(item) if isinstance(item, Extreme) else item for item in key] if type(key) is list else key


# --- the indexes that were not chosen --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The reason why one step of the choice dropped an index."""

    index: IndexDefinition
    usable: bool
    reason: str
    ranking: int


def _candidates(plan: Plan, query: FindQuery) -> list[dict[str, object]]:
    """Return the other indexes of the database, each with the first reason why it was not chosen.

    ``ranking`` counts from 1 for the indexes that lost only to the chosen one. Indexes that an earlier step dropped
    come after them. A partial index that ``use_index`` names is dropped twice.
    """
    verdicts = list(_verdicts(plan))
    candidates: list[dict[str, object]] = []
    for index in reversed(plan.present):
        if index is plan.index:
            continue
        found = [verdict for verdict in verdicts if verdict.index is index]
        analysis = {
            "usable": all(verdict.usable for verdict in found),
            "reasons": [{"name": found[0].reason}],
            "ranking": sum(verdict.ranking for verdict in found),
            "covering": covers(index, query.fields) if index.is_json else None,
        }
        candidates.append({"index": index.to_json(), "analysis": analysis})
    return candidates


def _verdicts(plan: Plan) -> Iterator[_Verdict]:
    unfavored = _without(plan.allowed, [one.index for one in plan.ranked])
    excluded = _without(plan.usable, plan.allowed)
    out_of_scope = _without(plan.unfiltered, plan.in_scope)
    # Each step that dropped an index ranks one after the step that follows it.
    rank = max(1, len(plan.ranked))
    unfavored_rank, rank = rank, rank + bool(unfavored)
    excluded_rank, rank = rank, rank + bool(excluded)
    unusable_rank, rank = rank, rank + bool(plan.unusable)
    out_of_scope_rank, rank = rank, rank + bool(out_of_scope)
    for index in _without(plan.present, plan.unfiltered):
        yield _Verdict(index, False, "is_partial", rank)
    for index in out_of_scope:
        yield _Verdict(index, False, "scope_mismatch", out_of_scope_rank)
    for index, reasons in plan.unusable:
        yield _Verdict(index, False, reasons[0], unusable_rank)
    for index in excluded:
        yield _Verdict(index, True, "excluded_by_user", excluded_rank)
    for index in unfavored:
        yield _Verdict(index, True, "unfavored_type", unfavored_rank)
    for place, one in enumerate(plan.ranked):
        yield _Verdict(one.index, True, _lost_because(one, plan.ranked[0]), place)


def _without(indexes: Sequence[IndexDefinition], others: Sequence[IndexDefinition]) -> list[IndexDefinition]:
    return [index for index in indexes if not any(index is other for other in others)]


def _lost_because(one: Ranked, best: Ranked) -> str:
    if one.left_out > 0:
        return "less_overlap"
    wider = len(one.index.columns) > len(best.index.columns)
    return "too_many_fields" if wider else "alphabetically_comes_after"
