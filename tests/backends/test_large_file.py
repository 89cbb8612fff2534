"""A file with many documents costs what one with few does: time as a ratio of the two, and memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from time import perf_counter

import pytest

from couchdal import CouchDAL, SqliteBackend

FEW = 1_000
# Other processes disturb such short times, so the shortest of many are compared.
MOST = 1.5


def made(path: Path, count: int) -> Path:
    with closing(CouchDAL(SqliteBackend(path, synchronous="OFF"), database="big", create=True)) as db:
        for start in range(0, count, 1000):
            docs = [{"_id": f"{n:08}", "n": n, "text": "x" * 260} for n in range(start, start + 1000)]
            db.get("/_bulk_docs", "POST", {"docs": docs})
    return path


@pytest.fixture(scope="module", params=[50_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def most(request: pytest.FixtureRequest) -> int:
    """How many documents the large file has."""
    count: int = request.param
    return count


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, most: int) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("large")
    return made(folder / "few.db", FEW), made(folder / "many.db", most)


@pytest.fixture(scope="module")
def both(paths: tuple[Path, Path]) -> Iterator[tuple[CouchDAL, CouchDAL]]:
    few, many = (CouchDAL(SqliteBackend(path, synchronous="OFF"), database="big") for path in paths)
    yield few, many
    few.close()
    many.close()


def ratio(few: Callable[[], object], many: Callable[[], object], turns: int) -> float:
    """Return the shortest time of the second, divided by that of the first. They alternate."""
    least = [1e9, 1e9]
    for _ in range(turns):
        for place, one in enumerate((few, many)):
            began = perf_counter()
            one()
            least[place] = min(least[place], perf_counter() - began)
    return least[1] / least[0]


def test_opening_costs_the_same(paths: tuple[Path, Path]) -> None:
    def opened(path: Path) -> None:
        with closing(SqliteBackend(path)):
            pass

    assert ratio(lambda: opened(paths[0]), lambda: opened(paths[1]), 10) < MOST


def test_opening_takes_little_time_and_memory(paths: tuple[Path, Path]) -> None:
    code = f"""
from time import perf_counter
from couchdal import CouchDAL, SqliteBackend

def used():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

before, times = used(), []
for _ in range(5):
    began = perf_counter()
    db = CouchDAL(SqliteBackend({str(paths[1])!r}), database="big")
    assert db.get("/00000007")["n"] == 7
    times.append(perf_counter() - began)
    db.close()
print(min(times), used() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    seconds, kib = map(float, ran.stdout.split())
    assert seconds < 0.2
    assert kib < 60 * 1024


READS: dict[str, Callable[[CouchDAL, int], object]] = {
    "get": lambda db, n: db.get(f"/{n:08}"),
    "page by id": lambda db, n: db.get(f'/_all_docs?limit=20&start_key="{n:08}"'),
    "page of changes": lambda db, n: db.get("/_changes?limit=20&descending=true"),
    "information": lambda db, n: db.get("/"),
    "count": lambda db, n: db.get(f'/_all_docs?limit=0&end_key="{n:08}"'),
}


@pytest.mark.parametrize("kind", READS)
def test_reading_costs_the_same(both: tuple[CouchDAL, CouchDAL], kind: str, most: int) -> None:
    choose, read = Random(1), READS[kind]
    # Pages near the end would be shorter.
    few = lambda: read(both[0], choose.randrange(FEW - 20))  # noqa: E731
    many = lambda: read(both[1], choose.randrange(most - 20))  # noqa: E731
    assert ratio(few, many, 200) < MOST


def test_writing_costs_the_same(both: tuple[CouchDAL, CouchDAL]) -> None:
    few, many = both
    assert ratio(lambda: few.get("/", "POST", {"n": 1}), lambda: many.get("/", "POST", {"n": 1}), 50) < MOST


def test_a_page_of_an_index_costs_the_same(both: tuple[CouchDAL, CouchDAL], most: int) -> None:
    def page(db: CouchDAL, last: int) -> None:
        found = db.get("/_find", "POST", {"selector": {"n": {"$gte": choose.randrange(last)}}, "limit": 20})
        assert found["docs"]

    choose = Random(1)
    for db in both:
        db.get("/_index", "POST", {"index": {"fields": ["n"]}})
        page(db, FEW)
    assert ratio(lambda: page(both[0], FEW - 20), lambda: page(both[1], most - 20), 50) < MOST


def test_memory_does_not_grow_with_the_documents_that_are_read(paths: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copy(paths[1], tmp_path)
    with closing(CouchDAL(SqliteBackend(copy), database="big")) as db:
        tracemalloc.start()
        try:
            db.get("/00000001")
            since, count = "0", 0
            while count < 8000:
                rows = db.get(f"/_changes?limit=200&include_docs=true&since={since}")["results"]
                since, count = rows[-1]["seq"], count + len(rows)
            db.get("/")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000
