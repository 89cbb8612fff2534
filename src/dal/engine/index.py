"""The rows of one index, in the order of their keys, brought up to date when a query needs them.

It knows nothing of queries: it is asked for the rows between two keys. Source: ``couch_mrview``,
``mango_native_proc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, NamedTuple, TypeAlias, cast

from sortedcontainers import SortedList

from dal.engine.collation import Key, json_key
from dal.engine.database import Database
from dal.engine.document import DocumentRecord
from dal.engine.document_read import show
from dal.engine.field_path import Missing, get_field, parse_field
from dal.engine.index_definition import IndexDefinition, list_indexes
from dal.engine.key_range import HIGHEST
from dal.engine.selector import normalize_selector
from dal.engine.selector_match import compile_selector
from dal.errors import BadRequest, CouchError, ServerError

# A row's place: its partition ("" in a global index), its key, its document.
_Place: TypeAlias = "tuple[str, Key, str]"


# No value sorts behind it; CouchDB has an object for it that JSON cannot say.
_HIGHEST_KEY: Key = (9,)


class Row(NamedTuple):
    """A document's row: the values of the index's columns."""

    doc_id: str
    values: list[object]


def bound_key(bound: object) -> Key:
    """Return the sort key of a start or end key: any JSON value, or a list that may hold ``HIGHEST``."""
    if type(bound) is list:
        return (5, [_HIGHEST_KEY if item is HIGHEST else json_key(item) for item in bound])
    return json_key(bound)


class JsonIndex:
    """The rows of one index. The caller holds the server's lock."""

    def __init__(self, definition: IndexDefinition) -> None:
        self._partitioned = definition.partitioned
        self._paths = [_Column(column) for column in definition.columns]
        self._filter = _compile_filter(definition.partial_filter)
        self._places: SortedList[_Place] = SortedList()
        self._rows: dict[str, tuple[_Place, list[object]]] = {}
        self._seq = 0
        self._purge_seq = 0
        # Whether a fork reads the same rows: whoever changes them then takes a copy of them first.
        self._shared = False

    def fork(self) -> JsonIndex:
        """Return the same index for another database of the same state, at a cost that no rows add to."""
        self._shared = True
        return copy(self)

    def _own(self) -> None:
        if self._shared:
            self._places, self._rows, self._shared = self._places.copy(), dict(self._rows), False

    def rows(
        self,
        start: tuple[object, str],
        end: object,
        *,
        partition: str = "",
        descending: bool = False,
    ) -> Iterator[Row]:
        """Yield the rows from a key and document id, included, to a key; raises ``BadRequest`` for a reversed range."""
        start_key, end_key = bound_key(start[0]), bound_key(end)
        if (start_key < end_key) if descending else (start_key > end_key):
            other = "false" if descending else "true"
            reason = f"No rows can match your key range, reverse your start_key and end_key or set descending={other}"
            raise BadRequest(
                reason,
                error="query_parse_error",
                body={"error": "query_parse_error", "reason": reason, "ref": 0},
            )
        first: _Place = (partition, start_key, start[1])
        last: _Place = (partition, end_key, "")
        places = self._places.irange(last, first, reverse=True) if descending else self._places.irange(first, last)
        rows = self._rows
        for place in places:
            yield Row(place[2], rows[place[2]][1])

    def refresh(self, db: Database) -> None:
        """Take in what has changed; raises ``ServerError`` where a document makes the index's definition fail."""
        if self._purge_seq != db.purge_seq:
            self._own()
            for doc_id in [doc_id for doc_id in self._rows if db.storage.get(doc_id) is None]:
                self._remove(doc_id)
            self._purge_seq = db.purge_seq
        if self._seq == db.update_seq:
            return
        # All of it is read before anything is changed: reading may fail.
        self._put([(record.doc_id, self._values(db, record)) for record in db.storage.changes(since=self._seq)])
        self._seq = db.update_seq

    def rewind(self, db: Database, doc_ids: Iterable[str]) -> bool:
        """Follow a database back to a state from which these documents may differ; False where that cannot be."""
        records = ((doc_id, db.storage.get(doc_id)) for doc_id in doc_ids)
        try:
            self._put([(doc_id, self._values(db, record) if record else None) for doc_id, record in records])
        except ServerError:
            return False
        self._seq = min(self._seq, db.update_seq)
        self._purge_seq = min(self._purge_seq, db.purge_seq)
        return True

    def _put(self, changed: Sequence[tuple[str, list[object] | None]]) -> None:
        """Put rows in the place of those that documents had; None for a document that has none."""
        added: list[_Place] = []
        if changed:
            self._own()
        for doc_id, values in changed:
            self._remove(doc_id)
            if values is not None:
                partition = doc_id.partition(":")[0] if self._partitioned else ""
                place = (partition, (5, [json_key(value) for value in values]), doc_id)
                self._rows[doc_id] = (place, values)
                added.append(place)
        self._places.update(added)

    def _remove(self, doc_id: str) -> None:
        known = self._rows.pop(doc_id, None)
        if known is not None:
            self._places.remove(known[0])

    def _values(self, db: Database, record: DocumentRecord) -> list[object] | None:
        """Return the values of the columns; None for a document that lacks one, or that the filter passes over."""
        if record.deleted or record.doc_id.startswith("_design/"):
            return None
        node = record.winner
        document: Mapping[str, object] = node.body or {}
        if self._filter is not None or any(column.is_special for column in self._paths):
            document = show(db, record, node)
        try:
            if self._filter is not None and not self._filter(document):
                return None
            values = [column.read(document) for column in self._paths]
        except CouchError as error:
            raise _failed(error) from None
        return None if any(isinstance(value, Missing) for value in values) else values


class _Column:
    """One column of an index: how to read it from a document."""

    __slots__ = ("is_special", "read")

    def __init__(self, field: str) -> None:
        self.read: Callable[[Mapping[str, object]], object]
        self.is_special = True
        try:
            path = parse_field(field)
        except CouchError as error:
            # CouchDB notices when it indexes the first document.
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
    """Return the error of a query whose index could not be built: in CouchDB, the process that builds it crashes."""
    return ServerError("{gen_server,call,[map_doc]}", error=f"{{bad_return_value,{{{error.error},{error.reason}}}}}")


def open_index(db: Database, definition: IndexDefinition) -> JsonIndex:
    """Return an index of a database, up to date. It is kept for as long as the definition stays the same."""
    # The same fields in another design document are another index, as they are in CouchDB: nothing is saved by sharing.
    key = (definition.ddoc, definition.name)
    kept = db.indexes.get(key)
    if kept is None or kept[0] != definition:
        kept = db.indexes[key] = (definition, JsonIndex(definition))
    index = kept[1]
    index.refresh(db)
    return index


def build_indexes(db: Database) -> None:
    """Bring all indexes of a database up to date, for its forks to have them; what fails will fail again."""
    for definition in list_indexes(db):
        if definition.is_json:
            with suppress(CouchError):
                open_index(db, definition)
