"""Figures and versions of a node, as ``_system``, ``_versions`` and ``_prometheus`` show them. Source: ``chttpd_node``.

The emulator is not an Erlang program. Figures of Erlang are 0; the others describe this process.
"""

from __future__ import annotations

import gc
import hashlib
import re
import threading

from couchdal.emulator.engine.collation.collation import collator_name, collator_version
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.statistics import head, metric
from couchdal.http.json_text import JSON

_MEMORY = ("other", "atom", "atom_used", "processes", "processes_used", "binary", "code", "ets")
_QUEUES = ("couch_server", "index_server", "rexi_server", "rexi_buffer")
_COUNTED = ("context_switches", "reductions")
# As Erlang lists them, without its own names for the same hashes.
_HASHES = ("blake2s", "blake2b", "sha3_512", "sha3_384", "sha3_256", "sha3_224", "sha512", "sha384", "sha256", "sha224")


def system_figures(server: Server) -> dict[str, JSON]:
    """Return the figures of ``_system``. The caller holds the lock."""
    collections = sum(int(generation["collections"]) for generation in gc.get_stats())
    return {
        "uptime": uptime_s(server),
        "memory": dict.fromkeys(_MEMORY, 0),
        "run_queue": 0,
        "run_queue_dirty_cpu": 0,
        "ets_table_count": 0,
        **dict.fromkeys(_COUNTED, 0),
        "garbage_collection_count": collections,
        "words_reclaimed": 0,
        "io_input": 0,
        "io_output": 0,
        "os_proc_count": 0,
        "stale_proc_count": 0,
        "process_count": threading.active_count(),
        "process_limit": 262_144,
        "message_queues": {"couch_file": {}, "couch_db_updater": {}, **dict.fromkeys(_QUEUES, 0)},
        "internal_replication_jobs": 0,
        "distribution": {},
        "distribution_events": {},
    }


def uptime_s(server: Server) -> int:
    """Return how many seconds the server has been running, by its own clock."""
    return int(server.clock.now() - server.started_at)


def versions_of() -> dict[str, JSON]:
    """Return the versions that ``_versions`` shows."""
    found = re.search(r"[0-9]+(\\.[0-9]+)*", collator_name())
    version = found[0] if found else "0"
    hashes: list[JSON] = [name for name in _HASHES if name in hashlib.algorithms_guaranteed]
    return {
        "javascript_engine": {"name": "quickjs"},
        "erlang": {"version": "25.2.3", "supported_hashes": [*hashes, "sha", "md5"]},
        "collation_driver": {
            "name": "libicu",
            "library_version": version,
            "collator_version": collator_version(),
            "collation_algorithm_version": version,
        },
    }


def system_metrics(server: Server) -> str:
    """Return the figures of ``_system`` in the text format of Prometheus."""
    figures = system_figures(server)
    number = {name: value for name, value in figures.items() if isinstance(value, int)}
    lines = [
        *metric("uptime_seconds", "counter", "couchdb uptime", number["uptime"]),
        *metric("erlang_gc_collections_total", "counter", "number of garbage collections by the Erlang emulator",
                number["garbage_collection_count"]),
        *metric("erlang_processes", "gauge", "the number of Erlang processes", number["process_count"]),
        *metric("erlang_process_limit", "gauge", "the maximum number of simultaneously existing Erlang processes",
                number["process_limit"]),
        *metric("internal_replication_jobs", "gauge", "count of internal replication changes to process", 0),
        *head("membership", "gauge", "count of nodes in the cluster"),
        'couchdb_membership{nodes="cluster_nodes"} 1',
        'couchdb_membership{nodes="all_nodes"} 1',
    ]  # fmt: skip
    return "".join(line + "\n" for line in lines)
