"""Views of databases: one state of a database, for a request that works without the server's lock.

A view pins the storage of its database, so the documents that it reads do not change. It writes as the database itself
does, in one short step under the lock. Before that, the request reserves the database, so other writes wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore, PurgeInfo
from couchdal.emulator.engine.indexes.following_index import FollowingIndex
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Changes, Commit
from couchdal.emulator.engine.server.keeper import DocumentWrites, Write
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.base import LocalDocument, Storage
from couchdal.emulator.storage.layer import Layer
from couchdal.emulator.storage.overlay import OverlayStorage
from couchdal.errors import NotFound, ServerError
from couchdal.pace import here, paced

if TYPE_CHECKING:
    from couchdal.emulator.engine.indexes.sizes import DocumentSizes
    from couchdal.emulator.engine.javascript.javascript import QueryServer
    from couchdal.emulator.engine.javascript.runtime import Runtime
    from couchdal.emulator.engine.mango.index_definition import IndexDefinition
    from couchdal.emulator.engine.mango.json_index import JsonIndex
    from couchdal.emulator.engine.views.view_index import ViewIndex

_Found = TypeVar("_Found")
_Index = TypeVar("_Index", bound="FollowingIndex[Any]")

# How many documents an index reads between two steps under the lock.
_BATCH = 200
# A write of more documents goes into a layer first, because this takes too long under the lock.
_MOST_AT_ONCE = 200

_NAMES = tuple(name for name in chain(DocumentStore.__slots__, Database.__slots__) if name not in ("indexes", "writer"))
_values_of = attrgetter(*_NAMES)


class View(Database):
    """A database in one state. ``renew`` moves the view to the present state."""

    __slots__ = ("_pinned", "_server", "_source", "live")

    indexes: SharedIndexes  # type: ignore[assignment]

    def __init__(self, server: Server, live: Database) -> None:
        """The caller holds the lock."""
        self.live: Database = live
        self._server = server
        # The storage of the database, and the pinned state of it that this view reads.
        self._source: Storage[DocumentRecord] = live.storage
        self._pinned: Storage[DocumentRecord] | None = None
        self.indexes = SharedIndexes(server, self)
        self.writer: object = None
        self.renew()

    def origin(self) -> Database:
        return self.live

    def renew(self) -> None:
        """Show the present state of the database. The caller holds the lock."""
        source = self.live.storage
        pinned = source.pin()
        self._unpin()
        self._source, self._pinned = source, pinned
        for name, value in zip(_NAMES, _values_of(self.live), strict=True):
            setattr(self, name, value)
        self.storage = pinned

    def _unpin(self) -> None:
        if self._pinned is not None:
            self._pinned.unpin()
            self._pinned = None
            # Drop the reference: an unused state of a file costs nothing.
            self.storage: Storage[DocumentRecord] = self._source

    def close(self) -> None:
        """Release what the view pins. The caller holds the lock."""
        self._unpin()
        self.indexes.close()

    def commit(
        self,
        writes: Sequence[Write],
        update_seq: int,
        locals_: Sequence[tuple[str, LocalDocument | None]] = (),
        *,
        unload: bool = False,
        purges: list[PurgeInfo] | None = None,
    ) -> None:
        # A write to a data file does not go into a layer in memory, so there is nothing to prepare.
        if len(writes) <= _MOST_AT_ONCE or self.journal.keeper is not None:
            with self._writing() as live:
                live.commit(writes, update_seq, locals_, unload=unload, purges=purges)
            return
        layer: Layer[DocumentRecord] = Layer(self.storage)
        for old, new in paced(writes):
            layer.write(old, new)
        for doc_id, document in locals_:
            layer.write_local(doc_id, document)
        counts = self.counts_after(writes)
        with self._writing() as live:
            live.count("couchdb/database_writes")
            live.count("couchdb/document_writes", len(writes))
            live.count("couchdb/document_inserts", sum(counts[:2]) - live.doc_count - live.doc_del_count)
            live.count("couchdb/local_document_writes", len(locals_))
            kept = DocumentWrites(writes, locals_, purges)
            live.commit_layer(layer, counts, update_seq, kept=kept, unload=unload)

    def replace_records(self, records: Sequence[DocumentRecord], purges: list[PurgeInfo]) -> None:
        with self._writing() as live:
            live.replace_records(records, purges)

    def count(self, name: str, number: int = 1) -> None:
        # Another request, which may start again, can hold the lock meanwhile. This one does not.
        self.live.journal.counts[name] += number

    def _set(self, name: str, value: object) -> None:
        with self._writing() as live:
            live._set(name, value)

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """Yield the database to write to, under the lock. Afterwards the view shows the state after the write."""
        with self._server.exclusively():
            live = self.live
            if live.deleted:
                raise NotFound("Database does not exist.")
            if not _is_same(live.storage, self._source) or live.update_seq != self.update_seq:
                raise ServerError("the database was restored to another state during the request", error="conflict")
            live.validation_loaded = self.validation_loaded
            # This view no longer needs the old state, so the write does not need another layer.
            self._unpin()
            try:
                yield live
                if here.pace is not None:
                    here.pace.has_written = True
            finally:
                self.renew()


def _is_same(storage: Storage[DocumentRecord], pinned: Storage[DocumentRecord]) -> bool:
    """Return whether two storages hold the same documents. Snapshots put empty overlays above a storage."""
    while storage is not pinned and isinstance(storage, OverlayStorage) and not storage.is_changed():
        storage = storage.below
    return storage is pinned or storage.resumed() is pinned


def sink(database: Database, most: int) -> bool:
    """Move some writes from a layer to the storage below it, if no reader needs either. Return False if nothing moved.

    The content of the database does not change.
    """
    layer = database.storage
    if not isinstance(layer, Layer) or layer.pins or layer.below.pins or layer.below.resumed() is not None:
        return False
    whole = layer.alone()
    moves = [] if whole is not None else layer.next_moves(most)
    if moves:
        database.journal.publish(_Sinking(layer, moves))
    if whole is not None or not layer.is_changed():
        storage = layer.below if whole is None else whole
        database.journal.publish(Changes([(database, "storage", storage)]))
    return True


class _Sinking(Commit):
    """Moves writes from a layer to the storage below it. The content of the database does not change."""

    __slots__ = ("_layer", "_moves")

    def __init__(self, layer: Layer[DocumentRecord], moves: list[Write]) -> None:
        self._layer = layer
        self._moves = moves

    def apply(self) -> None:
        self._layer.move(self._moves)

    def redo(self) -> None:
        self._layer.recover_move(self._moves)

    def wake(self) -> None:
        """Do nothing: readers see no change."""


class SharedIndexes:
    """The indexes of a database for one view. See ``Indexes``.

    An index is built in batches: reading the documents needs no lock, and the rows of each batch are added in one short
    step under it. The reader then gets a copy of the index, in the state of the view.
    """

    __slots__ = ("_copies", "_server", "_view")

    def __init__(self, server: Server, view: View) -> None:
        self._server = server
        self._view = view
        self._copies: list[FollowingIndex[Any]] = []

    @property
    def javascript(self) -> Runtime | None:
        """Where JavaScript runs."""
        return self._view.live.indexes.javascript

    def close(self) -> None:
        """Release the readers' copies of indexes. The caller holds the lock."""
        for index in self._copies:
            index.end_reading()
        self._copies = []

    def definitions(self, db: DocumentStore) -> tuple[IndexDefinition, ...]:
        with self._server.exclusively():
            return self._view.live.indexes.definitions(self._view.live)

    def validators(self, db: DocumentStore) -> tuple[DocumentRecord, ...]:
        with self._server.exclusively():
            return self._view.live.indexes.validators(self._view.live)

    def query_server(self, design: DocumentRecord) -> QueryServer:
        with self._server.exclusively():
            return self._view.live.indexes.query_server(design)

    def json_index(self, db: DocumentStore, definition: IndexDefinition, *, update: bool = True) -> JsonIndex:
        live = self._view.live
        index = self._copy_of(lambda: live.indexes.kept_json_index(live, definition))
        if update:
            index.refresh(db)
        return index

    def view_index(self, db: DocumentStore, design: Mapping[str, object]) -> ViewIndex:
        live = self._view.live
        return self._copy_of(lambda: live.indexes.view_index(live, design))

    def sizes(self, db: DocumentStore) -> DocumentSizes:
        indexes = self._view.live.indexes
        index = self._copy_of(indexes.kept_sizes)
        index.refresh(db)
        return index

    def compact_view(self, db: DocumentStore, design: Mapping[str, object]) -> None:
        with self._server.exclusively():
            self._view.live.indexes.compact_view(self._view.live, design)

    def clean_up(self, db: DocumentStore) -> None:
        with self._server.exclusively():
            self._view.live.indexes.clean_up(self._view.live)

    def _copy_of(self, find: Callable[[], _Index]) -> _Index:
        with self._server.exclusively():
            copied = find().for_reader(lambda reader: self._catch_up(reader, find))
            self._copies.append(copied)
        return copied

    def _catch_up(self, reader: _Index, find: Callable[[], _Index]) -> None:
        """Update an index and the reader's copy of it to the view's state, or both to a later one."""
        server, view = self._server, self._view
        index: _Index | None = None
        try:
            while True:
                with server.exclusively():
                    server.wait_until(lambda: find().builder in (None, self))
                    if find() is not index:
                        index = find()
                        view.renew()
                    elif index.seq > view.update_seq or index.purge_seq > view.purge_seq:
                        view.renew()
                    if index.is_current(view):
                        reader.become(index.for_reader(lambda reader: self._catch_up(reader, find)))
                        return
                    index.builder = self
                    seq, purge_seq = index.seq, index.purge_seq
                    known = index.known_ids() if purge_seq != view.purge_seq else []
                self._add_batch(index, find, seq, purge_seq, known=known)
        finally:
            if index is not None:
                with server.exclusively():
                    if index.builder is self:
                        index.builder = None
                    server.end_waiting()

    def _add_batch(
        self,
        index: FollowingIndex[_Found],
        find: Callable[[], object],
        seq: int,
        purge_seq: int,
        *,
        known: Sequence[str],
    ) -> None:
        """Read the next documents without the lock. Add their rows under it, unless the index was changed meanwhile."""
        view = self._view
        found: Sequence[tuple[str, _Found | None]]
        until = view.update_seq
        if purge_seq != view.purge_seq:
            until, found = seq, index.removals(view, known)
        else:
            if index.is_on_disk:
                until = min(seq + index.at_once, until)
            else:
                batch = list(islice(view.storage.changes(seq), _BATCH))
                if len(batch) == _BATCH:
                    until = batch[-1].seq
            found = index.found_since(view, seq, until)
        prepared = index.prepare(found)
        with self._server.exclusively():
            if not (find() is index and index.is_intact and (index.seq, index.purge_seq) == (seq, purge_seq)):
                return
            index.add(found, until, prepared)
            index.purge_seq = view.purge_seq
