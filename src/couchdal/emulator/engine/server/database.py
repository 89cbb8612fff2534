"""One database: its settings and counters, its documents in a storage, and who waits for its next change.

It knows nothing of requests. Everything here is called under the server's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.storage.base import Storage
from couchdal.errors import BadRequest, IllegalDocId
from couchdal.http.json_text import parse_integer

if TYPE_CHECKING:
    from couchdal.emulator.engine.javascript.javascript import QueryServer
    from couchdal.emulator.engine.mango.index_definition import IndexDefinition
    from couchdal.emulator.engine.mango.json_index import JsonIndex
    from couchdal.emulator.engine.views.view_index import ViewIndex

DEFAULT_REVS_LIMIT = 1000
DEFAULT_PURGED_INFOS_LIMIT = 1000
DEFAULT_SECURITY: dict[str, object] = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}


class PurgeInfo(NamedTuple):
    """One purge request: its number, the document, and the leaves that were asked for."""

    purge_seq: int
    doc_id: str
    revisions: tuple[Revision, ...]


# A plain class, because every process that starts an emulator waits for it to be made.
class Database:
    """The state of one database. ``seq_text`` is what stands behind the number of each of its update sequences."""

    __slots__ = (
        "deleted",
        "doc_count",
        "doc_del_count",
        "index_definitions",
        "indexes",
        "instance_start_time",
        "name",
        "partitioned",
        "purge_seq",
        "purged_infos_limit",
        "purges",
        "query_servers",
        "replicas",
        "revs_limit",
        "security",
        "seq_text",
        "shards",
        "storage",
        "update_seq",
        "validation_loaded",
        "validators",
        "view_indexes",
        "watchers",
    )

    def __init__(
        self,
        name: str,
        storage: Storage[DocumentRecord],
        seq_text: str,
        instance_start_time: str = "0",
        partitioned: bool = False,
        shards: int = 2,
        replicas: int = 1,
    ) -> None:
        self.name = name
        self.storage = storage
        self.seq_text = seq_text
        self.instance_start_time = instance_start_time
        self.partitioned = partitioned
        self.shards = shards
        self.replicas = replicas
        self.revs_limit = DEFAULT_REVS_LIMIT
        self.purged_infos_limit = DEFAULT_PURGED_INFOS_LIMIT
        self.security = DEFAULT_SECURITY
        self.update_seq = self.purge_seq = 0
        self.purges: list[PurgeInfo] = []
        self.doc_count = self.doc_del_count = 0
        # CouchDB checks revisions before it merges only while it has yet to load its validation functions; a write
        # loads them, a design document makes them be loaded anew.
        self.validation_loaded = False
        self.deleted = False
        self.watchers: dict[object, Callable[[], None]] = {}
        # What Mango's indexes have read from the documents up to some update sequence, and their definitions, until a
        # design document changes. Both are only kept for speed.
        self.indexes: dict[tuple[str | None, str], tuple[IndexDefinition, JsonIndex]] = {}
        self.index_definitions: tuple[IndexDefinition, ...] | None = ()
        # The design documents whose functions validate updates, until one changes.
        self.validators: tuple[DocumentRecord, ...] | None = ()
        # What views have read, by the signatures of their design documents' groups.
        self.view_indexes: dict[str, ViewIndex] = {}
        # The engines that run the other functions of design documents, by their ids.
        self.query_servers: dict[str, tuple[DocumentRecord, QueryServer]] = {}

    def seq(self, number: int) -> str:
        """Return the text of an update sequence."""
        return f"{number}-{self.seq_text}"

    def check_located(self, doc_id: str) -> None:
        """Raise ``IllegalDocId`` for an id that no partition can hold: such a document is not even looked for."""
        if self.partitioned and ":" not in doc_id and not doc_id.startswith(("_design/", "_local/")):
            raise IllegalDocId("Doc id must be of form partition:id")

    def parse_seq(self, text: str) -> int:
        """Return the number of an update sequence that this database gave out; raises ``BadRequest``."""
        number, dash, rest = text.partition("-")
        if not number.isdecimal() or not number.isascii() or not dash or not rest:
            raise BadRequest("Malformed sequence supplied in 'since' parameter.")
        return parse_integer(number)

    def put(self, old: DocumentRecord | None, new: DocumentRecord) -> None:
        """Store a document's new state, made with the next update sequence, in the place of the one before."""
        self.update_seq = new.seq
        if old is not None:
            self._count(old, -1)
        self._count(new, 1)
        self.storage.write(old, new)
        if new.doc_id.startswith("_design/"):
            self.forget_definitions()

    def forget(self, old: DocumentRecord) -> None:
        """Take a document out without a trace, as a purge of all its leaves does."""
        self._count(old, -1)
        self.storage.write(old, None)
        if old.doc_id.startswith("_design/"):
            self.forget_definitions()

    def forget_definitions(self) -> None:
        """Read the design documents anew when their definitions are asked for next."""
        self.index_definitions = self.validators = None

    def design_documents(self) -> Iterator[DocumentRecord]:
        """Yield the design documents that are not deleted, by the raw bytes of their ids."""
        # "0" is the character behind the slash.
        return self.storage.live("_design/", "_design0", inclusive_end=False)

    def has_validation(self) -> bool:
        """Whether a design document has a function that ordinary documents have to pass."""
        if self.validators is None:
            self.validators = tuple(one for one in self.design_documents() if "validate_doc_update" in one.body)
        return bool(self.validators)

    def _count(self, record: DocumentRecord, by: int) -> None:
        if record.deleted:
            self.doc_del_count += by
        else:
            self.doc_count += by

    def records(self) -> Iterator[DocumentRecord]:
        """Yield the documents that are not deleted, by the raw bytes of their ids."""
        return self.storage.live()

    def settings_changed(self) -> None:
        """Take an update sequence for a change of a setting, which shows nowhere but in the database's information."""
        self.update_seq += 1

    def changed(self) -> None:
        """Wake whoever follows the feed."""
        for wake in list(self.watchers.values()):
            wake()
