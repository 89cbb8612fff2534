"""The indexes of one database, and everything else that its design documents define.

All of this is derived from documents and kept only for speed. It is updated when a request needs it.
The caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord, show_body
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.errors import CouchError, ServerError

if TYPE_CHECKING:
    from couchdal.emulator.engine.indexes.following_index import FollowingIndex
    from couchdal.emulator.engine.indexes.row_index import RowIndex
    from couchdal.emulator.engine.indexes.sizes import DocumentSizes
    from couchdal.emulator.engine.javascript.javascript import Message, QueryServer
    from couchdal.emulator.engine.javascript.runtime import Runtime
    from couchdal.emulator.engine.mango.index_definition import IndexDefinition
    from couchdal.emulator.engine.mango.json_index import JsonIndex
    from couchdal.emulator.engine.views.view_index import ViewIndex


_Index = TypeVar("_Index", bound="RowIndex[Any, Any, Any]")
#: The design document of the users database, and its first revision.
AUTH_DESIGN: Final = "_design/_auth"
AUTH_REVISION: Final = parse_revision("1-625dc565328e800ce8dfe08fff750098")
#: Receives the messages that functions log and throw, with the id of their design document.
Tell: TypeAlias = "Callable[[str, Message], None]"


class Indexes:
    """A database's Mango indexes, view indexes, validation functions and JavaScript query servers.

    The database holds this object, and not the other way round: methods that read documents take the database as
    ``db``.
    """

    __slots__ = (
        "_definitions",
        "_design_version",
        "_json_indexes",
        "_query_servers",
        "_sizes",
        "_validators",
        "_view_indexes",
        "javascript",
        "tell",
    )

    def __init__(self, javascript: Runtime | None = None, tell: Tell | None = None) -> None:
        #: Where JavaScript runs; None: in this process.
        self.javascript: Runtime | None = javascript
        self.tell: Tell | None = tell
        # The version of the design documents from which the definitions and validators were read; None: not read yet.
        self._design_version = 0
        self._definitions: tuple[IndexDefinition, ...] | None = None
        self._validators: tuple[DocumentRecord, ...] | None = None
        # By design document and name. In CouchDB too, the same fields in another design document are another index.
        self._json_indexes: dict[tuple[str | None, str], JsonIndex] = {}
        # By the signature of the design document's views. Design documents with the same views share an index.
        self._view_indexes: dict[str, ViewIndex] = {}
        # The sizes of documents, once a request needed them.
        self._sizes: DocumentSizes | None = None
        # By the design document's id, with the record that was loaded.
        self._query_servers: dict[str, tuple[DocumentRecord, QueryServer]] = {}

    def _follow(self, db: DocumentStore) -> None:
        if self._design_version != db.design_version:
            self._definitions = self._validators = None
            # Set the version last: after an interrupted call, old definitions must not pass for new ones.
            self._design_version = db.design_version
            self._drop_unused(db)

    def _drop_unused(self, db: DocumentStore) -> None:
        """Drop indexes and functions that are no longer defined by a design document."""
        if self._json_indexes:
            self.definitions(db)
        if self._view_indexes:
            from couchdal.emulator.engine.views.view_definition import view_group

            used = {view_group(record.body).signature for record in db.design_documents()}
            self._view_indexes = {name: index for name, index in self._view_indexes.items() if name in used}
        if self._query_servers:
            current = {record.doc_id: record for record in db.design_documents()}
            self._query_servers = {
                name: (record, server)
                for name, (record, server) in self._query_servers.items()
                if current.get(name) is record
            }

    # --- Mango --------------------------------------------------------------------------------------------------------

    def definitions(self, db: DocumentStore) -> tuple[IndexDefinition, ...]:
        """Return Mango's indexes: the special one first, then by design document and name."""
        self._follow(db)
        if self._definitions is None:
            from couchdal.emulator.engine.mango.index_definition import (
                ALL_DOCS,
                ONLY_ALL_DOCS,
                IndexDefinition,
                defined_indexes,
            )

            records = db.design_documents()
            found = [index for record in records for index in defined_indexes(record, of_database=db.partitioned)]
            found.sort(key=IndexDefinition.sort_key)
            self._definitions = (ALL_DOCS, *found) if found else ONLY_ALL_DOCS
            names = {(index.ddoc, index.name) for index in found}
            self._json_indexes = {name: index for name, index in self._json_indexes.items() if name in names}
        return self._definitions

    def json_index(self, db: DocumentStore, definition: IndexDefinition, *, update: bool = True) -> JsonIndex:
        """Return a Mango index, up to date unless ``update`` is False.

        Raise ``ServerError`` if a document makes it fail.
        """
        index = self.kept_json_index(db, definition)
        if update:
            index.refresh(db)
        return index

    def kept_json_index(self, db: DocumentStore, definition: IndexDefinition) -> JsonIndex:
        """Return a Mango index without updating it."""
        from couchdal.emulator.engine.mango.json_index import JsonIndex

        name = (definition.ddoc, definition.name)
        index = self._json_indexes.get(name)
        if index is None or not index.is_usable or index.definition != definition:
            index = self._json_indexes[name] = self._begun(
                db, index, definition.signature, partial(JsonIndex, definition)
            )
        index.is_kept = db.storage.keeps_indexes
        return index

    def build(self, db: DocumentStore) -> None:
        """Update all Mango indexes, so that forks of the database start with them.

        An index that fails here fails again when a query asks for it.
        """
        for definition in self.definitions(db):
            if definition.is_json:
                with suppress(CouchError):
                    self.json_index(db, definition)

    def outrun(self, db: DocumentStore) -> list[JsonIndex | ViewIndex]:
        """Return the indexes that need an update. A design document can exclude its own from background updates."""
        records = [record for record in db.design_documents() if _is_updated(record.body)]
        return [index for index in self._defined(db, records) if not index.is_current(db)]

    def _defined(self, db: DocumentStore, records: Sequence[DocumentRecord]) -> list[JsonIndex | ViewIndex]:
        """Return the indexes that design documents define."""
        names = {record.doc_id for record in records}
        found: list[JsonIndex | ViewIndex] = [
            self.kept_json_index(db, definition) for definition in self.definitions(db) if definition.ddoc in names
        ]
        for record in records:
            if record.body.get("views") and record.body.get("language") != "query":
                found.append(self.view_index(db, record.body))
        return found

    # --- sizes --------------------------------------------------------------------------------------------------------

    def sizes(self, db: DocumentStore) -> DocumentSizes:
        """Return the sizes of documents, up to date."""
        index = self.kept_sizes()
        index.refresh(db)
        return index

    def kept_sizes(self) -> DocumentSizes:
        """Return the sizes of documents without updating them."""
        from couchdal.emulator.engine.indexes.sizes import DocumentSizes  # few programs ask for sizes

        if self._sizes is None or not self._sizes.is_intact:
            self._sizes = DocumentSizes()
        return self._sizes

    def forget_sizes(self) -> None:
        """Forget the sizes, because a compaction changes documents without a new update sequence."""
        self._sizes = None

    def compact_view(self, db: DocumentStore, design: Mapping[str, object]) -> None:
        """Forget the space that replaced rows of a view take in its file."""
        self.view_index(db, design).replaced = 0

    # --- functions of design documents --------------------------------------------------------------------------------

    def view_index(self, db: DocumentStore, design: Mapping[str, object]) -> ViewIndex:
        """Return the index of a design document's views without updating it."""
        from couchdal.emulator.engine.views.view_definition import view_group
        from couchdal.emulator.engine.views.view_index import ViewIndex

        self._follow(db)
        group = view_group(design)
        index = self._view_indexes.get(group.signature)
        if index is None or not index.is_usable:
            partitioned = group.is_partitioned(db.partitioned)
            # Design documents with the same views share the index. Its messages name the one that was used first.
            doc_id = next((one.doc_id for one in db.design_documents() if one.body is design), "")
            make = partial(
                ViewIndex, group, partitioned=partitioned, javascript=self.javascript, tell=self._tell_of(doc_id)
            )
            index = self._view_indexes[group.signature] = self._begun(db, index, group.signature, make)
        index.is_kept = db.storage.keeps_indexes
        return index

    def validators(self, db: DocumentStore) -> tuple[DocumentRecord, ...]:
        """Return the design documents whose functions validate updates."""
        self._follow(db)
        if self._validators is None:
            found = (one for one in db.design_documents() if "validate_doc_update" in one.body)
            self._validators = tuple(one for one in found if not is_auth_design(one))
        return self._validators

    def query_server(self, design: DocumentRecord) -> QueryServer:
        """Return the JavaScript engine of a design document. It lasts until the document changes.

        Views run in separate engines, which their index keeps.
        """
        from couchdal.emulator.engine.javascript.javascript import QueryServer

        known, server = self._query_servers.get(design.doc_id, (None, None))
        if server is None or known is not design:
            body = show_body(design.doc_id, design.winner)
            server = QueryServer(body, self.javascript, self._tell_of(design.doc_id))
            self._query_servers[design.doc_id] = (design, server)
        return server

    def _tell_of(self, doc_id: str) -> Callable[[Message], None] | None:
        return None if self.tell is None else partial(self.tell, doc_id)

    # --- on a disk ----------------------------------------------------------------------------------------------------

    def _begun(self, db: DocumentStore, before: _Index | None, name: str, make: Callable[[], _Index]) -> _Index:
        """Return an index that goes on from its state on the disk, or has no rows yet.

        ``before`` is the one whose place it takes.
        """
        is_damaged = before is not None and before.shelf is not None and before.shelf.is_damaged
        for _ in range(2):
            index, shelf = make(), db.storage.shelf(name)
            if shelf is None or (not is_damaged and not shelf.is_damaged and index.put_on(shelf)):
                return index
            if not db.storage.keeps_indexes:
                break
            with suppress(ServerError):
                db.storage.remove_shelf(name)
                is_damaged = False
        # It stays in memory.
        return make()

    def _row_indexes(self) -> list[JsonIndex | ViewIndex]:
        return [*self._json_indexes.values(), *self._view_indexes.values()]

    def save(self) -> None:
        """Let the disk have the present state of all indexes. Raise ``ServerError`` if that fails."""
        for index in self._row_indexes():
            index.save()

    def clean_up(self, db: DocumentStore) -> None:
        """Remove from the disk what no design document defines any more."""
        if not db.storage.keeps_indexes:
            return
        from couchdal.emulator.engine.views.view_definition import view_group

        names = {definition.signature for definition in self.definitions(db) if definition.is_json}
        names.update(view_group(record.body).signature for record in db.design_documents() if record.body.get("views"))
        db.storage.remove_shelves(names)

    # --- snapshots and forks ------------------------------------------------------------------------------------------

    def rewind(self, db: DocumentStore, changed: set[str] | None) -> None:
        """Follow a database back to an earlier state.

        ``changed`` are the ids of the documents that may differ from that state; None if they are not known.
        """
        if changed is None:
            self._json_indexes, self._view_indexes, self._sizes, changed = {}, {}, None, set()
        for index in self._row_indexes():
            index.is_kept = False
        if self._json_indexes:
            self._json_indexes = {
                name: index for name, index in self._json_indexes.items() if index.rewind(db, changed)
            }
        if self._view_indexes:
            self._view_indexes = {
                name: index for name, index in self._view_indexes.items() if index.rewind(db, changed)
            }
        if self._sizes is not None and not self._sizes.rewind(db, changed):
            self._sizes = None
        self._follow(db)

    def clear(self) -> None:
        """Forget everything. The next reader builds what it needs."""
        self._definitions = self._validators = None
        self._json_indexes, self._view_indexes, self._query_servers, self._sizes = {}, {}, {}, None

    def check(self, db: DocumentStore) -> list[str]:
        """Return the indexes that differ from newly built ones, up to the last document that they contain."""
        from couchdal.emulator.engine.indexes.index_check import wrong_indexes  # only programs that check need it

        defined = [] if db.storage.on_disk() is None else self._defined(db, list(db.design_documents()))
        indexes: list[FollowingIndex[Any]] = [*dict.fromkeys([*defined, *self._row_indexes()])]
        return wrong_indexes(indexes if self._sizes is None else [*indexes, self._sizes], db)

    def fork(self) -> Indexes:
        """Return the indexes of a fork of the database. Rows are shared until one side changes them."""
        other = Indexes(self.javascript, self.tell)
        other._design_version = self._design_version
        other._definitions, other._validators = self._definitions, self._validators
        other._json_indexes = {name: index.fork() for name, index in self._json_indexes.items()}
        other._view_indexes = {name: index.fork() for name, index in self._view_indexes.items()}
        other._sizes = None if self._sizes is None else self._sizes.fork()
        return other


def _is_updated(design: Mapping[str, object]) -> bool:
    """Return whether CouchDB updates the views of a design document by itself. Source: ``ken_server:should_update``."""
    setting = design.get("autoupdate")
    return (setting.get("views") if isinstance(setting, dict) else setting) is not False


def database_sizes(db: DocumentStore, known: Callable[[DocumentStore], DocumentSizes], writes: int) -> dict[str, int]:
    """Return the sizes of a database after a number of writes since its last compaction.

    ``known`` returns the sizes of its documents, if no file keeps their sum.
    """
    from couchdal.emulator.engine.indexes.sizes import sizes_of_database  # few programs ask for sizes

    found = db.storage.on_disk()
    if found is None:
        return sizes_of_database(known(db).total, writes)
    from couchdal.emulator.engine.indexes.kept_sizes import total_size  # only files keep sizes

    return sizes_of_database(total_size(db.storage, *found), writes)


def is_auth_design(record: DocumentRecord) -> bool:
    """Return whether a design document is the one that CouchDB makes in the users database, unchanged.

    Its rules are checked without JavaScript.
    """
    return record.doc_id == AUTH_DESIGN and record.winner.revision == AUTH_REVISION
