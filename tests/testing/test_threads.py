"""Threads that outlive their test and write are named by a warning, on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_runs import live_environment, run, unindented

LEAVING = """
    import threading
    from concurrent.futures import ThreadPoolExecutor
    import pytest
    from couchdal import CouchDAL

    db = CouchDAL()
    pool = ThreadPoolExecutor(1)
    turn, written, stop = threading.Event(), threading.Event(), threading.Event()

    def write_late():
        turn.wait(10)
        db.get("/_all_docs", "POST", {})
        db.put_document("late", {})
        written.set()
        stop.wait(10)

    def write_often():
        while not stop.wait(0.01):
            # Between two tests the database may be missing.
            db.request("PUT", "/_local/often", json={})

    @pytest.fixture(scope="module")
    def writer():
        thread = threading.Thread(target=write_often, name="of-module")
        thread.start()
        yield
        stop.set()
        thread.join()

    def test_leaves_a_thread():
        threading.Thread(target=write_late, name="late", daemon=True).start()

    def test_leaves_a_timer():
        timer = threading.Timer(0.05, db.put_document, ["timed", {}])
        timer.name = "timer"
        timer.start()

    def test_leaves_an_idle_pool():
        pool.submit(db.put_document, "pooled", {}).result()

    def test_next():
        turn.set()
        assert written.wait(10)
        pool.submit(db.put_document, "pooled", {}).result()
        for thread in threading.enumerate():
            if thread.name == "timer":
                thread.join()

    def test_fixture_has_a_thread(writer):
        pass

    def test_uses_it(writer):
        pass
"""


@pytest.mark.parametrize("backend", ["memory", "couch"])
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_thread_that_outlives_its_test_and_writes_is_named(
    tmp_path: Path, served_address: str, backend: str, workers: tuple[str, ...]
) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        "-p",
        "no:randomly",
        *workers,
        environment=live_environment(served_address),
        test_leaving=unindented(LEAVING),
    )
    assert "6 passed" in printed, printed
    assert "the thread 'late' of test_leaving.py::test_leaves_a_thread goes on after its test" in printed, printed
    assert "and now wrote: PUT /default/late;" in printed, printed
    assert "the thread 'timer' of test_leaving.py::test_leaves_a_timer goes on" in printed, printed
    for unnamed in ("_all_docs", "of-module", "pooled"):
        assert unnamed not in printed, printed
