"""A Mango index: the columns of each document, in the order of the keys.

This module does not know queries: it returns the rows between two keys. Source: ``couch_mrview``,
``mango_native_proc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from sortedcontainers import SortedList

from couchdal.emulator.engine.collation.collation import Key, json_key
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.indexes.row_index import Prepared, RowIndex
from couchdal.emulator.engine.indexes.stored_blocks import RowForm
from couchdal.emulator.engine.mango.field_path import Missing, get_field, parse_field
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.key_range import HIGHEST
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.emulator.engine.mango.selector_match import compile_selector
from couchdal.errors import CouchError, QueryParseError, ServerError
from couchdal.http.json_text import is_same

# The sort key of a row: partition ("" in a global index), key, document id.
_Place: TypeAlias = "tuple[str, Key, str]"


# Sorts after every document id.
_AFTER = chr(0x10FFFF)
# Sorts after every value. CouchDB uses an object that JSON cannot express.
_HIGHEST_KEY: Key = (9,)


# CouchDB opens documents this way for every index.
_INDEXED = Shown(conflicts=True, deleted_conflicts=True)


class IndexRow(NamedTuple):
    """The row of a document: the values of the index's columns."""

    place: _Place
    doc_id: str
    values: list[object]


def bound_key(bound: object) -> Key:
    """Return the sort key of a start or end key: a JSON value, or a list that may contain ``HIGHEST``."""
    if type(bound) is list:
        return (5, [_HIGHEST_KEY if item is HIGHEST else json_key(item) for item in bound])
    return json_key(bound)


def reversed_range(*, descending: bool) -> QueryParseError:
    """Return the error for a range whose end comes before its start. In CouchDB a worker raises it, with a trace."""
    other = "false" if descending else "true"
    reason = f"No rows can match your key range, reverse your start_key and end_key or set descending={other}"
    return QueryParseError(reason, body={"error": "query_parse_error", "reason": reason, "ref": 0})


class _RowForm(RowForm[IndexRow]):
    """A row on a disk is its document's id and its values. ``row_of`` makes the row."""

    def __init__(self, row_of: Callable[[str, list[object]], IndexRow]) -> None:
        self._row_of = row_of

    def encode(self, row: IndexRow) -> object:
        return row[1:]

    def decode(self, value: Any) -> IndexRow:
        return self._row_of(*value)


class JsonIndex(RowIndex["list[object]", IndexRow, IndexRow]):
    """The rows of one index. The caller holds the server's lock.

    In memory, the places are in a sorted list. Nobody reduces or counts rows, and a list is faster than blocks.
    """

    def __init__(self, definition: IndexDefinition) -> None:
        super().__init__([_RowForm(self._row)])
        self._places: SortedList[_Place] = SortedList()
        self.definition = definition
        self._paths = [_Column(column) for column in definition.columns]
        self._filter = _compile_filter(definition.partial_filter)

    def __repr__(self) -> str:
        return f"Mango index {self.definition.name!r} of {self.definition.ddoc}"

    def emptied(self) -> JsonIndex:
        return JsonIndex(self.definition)

    def rows(
        self,
        start: tuple[object, str],
        end: object,
        *,
        partition: str = "",
        descending: bool = False,
    ) -> Iterator[IndexRow]:
        """Yield the rows from a key and document id to a key, inclusive. Raise ``QueryParseError`` if reversed."""
        start_key, end_key = bound_key(start[0]), bound_key(end)
        if (start_key < end_key) if descending else (start_key > end_key):
            raise reversed_range(descending=descending)
        first: _Place = (partition, start_key, start[1])
        last: _Place = (partition, end_key, "")
        if self.is_on_disk:
            (tree,) = self.trees
            low, high = ((last,), (first, _AFTER)) if descending else ((first,), (last,))
            yield from tree.islice(tree.bisect_left(low), tree.bisect_left(high), reverse=descending)
            return
        places = self._places.irange(last, first, reverse=True) if descending else self._places.irange(first, last)
        rows = self._by_document
        for place in places:
            yield rows[place[2]]

    def prepare(self, changed: Sequence[tuple[str, list[object] | None]]) -> Prepared[IndexRow, IndexRow] | None:
        return super().prepare(changed) if self.is_on_disk else None

    def _replace(self, changed: Sequence[tuple[str, list[object] | None]], seq: int, prepared: object) -> None:
        if self.is_on_disk:
            super()._replace(changed, seq, prepared)
            return
        added: list[_Place] = []
        for doc_id, values in changed:
            known = self._by_document.pop(doc_id, None)
            if known is not None:
                self._places.remove(known.place)
            if values is not None:
                row = self._by_document[doc_id] = self._row(doc_id, values)
                added.append(row.place)
        self._places.update(added)

    def _take_copies(self) -> None:
        super()._take_copies()
        self._places = self._places.copy()

    def is_sorted(self) -> bool:
        if self.is_on_disk:
            return super().is_sorted()
        return list(self._places) == sorted(row.place for row in self._by_document.values())

    def _row(self, doc_id: str, values: list[object]) -> IndexRow:
        partition = doc_id.partition(":")[0] if self.definition.partitioned else ""
        return IndexRow((partition, (5, [json_key(value) for value in values]), doc_id), doc_id, values)

    def kept_of(self, doc_id: str, found: list[object]) -> IndexRow:
        return self._row(doc_id, found)

    def rows_of(self, kept: IndexRow) -> Sequence[Sequence[IndexRow]]:
        return ((kept,),)

    def _are_same(self, rows: Sequence[IndexRow], others: Sequence[IndexRow]) -> bool:
        return rows == others and all(
            is_same(row.values, other.values) for row, other in zip(rows, others, strict=True)
        )

    def _keys(self, kept: IndexRow) -> object:
        return kept.values

    def of_keys(self, doc_id: str, keys: Any) -> IndexRow:
        return self._row(doc_id, keys)

    def read_all(self, db: DocumentStore, records: Iterable[DocumentRecord]) -> list[tuple[str, list[object] | None]]:
        found = super().read_all(db, records)
        mapped = sum(not doc_id.startswith("_design/") for doc_id, _ in found)
        db.count("couchdb/mrview/map_doc", mapped)
        db.count("mango/evaluate_selector", mapped)
        db.count("couchdb/mrview/emits", sum(values is not None for _, values in found))
        return found

    def read(self, db: DocumentStore, record: DocumentRecord) -> list[object] | None:
        """Return the values of the columns. Return None if the document lacks one or does not match the filter."""
        if record.deleted or record.doc_id.startswith("_design/"):
            return None
        node = record.winner
        document: Mapping[str, object] = node.body or {}
        if self._filter is not None or any(column.is_special for column in self._paths):
            document = show(db, record, node, _INDEXED)
        try:
            if self._filter is not None and not self._filter(document):
                return None
            values = [column.read(document) for column in self._paths]
        except CouchError as error:
            raise _failed(error) from None
        return None if any(isinstance(value, Missing) for value in values) else values


class _Column:
    """One column of an index, with the function that reads it from a document."""

    __slots__ = ("is_special", "read")

    def __init__(self, field: str) -> None:
        self.read: Callable[[Mapping[str, object]], object]
        self.is_special = True
        try:
            path = parse_field(field)
        except CouchError as error:
            # CouchDB notices it when it indexes the first document.
            self.read = _failing(error)
            return
        self.is_special = path[0].startswith("_")
        if len(path) == 1:
            name, missing = path[0], Missing()
            self.read = lambda document: document.get(name, missing)
        else:
            self.read = lambda document: get_field(document, path)


def _failing(error: CouchError) -> Callable[[Any], Any]:
    def fail(document: object) -> object:
        raise error

    return fail


def _compile_filter(selector: object) -> Callable[[Mapping[str, object]], bool] | None:
    if selector is None:
        return None
    try:
        return compile_selector(normalize_selector(cast("Mapping[str, object]", selector)))
    except CouchError as error:
        return _failing(error)


def _failed(error: CouchError) -> ServerError:
    """Return the error of a query whose index cannot be built. In CouchDB, the process that builds it crashes."""
    return ServerError("{gen_server,call,[map_doc]}", error=f"{{bad_return_value,{{{error.error},{error.reason}}}}}")
