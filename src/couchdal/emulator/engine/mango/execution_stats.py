"""The counters of a query: those of ``execution_stats``, and those of the server.

Source: ``mango_execution_stats``.
"""

from __future__ import annotations

from dataclasses import dataclass

from couchdal.emulator.engine.mango.index_definition import IndexDefinition
from couchdal.emulator.engine.server.database import Database


@dataclass(slots=True)
class ExecutionStats:
    """The counters of ``execution_stats``."""

    keys_examined: int = 0
    docs_examined: int = 0
    quorum_docs_examined: int = 0
    results: int = 0

    def to_json(self) -> dict[str, object]:
        return {
            "total_keys_examined": self.keys_examined,
            "total_docs_examined": self.docs_examined,
            "total_quorum_docs_examined": self.quorum_docs_examined,
            "results_returned": self.results,
            # A time that depends on the query alone, so that the same requests get the same answers.
            "execution_time_ms": (self.keys_examined + self.docs_examined + self.results + 100) / 1000,
        }


def count_query(db: Database, index: IndexDefinition, stats: ExecutionStats) -> None:
    """Add the counters of a query to ``_stats``."""
    db.count("couchdb/database_reads", stats.docs_examined)
    db.count("mango/keys_examined", stats.keys_examined)
    db.count("mango/docs_examined", stats.docs_examined)
    db.count("mango/quorum_docs_examined", stats.quorum_docs_examined)
    db.count("mango/evaluate_selector", stats.keys_examined)
    db.count("mango/results_returned", stats.results)
    if not index.is_json:
        db.count("mango/unindexed_queries")
