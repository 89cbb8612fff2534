"""Reductions of blocks of rows, and of ranges of rows: each block is reduced once, and its result is kept beside it.

As in CouchDB, a reduce function gets the rows of one block. The reductions of several blocks are reduced again
(``rereduce``). Source: ``couch_btree:fold_reduce``, ``couch_query_servers:os_rereduce``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.indexes.row_blocks import Block
from couchdal.emulator.engine.views.reduction import is_builtin, reduce_block, rereduce, result_of
from couchdal.http.json_text import encode_json

if TYPE_CHECKING:
    from couchdal.emulator.engine.javascript.javascript import QueryServer

# The position of a row: partition ("" in a global view), key, document id, and number within the document.
Place: TypeAlias = "tuple[str, Key, bytes, int]"

# CouchDB accepts reductions up to this length. A longer one must shrink its input by this factor.
_FREE_LENGTH, _SHRINKING = 4096, 2


class ViewRow(NamedTuple):
    """One row that a map function emitted. Places are unique, so rows sort by place alone."""

    place: Place
    doc_id: str
    key: Any
    value: Any


class Overflow(NamedTuple):
    """Takes the place of a reduction that is too long for its input."""

    reason: str


def reduction_of(block: Block[ViewRow], source: str, server: QueryServer | None) -> Any:
    """Return the reduction of a block that is not empty. Raise ``CouchError`` if the function fails.

    ``server`` runs JavaScript. The built-in functions do not need it.
    """
    if source in block.reductions:
        return block.reductions[source]
    if block.blocks:
        found = _again(source, [reduction_of(child, source, server) for child in block.blocks], server)
    else:
        found = _reduced(source, block.rows, server)
    block.reductions[source] = found
    return found


def reduce_range(root: Block[ViewRow], low: int, high: int, source: str, server: QueryServer | None) -> Any:
    """Return the result for the rows between two places. Return ``Overflow`` for one that is too long.

    Raise ``CouchError`` if the function fails.
    """
    rows: list[ViewRow] = []
    blocks: list[Block[ViewRow]] = []
    root.parts(low, high, rows, blocks)
    return reduce_parts(rows, blocks, source, server)


def reduce_parts(
    rows: Sequence[ViewRow], blocks: Sequence[Block[ViewRow]], source: str, server: QueryServer | None
) -> Any:
    """Return the same for some rows and blocks, which together are a range."""
    values = [_reduced(source, rows, server)] if rows else []
    # CouchDB collects reductions by prepending.
    values += [reduction_of(block, source, server) for block in reversed(blocks)]
    value = values[0] if len(values) == 1 else _again(source, values, server)
    # CouchDB reduces the results of its shards once more.
    value = _again(source, [value], server)
    return result_of(source, value) if is_builtin(source) else value


def _reduced(source: str, rows: Sequence[ViewRow], server: QueryServer | None) -> Any:
    # CouchDB collects rows by prepending.
    rows = list(ascending_values(reversed(rows))) if any(row.place[3] for row in rows) else rows[::-1]
    if is_builtin(source):
        return reduce_block(source, rows)
    assert server is not None
    keys: list[object] = [[row.key, row.doc_id] for row in rows]
    values = [row.value for row in rows]
    value = server.reduce(source, keys, values, again=False)
    return _checked("reduce", source, [list(pair) for pair in zip(keys, values, strict=True)], value)


def _again(source: str, values: Sequence[Any], server: QueryServer | None) -> Any:
    if is_builtin(source):
        return rereduce(source, values)
    for value in values:
        if isinstance(value, Overflow):
            return value
    assert server is not None
    return _checked("rereduce", source, values, server.reduce(source, None, list(values), again=True))


def _checked(command: str, source: str, arguments: object, value: object) -> object:
    """Return the value of a reduce function, or ``Overflow`` if it is too long for its input."""
    length = len(encode_json([value]).decode())
    if length <= _FREE_LENGTH:
        return value
    given = len(encode_json([command, [source], arguments]).decode()) - len(source)
    if length * _SHRINKING <= given:
        return value
    return Overflow(f"Reduce output must shrink more rapidly: input size: {given} output size: {length}")


def _document_of(row: ViewRow) -> tuple[Any, ...]:
    return row.place[:3]


def ascending_values(rows: Iterable[ViewRow]) -> Iterator[ViewRow]:
    """Yield rows that were read backwards, but those of one key and document forwards. CouchDB stores them as one."""
    for _, group in groupby(rows, _document_of):
        yield from reversed(list(group))
