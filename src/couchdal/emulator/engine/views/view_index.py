"""The index of a design document: the rows of all its views, sorted by key.

This module does not know queries. Source: ``couch_mrview_updater``, ``couch_mrview_index``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar, cast

from couchdal.emulator.engine.collation.collation import Key, collator_version, json_key
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.term_order import term_key
from couchdal.emulator.engine.indexes.following_index import FollowingIndex
from couchdal.emulator.engine.indexes.row_blocks import Block, RowBlocks
from couchdal.emulator.engine.javascript.javascript import Emitted, Message, QueryServer
from couchdal.emulator.engine.javascript.runtime import Runtime
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.json_index import JsonIndex
from couchdal.emulator.engine.views.block_reduction import Reducer, ViewRow
from couchdal.emulator.engine.views.reduction import can_fail, is_builtin
from couchdal.emulator.engine.views.view_definition import MANGO, MapView, ViewGroup, is_javascript
from couchdal.errors import ServerError
from couchdal.http.json_text import is_same
from couchdal.pace import paced

_Self = TypeVar("_Self", bound="ViewIndex")


_Rows: TypeAlias = "list[list[ViewRow]]"
# What CouchDB's files have without rows, and what a replaced row leaves behind. Measured.
_EMPTY_FILE = 4_264
_OF_ROW = 24
# Errors of Erlang itself.
_CRASHES = frozenset(("badarith", "case_clause", "function_clause"))
# Built-in functions cannot leave the range of doubles with smaller numbers, not even with their squares.
_LARGE = 1e140


def _is_harmless(value: object) -> bool:
    """Return whether no built-in function fails for a value."""
    return type(value) in (int, float) and -_LARGE < cast("int | float", value) < _LARGE


def _are_same(rows: list[ViewRow], others: list[ViewRow]) -> bool:
    return rows == others and all(is_same(row[2:], other[2:]) for row, other in zip(rows, others, strict=True))


class _Prepared(NamedTuple):
    """The rows of each view after a change, and whether built-in functions cannot fail for its values."""

    rows: list[RowBlocks[ViewRow]]
    harmless: list[bool]


class ViewIndex(FollowingIndex[_Rows]):
    """The rows of a design document's views, in the order of the group."""

    def __init__(
        self,
        group: ViewGroup,
        *,
        partitioned: bool,
        javascript: Runtime | None = None,
        tell: Callable[[Message], None] | None = None,
    ) -> None:
        super().__init__()
        self.group = group
        self.partitioned = partitioned
        self.javascript = javascript
        self.tell = tell
        #: The setting ``query_server_config/reduce_limit``.
        self.reduce_limit: str = "true"
        self.rows: list[RowBlocks[ViewRow]] = [RowBlocks() for _ in group.views]
        # For each view, the update sequence at which its rows last changed.
        self.changed_at: list[int] = [0] * len(group.views)
        # For each view, whether all values were harmless.
        self._harmless = [True] * len(group.views)
        self._of_document: dict[str, _Rows] = {}
        #: How many rows were replaced or removed since the last compaction.
        self.replaced: int = 0
        self._keys = [key_function(view) for view in group.views]
        self._sources = [view.source for view in group.views]
        self._shown = Shown(conflicts=True, deleted_conflicts=True, local_seq=group.includes_seq)
        self._server: QueryServer | None = None
        self._columns: list[JsonIndex] | None = None

    def fork(self: _Self) -> _Self:
        other = super().fork()
        # Two threads can use two databases at the same time, but not one JavaScript engine.
        other._server = None
        return other

    def info(self, db: DocumentStore) -> dict[str, object]:
        """Return what CouchDB says about the index."""
        pending = db.update_seq - self.seq
        return {
            "updates_pending": {"minimum": pending, "preferred": pending, "total": pending},
            "waiting_commit": False,
            "waiting_clients": 0,
            "updater_running": False,
            "update_seq": self.seq,
            "sizes": self.sizes(),
            "signature": self.group.signature,
            "purge_seq": self.purge_seq,
            "language": self.group.language,
            "compact_running": False,
            "collator_versions": [collator_version()],
        }

    def sizes(self) -> dict[str, int]:
        """Return sizes that grow and shrink as those of CouchDB's files.

        ``external`` is the size of all keys, ids and values. CouchDB compresses them to about three quarters. Rows that
        were replaced stay in the file until a compaction.
        """
        found = (row for views in paced(self._of_document.values()) for rows in views for row in rows)
        external = sum(len(encode_term([row.key, row.doc_id])) + len(encode_term(row.value)) for row in found)
        active = external * 3 // 4
        return {"file": _EMPTY_FILE + active + _OF_ROW * self.replaced, "external": external, "active": active}

    def query_server(self) -> QueryServer:
        """Return the engine that runs the functions. Raise ``ServerError`` for an unknown language."""
        if self._server is None:
            if not is_javascript(self.group.language):
                raise ServerError(self.group.language, error="unknown_query_language")
            self._server = QueryServer(
                {"views": {"lib": self.group.lib}}, self.javascript, self.tell, function_names(self.group)
            )
        return self._server

    def reducer(self, source: str) -> Reducer:
        """Return a reduce function. The two kinds of functions understand the setting of their limit differently."""
        if is_builtin(source):
            return Reducer(source, None, self.reduce_limit == "true")
        return Reducer(source, self.query_server(), self.reduce_limit != "false")

    def found_since(self, db: DocumentStore, seq: int, until: int | None = None) -> Sequence[tuple[str, _Rows | None]]:
        if self.group.language != MANGO:
            self.query_server()
        return super().found_since(db, seq, until)

    def __repr__(self) -> str:
        return f"index of the views {', '.join(view.first_name for view in self.group.views)}"

    def _doc_ids(self) -> Iterable[str]:
        return self._of_document

    def contents(self) -> Mapping[str, object]:
        return self._of_document

    def is_sorted(self) -> bool:
        found = self._of_document.values()
        return all(list(rows) == sorted(row for of in found for row in of[at]) for at, rows in enumerate(self.rows))

    def emptied(self) -> ViewIndex:
        return ViewIndex(self.group, partitioned=self.partitioned, javascript=self.javascript, tell=self.tell)

    def _take_copies(self) -> None:
        self.rows = list(self.rows)
        self.changed_at = list(self.changed_at)
        self._harmless = list(self._harmless)
        self._of_document = dict(self._of_document)

    def read(self, db: DocumentStore, record: DocumentRecord) -> _Rows | None:
        ((_, rows),) = self.read_all(db, [record])
        return rows

    def read_all(self, db: DocumentStore, records: Iterable[DocumentRecord]) -> list[tuple[str, _Rows | None]]:
        records = list(records)
        mapped = [record for record in records if self._is_mapped(record)]
        emitted = self._emitted(db, mapped)
        found = [
            (record.doc_id, self._rows_of(record, next(emitted)) if self._is_mapped(record) else None)
            for record in records
        ]
        db.count("couchdb/mrview/map_doc", len(mapped))
        db.count("couchdb/mrview/emits", sum(len(rows) for _, views in found for rows in views or ()))
        if is_javascript(self.group.language):
            db.count("couchdb/query_server/calls/map", len(mapped))
        return found

    def _is_mapped(self, record: DocumentRecord) -> bool:
        return not record.deleted and (self.group.includes_design or not record.doc_id.startswith("_design/"))

    def _rows_of(self, record: DocumentRecord, emitted: Sequence[Emitted]) -> _Rows | None:
        if not any(emitted):
            return None
        partition = record.doc_id.partition(":")[0] if self.partitioned else ""
        return [
            _placed(partition, record.doc_id, key_of, pairs) for key_of, pairs in zip(self._keys, emitted, strict=True)
        ]

    def _emitted(self, db: DocumentStore, records: Sequence[DocumentRecord]) -> Iterator[list[Emitted]]:
        """Yield the keys and values that each map function emits for each document.

        For Mango, the keys are the columns.
        """
        if self.group.language != MANGO:
            documents = (show(db, record, record.winner, self._shown) for record in records)
            yield from self.query_server().map(self._sources, documents)
            return
        if self._columns is None:
            definitions = (IndexDefinition("", view.first_name, view.source, False) for view in self.group.views)
            self._columns = [JsonIndex(definition) for definition in definitions]
        for record in records:
            values = (index.read(db, record) for index in self._columns)
            yield [[] if columns is None else [(columns, None)] for columns in values]

    def prepare(self, changed: Sequence[tuple[str, _Rows | None]]) -> _Prepared:
        added: _Rows = [[] for _ in self.rows]
        removed: _Rows = [[] for _ in self.rows]
        for doc_id, found in dict(changed).items():
            known = self._of_document.get(doc_id)
            for place, (gone, new) in enumerate(zip(removed, added, strict=True)):
                before, after = known[place] if known else [], found[place] if found else []
                # CouchDB leaves a block as it is if nothing in it changes, and then the view has not changed.
                if not _are_same(before, after):
                    gone += before
                    new += after
        updated = [rows.updated(*one) for rows, *one in zip(self.rows, removed, added, strict=True)]
        harmless = [
            were and all(_is_harmless(row.value) for row in new)
            for were, new in zip(self._harmless, added, strict=True)
        ]
        self._check_reductions(updated, harmless)
        return _Prepared(updated, harmless)

    def _replace(self, changed: Sequence[tuple[str, _Rows | None]], seq: int, prepared: object) -> None:
        assert isinstance(prepared, _Prepared)
        for doc_id, found in changed:
            self.replaced += sum(map(len, self._of_document.get(doc_id, ())))
            if found is None:
                self._of_document.pop(doc_id, None)
            else:
                self._of_document[doc_id] = found
        for place, rows in enumerate(prepared.rows):
            if rows is not self.rows[place]:
                self.changed_at[place] = seq
        self.rows, self._harmless = prepared.rows, prepared.harmless

    def _check_reductions(self, updated: Sequence[RowBlocks[ViewRow]], harmless: Sequence[bool]) -> None:
        """Raise ``CouchError`` if a reduce function fails for the rows. CouchDB reduces rows when it stores them."""
        for place, view in enumerate(self.group.views):
            for _, source in view.reduces:
                rows = updated[place]
                if rows is self.rows[place] or not rows:
                    continue
                if is_builtin(source):
                    if can_fail(source) and not harmless[place]:
                        self._store(source, rows.root)
                elif self.partitioned:
                    # CouchDB passes keys that contain the partition, and cannot encode them as JSON.
                    raise ServerError(
                        "JavaScript cannot reduce the rows of a partitioned view: their keys are not JSON",
                        error="invalid_ejson",
                    )
                else:
                    self.reducer(source).of_block(rows.root)

    def _store(self, source: str, root: Block[ViewRow]) -> None:
        try:
            self.reducer(source).of_block(root)
        except ServerError as error:
            if error.error not in _CRASHES:
                raise
            # The process that writes the index ends. Its reason is a stack trace in Erlang.
            word = f"{{{error.error},{error.reason}}}" if error.reason else error.error
            raise ServerError("", error=word) from None


def _placed(
    partition: str, doc_id: str, key_of: Callable[[object], Key], pairs: Iterable[tuple[object, object]]
) -> list[ViewRow]:
    """Return the rows that a document emitted, sorted by key. Rows with the same key are sorted by value."""
    keyed = sorted(((key_of(key), term_key([key, value]), key, value) for key, value in pairs), key=lambda one: one[:2])
    id_bytes = doc_id.encode()
    return [
        ViewRow((partition, place, id_bytes, number), doc_id, key, value)
        for number, (place, _, key, value) in enumerate(keyed)
    ]


def function_names(group: ViewGroup) -> dict[str, str]:
    """Return the path of each function in its design document by its source."""
    names = {view.source: f"views/{view.first_name}/map" for view in group.views}
    return names | {source: f"views/{name}/reduce" for view in group.views for name, source in view.reduces}


def key_function(view: MapView) -> Callable[[object], Key]:
    """Return the function that turns a key of a view into its sort key."""
    return term_key if view.is_raw else json_key
