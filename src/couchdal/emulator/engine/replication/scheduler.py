"""The background replications of a server: continuous ones, and those that documents in ``_replicator`` define.

This module neither waits nor starts threads. The driver of the server asks which jobs are ``due`` and advances them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from couchdal.emulator.engine.replication.documents import find_changes, write_state
from couchdal.emulator.engine.replication.jobs import Doc, DocKey, Job, State, filter_wait_s, iso_time, reason_of
from couchdal.emulator.engine.replication.limits import Limits, limits_of
from couchdal.emulator.engine.replication.peer import Peer
from couchdal.emulator.engine.replication.replication import Replication
from couchdal.emulator.engine.replication.replicator import Peers, find_ids, opened, place_of
from couchdal.emulator.engine.replication.run import Run
from couchdal.emulator.engine.replication.running import Running
from couchdal.emulator.engine.server.replications import Replications
from couchdal.errors import CouchError
from couchdal.http.json_text import JSON

if TYPE_CHECKING:
    from couchdal.emulator.engine.server.server import Server

# How often another server is asked for changes.
_ASK_S: Final = 1.0


class Scheduler(Replications):
    """The replications of one server."""

    state: State

    def __init__(self, server: Server, state: State | None = None) -> None:
        self._server = server
        self.state = state or State()
        self._running: dict[str, Running] = {}
        self._busy: set[str] = set()
        #: When jobs that wait take the places of others.
        self._rotates = server.clock.monotonic()
        #: Whether ``advance_all`` is at work.
        self.is_advancing: bool = False

    def discard(self) -> None:
        """Release the resources of the jobs, without a checkpoint. The scheduler is not used any more."""
        for job_id in [*self._running]:
            self._release(job_id)

    # --- what there is to do ------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing can become due before a replication document or a job is written."""
        return not (self.state.jobs or self.state.docs)

    def due(self, peers: Peers, *, at_once: bool = False) -> list[str]:
        """Return the ids of the jobs that have something to do now. The caller holds the lock.

        ``at_once`` asks other servers for changes, even if they were asked just before.
        """
        self.read_documents()
        now = self._server.clock.monotonic()
        for doc in list(self.state.docs.values()):
            if doc.is_unsettled and doc.due <= now:
                return [_doc_name(doc.key)]
        limits = limits_of(self._server)
        if now >= self._rotates:
            self._rotates = now + limits.interval_s
            self._make_room(limits, now)
        jobs = [job for job in self.state.jobs.values() if self._is_due(job, peers, now, at_once=at_once)]
        return [job.id for job in limits.choose(jobs, self.state.jobs.values())]

    def _make_room(self, limits: Limits, now: float) -> None:
        """Stop jobs for others that wait."""
        for job in limits.find_excess(self.state.jobs.values(), now):
            if job.id not in self._busy:
                self._release(job.id)
                self.state = self.state.with_job(job.after("stopped", self._server.clock.now()))

    def due_now(self, peers: Peers) -> list[str]:
        """Return the same as ``due``. The caller does not hold the lock."""
        with self._server.exclusively():
            return self.due(peers)

    def _is_due(self, job: Job, peers: Peers, now: float, *, at_once: bool) -> bool:
        if job.id in self._busy:
            return False
        running = self._running.get(job.id)
        if running is None:
            return job.due <= now
        seen = self._sight(job.replication, peers)
        if seen is not None:
            return running.seen != seen
        return at_once or (running.watch.is_over if running.watch is not None else job.due <= now)

    def _sight(self, replication: Replication, peers: Peers) -> object:
        """Return a value that changes whenever the source does; None if it is on another server."""
        name = peers.own_name(replication.sides[0])
        if name is None:
            return None
        found = self._server.databases.get(name)
        return (name, "deleted") if found is None else (name, found.seq_text, found.update_seq)

    def read_documents(self) -> None:
        """Read the changes in databases of replication documents, and act on them. The caller holds the lock."""
        server, setting = self._server, self._server.settings.replicator.get
        for name in [name for name in self.state.seen if name not in server.databases]:
            for key in [key for key in (*self.state.docs, *self._keys()) if key[0] == name]:
                self._forget(key)
            self.state = self.state._replace(seen={key: at for key, at in self.state.seen.items() if key != name})
        for name, db in list(server.databases.items()):
            if db.system != "_replicator":
                continue
            text, since = self.state.seen.get(name, (db.seq_text, 0))
            if (text, since) == (db.seq_text, db.update_seq):
                continue
            for doc_id, replication in find_changes(db, since if text == db.seq_text else 0, setting):
                self._take_over((name, doc_id), replication)
            self.state = self.state._replace(seen={**self.state.seen, name: (db.seq_text, db.update_seq)})

    def _keys(self) -> list[DocKey]:
        return [job.key for job in self.state.jobs.values() if job.key is not None]

    def _take_over(self, key: DocKey, replication: Replication | CouchError | None) -> None:
        """Begin, replace or end the replication that a document defines."""
        known = self.state.docs.get(key)
        if isinstance(replication, Replication) and known is not None and known.replication == replication:
            return
        self._forget(key)
        if isinstance(replication, CouchError):
            write_state(self._server, key, "failed", reason=reason_of(replication))
        elif replication is not None:
            now = self._server.clock.now()
            self.state = self.state.with_doc(Doc(key, replication, started=now, updated=now))

    def _forget(self, key: DocKey) -> None:
        for job in [job for job in self.state.jobs.values() if job.key == key]:
            self._stop(job)
        self.state = self.state.without_doc(key)

    def _stop(self, job: Job) -> None:
        """End a job. Its last checkpoint is the one that it wrote after its last change."""
        self._release(job.id)
        self.state = self.state.without_job(job.id)

    def _release(self, job_id: str) -> None:
        running = self._running.pop(job_id, None)
        if running is not None:
            running.close()

    def tasks(self) -> list[dict[str, object]]:
        """Return the running jobs as ``_active_tasks`` shows them. The caller holds the lock."""
        instances = {name: db.instance_start_time for name, db in self._server.databases.items()}
        return [job.task(instances) for job in self.state.jobs.values() if job.is_running and job.progress]

    # --- what requests ask for ----------------------------------------------------------------------------------------

    def add(self, job_id: str, replication: Replication, user: str | None) -> None:
        """Begin a continuous replication for a request, unless it runs already. The caller holds the lock."""
        if job_id not in self.state.jobs:
            now = self._server.clock.now()
            self._begin(Job(job_id, replication, started=now, user=user), now)

    def _begin(self, job: Job, now: float) -> None:
        """Add a job. It runs at once unless too many run already."""
        added = limits_of(self._server).begin(job, self.state.jobs.values(), now)
        self.state = self.state.with_job(added)

    def cancel(self, job_id: str) -> bool:
        """End the replication with this id. Return False if it does not exist. The caller holds the lock."""
        job = self.state.jobs.get(job_id)
        if job is not None:
            self._stop(job)
        return job is not None

    # --- work ---------------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work on a job."""
        return bool(self._busy)

    def advance_all(self, names: Sequence[str], peers: Peers) -> None:
        """Advance the named jobs, one after the other."""
        self.is_advancing = True
        try:
            for name in names:
                self.advance(name, peers)
        finally:
            self.is_advancing = False

    def advance(self, name: str, peers: Peers) -> None:
        """Do the work that is due for one job or document. The caller does not hold the lock."""
        doc = next((doc for doc in self.state.docs.values() if _doc_name(doc.key) == name), None)
        if doc is not None:
            self._make_job(doc, peers)
            return
        with self._server.exclusively():
            job = self.state.jobs.get(name)
            if job is None or name in self._busy:
                return
            self._busy.add(name)
        try:
            self._work_on(job, peers)
        finally:
            self._busy.discard(name)

    def _make_job(self, doc: Doc, peers: Peers) -> None:
        """Turn a document into a job. Computing its id may take a request to the source."""
        server = self._server
        try:
            with opened(doc.replication, peers) as (source, _):
                job_id = find_ids(doc.replication, place_of(server, peers), source)[0] + doc.replication.extension
        except CouchError as error:
            with self._server.exclusively():
                failed = doc.failed(error.reason, server.clock.now(), server.clock.monotonic())
                if self.state.docs.get(doc.key) is doc:
                    self.state = self.state.with_doc(failed)
            return
        with self._server.exclusively():
            if self.state.docs.get(doc.key) is not doc:
                return
            other = self.state.jobs.get(job_id)
            what = f"Replication `{job_id}` specified by document `{doc.key[1]}` already"
            if other is None or other.key == doc.key:
                # The filter function may have changed since the document's last job was made.
                for old in [job for job in self.state.jobs.values() if job.key == doc.key and job.id != job_id]:
                    self._stop(old)
                now = server.clock.now()
                if other is None:
                    user = doc.replication.user
                    self._begin(Job(job_id, doc.replication, started=doc.started, key=doc.key, user=user), now)
                due = server.clock.monotonic() + filter_wait_s(len(self.state.docs))
                self.state = self.state.with_doc(replace(doc, job=job_id, errors=0, info=None, due=due))
            elif other.key is None:
                text = f"{what} running as a transient replication, started via `_replicate` API endpoint"
                self.state = self.state.with_doc(doc.failed(text, server.clock.now(), server.clock.monotonic()))
            else:
                text = f"{what} started, triggered by document `{other.key[1]}` from db `{other.key[0]}`"
                self.state = self.state.without_doc(doc.key)
                write_state(server, doc.key, "failed", reason=text)

    def _work_on(self, job: Job, peers: Peers) -> None:
        """Run a job until its source has no more changes."""
        server = self._server
        try:
            with self._server.exclusively():
                seen = self._sight(job.replication, peers)
                job = job if job.is_running else job.after("started", server.clock.now())
                self.state = self.state.with_job(job)
            running = self._running.get(job.id) or self._open(job, peers)
            for _ in running.run.steps():
                self._report(job, running.run)
                if job.id not in self.state.jobs:
                    return
            running.run.save()
            running.seen = seen
            if seen is None and job.replication.is_set("continuous"):
                self._watch(job, running, peers)
        except CouchError as error:
            self._crash(job, reason_of(error))
            return
        if job.replication.is_set("continuous"):
            self._report(job, running.run, wait_s=_ASK_S)
        else:
            self._complete(job, running.run)

    def _open(self, job: Job, peers: Peers) -> Running:
        with ExitStack() as resources:
            sides: tuple[Peer, Peer] = resources.enter_context(opened(job.replication, peers))
            ids = find_ids(job.replication, place_of(self._server, peers), sides[0])
            session = self._server.next_id()
            now = self._server.clock.now
            run = Run(job.replication, *sides, ids=ids, session=session, now=now, started=job.started)
            run.open()
            running = self._running[job.id] = Running(run, resources.pop_all())
        return running

    def _watch(self, job: Job, running: Running, peers: Peers) -> None:
        """Wait for changes of another server, unless the job was ended meanwhile."""
        watch = peers.watch(running.run.await_changes)
        with self._server.exclusively():
            running.watch = watch
            is_ended = self._running.get(job.id) is not running
        if is_ended:
            running.close()

    def _report(self, job: Job, run: Run, *, wait_s: float = 0.0) -> None:
        """Show what a job has done, unless it was cancelled meanwhile."""
        with self._server.exclusively():
            known = self.state.jobs.get(job.id)
            if known is None:
                return
            due = self._server.clock.monotonic() + wait_s
            progress = run.progress() if run.has_worked else known.progress
            self.state = self.state.with_job(replace(known, due=due, progress=progress))

    def _crash(self, job: Job, reason: str) -> None:
        with self._server.exclusively():
            self._release(job.id)
            known = self.state.jobs.get(job.id)
            if known is None:
                return
            if known.key is None:
                self.state = self.state.without_job(job.id)
                return
            crashed = known.after("crashed", self._server.clock.now(), reason)
            due = self._server.clock.monotonic() + crashed.backoff_s()
            self.state = self.state.with_job(replace(crashed, due=due, progress={}))

    def _complete(self, job: Job, run: Run) -> None:
        with self._server.exclusively():
            if job.id not in self.state.jobs:
                return
            self._stop(job)
            if job.key is not None:
                self.state = self.state.without_doc(job.key)
                stats: dict[str, JSON] = {**run.statistics(), "start_time": iso_time(job.started)}
                write_state(self._server, job.key, "completed", stats=stats)


def _doc_name(key: DocKey) -> str:
    return "doc " + "/".join(key)


def scheduler_of(server: Server) -> Scheduler:
    """Return the scheduler of a server. The first call creates it. The caller holds the lock."""
    found = known_scheduler(server)
    if found is None:
        found = server.replications = Scheduler(server)
    if server.wake is not None:
        server.wake()
    return found


def known_scheduler(server: Server) -> Scheduler | None:
    """Return the scheduler of a server, or None if it never needed one."""
    found = server.replications
    return found if isinstance(found, Scheduler) else None


def resumed(server: Server, state: object) -> Scheduler:
    """Return a scheduler that continues from a state."""
    assert isinstance(state, State)
    return Scheduler(server, state)
