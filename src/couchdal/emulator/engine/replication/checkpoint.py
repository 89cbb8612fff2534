"""Checkpoints: local documents with the progress of a replication. Source: ``couch_replicator_scheduler_job``.

Both sides keep one, with the history of the sessions. A replication continues after the last session in both histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeAlias, cast

from couchdal.emulator.engine.replication.replication_id import VERSION
from couchdal.http.json_text import JSON

_MOST_ENTRIES: Final = 50
#: A log is the body of a checkpoint, without ``_id`` and ``_rev``.
Log: TypeAlias = "dict[str, JSON]"


@dataclass(slots=True)
class Counts:
    """The counters of a replication. Each session continues the counts of the last one."""

    missing_checked: int = 0
    missing_found: int = 0
    docs_read: int = 0
    docs_written: int = 0
    doc_write_failures: int = 0
    bulk_get_docs: int = 0
    bulk_get_attempts: int = 0

    @classmethod
    def of_entry(cls, entry: Mapping[str, JSON]) -> Counts:
        """Return the counts of an entry of a history."""
        found = {field.name: entry.get(field.name) for field in fields(cls)}
        return cls(**{name: value for name, value in found.items() if type(value) is int})

    def shown(self) -> dict[str, JSON]:
        """Return the counts as a history has them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def summary(self) -> dict[str, JSON]:
        """Return the counts as active tasks and replication documents have them."""
        return {
            "revisions_checked": self.missing_checked,
            "missing_revisions_found": self.missing_found,
            "docs_read": self.docs_read,
            "docs_written": self.docs_written,
            "changes_pending": None,
            "doc_write_failures": self.doc_write_failures,
            "bulk_get_docs": self.bulk_get_docs,
            "bulk_get_attempts": self.bulk_get_attempts,
        }


def compare_logs(source: Log, target: Log) -> tuple[JSON, list[Log]]:
    """Return the update sequence from which to continue, and the history up to it."""
    if source.get("session_id") == target.get("session_id"):
        return source.get("source_last_seq", 0), _history(source)
    return _shared(_history(source), _history(target))


def _shared(source: Sequence[Log], target: Sequence[Log]) -> tuple[JSON, list[Log]]:
    """Return where the newest session that both histories have ended, and the history before it."""
    while source and target:
        (first, *source), (second, *rest) = source, target
        if any(entry.get("session_id") == first.get("session_id") for entry in target):
            return first.get("recorded_seq", 0), list(source)
        if any(entry.get("session_id") == second.get("session_id") for entry in source):
            return second.get("recorded_seq", 0), rest
        target = rest
    return 0, []


def _history(log: Log) -> list[Log]:
    entries = log.get("history")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def new_log(entry: Log, history: Sequence[Log], *, by_ids: bool) -> Log:
    """Return the log of a session. ``history`` has the earlier sessions.

    A replication of some documents repeats a part of the entry, as in CouchDB 1.0.
    """
    log: Log = {
        "session_id": entry["session_id"],
        "source_last_seq": entry["recorded_seq"],
        "replication_id_version": VERSION,
    }
    if by_ids:
        log |= {
            name: entry[name] for name in ("start_time", "end_time", "docs_read", "docs_written", "doc_write_failures")
        }
    log["history"] = cast("list[JSON]", [entry, *history][:_MOST_ENTRIES])
    return log
