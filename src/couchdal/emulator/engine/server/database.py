"""One database: its documents, settings and indexes, and the feeds that wait for its next change.

This module does not know requests. The caller holds the server's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore, PurgeInfo
from couchdal.emulator.engine.indexes.indexes import Indexes, database_sizes
from couchdal.emulator.engine.server.journal import Action, Assignment, Changes, Commit, Journal, Keep
from couchdal.emulator.engine.server.keeper import DocumentWrites, Keeper, Numbers, Write
from couchdal.emulator.storage.base import LocalDocument, Storage

if TYPE_CHECKING:
    from couchdal.emulator.engine.javascript.runtime import Runtime

#: The attributes of a database that a data file keeps as JSON.
SETTINGS = (
    "compacted_seq",
    "instance_start_time",
    "partitioned",
    "purged_infos_limit",
    "ranges",
    "replicas",
    "revs_limit",
    "security",
    "seq_text",
    "shards",
)
DEFAULT_SECURITY: dict[str, object] = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}


class Database(DocumentStore):
    """One database of a server. ``watchers`` are called after every change."""

    __slots__ = (
        "compacted_seq",
        "deleted",
        "indexes",
        "instance_start_time",
        "journal",
        "name",
        "ranges",
        "replicas",
        "security",
        "shards",
        "system",
        "validation_loaded",
        "watchers",
        "writer",
    )

    storage: Storage[DocumentRecord]
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
        journal: Journal | None = None,
        javascript: Runtime | None = None,
    ) -> None:
        super().__init__(storage, seq_text, partitioned=partitioned)
        self.name: str = name
        # The kind of a database whose documents CouchDB itself reads: "_users", "_replicator", or else "".
        last = name.rpartition("/")[2]
        self.system: str = last if last in ("_users", "_replicator") else ""
        self.instance_start_time: str = instance_start_time
        self.shards: int = shards
        # The ranges of the shards, once one was split.
        self.ranges: tuple[tuple[int, int], ...] | None = None
        self.replicas: int = replicas
        self.security: dict[str, object] = DEFAULT_SECURITY
        # CouchDB checks revisions before it merges only until it has loaded the validation functions. A write loads
        # them; a change of a design document unloads them.
        self.validation_loaded: bool = False
        # The update sequence at the last compaction.
        self.compacted_seq: int = 0
        self.deleted: bool = False
        self.watchers: dict[object, Callable[[], None]] = {}
        self.indexes: Indexes = Indexes(javascript)
        # The server's journal. A database without a server has its own.
        self.journal: Journal = journal or Journal()
        # The request that is computing a write without the server's lock. Other writes wait for it.
        self.writer: object = None

    def origin(self) -> Database:
        """Return the database that a view shows: itself, if it is not a view."""
        return self

    def info(self) -> dict[str, object]:
        """Return the information that CouchDB gives about a database."""
        return {
            "instance_start_time": self.instance_start_time,
            "db_name": self.name,
            "purge_seq": self.seq(self.purge_seq),
            "update_seq": self.seq(self.update_seq),
            "sizes": database_sizes(self, self.indexes.sizes, self.update_seq - self.compacted_seq),
            "props": {"partitioned": True} if self.partitioned else {},
            "doc_del_count": self.doc_del_count,
            "doc_count": self.doc_count,
            "disk_format_version": 8,
            "compact_running": False,
            "cluster": {"q": self.shards, "n": self.replicas, "w": 1, "r": 1},
        }

    def partition_info(self, partition: str) -> dict[str, object]:
        """Return the information that CouchDB gives about a partition."""
        live, deleted = self.partition_counts(partition)
        return {
            "db_name": self.name,
            "sizes": self.indexes.sizes(self).of_partition(partition),
            "partition": partition,
            "doc_count": live,
            "doc_del_count": deleted,
        }

    def count(self, name: str, number: int = 1) -> None:
        """Count something for ``_stats``."""
        self.journal.counts[name] += number
        if self.journal.counted is not None:
            self.journal.counted.append((name, number))

    def set_security(self, security: dict[str, object]) -> None:
        """Replace the security object."""
        self._set("security", security)

    def set_revs_limit(self, limit: int) -> None:
        """Set the number of revisions that a branch keeps."""
        self._set("revs_limit", limit)

    def set_purged_infos_limit(self, limit: int) -> None:
        """Set the number of purges that a compaction keeps."""
        self._set("purged_infos_limit", limit)

    def _set(self, name: str, value: object) -> None:
        # A setting takes an update sequence, which shows only in the database's information.
        assignments: list[Assignment] = [(self, name, value), (self, "update_seq", self.update_seq + 1)]
        settings = {**self.settings(), name: value}
        keep = partial(self._keep_settings, settings)
        self.journal.publish(Changes(assignments, keep=keep))

    def settings(self) -> dict[str, object]:
        """Return the attributes in ``SETTINGS``, as values that JSON can express."""
        return {name: getattr(self, name) for name in SETTINGS}

    def _keep_settings(self, settings: Mapping[str, object], keeper: Keeper) -> None:
        keeper.set_settings(self.name, settings)
        keeper.set_numbers(self.name, self.numbers(update_seq=self.update_seq + 1))

    def _keep_compacted(self, writes: DocumentWrites, settings: Mapping[str, object], keeper: Keeper) -> None:
        _keep_documents(self.name, writes, self.numbers(), keeper)
        keeper.set_settings(self.name, settings)

    def keep_whole(self, storage: Storage[DocumentRecord], keeper: Keeper) -> None:
        """Write a database to the disk whose documents are in another storage."""
        keeper.create(self.name, self.settings(), self.storage)
        documents: list[Write] = [(None, record) for record in storage.changes()]
        _keep_documents(self.name, DocumentWrites(documents, storage.locals(), self.purges), self.numbers(), keeper)

    def numbers(self, **changed: int) -> Numbers:
        """Return the counts and sequences of the database, some of them changed."""
        now = Numbers(self.update_seq, self.doc_count, self.doc_del_count, self.design_version, self.purge_seq)
        return now._replace(**changed)

    def commit(
        self,
        writes: Sequence[Write],
        update_seq: int,
        locals_: Sequence[tuple[str, LocalDocument | None]] = (),
        *,
        unload: bool = False,
        purges: list[PurgeInfo] | None = None,
    ) -> None:
        """Make a write wholly or not at all. ``update_seq`` is the database's update sequence after it.

        ``writes`` are the old and the new state of each document. ``unload`` forgets the validation functions;
        ``purges`` is the new list of purges.
        """
        live, deleted, design_version = self.counts_after(writes)
        # ``Journal.publish`` is inlined here, because this is the path of every write.
        journal = self.journal
        if journal.keeper is not None:
            journal.begin_keeping()
        if self.storage.pins:
            self.add_layer()
        journal.commits += 1
        counts = journal.counts
        if purges is None:
            counts["couchdb/database_writes"] += 1
            counts["couchdb/document_writes"] += len(writes)
            counts["couchdb/document_inserts"] += live + deleted - self.doc_count - self.doc_del_count
        if locals_:
            counts["couchdb/local_document_writes"] += len(locals_)
        commit = _DatabaseCommit()
        outer = commit.outer = journal.pending
        commit.parts = self, writes, locals_, update_seq, live, deleted, design_version, unload, purges
        journal.pending = commit
        if journal.keeper is not None:
            journal.keep(commit)
        commit.apply()
        if journal.keeper is not None:
            journal.keeper.catch_up()
        if self.watchers:
            self.changed()
        journal.pending = outer

    def counts_after(self, writes: Sequence[Write]) -> tuple[int, int, int]:
        """Return the number of documents and of deleted ones after a write, and the version of the design documents."""
        live, deleted, design_version = self.doc_count, self.doc_del_count, self.design_version
        for old, new in writes:
            known = new or old
            if old is not None:
                if old.deleted:
                    deleted -= 1
                else:
                    live -= 1
            if new is not None:
                if new.deleted:
                    deleted += 1
                else:
                    live += 1
            if known is not None and known.doc_id.startswith("_design/"):
                design_version += 1
        return live, deleted, design_version

    def commit_layer(
        self,
        layer: Storage[DocumentRecord],
        counts: tuple[int, int, int],
        update_seq: int,
        *,
        kept: DocumentWrites,
        unload: bool = False,
    ) -> None:
        """Make a write whose documents are already in a layer above the storage.

        ``counts`` are those of ``counts_after``. ``kept`` has the same writes, for the disk.
        """
        live, deleted, design_version = counts
        purges = kept.purges
        values: dict[str, object] = {
            "storage": layer,
            "update_seq": update_seq,
            "doc_count": live,
            "doc_del_count": deleted,
        }
        values["design_version"] = design_version
        if unload:
            values["validation_loaded"] = False
        if purges is not None:
            values |= {"purges": purges, "purge_seq": purges[-1].purge_seq}
        numbers = self.numbers(update_seq=update_seq, doc_count=live, doc_del_count=deleted)._replace(
            design_version=design_version, purge_seq=purges[-1].purge_seq if purges else self.purge_seq
        )
        keep = partial(_keep_documents, self.name, kept, numbers)
        assignments: list[Assignment] = [(self, name, value) for name, value in values.items()]
        self.journal.publish(Changes(assignments, woken=[self.changed], keep=keep))

    def replace_records(self, records: Sequence[DocumentRecord], purges: list[PurgeInfo]) -> None:
        """Replace the records that have the same update sequences, and the list of purges."""
        if self.storage.pins:
            self.add_layer()
        storage = self.storage
        actions: list[Action] = [partial(storage.replace, record) for record in records]
        actions.append(self.indexes.forget_sizes)
        assignments: list[Assignment] = [(self, "purges", purges), (self, "compacted_seq", self.update_seq)]
        writes: list[Write] = [(storage.get(record.doc_id), record) for record in records]
        settings = {**self.settings(), "compacted_seq": self.update_seq}
        keep = partial(self._keep_compacted, DocumentWrites(writes, (), purges), settings)
        self.journal.publish(Changes(assignments, actions, recover=[partial(storage.recover, ())], keep=keep))

    def add_layer(self) -> None:
        """Direct later writes to a layer above the storage, because readers need its present state."""
        from couchdal.emulator.storage.layer import Layer  # only servers with long requests need it

        self.storage = Layer(self.storage)

    def changed(self) -> None:
        """Wake the feeds that follow the database."""
        for wake in list(self.watchers.values()):
            wake()


def _keep_documents(name: str, writes: DocumentWrites, numbers: Numbers, keeper: Keeper) -> None:
    keeper.write(name, writes)
    keeper.set_numbers(name, numbers)


class _DatabaseCommit(Commit):
    """A write of documents, with all changes to the database's attributes."""

    __slots__ = ("parts",)

    #: The database, and the values that ``commit`` received or computed. One tuple is faster than many attributes.
    parts: tuple[
        Database,
        Sequence[Write],
        Sequence[tuple[str, LocalDocument | None]],
        int,
        int,
        int,
        int,
        bool,
        list[PurgeInfo] | None,
    ]

    @property
    def keep(self) -> Keep:
        database, writes, locals_, update_seq, live, deleted, design_version, _, purges = self.parts
        purge_seq = purges[-1].purge_seq if purges else database.purge_seq
        numbers = Numbers(update_seq, live, deleted, design_version, purge_seq)
        return partial(_keep_documents, database.name, DocumentWrites(writes, locals_, purges), numbers)

    def apply(self, *, again: bool = False) -> None:
        database, writes, locals_, update_seq, live, deleted, design_version, unload, purges = self.parts
        storage = database.storage
        if again:
            storage.recover(writes)
        else:
            for old, new in writes:
                storage.write(old, new)
        database.update_seq = update_seq
        database.doc_count = live
        database.doc_del_count = deleted
        database.design_version = design_version
        if unload:
            database.validation_loaded = False
        if purges is not None:
            database.purges = purges
            database.purge_seq = purges[-1].purge_seq
        for doc_id, document in locals_:
            storage.write_local(doc_id, document)

    def redo(self) -> None:
        self.apply(again=True)

    def wake(self) -> None:
        self.parts[0].changed()
