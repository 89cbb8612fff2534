"""CouchDB's built-in reduce functions.

This module does not know views. Source: ``couch_query_servers:builtin_reduce``, ``couch_hyper``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial, reduce
from hashlib import sha1
from itertools import groupby, islice
from math import isfinite, log
from operator import add, itemgetter, mul
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeGuard, cast

from couchdal.emulator.engine.collation.collation import Key, json_key
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import TupleTerm, pretty_members, pretty_term, print_term
from couchdal.errors import ServerError

Number: TypeAlias = "int | float"


class Reducible(Protocol):
    """The part of a view's row that reductions read."""

    @property
    def doc_id(self) -> str: ...

    @property
    def key(self) -> object: ...

    @property
    def value(self) -> object: ...


_SUM_REASON = (
    "The _sum function requires that map values be numbers, arrays of numbers, or objects. Objects cannot be mixed with"
    " other data structures. Objects can be arbitrarily nested, provided that the values for all fields are themselves"
    " numbers, arrays of numbers, or objects."
)


_NUMBERS = frozenset((int, float))


class _SumFailed(Exception):
    """``_sum`` met a value that it cannot add. ``args[0]`` is the object that replaces the sum."""


def is_builtin(source: str) -> bool:
    """Return whether a reduce function is built in, not JavaScript."""
    return source.startswith("_")


def can_fail(source: str) -> bool:
    """Return whether a built-in function can fail. If it does, no view of its design document returns rows."""
    return source.startswith(("_sum", "_stats"))


def _crash(word: str, reason: str = "") -> ServerError:
    return ServerError(reason, error=word)


def _finite(compute: Callable[[], Number]) -> Number:
    """Return a number, or raise Erlang's error if it is beyond the range of doubles."""
    with suppress(OverflowError):
        found = compute()
        if isfinite(found):
            return found
    raise _crash("badarith")


# --- _sum and _count -------------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _all_numbers(values: Iterable[object]) -> TypeGuard[Sequence[Number]]:
    return _NUMBERS.issuperset(map(type, values))


def _sum(values: Sequence[object]) -> object:
    if _all_numbers(values):
        # Add from the first to the last: unlike CouchDB, Python's sum() corrects rounding errors.
        return _finite(partial(reduce, add, values, 0))
    total: object = 0
    for value in values:
        try:
            total = _add(value, total)
        except _SumFailed as failed:
            # CouchDB ignores the remaining values.
            return failed.args[0]
    return total


def _add(value: Any, total: Any) -> Any:
    if _is_number(value) and _is_number(total):
        return _finite(partial(add, total, value))
    if type(value) is dict:
        return _add_object(value, total)
    if type(value) is list and (type(total) is list or _is_number(total)):
        return _add_arrays(total if type(total) is list else [total], value)
    if _is_number(value) and type(total) is list:
        return _add_arrays(total, [value])
    raise _sum_failed(value)


def _sum_failed(cause: object) -> _SumFailed:
    return _SumFailed({"error": "builtin_reduce_error", "reason": _SUM_REASON, "caused_by": cause})


def _add_object(value: dict[str, Any], total: Any) -> dict[str, Any]:
    if "error" in value:
        if value["error"] == "builtin_reduce_error":
            raise _SumFailed(value)
        raise _crash("case_clause", pretty_term(TupleTerm(("error", value["error"]))))
    if type(total) is int and total == 0:
        return value
    if type(total) is not dict:
        raise _crash("case_clause", pretty_term(total))
    added: dict[str, Any] = {}
    for name in sorted({*value, *total}, key=str.encode):
        if name in value and name in total:
            added[name] = _add(value[name], total[name])
        else:
            added[name] = value[name] if name in value else total[name]
    return added


def _add_arrays(total: list[Any], values: list[Any]) -> list[Any]:
    added = []
    for place, (one, other) in enumerate(zip(total, values, strict=False)):
        if not (_is_number(one) and _is_number(other)):
            raise _sum_failed(total[place:])
        added.append(_finite(partial(add, one, other)))
    longer = total if len(total) > len(values) else values
    return added + longer[len(added) :]


# --- _stats ----------------------------------------------------------------------------------------------------------


class _Stats(NamedTuple):
    sum: Number
    number: Number
    min: Number
    max: Number
    sumsqr: Number


_STATS = ("sum", "count", "min", "max", "sumsqr")


def _stats(values: Sequence[object]) -> object:
    if _all_numbers(values):
        # Of equal numbers, CouchDB shows the last one.
        latest = values[::-1]
        squares = _finite(lambda: reduce(add, [value * value for value in values]))
        return _Stats(_finite(partial(reduce, add, values)), len(values), min(latest), max(latest), squares)
    found = _first_stats(values[0])
    for value in values[1:]:
        found = _add_stats(value, found)
    return found


def _first_stats(value: Any) -> Any:
    if isinstance(value, _Stats):
        return value
    if type(value) is list:
        return [_first_stats(item) for item in value]
    if _is_number(value):
        return _Stats(value, 1, value, value, _finite(partial(mul, value, value)))
    if type(value) is dict:
        return _unpacked(value)
    raise _crash("invalid_value", f"non-numeric _stats input: {print_term(value)}")


def _add_stats(value: Any, found: Any) -> Any:
    if type(value) is list and type(found) is list:
        if len(value) != len(found):
            raise _crash("function_clause")
        return [_add_stats(*pair) for pair in zip(value, found, strict=True)]
    if type(value) is dict or _is_number(value):
        value = _first_stats(value)
    if isinstance(value, _Stats) and isinstance(found, _Stats):
        return _Stats(
            _finite(partial(add, value.sum, found.sum)),
            value.number + found.number,
            min(value.min, found.min),
            max(value.max, found.max),
            _finite(partial(add, value.sumsqr, found.sumsqr)),
        )
    reason = "The _stats function requires that map values be numbers or arrays of numbers, not '"
    raise _crash("invalid_value", f"{reason}{pretty_term(_as_term(value), len(reason) + 1)}'")


def _as_term(value: object) -> object:
    if isinstance(value, _Stats):
        return TupleTerm(value)
    return [_as_term(item) for item in value] if isinstance(value, list) else value


def _unpacked(value: Mapping[str, object]) -> _Stats:
    numbers = []
    for name in _STATS:
        number = value.get(name)
        if number is None:
            reason = f"user _stats input missing required field {name} ("
            raise _crash("invalid_value", f"{reason}{pretty_members(value, len(reason) + 1)})")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise _crash("invalid_value", f"non-numeric _stats input received for {name}: {print_term(number)}")
        numbers.append(number)
    return _Stats(*numbers)


def _packed(found: object) -> object:
    if isinstance(found, _Stats):
        return dict(zip(_STATS, found, strict=True))
    return [_packed(item) for item in cast("list[object]", found)]


# --- the others ------------------------------------------------------------------------------------------------------


def _ranked(values: Iterable[object], most: int, *, top: bool) -> list[object]:
    """Return the greatest or the least values in that order. Of equal values, only the first is returned."""
    ranked = sorted(((json_key(value), value) for value in values), key=itemgetter(0), reverse=top)
    return [next(group)[1] for _, group in islice(groupby(ranked, itemgetter(0)), most)]


_Placed: TypeAlias = "tuple[tuple[Key, bytes], object]"


def _extreme(rows: Iterable[_Placed], *, last: bool) -> _Placed:
    """Return the first or the last row by key and document, with its place."""
    chosen: _Placed | None = None
    for row in rows:
        if chosen is None or (row[0] >= chosen[0] if last else row[0] < chosen[0]):
            chosen = row
    assert chosen is not None
    return chosen


# CouchDB's HyperLogLog has 2 ** 11 registers.
_PRECISION = 11
_REGISTERS = 1 << _PRECISION
# Up to this count, the number of empty registers is the better estimate.
_FEW = 1800


def _registers(keys: Iterable[object]) -> dict[int, int]:
    """Return the registers of the HyperLogLog that are not empty."""
    registers: dict[int, int] = {}
    for key in keys:
        digest = int.from_bytes(sha1(b"\x83" + encode_term(key), usedforsecurity=False).digest()[:8], "big")
        place = digest >> (64 - _PRECISION)
        rest = digest & ((1 << (64 - _PRECISION)) - 1)
        zeros = 64 - _PRECISION - rest.bit_length() + 1
        registers[place] = max(zeros, registers.get(place, 0))
    return registers


def _joined_registers(values: Iterable[Mapping[int, int]]) -> dict[int, int]:
    registers: dict[int, int] = {}
    for value in values:
        for place, zeros in value.items():
            if zeros > registers.get(place, 0):
                registers[place] = zeros
    return registers


def _count_distinct(registers: Mapping[int, int]) -> int:
    """Return an estimate of the number of different keys. Above about 1,800, CouchDB corrects it by tables."""
    empty = _REGISTERS - len(registers)
    few = _REGISTERS * log(_REGISTERS / empty) if empty else _FEW + 1
    if few <= _FEW:
        return int(few + 0.5)
    powers = empty + sum(2.0**-zeros for zeros in registers.values())
    return int(0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / powers + 0.5)


# --- by name ---------------------------------------------------------------------------------------------------------


def reduce_rows(source: str, rows: Sequence[Reducible]) -> object:
    """Return the result of a built-in function for at least one row.

    Raise ``ServerError`` for values that crash CouchDB's function.
    """
    # Reduced twice, as CouchDB reduces the results of its shards.
    return result_of(source, rereduce(source, [reduce_block(source, rows)]))


def reduce_block(source: str, rows: Sequence[Reducible]) -> Any:
    """Return the reduction of at least one row, for ``rereduce`` and ``result_of``. Raise ``ServerError``."""
    if source.startswith("_sum"):
        return _sum([row.value for row in rows])
    if source.startswith("_count"):
        return len(rows)
    if source.startswith("_stats"):
        return _stats([row.value for row in rows])
    if source.startswith("_approx_count_distinct"):
        return _registers(row.key for row in rows)
    if source.startswith(("_first", "_last")):
        placed = (((json_key(row.key), row.doc_id.encode()), row.value) for row in rows)
        return _extreme(placed, last=source.startswith("_last"))
    return _ranked((row.value for row in rows), _most(source), top=source.startswith("_top_"))


def rereduce(source: str, values: Sequence[Any]) -> Any:
    """Return the reduction of at least one reduction. Raise ``ServerError``."""
    if source.startswith("_sum"):
        return _sum(values)
    if source.startswith("_count"):
        return sum(values)
    if source.startswith("_stats"):
        return _stats(values)
    if source.startswith("_approx_count_distinct"):
        return _joined_registers(values)
    if source.startswith(("_first", "_last")):
        return _extreme(values, last=source.startswith("_last"))
    return _ranked((one for value in values for one in value), _most(source), top=source.startswith("_top_"))


def result_of(source: str, value: Any) -> object:
    """Return the result for a reduction, as an answer shows it."""
    if source.startswith("_stats"):
        return _packed(value)
    if source.startswith("_approx_count_distinct"):
        return _count_distinct(value)
    return value[1] if source.startswith(("_first", "_last")) else value


def _most(source: str) -> int:
    most = parse_integer(source.removeprefix("_top_").removeprefix("_bottom_"))
    assert most is not None
    return most
