"""One run of a replication: from the last checkpoint to the end of the source's feed, in steps.

Sources: ``couch_replicator_scheduler_job``, ``couch_replicator_worker``. CouchDB's workers run side by side; here one
batch follows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Final, cast

from couchdal.emulator.engine.erlang.term_text import Atom
from couchdal.emulator.engine.replication.checkpoint import Counts, Log, compare_logs, new_log
from couchdal.emulator.engine.replication.failures import failed, term_failure
from couchdal.emulator.engine.replication.parts import json_of
from couchdal.emulator.engine.replication.peer import Peer, RequestFailed
from couchdal.emulator.engine.replication.replication import Replication
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import quote

# How many batches of rows are read from the feed at once.
_BATCHES: Final = 10
_SHORTEST_FEED_MS: Final = 1000
_DESIGN: Final = "_design/"
# With these statuses, the target refuses a document without ending the replication.
_REFUSALS: Final = frozenset((401, 403, 413, 415))


class Run:
    """A running replication. ``ids`` are the ids of its checkpoints, the current one first."""

    def __init__(
        self,
        replication: Replication,
        source: Peer,
        target: Peer,
        *,
        ids: Sequence[str],
        session: str,
        now: Callable[[], float],
        started: float,
    ) -> None:
        self.replication = replication
        self.source = source
        self.target = target
        self._ids = ids
        self._session = session
        self._now = now
        self._started = started
        self.counts: Counts = Counts()
        #: The update sequences of the source up to which everything is replicated, and up to which a checkpoint is
        #: saved.
        self.through: JSON = 0
        self.committed: JSON = 0
        self._result: Log = {}
        self._start: JSON = 0
        self._is_new = False
        self._history: list[Log] = []
        self._revs: list[JSON] = [None, None]
        self._born: list[JSON] = []
        self._saved = started

    def open(self) -> None:
        """Open both databases, and find where to begin. Raise ``CouchError``."""
        try:
            self._open()
        except RequestFailed as error:
            raise error.at_start() from None

    def _open(self) -> None:
        replication = self.replication
        born = self.source.open()
        if replication.is_set("create_target"):
            self.target.create(replication.members("create_target_params") or {})
        self._born = [born, self.target.open()]
        logs = [self._find_log(number, peer) for number, peer in enumerate((self.source, self.target))]
        self._start, self._history = compare_logs(*logs)
        if self._history:
            self.counts = Counts.of_entry(self._history[0])
        if "since_seq" in replication.options:
            self._start = replication.options["since_seq"]
        self.through = self.committed = self._start
        self._result = {"no_changes": True, **logs[0]}

    def _find_log(self, number: int, peer: Peer) -> Log:
        for log_id in self._ids:
            found = peer.read_log(log_id)
            if found is not None:
                if log_id == self._ids[0]:
                    self._revs[number] = found[1]
                elif self.replication.is_set("use_checkpoints"):
                    self._revs[number] = peer.write_log(self._ids[0], found[0], None)
                return found[0]
        return {}

    def steps(self) -> Iterator[None]:
        """Replicate everything, with a pause of the generator after each batch. Raise ``CouchError``."""
        size = max(1, self.replication.number("worker_batch_size"))
        goes_on = True
        while goes_on:
            rows, goes_on = self._rows(size * _BATCHES)
            for at in range(0, len(rows), size):
                batch = rows[at : at + size]
                self._copy(batch)
                self.through, self._is_new = batch[-1]["seq"], True
                if self._now() - self._saved >= self.replication.number("checkpoint_interval") / 1000:
                    self.save()
                yield

    @property
    def has_worked(self) -> bool:
        """Whether the run has read rows of the feed, or has continued from a checkpoint that it changed."""
        return self.through != self._start

    def statistics(self) -> dict[str, JSON]:
        """Return the statistics that active tasks and replication documents show."""
        return {**self.counts.summary(), "checkpointed_source_seq": _sequence(self.committed)}

    def progress(self) -> dict[str, JSON]:
        """Return the statistics, and the sequence that the run has reached."""
        through = _sequence(self.through)
        return {**self.statistics(), "source_seq": through, "through_seq": through}

    def result(self) -> Log:
        """Return the members of the answer."""
        return self._result

    # --- the feed -----------------------------------------------------------------------------------------------------

    def _rows(self, most: int) -> tuple[list[Mapping[str, JSON]], bool]:
        """Return the next rows of the feed, and whether there may be more."""
        by_ids = self.replication.doc_ids is not None
        query, body = self._feed("normal", None if by_ids else most)
        found = cast("list[Mapping[str, JSON]]", self.source.changes(query, body))
        goes_on = not by_ids and len(found) >= most
        return [row for row in found if self._is_wanted(str(row.get("id", "")))], goes_on

    def _is_wanted(self, doc_id: str) -> bool:
        """Return whether a document is replicated. The configuration may limit the length of ids."""
        most = self.replication.options.get("max_document_id_length")
        if isinstance(most, int) and 0 < most < len(doc_id.encode()):
            self.counts.doc_write_failures += 1
            return False
        return doc_id != ""

    def await_changes(self) -> Response:
        """Return the source's answer to a request that waits for changes. Raise ``BackendError``."""
        return self.source.await_changes(*self._feed("longpoll", 1))

    def _feed(self, feed: str, limit: int | None) -> tuple[str, JSON]:
        """Return the query and the body of a request for changes."""
        replication = self.replication
        style = "main_only" if replication.is_set("winning_revs_only") else "all_docs"
        timeout_ms = max(_SHORTEST_FEED_MS, replication.number("connection_timeout") // 3)
        pairs = [("feed", feed), ("style", style), ("since", _sequence(self.through)), ("timeout", str(timeout_ms))]
        body: JSON = None
        if replication.doc_ids is not None:
            pairs.insert(0, ("filter", "_doc_ids"))
            body = {"doc_ids": replication.doc_ids}
        elif (selector := replication.members("selector")) is not None:
            pairs.insert(0, ("filter", "_selector"))
            body = {"selector": selector}
        elif replication.filter is not None:
            known = {name for name, _ in pairs}
            params = (replication.members("query_params") or {}).items()
            added = [(name, _parameter(value)) for name, value in params if name not in known]
            pairs = [("filter", replication.filter), *added, *pairs]
        if limit is not None:
            pairs.append(("limit", str(limit)))
        return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs), body

    # --- documents ----------------------------------------------------------------------------------------------------

    def _copy(self, rows: Sequence[Mapping[str, JSON]]) -> None:
        """Copy the revisions of some rows that the target lacks."""
        revisions = {
            str(row["id"]): [str(change["rev"]) for change in cast("list[Mapping[str, JSON]]", row["changes"])]
            for row in rows
        }
        missing = self.target.missing_revisions(cast("Mapping[str, JSON]", revisions))
        self.counts.missing_checked += sum(map(len, revisions.values()))
        wanted: list[tuple[str, str, list[str]]] = []
        for doc_id, found in missing.items():
            lacks = cast("Mapping[str, list[str]]", found)
            ancestors = lacks.get("possible_ancestors", [])
            wanted += [(doc_id, rev, ancestors) for rev in lacks["missing"]]
        self.counts.missing_found += len(wanted)
        alone = [item for item in wanted if item[0].startswith(_DESIGN)]
        others = [item for item in wanted if not item[0].startswith(_DESIGN)]
        docs: list[JSON] = []
        if others and self.replication.is_set("use_bulk_get"):
            docs, others = self._read_many(others)
        for item in (*alone, *others):
            docs += self._copy_alone(*item)
        self.counts.docs_read += len(docs)
        if docs:
            self._write_many(docs)

    def _read_many(
        self, wanted: Sequence[tuple[str, str, list[str]]]
    ) -> tuple[list[JSON], list[tuple[str, str, list[str]]]]:
        """Return the revisions that have no attachments, and which others are wanted."""
        asked: list[JSON] = [
            {"id": doc_id, "rev": rev, "atts_since": cast("list[JSON]", ancestors)} for doc_id, rev, ancestors in wanted
        ]
        docs: list[JSON] = []
        rest: list[tuple[str, str, list[str]]] = []
        rows = self.source.read_many(asked)
        if not rows:
            return docs, list(wanted)
        for item, row in zip(wanted, rows, strict=True):
            found = row.get("docs") if isinstance(row, dict) and row.get("id") == item[0] else None
            first = found[0] if isinstance(found, list) and len(found) == 1 else None
            doc = first.get("ok") if isinstance(first, dict) else None
            if isinstance(doc, dict) and not doc.get("_attachments"):
                docs.append(doc)
            else:
                rest.append(item)
        self.counts.bulk_get_attempts += len(wanted)
        self.counts.bulk_get_docs += len(docs)
        return docs, rest

    def _copy_alone(self, doc_id: str, rev: str, ancestors: Sequence[str]) -> list[JSON]:
        """Copy one revision with its attachments. Return it instead if it has none and is not a design document."""
        docs: list[JSON] = []
        parts = self.source.read_revision(doc_id, rev, ancestors)
        if any('error="true"' in kind for kind, _ in parts):
            parts = self.source.read_revision(doc_id, rev, ())
        for kind, text in parts:
            if 'error="true"' in kind:
                raise failed("error", "missing_doc")
            if kind.startswith("application/json") and not doc_id.startswith(_DESIGN):
                doc = json_of(text)
                if not doc.get("_attachments"):
                    docs.append(doc)
                    continue
            try:
                is_written = self._write_alone(doc_id, kind, text)
            except _MissingStub:
                if not ancestors:
                    raise failed("error", "missing_stub") from None
                return self._copy_alone(doc_id, rev, ())
            self.counts.docs_read += 1
            self.counts.docs_written += is_written
            self.counts.doc_write_failures += not is_written
        return docs

    def _write_alone(self, doc_id: str, kind: str, text: bytes) -> bool:
        """Write a revision. Return False if the target refuses it. Raise ``CouchError`` if the target fails."""
        response = self.target.write_revision(doc_id, kind, text)
        if response.status in (200, 201, 202):
            return True
        value = response.value()
        word, reason = (value.get("error"), value.get("reason")) if isinstance(value, dict) else (None, None)
        if response.status == 412 and word == "missing_stub":
            raise _MissingStub
        if response.status in _REFUSALS or (response.status == 400 and str(reason).startswith("Attachment name ")):
            return False
        raise term_failure(word, reason, word="doc_write_failed")

    def _write_many(self, docs: Sequence[JSON]) -> None:
        response = self.target.write_many(docs)
        value = response.value()
        if response.status == 413:
            half = len(docs) // 2
            if not half:
                self.counts.doc_write_failures += 1
                return
            self._write_many(docs[:half])
            self._write_many(docs[half:])
            return
        if response.status not in (201, 417) or not isinstance(value, list):
            raise term_failure(Atom("bulk_docs_failed"), response.status, value)
        refused = len([row for row in value if isinstance(row, dict) and "error" in row])
        self.counts.docs_written += len(docs) - refused
        self.counts.doc_write_failures += refused

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint to both sides, if it differs from the last one. Raise ``CouchError``."""
        if not self._is_new:
            return
        if not self.replication.is_set("use_checkpoints"):
            self._result = {"use_checkpoints": False}
            return
        self._check_same()
        self._saved = self._now()
        entry: Log = {
            "session_id": self._session,
            "start_time": formatdate(self._started, usegmt=True),
            "end_time": formatdate(self._saved, usegmt=True),
            "start_last_seq": self._start,
            "end_last_seq": self.through,
            "recorded_seq": self.through,
            **self.counts.shown(),
        }
        log = new_log(entry, self._history, by_ids=self.replication.doc_ids is not None)
        for number, peer in enumerate((self.source, self.target)):
            self._revs[number] = peer.write_log(self._ids[0], log, self._revs[number])
        self._result = log
        self.committed, self._is_new = self.through, False

    def _check_same(self) -> None:
        """Raise ``CouchError`` if a database was created again since the replication began."""
        born = [self.source.commit(), self.target.commit()]
        pairs = zip(("source", "target"), self._born, born, strict=True)
        changed = " and ".join(name for name, before, now in pairs if before != now and "0" not in (before, now))
        if changed:
            reason = f"instance_start_time on {changed} database has changed since last checkpoint."
            raise failed("checkpoint_commit_failure", reason)


class _MissingStub(Exception):
    """The target lacks an attachment that a revision says it has."""


def _sequence(value: JSON) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def _parameter(value: JSON) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()
