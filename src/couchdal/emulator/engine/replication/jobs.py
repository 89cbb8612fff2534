"""The background replications of a server as values: jobs, and the documents that define them.

Sources: ``couch_replicator_scheduler``, ``couch_replicator_doc_processor``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import gmtime, strftime
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.replication.replication import Replication
from couchdal.errors import CouchError
from couchdal.http.json_text import JSON

#: The name of a database of replication documents, and the id of a document.
DocKey: TypeAlias = tuple[str, str]

NODE: Final = "nonode@nohost"
_FIRST_BACKOFF_S: Final = 30.0
_MOST_DOUBLINGS: Final = 10
# If a document's job cannot be created, CouchDB waits a random time. This is the mean of the range for the first wait.
_FIRST_DOC_BACKOFF_S: Final = 32.0
_MOST_DOC_DOUBLINGS: Final = 12
_FILTER_WAIT_S: Final = 60.0
_DAY_S: Final = 86_400.0


class Event(NamedTuple):
    """One event of a job: its kind, its time, and the reason of a crash."""

    kind: str
    at: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A replication that runs, or waits to run again. ``key`` is None if a request began it.

    ``due`` is the time on the server's monotonic clock from which it may run. ``progress`` has its statistics.
    """

    id: str
    replication: Replication
    started: float
    key: DocKey | None = None
    user: str | None = None
    history: tuple[Event, ...] = ()
    is_running: bool = False
    due: float = 0.0
    progress: Mapping[str, JSON] = field(default_factory=dict)
    most_events: int = 20
    healthy_s: int = 120

    def after(self, kind: str, at: float, reason: str | None = None) -> Job:
        """Return the job after an event."""
        history = (Event(kind, at, reason), *self.history)[: self.most_events]
        return replace(self, history=history, is_running=kind == "started")

    @property
    def last_started(self) -> float:
        """When the job last began to run; 0 if it never did."""
        return next((event.at for event in self.history if event.kind == "started"), 0.0)

    @property
    def crashes(self) -> int:
        """How often the job has crashed since it last ran long enough without a crash."""
        count = 0
        for event, before in zip(self.history, self.history[1:], strict=False):
            if event.kind == "crashed":
                if event.at - before.at > self.healthy_s:
                    break
                count += 1
            elif (event.kind, before.kind) == ("stopped", "started"):
                break
        return count

    def backoff_s(self) -> float:
        """Return how long the job waits after its last crash."""
        return _FIRST_BACKOFF_S * 2.0 ** min(max(self.crashes - 1, 0), _MOST_DOUBLINGS)

    def shown(self) -> dict[str, JSON]:
        """Return the job as ``_scheduler/jobs`` shows it."""
        source, target = self.replication.sides
        history: list[JSON] = []
        for event in self.history:
            shown: dict[str, JSON] = {"timestamp": iso_time(event.at), "type": event.kind}
            if event.reason is not None:
                shown["reason"] = event.reason
            history.append(shown)
        return {
            "database": self.key[0] if self.key else None,
            "id": self.id,
            "pid": self.pid,
            "source": source.url,
            "target": target.url,
            "user": self.user,
            "doc_id": self.key[1] if self.key else None,
            "info": dict(self.progress) or None,
            "history": history,
            "node": NODE,
            "start_time": iso_time(self.started),
        }

    def task(self, instances: Mapping[str, str]) -> dict[str, object]:
        """Return the job as ``_active_tasks`` shows it. ``instances`` says when each database was created."""
        source, target = self.replication.sides
        database = self.key and f"shards/00000000-ffffffff/{self.key[0]}.{instances.get(self.key[0], '0')}"
        began = next((event.at for event in self.history if event.kind == "started"), self.started)
        members: dict[str, object] = {
            **self.progress,
            "checkpoint_interval": self.replication.number("checkpoint_interval"),
            "continuous": self.replication.is_set("continuous"),
            "database": database,
            "doc_id": self.key and self.key[1],
            "replication_id": self.id,
            "source": source.url,
            "started_on": int(began),
            "target": target.url,
            "type": "replication",
            "updated_on": int(began),
            "user": self.user,
        }
        return {"node": NODE, "pid": self.pid, "process_status": "waiting", **dict(sorted(members.items()))}

    @property
    def pid(self) -> str | None:
        """A process id, as Erlang writes it, while the job runs."""
        return f"<0.{int(self.id[:4], 16)}.0>" if self.is_running else None

    @property
    def state(self) -> str:
        """``running``, ``crashing`` or ``pending``."""
        if self.is_running:
            return "running"
        return "crashing" if self.history[:1] and self.history[0].kind == "crashed" else "pending"

    def summary(self, key: DocKey) -> dict[str, JSON]:
        """Return the job as ``_scheduler/docs`` shows it."""
        source, target = self.replication.sides
        info: JSON = dict(self.progress) or None
        if self.state == "crashing":
            info = {"error": self.history[0].reason}
        return {
            "database": key[0],
            "doc_id": key[1],
            "id": self.id,
            "node": NODE,
            "source": source.url,
            "target": target.url,
            "state": self.state,
            "info": info,
            "error_count": self.crashes,
            "last_updated": iso_time(self.history[0].at),
            "start_time": iso_time(self.started),
            "source_proxy": source.shown_proxy,
            "target_proxy": target.shown_proxy,
        }


@dataclass(frozen=True, slots=True)
class Doc:
    """A replication document that does not have its final state yet. ``job`` is the id of its job, once it has one."""

    key: DocKey
    replication: Replication
    started: float
    updated: float
    job: str | None = None
    errors: int = 0
    info: str | None = None
    due: float = 0.0

    @property
    def is_unsettled(self) -> bool:
        """Whether a job is to be made for it, or may be replaced: the id of a job depends on its filter function."""
        name = self.replication.filter
        return self.job is None or (name is not None and not name.startswith("_"))

    def failed(self, reason: str, now: float, monotonic: float) -> Doc:
        """Return the document after a failed attempt to create its job."""
        wait_s = _FIRST_DOC_BACKOFF_S * 2.0 ** min(self.errors, _MOST_DOC_DOUBLINGS)
        return replace(self, job=None, info=reason, errors=self.errors + 1, updated=now, due=monotonic + wait_s)

    def shown(self) -> dict[str, JSON]:
        """Return the document as ``_scheduler/docs`` shows it before it has a job."""
        return {
            "database": self.key[0],
            "doc_id": self.key[1],
            "id": None,
            "state": "error" if self.errors else "initializing",
            "info": None if self.info is None else {"error": self.info},
            "error_count": self.errors,
            "node": NODE,
            "last_updated": iso_time(self.updated),
            "start_time": iso_time(self.started),
        }


class State(NamedTuple):
    """All jobs and documents, and up to which sequence each database of replication documents was read. Immutable."""

    jobs: Mapping[str, Job] = {}
    docs: Mapping[DocKey, Doc] = {}
    seen: Mapping[str, tuple[str, int]] = {}

    def with_job(self, job: Job) -> State:
        """Return the state with a job, in place of an older one with the same id."""
        return self._replace(jobs={**self.jobs, job.id: job})

    def without_job(self, job_id: str) -> State:
        """Return the state without a job."""
        return self._replace(jobs={name: job for name, job in self.jobs.items() if name != job_id})

    def with_doc(self, doc: Doc) -> State:
        """Return the state with a document."""
        return self._replace(docs={**self.docs, doc.key: doc})

    def without_doc(self, key: DocKey) -> State:
        """Return the state without a document and its jobs."""
        jobs = {name: job for name, job in self.jobs.items() if job.key != key}
        return self._replace(jobs=jobs, docs={name: doc for name, doc in self.docs.items() if name != key})


def filter_wait_s(docs: int) -> float:
    """Return when CouchDB looks for a changed filter function again: later if it has many replication documents.

    It adds a random time. This is the mean.
    """
    return _FILTER_WAIT_S + 1.0 + min(docs / 10, _DAY_S / 2)


def iso_time(seconds: float) -> str:
    """Return a time as replication documents have it."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


def reason_of(error: CouchError) -> str:
    """Return the reason of a crash in one text, as CouchDB shows it."""
    return error.reason if error.error == "error" else f"{error.error}: {error.reason}"
