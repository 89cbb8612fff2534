"""Jobs that split shards. A job that runs has completed at once. The caller holds the server's lock.

Source: ``mem3_reshard``.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import chain
from typing import Final

from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Assignment, Changes
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.sharding import Job, Range, Resharding, halves, shard_name, shards_of
from couchdal.errors import NotFound

_STEPS = (
    *("initial_copy", "topoff1", "build_indices", "topoff2", "copy_local_docs", "update_shardmap"),
    *("wait_source_close", "topoff3", "source_delete"),
)
_NOTHING: Final = Resharding()


def resharding_of(server: Server) -> Resharding:
    """Return the state of all jobs. Those of deleted databases are forgotten once they are completed."""
    found = server.resharding or _NOTHING
    if not any(job.database.deleted for job in found.jobs.values()):
        return found
    return found._replace(jobs={key: job for key, job in found.jobs.items() if not job.database.deleted})


def change_state(server: Server, *, stopped: bool, reason: object = None) -> None:
    """Let jobs run, or stop all. Do nothing if the state is right already."""
    found = resharding_of(server)
    if found.stopped != stopped:
        _store(server, found._replace(stopped=stopped, reason=reason))


def find_job(server: Server, job_id: str) -> Job:
    """Return a job. Raise ``NotFound``."""
    found = resharding_of(server).jobs.get(job_id)
    if found is None:
        raise NotFound()
    return found


def start_job(server: Server, db: Database, shard: Range, node: str) -> str:
    """Split a shard, and return the id of the job. The job waits if jobs may not run."""
    found, now = resharding_of(server), server.clock.now()
    job_id = f"001-{sha256(shard_name(db, shard).encode() + node.encode()).hexdigest()}"
    job = Job(job_id, db, shard, "new", None, 0, now, ((now, "new", None),))
    if found.stopped:
        reason = "Shard splitting disabled"
        job = job._replace(state="stopped", reason=reason, history=(*job.history, (now, "stopped", reason)))
        _store(server, found, job)
    else:
        _run(server, found, job)
    return job_id


def resume_job(server: Server, job_id: str) -> None:
    """Run a job that was stopped. Raise ``NotFound``."""
    job = find_job(server, job_id)
    if job.state == "stopped":
        _run(server, resharding_of(server), job)


def stop_job(server: Server, job_id: str, reason: str) -> None:
    """Stop a job unless it is completed. Raise ``NotFound``."""
    job = find_job(server, job_id)
    if job.state == "stopped":
        _store(server, resharding_of(server), job._replace(reason=reason))


def remove_job(server: Server, job_id: str) -> None:
    """Forget a job. Raise ``NotFound``."""
    find_job(server, job_id)
    found = resharding_of(server)
    _store(server, found._replace(jobs={key: job for key, job in found.jobs.items() if key != job_id}))


def chosen_shards(
    server: Server, *, name: str | None = None, shard: str | None = None, wanted: Range | None = None
) -> list[tuple[Database, Range]]:
    """Return the shards that a request for a job names, from the last to the first. Raise ``NotFound``."""
    if name is None:
        name = (shard or "").split("/", 2)[2].rpartition(".")[0]
    found = server.database(name)
    return [
        (found, one)
        for one in reversed(shards_of(found))
        if wanted in (None, one) and shard in (None, shard_name(found, one))
    ]


def _run(server: Server, found: Resharding, job: Job) -> None:
    now, db = server.clock.now(), job.database
    history = (*job.history, *((now, "running", step) for step in _STEPS), (now, "completed", None))
    done = job._replace(state="completed", reason=None, started=now, updated=now, history=history)
    ranges = tuple(chain.from_iterable(halves(one) if one == job.source else (one,) for one in shards_of(db)))
    jobs = {**found.jobs, job.job_id: done}
    assignments: list[Assignment] = [(server, "resharding", found._replace(jobs=jobs))]
    assignments += ((db, "ranges", ranges), (db, "shards", len(ranges)))
    settings = {**db.settings(), "ranges": ranges, "shards": len(ranges)}
    # Only the effect of a job is stored, not the job.
    server.journal.publish(Changes(assignments, keep=lambda keeper: keeper.set_settings(db.name, settings)))


def _store(server: Server, found: Resharding, job: Job | None = None) -> None:
    if job is not None:
        found = found._replace(jobs={**found.jobs, job.job_id: job})
    server.journal.publish(Changes([(server, "resharding", found)]))
