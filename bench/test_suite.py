"""What isolation costs: a suite of 1,000 small tests, beside the same suite on mongomock and an empty one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

COUNT = 1_000
SUITES = {
    "couchdal": """
        from dal import CouchDAL
        dal = CouchDAL()

        @pytest.mark.parametrize("n", range(COUNT))
        def test_it(n):
            dal.put_document("a", {"type": "task", "n": n})
            assert dal.find({"type": "task"})["docs"][0]["n"] == n
    """,
    "yardstick": """
        import mongomock

        @pytest.mark.parametrize("n", range(COUNT))
        def test_it(n):
            tasks = mongomock.MongoClient().db.tasks
            tasks.insert_one({"_id": "a", "type": "task", "n": n})
            assert list(tasks.find({"type": "task"}))[0]["n"] == n
    """,
    "empty": """
        @pytest.mark.parametrize("n", range(COUNT))
        def test_it(n):
            assert n >= 0
    """,
}


def seconds(folder: Path, suite: str) -> float:
    """Return how long a suite takes, with the interpreter and pytest themselves: the best of some runs."""
    indent = " " * 8
    text = f"import pytest\nCOUNT = {COUNT}\n" + SUITES[suite].replace(f"\n{indent}", "\n")
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.benchmark(group="a suite of 1,000 isolated tests, less an empty one / on mongomock")
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_suite(benchmark, role: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    spent = max(seconds(tmp_path, role) - seconds(tmp_path, "empty"), 1e-9)
    benchmark.extra_info.update(role=role, target=2.0, milliseconds_a_test=spent / COUNT * 1000)
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.stats.stats.data[:] = [spent]
