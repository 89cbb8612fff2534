"""The statistics of a node, as ``_stats`` and ``_prometheus`` show them.

Sources: ``couch_stats_httpd``, ``couch_prometheus_util``. Histograms are empty, like those of an idle CouchDB, because
they show only the last seconds. Counters of events that the emulator does not have are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.statistics_table import STATISTICS, Statistic
from couchdal.http.json_text import JSON

_PERCENTILES = (50, 75, 90, 95, 99, 999)
_MOMENTS = (
    *("n", "min", "max", "arithmetic_mean", "geometric_mean", "harmonic_mean", "median", "variance"),
    *("standard_deviation", "skewness", "kurtosis"),
)
_EMPTY: Final[dict[str, JSON]] = {
    **dict.fromkeys(_MOMENTS, 0),
    "percentile": [[percentile, 0] for percentile in _PERCENTILES],
    "histogram": [[0, 0]],
}


def figures(server: Server) -> dict[tuple[str, ...], int]:
    """Return all counters and gauges by path. The caller holds the lock."""
    counts = server.journal.counts
    found = {path: counts.get("/".join(path), 0) for path in STATISTICS}
    for path in STATISTICS:
        if path[:2] == ("couchdb", "httpd_request_methods"):
            found[path] = sum(number for key, number in counts.items() if key[0] == path[2])
        elif path[:2] == ("couchdb", "httpd_status_codes"):
            found[path] = sum(number for key, number in counts.items() if key[1] == int(path[2]))
    found["couchdb", "httpd", "requests"] = sum(number for key, number in counts.items() if type(key) is tuple)
    found["couchdb", "open_databases"] = len(server.databases)
    return found


def statistics_tree(server: Server) -> dict[str, JSON]:
    """Return the tree that ``_stats`` shows."""
    tree: dict[str, JSON] = {}
    for path, number in figures(server).items():
        branch = tree
        for part in path[:-1]:
            below = branch.setdefault(part, {})
            assert isinstance(below, dict)
            branch = below
        kind, description = STATISTICS[path]
        value: JSON = _EMPTY if kind == "histogram" else number
        branch[path[-1]] = {"value": value, "type": kind, "desc": description}
    return tree


def exposition(server: Server) -> str:
    """Return all figures in the text format of Prometheus."""
    found = figures(server)
    lines: list[str] = []
    for path, number in found.items():
        lines += _metric(path, STATISTICS[path], number, found)
    return "".join(line + "\n" for line in lines)


#: Metrics with other names or sums than their paths say: the name, its description, and the path that is added.
_SUMS: Final[Mapping[str, tuple[str, str, str]]] = {
    "couch_replicator/checkpoints/success": (
        "couch_replicator_checkpoints_total",
        "number of checkpoint saves",
        "couch_replicator/checkpoints/failure",
    ),
    "couch_replicator/responses/success": (
        "couch_replicator_responses_total",
        "number of HTTP responses received by the replicator",
        "couch_replicator/responses/failure",
    ),
    "couch_replicator/stream_responses/success": (
        "couch_replicator_stream_responses_total",
        "number of streaming HTTP responses received by the replicator",
        "couch_replicator/stream_responses/failure",
    ),
    "couchdb/auth_cache_hits": (
        "auth_cache_requests_total",
        "number of authentication cache requests",
        "couchdb/auth_cache_misses",
    ),
    "ddoc_cache/hit": ("ddoc_cache_requests_total", "number of design doc cache requests", "ddoc_cache/miss"),
    "fabric/read_repairs/success": (
        "fabric_read_repairs_total",
        "number of fabric read repairs",
        "fabric/read_repairs/failure",
    ),
}
_RENAMED: Final[Mapping[str, str]] = {
    "ddoc_cache/miss": "ddoc_cache_requests_failures_total",
    "ddoc_cache/recovery": "ddoc_cache_requests_recovery_total",
    "fabric/read_repairs/failure": "fabric_read_repairs_failures_total",
}
#: Groups that are one metric with a label: the name, the description and the label.
_LABELLED: Final[Mapping[str, tuple[str, str, str]]] = {
    "couch_log/level": ("couch_log_requests_total", "number of logged messages", "level"),
    "couchdb/httpd_request_methods": ("httpd_request_methods", "number of HTTP requests by method", "method"),
    "couchdb/httpd_status_codes": ("httpd_status_codes", "number of HTTP responses by status code", "code"),
}
# Counters that can fall. Prometheus calls them gauges.
_FALLING = frozenset(("couchdb/open_databases", "couchdb/open_os_files", "couchdb/httpd/clients_requesting_changes"))


def _metric(
    path: tuple[str, ...], statistic: Statistic, number: int, found: Mapping[tuple[str, ...], int]
) -> Iterator[str]:
    text, group = "/".join(path), "/".join(path[:-1])
    name = "_".join(path[1:] if path[0] == "couchdb" else path)
    if group in _LABELLED:
        name, description, label = _LABELLED[group]
        if path == _first_of(group):
            yield "".join(head(name, "counter", description))
        yield f'couchdb_{name}{{{label}="{path[-1]}"}} {number}'
    elif text in _SUMS:
        name, description, other = _SUMS[text]
        yield from _joined(name, "counter", description, number + found[tuple(other.split("/"))])
    elif statistic.kind == "histogram":
        yield "".join(head(f"{name}_seconds", "summary", statistic.description))
        for quantile in ("0.5", "0.75", "0.9", "0.95", "0.99", "0.999"):
            yield f'couchdb_{name}_seconds{{quantile="{quantile}"}} 0.0'
        yield f"couchdb_{name}_seconds_sum 0.0"
        yield f"couchdb_{name}_seconds_count 0"
    elif statistic.kind == "gauge" or text in _FALLING:
        yield from _joined(name, "gauge", statistic.description, number)
    else:
        name = _RENAMED.get(text, name if name.endswith("_total") else f"{name}_total")
        yield from _joined(name, "counter", statistic.description, number)


def _joined(name: str, kind: str, description: str, number: int) -> Iterator[str]:
    """Yield the lines of a metric. Only a carriage return separates the first two, as in CouchDB."""
    *described, value = metric(name, kind, description, number)
    yield "".join(described)
    yield value


def _first_of(group: str) -> tuple[str, ...]:
    return next(path for path in STATISTICS if "/".join(path[:-1]) == group)


def head(name: str, kind: str, description: str) -> Iterable[str]:
    """Return the lines that describe a metric. CouchDB ends the first with a carriage return."""
    return f"\n# HELP couchdb_{name} {description}\r", f"# TYPE couchdb_{name} {kind}"


def metric(name: str, kind: str, description: str, number: int) -> Iterable[str]:
    """Return the lines of a metric with one value."""
    return *head(name, kind, description), f"couchdb_{name} {number}"
