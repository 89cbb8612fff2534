"""Reductions of blocks of rows, and of ranges of rows: each block is reduced once, and its result is kept beside it.

As in CouchDB, a reduce function gets the rows of one block. The reductions of several blocks are reduced again
(``rereduce``). Source: ``couch_btree:fold_reduce``, ``couch_query_servers:os_rereduce`` and
``check_sum_overflow``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.indexes.row_blocks import Block
from couchdal.emulator.engine.views.reduction import is_builtin, reduce_block, rereduce, result_of
from couchdal.http.json_text import encode_json
from couchdal.pace import paced

if TYPE_CHECKING:
    from couchdal.emulator.engine.javascript.javascript import QueryServer

# The position of a row: the key of its partition (``GLOBAL`` in a global view), its key, the document id, and its
# number within the document.
Place: TypeAlias = "tuple[Key, Key, bytes, int]"
GLOBAL: Final[Key] = ()

#: The names of the external size, and of the order that CouchDB stores reductions of, among those of a block.
EXTERNAL, STORED = "external", "stored"
# CouchDB accepts results of JavaScript and of ``_sum`` up to these lengths. A longer one must shrink its input by the
# factor.
_FREE_LENGTH, _FREE_SUM, _SHRINKING = 4096, 4906, 2


class ViewRow(NamedTuple):
    """One row that a map function emitted. Places are unique, so rows sort by place alone."""

    place: Place
    doc_id: str
    key: Any
    value: Any


def key_of_partition(doc_id: str, key_of: Callable[[object], Key]) -> Key:
    """Return the first part of the places of a document's rows in a partitioned view."""
    return key_of(doc_id.partition(":")[0])


class Overflow(NamedTuple):
    """Replaces a reduction that is too long for its input."""

    reason: str


class Reducer(NamedTuple):
    """A reduce function. ``server`` runs JavaScript; the built-in functions do not need it.

    ``is_limited`` says whether a result that is too long for its input is replaced: by ``Overflow`` if the function is
    JavaScript, and by an object that describes the error if it is built in. The methods raise ``CouchError`` if the
    function fails.
    """

    source: str
    server: QueryServer | None
    is_limited: bool

    def of_block(self, block: Block[ViewRow]) -> Any:
        """Return the reduction of a block that is not empty, as CouchDB stores it: from the first row to the last."""
        return self._kept(block, STORED, lambda: block.rows)

    def of_range(self, root: Block[ViewRow], low: int, high: int, *, descending: bool) -> Any:
        """Return the result for the rows between two places."""
        rows: list[ViewRow] = []
        blocks: list[Block[ViewRow]] = []
        root.parts(low, high, rows, blocks)
        if not rows and len(blocks) == 1 and not blocks[0].blocks:
            # CouchDB does not use the stored reduction of a block whose rows it reads.
            block = blocks[0]
            return self._shown(self._kept(block, _order(descending), lambda: _collected(block.rows, descending)))
        return self.of_parts(rows, blocks, descending=descending)

    def of_parts(self, rows: Sequence[ViewRow], blocks: Sequence[Block[ViewRow]] = (), *, descending: bool) -> Any:
        """Return the same for some rows and blocks, which together are a range."""
        values = [self._reduced(_collected(rows, descending))] if rows else []
        # CouchDB collects reductions by prepending.
        values += [self.of_block(block) for block in (blocks if descending else reversed(blocks))]
        return self._shown(values[0] if len(values) == 1 else self._again(values))

    def _shown(self, value: Any) -> Any:
        # CouchDB reduces the results of its shards once more.
        value = self._again([value])
        return result_of(self.source, value) if is_builtin(self.source) else value

    def _kept(self, block: Block[ViewRow], order: str, rows: Callable[[], Sequence[ViewRow]]) -> Any:
        """Return the reduction of a block with its rows in an order. It is computed once.

        The order matters to functions that fail: it decides which value they meet first.
        """
        name = (self.source, self.is_limited, order)
        if name not in block.reductions:
            children = [self.of_block(child) for child in block.blocks]
            block.reductions[name] = self._again(children) if children else self._reduced(rows())
        return block.reductions[name]

    def _reduced(self, rows: Sequence[ViewRow]) -> Any:
        source, server = self.source, self.server
        if is_builtin(source):
            value = reduce_block(source, rows)
            return self._checked_sum(value, lambda: [[[row.key, row.doc_id], row.value] for row in rows])
        assert server is not None
        keys: list[object] = [[row.key, row.doc_id] for row in rows]
        values = [row.value for row in rows]
        value = server.reduce(source, keys, values, again=False)
        return self._checked("reduce", [list(pair) for pair in zip(keys, values, strict=True)], value)

    def _again(self, values: Sequence[Any]) -> Any:
        source, server = self.source, self.server
        if is_builtin(source):
            return self._checked_sum(rereduce(source, values), lambda: [[[], value] for value in values])
        for value in values:
            if isinstance(value, Overflow):
                return value
        assert server is not None
        return self._checked("rereduce", values, server.reduce(source, None, list(values), again=True))

    def _checked(self, command: str, arguments: object, value: object) -> object:
        """Return the value of a JavaScript function, or ``Overflow`` if it is too long for its input."""
        if not self.is_limited:
            return value
        length = len(encode_json([value]).decode())
        if length <= _FREE_LENGTH:
            return value
        given = len(encode_json([command, [self.source], arguments]).decode()) - len(self.source)
        return value if length * _SHRINKING <= given else Overflow(_reason(given, length))

    def _checked_sum(self, value: object, given: Callable[[], object]) -> object:
        """Return the result of a built-in function, or an error in its place if it is a sum that is too long."""
        if type(value) in (int, float) or not self.is_limited or not self.source.startswith("_sum"):
            return value
        # Erlang counts the byte that begins each of its external terms.
        length = 1 + len(encode_term(value))
        if length <= _FREE_SUM:
            return value
        size = 1 + len(encode_term(given()))
        if length * _SHRINKING <= size:
            return value
        return {"error": "builtin_reduce_error", "reason": _reason(size, length)}


def _reason(given: int, length: int) -> str:
    return f"Reduce output must shrink more rapidly: input size: {given} output size: {length}"


def _order(descending: bool) -> str:
    return "read backwards" if descending else "read"


def _collected(rows: Sequence[ViewRow], descending: bool) -> Sequence[ViewRow]:
    """Return rows as a query collects them, by prepending: from the last to the first, unless it reads backwards.

    Rows of one key and document always stay in their order, because CouchDB stores them as one.
    """
    if descending:
        return rows
    return list(ascending_values(reversed(rows))) if any(row.place[3] for row in rows) else rows[::-1]


def external_size(block: Block[ViewRow]) -> int:
    """Return the size of all keys, ids and values in a block. It is kept as a reduction is."""
    known = block.reductions.get(EXTERNAL)
    if known is None:
        if block.blocks:
            known = sum(map(external_size, paced(block.blocks)))
        else:
            known = sum(len(encode_term([row.key, row.doc_id])) + len(encode_term(row.value)) for row in block.rows)
        block.reductions[EXTERNAL] = known
    return int(known)


def _document_of(row: ViewRow) -> tuple[Any, ...]:
    return row.place[:3]


def ascending_values(rows: Iterable[ViewRow]) -> Iterator[ViewRow]:
    """Yield rows that were read backwards, but those of one key and document forwards. CouchDB stores them as one."""
    for _, group in groupby(rows, _document_of):
        yield from reversed(list(group))
