"""How long one isolated test takes on couchdal and on servers: the figures of the README's comparison.

    python bench/alternatives.py [http://admin:password@localhost:5984]

A test writes a document and finds it by a selector. It starts with an empty database: on couchdal a rollback provides
it, on a server the test creates a database and deletes it. The servers are the address that is named, and
express-pouchdb with its storage in memory if ``bench/express`` is installed. All take turns; the best turn counts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from couchdal import CouchBackend, CouchDAL

TURNS, TESTS = 20, 10
EXPRESS = Path(__file__).parent / "express"


def write_and_find(db: CouchDAL) -> None:
    db.put_document("a", {"type": "task", "n": 1})
    assert db.find({"type": "task"})["docs"][0]["n"] == 1


def in_process() -> Callable[[], None]:
    db = CouchDAL("memory")

    def test() -> None:
        with db.rollback():
            write_and_find(db)

    return test


def over_http(url: str) -> Callable[[], None]:
    server = CouchDAL(CouchBackend(url, database="tasks"))
    numbers = count()

    def test() -> None:
        # A new name each time: express-pouchdb goes on deleting after its answer.
        db = server.database(f"bench-{time.time_ns()}-{next(numbers)}")
        db.create_database()
        write_and_find(db)
        db.delete_database()

    return test


def measure(tests: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the milliseconds of one test by name."""
    best = dict.fromkeys(tests, float("inf"))
    for _ in range(TURNS):
        for name, test in tests.items():
            start = time.perf_counter()
            for _ in range(TESTS):
                test()
            best[name] = min(best[name], (time.perf_counter() - start) / TESTS * 1000)
    return best


def main() -> None:
    tests = {"couchdal, in process": in_process()}
    if len(sys.argv) > 1:
        tests["the server named"] = over_http(sys.argv[1])
    node = shutil.which("node")
    express = None
    if node and (EXPRESS / "node_modules").is_dir():
        command = [node, str(EXPRESS / "server.mjs")]
        express = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert express.stdout
        port = express.stdout.readline().partition(" for ")[0].rpartition(":")[2].strip()
        tests["express-pouchdb"] = over_http(f"http://127.0.0.1:{port}")
    try:
        for name, milliseconds in measure(tests).items():
            print(f"{name:<24} {milliseconds:8.3f} ms")
    finally:
        if express:
            express.kill()


if __name__ == "__main__":
    main()
