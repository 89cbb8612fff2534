"""Other clients of a server: they read one document and ``/_up``, and measure how long each answer takes.

It runs as a process, so that the test's own work does not count: ``python prober.py PORT``. Each line of its standard
input ends one measurement and begins the next one. The answer is a line of JSON.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PAUSE_S = 0.004


class Figures(NamedTuple):
    """The 99th percentiles in milliseconds: of two kinds of answers, and of how late the machine wakes a process."""

    document: float
    up: float
    machine: float
    answers: int


class Prober:
    """The process, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def figures(self) -> Figures:
        """Return the figures since the last call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Figures(*json.loads(self._process.stdout.readline()))


@contextmanager
def prober(port: int) -> Iterator[Prober]:
    """Run a prober of a server that has a document ``/db/one``."""
    command = [sys.executable, str(Path(__file__)), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Prober(process)
        finally:
            process.kill()


def _probe(port: int, path: str, times: list[float], late: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    while True:
        begun = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        ended = time.perf_counter()
        times.append(ended - begun if answer.status == 200 else 1000.0)
        time.sleep(PAUSE_S)
        late.append(time.perf_counter() - ended - PAUSE_S)


def _percentile(times: list[float]) -> float:
    taken, times[:] = sorted(times), []
    return round(taken[len(taken) * 99 // 100] * 1000, 1) if taken else 0.0


def _main() -> None:
    port = int(sys.argv[1])
    document: list[float] = []
    up: list[float] = []
    late: list[float] = []
    for path, times in (("/db/one", document), ("/_up", up)):
        threading.Thread(target=_probe, args=(port, path, times, late), daemon=True).start()
    for _ in sys.stdin:
        answers = len(document) + len(up)
        print(json.dumps([_percentile(document), _percentile(up), _percentile(late), answers]), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
