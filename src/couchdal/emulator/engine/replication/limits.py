"""How many jobs run at once, and which ones if there are more. Source: ``couch_replicator_scheduler``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from couchdal.emulator.engine.replication.jobs import Job
from couchdal.emulator.engine.replication.replicator import replicator_number

if TYPE_CHECKING:
    from couchdal.emulator.engine.server.server import Server


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the configuration: ``jobs`` may run at once, and ``churn`` of them make room in each interval."""

    jobs: int
    churn: int
    interval_s: float
    history: int
    healthy_s: int

    def begin(self, job: Job, others: Collection[Job], now: float) -> Job:
        """Return a new job: running, or waiting if too many others run."""
        job = replace(job, most_events=self.history, healthy_s=self.healthy_s).after("added", now)
        return job.after("started", now) if self._free(others) > 0 else job

    def choose(self, due: Collection[Job], jobs: Collection[Job]) -> list[Job]:
        """Return the jobs that may go on. Those that have waited longest begin first."""
        waiting = sorted((job for job in due if not job.is_running), key=lambda job: job.last_started)
        return [*(job for job in due if job.is_running), *waiting[: max(self._free(jobs), 0)]]

    def find_excess(self, jobs: Collection[Job], now: float) -> list[Job]:
        """Return the continuous jobs that make room for others, those first that have run longest."""
        free = self._free(jobs)
        waiting = sum(not job.is_running and job.due <= now for job in jobs)
        count = -free if free < 0 else min(waiting - free, self.churn)
        running = [job for job in jobs if job.is_running and job.replication.is_set("continuous")]
        return sorted(running, key=lambda job: job.last_started)[: max(count, 0)]

    def _free(self, jobs: Collection[Job]) -> int:
        return self.jobs - sum(job.is_running for job in jobs)


def limits_of(server: Server) -> Limits:
    """Return the limits of a server. Their defaults are CouchDB's."""
    return Limits(
        jobs=replicator_number(server, "max_jobs", 500),
        churn=replicator_number(server, "max_churn", 20),
        interval_s=replicator_number(server, "interval", 60_000) / 1000,
        history=replicator_number(server, "max_history", 20),
        healthy_s=replicator_number(server, "health_threshold", 120),
    )
