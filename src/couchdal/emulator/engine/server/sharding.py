"""The shards of a database on a cluster of one node, and the jobs that split them.

The shards of the emulator only have names: all documents of a database are in one storage. Sources: ``mem3_util``,
``mem3_hash``, ``mem3_reshard``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import gmtime, strftime
from typing import NamedTuple, TypeAlias
from zlib import crc32

from couchdal.emulator.engine.server.database import Database

Range: TypeAlias = tuple[int, int]
JSON_OBJECT: TypeAlias = "dict[str, object]"

_RING = 2**32


class Job(NamedTuple):
    """A job that splits a shard. ``reason`` says why it was stopped."""

    job_id: str
    database: Database
    source: Range
    state: str
    reason: str | None
    started: float
    updated: float
    history: tuple[tuple[float, str, str | None], ...]

    def described(self, node: str) -> JSON_OBJECT:
        """Return the job as ``_reshard/jobs`` shows it."""
        completed = self.state == "completed"
        return {
            "id": self.job_id,
            "type": "split",
            "source": shard_name(self.database, self.source),
            "target": [shard_name(self.database, part) for part in halves(self.source)],
            "job_state": self.state,
            "split_state": "completed" if completed else "new",
            "state_info": {} if self.reason is None else {"reason": self.reason},
            "node": node,
            "start_time": _date(self.started),
            "update_time": _date(self.updated),
            "history": [{"timestamp": _date(at), "type": kind, "detail": what} for at, kind, what in self.history],
        }


class Resharding(NamedTuple):
    """Whether jobs may run, why not, and the jobs by id."""

    reason: object = None
    stopped: bool = False
    jobs: Mapping[str, Job] = {}

    def described(self) -> JSON_OBJECT:
        """Return the summary that ``_reshard`` shows."""
        states = [job.state for job in self.jobs.values()]
        counts = {name: states.count(name) for name in ("completed", "failed", "running", "stopped")}
        return {"state": self.state, "state_reason": self.reason, **counts, "total": len(states)}

    @property
    def state(self) -> str:
        return "stopped" if self.stopped else "running"


def shards_of(db: Database) -> Sequence[Range]:
    """Return the ranges of a database's shards, in order."""
    if db.ranges is not None:
        return db.ranges
    size = _RING // db.shards
    starts = [size * number for number in range(db.shards)]
    return [*((start, start + size - 1) for start in starts[:-1]), (starts[-1], _RING - 1)]


def shard_of(db: Database, doc_id: str) -> Range:
    """Return the range of the shard that holds a document. Raise ``IllegalDocId``."""
    db.check_located(doc_id)
    key = doc_id
    if db.partitioned and not doc_id.startswith("_design/"):
        key = doc_id.partition(":")[0]
    place = crc32(key.encode("utf-8", "surrogateescape"))
    return next(found for found in shards_of(db) if found[0] <= place <= found[1])


def range_text(shard: Range) -> str:
    """Return a range as CouchDB writes it, such as ``00000000-7fffffff``."""
    return f"{shard[0]:08x}-{shard[1]:08x}"


def shard_name(db: Database, shard: Range) -> str:
    """Return the name of a shard. It ends with the time at which the database was created."""
    return f"shards/{range_text(shard)}/{db.name}.{db.instance_start_time}"


def halves(shard: Range) -> tuple[Range, Range]:
    """Return the two shards into which a job splits one."""
    middle = shard[0] + (shard[1] - shard[0] + 1) // 2
    return (shard[0], middle - 1), (middle, shard[1])


def _date(seconds: float) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))
