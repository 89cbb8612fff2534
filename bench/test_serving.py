"""The speed of couchdal over HTTP: the proxy beside a bare pass-through, the emulator beside express-pouchdb."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from samples import make_documents
from servers import Started

HERE = Path(__file__).parent
CONNECTIONS = (1, 32)
TURNS, SECONDS = 60, 0.1
DOCUMENT = json.dumps({**make_documents(1)[0], "_id": None, "number": 1}).replace('"_id": null, ', "")
FORWARDED = {
    "document reads": ["GET", "/db/doc000500", None],
    "document writes": ["PUT", "/db/x{n}", DOCUMENT],
}
# A replicator asks for the revisions of a batch before it reads them: here for 500 that the server lacks.
ASKED = {f"doc{number:06d}": [f"2-{number:032x}"] for number in range(500)}
SERVED = {
    "document reads": ["GET", "/found/doc000500", None],
    "document writes": ["PUT", "/db/{run}-{n}", DOCUMENT],
    "_find": ["POST", "/found/_find", '{"selector":{"owner":"user7"}}'],
    "_bulk_docs of 20": ["POST", "/db/_bulk_docs", f'{{"docs":[{",".join([DOCUMENT] * 20)}]}}'],
    "_revs_diff of 500": ["POST", "/found/_revs_diff", json.dumps(ASKED)],
}
Figures = dict[tuple[str, str, int], dict[str, float]]


def measured(servers: dict[str, Started], requests: dict[str, list[Any]], wait: str) -> Figures:
    """Return the requests per second and the 99th percentile of servers that take turns."""
    figures: Figures = {}
    for what, request in requests.items():
        for connections in CONNECTIONS:
            requests_json = json.dumps(
                [[part if part is None else part.replace("{run}", str(connections)) for part in request]]
            )
            ports = [server.port for server in servers.values()]
            command = [
                sys.executable,
                str(HERE / "load.py"),
                wait,
                str(connections),
                str(TURNS),
                str(SECONDS),
                *ports,
            ]
            ended = subprocess.run(command, input=requests_json, stdout=subprocess.PIPE, text=True, check=True)
            for role, found in zip(servers, json.loads(ended.stdout), strict=True):
                assert found["failed"] == 0
                figures[role, what, connections] = found
    return figures


@pytest.fixture(scope="module")
def proxies() -> Iterator[Figures]:
    with ExitStack() as opened:
        upstream = Started(opened, sys.executable, str(HERE / "servers.py"), "upstream")
        yardstick = Started(opened, sys.executable, str(HERE / "servers.py"), "bare", upstream.address)
        serve = ["serve", "--backend", "couch", "--upstream", upstream.address, "--port", "0"]
        proxy = Started(opened, sys.executable, "-m", "couchdal.cli", *serve)
        # The proxy and its upstream use both processors.
        yield measured({"couchdal": proxy, "yardstick": yardstick, "direct": upstream}, FORWARDED, "sleep")


@pytest.fixture(scope="module")
def emulators() -> Iterator[Figures]:
    node = shutil.which("node")
    if node is None or not (HERE / "express" / "node_modules").is_dir():
        pytest.skip("Node.js or express-pouchdb is missing")
    with ExitStack() as opened:
        servers = {
            "couchdal": Started(opened, sys.executable, "-m", "couchdal.cli", "serve", "--port", "0"),
            "yardstick": Started(opened, node, str(HERE / "express" / "server.mjs")),
        }
        for server in servers.values():
            server.post("/db", None, "PUT")
            server.post("/found", None, "PUT")
            server.post("/found/_bulk_docs", {"docs": make_documents(1_000)})
            server.post("/found/_index", {"index": {"fields": ["owner"]}})
        yield measured(servers, SERVED, "poll")


def report(benchmark: Any, role: str, target: float, found: dict[str, float], seconds: float) -> None:
    benchmark.extra_info.update(role=role, target=target, requests_a_second=found["a_second"], p99_ms=found["p99_ms"])
    benchmark.pedantic(lambda: None, rounds=1)
    # pytest-benchmark keeps a list of measured seconds. Replace it with what the load measured.
    benchmark.stats.stats.data[:] = [seconds]


each_load = pytest.mark.parametrize("connections", CONNECTIONS)


@each_load
@pytest.mark.parametrize("what", FORWARDED)
@pytest.mark.parametrize("role", ["couchdal", "yardstick", "direct"])
def test_proxy(benchmark: Any, role: str, what: str, connections: int, proxies: Figures) -> None:
    benchmark.group = f"proxy, {what}, {connections} connections: a request / a bare pass-through's"
    found = proxies[role, what, connections]
    report(benchmark, role, 1.25, found, 1 / found["a_second"])


@each_load
@pytest.mark.parametrize("what", FORWARDED)
@pytest.mark.parametrize("role", ["couchdal", "yardstick", "direct"])
def test_slowest_requests_of_the_proxy(
    benchmark: Any, role: str, what: str, connections: int, proxies: Figures
) -> None:
    benchmark.group = f"proxy, {what}, {connections} connections: p99 / a bare pass-through's"
    found = proxies[role, what, connections]
    report(benchmark, role, 1.25, found, found["p99_ms"] / 1000)


@each_load
@pytest.mark.parametrize("what", SERVED)
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_served_emulator(benchmark: Any, role: str, what: str, connections: int, emulators: Figures) -> None:
    benchmark.group = f"served, {what}, {connections} connections: a request / express-pouchdb's"
    found = emulators[role, what, connections]
    report(benchmark, role, 0.5, found, 1 / found["a_second"])
