"""One database: its documents, settings and indexes, and the feeds that wait for its next change.

It knows nothing of requests. The caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Callable

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.indexes.indexes import Indexes
from couchdal.emulator.storage.base import Storage

DEFAULT_SECURITY: dict[str, object] = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}


class Database(DocumentStore):
    """A database as the server knows it. ``watchers`` are called after every change."""

    __slots__ = (
        "deleted",
        "indexes",
        "instance_start_time",
        "name",
        "replicas",
        "security",
        "shards",
        "validation_loaded",
        "watchers",
    )

    update_seq: int

    def __init__(
        self,
        name: str,
        storage: Storage[DocumentRecord],
        seq_text: str,
        *,
        instance_start_time: str = "0",
        partitioned: bool = False,
        shards: int = 2,
        replicas: int = 1,
    ) -> None:
        super().__init__(storage, seq_text, partitioned=partitioned)
        self.name: str = name
        self.instance_start_time: str = instance_start_time
        self.shards: int = shards
        self.replicas: int = replicas
        self.security: dict[str, object] = DEFAULT_SECURITY
        # CouchDB checks revisions before it merges only until it has loaded the validation functions. A write loads
        # them; a change of a design document unloads them.
        self.validation_loaded: bool = False
        self.deleted: bool = False
        self.watchers: dict[object, Callable[[], None]] = {}
        self.indexes: Indexes = Indexes()

    def info(self) -> dict[str, object]:
        """Return what CouchDB says about a database. The emulator has no files, so their sizes are 0."""
        return {
            "instance_start_time": self.instance_start_time,
            "db_name": self.name,
            "purge_seq": self.seq(self.purge_seq),
            "update_seq": self.seq(self.update_seq),
            "sizes": {"file": 0, "external": 0, "active": 0},
            "props": {"partitioned": True} if self.partitioned else {},
            "doc_del_count": self.doc_del_count,
            "doc_count": self.doc_count,
            "disk_format_version": 8,
            "compact_running": False,
            "cluster": {"q": self.shards, "n": self.replicas, "w": 1, "r": 1},
        }

    def partition_info(self, partition: str) -> dict[str, object]:
        """Return what CouchDB says about a partition."""
        live, deleted = self.partition_counts(partition)
        return {
            "db_name": self.name,
            "sizes": {"active": 0, "external": 0},
            "partition": partition,
            "doc_count": live,
            "doc_del_count": deleted,
        }

    def set_security(self, security: dict[str, object]) -> None:
        """Replace the security object."""
        self.security = security
        self.settings_changed()

    def set_revs_limit(self, limit: int) -> None:
        """Set the number of revisions that are kept of a branch."""
        self.revs_limit = limit
        self.settings_changed()

    def set_purged_infos_limit(self, limit: int) -> None:
        """Set the number of purges that are kept by a compaction."""
        self.purged_infos_limit = limit
        self.settings_changed()

    def settings_changed(self) -> None:
        """Take an update sequence for a changed setting. It shows only in the database's information."""
        self.update_seq += 1

    def changed(self) -> None:
        """Wake the feeds that follow the database."""
        for wake in list(self.watchers.values()):
            wake()
