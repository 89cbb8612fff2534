"""The index of a design document: the rows of all its views, sorted by key.

This module does not know queries. Source: ``couch_mrview_updater``, ``couch_mrview_index``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from couchdal.emulator.engine.collation.collation import Key, collator_version, json_key
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.erlang.term_order import term_key
from couchdal.emulator.engine.indexes.row_blocks import Block, RowBlocks
from couchdal.emulator.engine.indexes.row_index import Prepared, RowIndex
from couchdal.emulator.engine.javascript.javascript import Emitted, Message, QueryServer
from couchdal.emulator.engine.javascript.runtime import Runtime
from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.mango.json_index import JsonIndex
from couchdal.emulator.engine.views.block_reduction import GLOBAL, Reducer, ViewRow, external_size, key_of_partition
from couchdal.emulator.engine.views.reduction import can_fail, is_builtin
from couchdal.emulator.engine.views.stored_view import ViewForm
from couchdal.emulator.engine.views.view_definition import MANGO, MapView, ViewGroup, is_javascript
from couchdal.errors import ServerError
from couchdal.http.json_text import is_same

_Self = TypeVar("_Self", bound="ViewIndex")


_Rows: TypeAlias = "list[list[ViewRow]]"
# Measured on CouchDB: the size of a file without rows, and the size that a replaced row leaves in it.
_EMPTY_FILE = 4_264
_OF_ROW = 24
# Errors of Erlang itself.
_CRASHES = frozenset(("badarith", "case_clause", "function_clause"))
# Built-in functions cannot leave the range of doubles with smaller numbers, not even with their squares.
_LARGE = 1e140


def _is_harmless(value: object) -> bool:
    """Return whether no built-in function fails for a value."""
    return type(value) in (int, float) and -_LARGE < cast("int | float", value) < _LARGE


class ViewIndex(RowIndex[_Rows, ViewRow, _Rows]):
    """The rows of a design document's views, in the order of the group."""

    def __init__(
        self,
        group: ViewGroup,
        *,
        partitioned: bool,
        javascript: Runtime | None = None,
        tell: Callable[[Message], None] | None = None,
    ) -> None:
        self._keys_of = [key_function(view) for view in group.views]
        super().__init__(
            [
                ViewForm(key_of, _reduced(view, partitioned), self._store, partitioned=partitioned)
                for key_of, view in zip(self._keys_of, group.views, strict=True)
            ]
        )
        self.group = group
        self.partitioned = partitioned
        self.javascript = javascript
        self.tell = tell
        #: The setting ``query_server_config/reduce_limit``.
        self.reduce_limit: str = "true"
        # For each view, the update sequence at which its rows last changed.
        self.changed_at: list[int] = [0] * len(group.views)
        # For each view, whether all values were harmless.
        self._harmless = [True] * len(group.views)
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
        """Return the information that CouchDB gives about the index."""
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
        external = sum(external_size(tree.root) for tree in self.trees if tree)
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

    def count_reductions(self, db: DocumentStore) -> None:
        """Count the calls of reduce functions since the last time."""
        if self._server is not None and self._server.reductions:
            times, self._server.reductions = self._server.reductions, 0
            db.count_prompts(times=times, reduce=1)

    def reducer(self, source: str) -> Reducer:
        """Return a reduce function. The setting of the limit differs for built-in and JavaScript functions."""
        if is_builtin(source):
            return Reducer(source, None, self.reduce_limit == "true")
        return Reducer(source, self.query_server(), self.reduce_limit != "false")

    def found_since(self, db: DocumentStore, seq: int, until: int | None = None) -> Sequence[tuple[str, _Rows | None]]:
        if self.group.language != MANGO:
            self.query_server()
        return super().found_since(db, seq, until)

    def __repr__(self) -> str:
        return f"index of the views {', '.join(view.first_name for view in self.group.views)}"

    def emptied(self) -> ViewIndex:
        return ViewIndex(self.group, partitioned=self.partitioned, javascript=self.javascript, tell=self.tell)

    def _take_copies(self) -> None:
        super()._take_copies()
        self.changed_at = list(self.changed_at)
        self._harmless = list(self._harmless)

    def read(self, db: DocumentStore, record: DocumentRecord) -> _Rows | None:
        ((_, rows),) = self.read_all(db, [record])
        return rows

    def read_all(self, db: DocumentStore, records: Iterable[DocumentRecord]) -> list[tuple[str, _Rows | None]]:
        records = list(records)
        mapped = [record for record in records if self._is_mapped(record)]
        emitted = self._emitted(db, mapped)
        found = [
            (record.doc_id, self._emitted_rows(record, next(emitted)) if self._is_mapped(record) else None)
            for record in records
        ]
        db.count("couchdb/mrview/map_doc", len(mapped))
        db.count("couchdb/mrview/emits", sum(len(rows) for _, views in found for rows in views or ()))
        if mapped and is_javascript(self.group.language):
            db.count_prompts(add_fun=len(self._sources), map=len(mapped))
        return found

    def _is_mapped(self, record: DocumentRecord) -> bool:
        return not record.deleted and (self.group.includes_design or not record.doc_id.startswith("_design/"))

    def _emitted_rows(self, record: DocumentRecord, emitted: Sequence[Emitted]) -> _Rows | None:
        if not any(emitted):
            return None
        if self.partitioned and ":" not in record.doc_id:
            # Only design documents have such ids. CouchDB crashes when it stores their rows.
            raise ServerError("", error="{badmatch,undefined}")
        return [
            _placed(self.partitioned, record.doc_id, key_of, pairs)
            for key_of, pairs in zip(self._keys_of, emitted, strict=True)
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

    def kept_of(self, doc_id: str, found: _Rows) -> _Rows:
        return found

    def rows_of(self, kept: _Rows) -> _Rows:
        return kept

    def _are_same(self, rows: Sequence[ViewRow], others: Sequence[ViewRow]) -> bool:
        return rows == others and all(is_same(row[2:], other[2:]) for row, other in zip(rows, others, strict=True))

    def _keys(self, kept: _Rows) -> object:
        return [[row.key for row in rows] for rows in kept]

    def of_keys(self, doc_id: str, keys: Any) -> _Rows:
        id_bytes = doc_id.encode()
        found: _Rows = []
        for tree, key_of, own in zip(self.trees, self._keys_of, keys, strict=True):
            within = key_of_partition(doc_id, key_of) if self.partitioned else GLOBAL
            found.append(tree.find([(within, key_of(key), id_bytes, number) for number, key in enumerate(own)]))
            if len(found[-1]) < len(own):
                assert self.shelf is not None
                raise self.shelf.damaged(f"rows of document {doc_id!r} are missing")
        return found

    def _checked(self, trees: Sequence[RowBlocks[ViewRow]], added: Sequence[Sequence[ViewRow]]) -> list[bool]:
        harmless = [
            were and all(_is_harmless(row.value) for row in new)
            for were, new in zip(self._harmless, added, strict=True)
        ]
        self._check_reductions(trees, harmless)
        return harmless

    def _follow(self, prepared: Prepared[ViewRow, _Rows], seq: int) -> None:
        for place, has_changed in enumerate(prepared.has_changed):
            if has_changed:
                self.changed_at[place] = seq
        assert isinstance(prepared.more, list)
        self._harmless = prepared.more

    def _state(self) -> object:
        return [self.changed_at, self._harmless]

    def _restore(self, state: Any) -> None:
        self.changed_at, self._harmless = state

    def _check_reductions(self, updated: Sequence[RowBlocks[ViewRow]], harmless: Sequence[bool]) -> None:
        """Raise ``CouchError`` if a reduce function fails for the rows. CouchDB reduces rows when it stores them."""
        for place, view in enumerate(self.group.views):
            for _, source in view.reduces:
                rows = updated[place]
                if rows is self.trees[place] or not rows:
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

    def _store(self, source: str, block: Block[ViewRow]) -> tuple[bool, object]:
        """Return whether the length of a reduction is limited, and the reduction. Raise ``CouchError``."""
        reducer = self.reducer(source)
        try:
            return reducer.is_limited, reducer.of_block(block)
        except ServerError as error:
            if error.error not in _CRASHES:
                raise
            # The process that writes the index ends. Its reason is a stack trace in Erlang.
            word = f"{{{error.error},{error.reason}}}" if error.reason else error.error
            raise ServerError("", error=word) from None


def _reduced(view: MapView, partitioned: bool) -> list[str]:
    """Return the reduce functions of a view whose results can be kept. JavaScript cannot reduce partitions."""
    return [source for _, source in view.reduces if is_builtin(source) or not partitioned]


def _placed(
    partitioned: bool, doc_id: str, key_of: Callable[[object], Key], pairs: Iterable[tuple[object, object]]
) -> list[ViewRow]:
    """Return the rows that a document emitted, sorted by key. Rows with the same key are sorted by value."""
    keyed = sorted(((key_of(key), term_key([key, value]), key, value) for key, value in pairs), key=lambda one: one[:2])
    id_bytes = doc_id.encode()
    within = key_of_partition(doc_id, key_of) if partitioned else GLOBAL
    return [
        ViewRow((within, place, id_bytes, number), doc_id, key, value)
        for number, (place, _, key, value) in enumerate(keyed)
    ]


def function_names(group: ViewGroup) -> dict[str, str]:
    """Return the path of each function in its design document by its source."""
    names = {view.source: f"views/{view.first_name}/map" for view in group.views}
    return names | {source: f"views/{name}/reduce" for view in group.views for name, source in view.reduces}


def key_function(view: MapView) -> Callable[[object], Key]:
    """Return the function that turns a key of a view into its sort key."""
    return term_key if view.is_raw else json_key
