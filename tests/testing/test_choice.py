"""Tests that choose their backend by a mark, under every kind of run."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_runs import live_environment, run, unindented

CHOOSING = unindented("""
    import asyncio
    import functools
    import unittest
    import pytest
    from couchdal import AsyncCouchDAL, CouchBackend, CouchDAL, MemoryBackend

    made_at_import = CouchDAL()
    async_at_import = AsyncCouchDAL(database="events", create=True)
    on = {name: pytest.mark.dal(backend=name) for name in ("memory", "couch")}

    @functools.cache
    def kept_by_the_application():
        return CouchDAL(database="tasks")

    @pytest.fixture(scope="session")
    def of_session():
        made_at_import.put_document("of the session", {})
        return repr(made_at_import.backend)

    @pytest.fixture(scope="module", autouse=True)
    def of_module():
        made_at_import.put_document("of the module", {})

    def runs_on(backend, dal, of_session):
        kind = {"memory": MemoryBackend, "couch": CouchBackend}[backend]
        assert type(dal.backend) is kind
        for handle in (made_at_import, kept_by_the_application(), CouchDAL()):
            assert isinstance(handle.backend.server_key, type(dal.backend.server_key))
            assert kind.__name__ in repr(handle)
        assert kind.__name__ in of_session
        assert made_at_import.name == "default"
        rows = made_at_import.all_docs()["rows"]
        assert [row["id"] for row in rows] == ["of the module", "of the session"]
        made_at_import.put_document("mine", {})
        asyncio.run(async_at_import.put_document("mine", {}))
        assert CouchDAL(database="events").info()["doc_count"] == 1
        assert kept_by_the_application().info()["doc_count"] == 0
        kept_by_the_application().put_document("mine", {})

    @pytest.mark.parametrize("turn", [1, 2])
    def test_unmarked(dal, dal_backend, of_session, turn):
        runs_on(dal_backend, dal, of_session)

    @on["couch"]
    @pytest.mark.parametrize("turn", [1, 2])
    def test_on_couch(dal, dal_backend, of_session, turn):
        assert dal_backend == "couch"
        runs_on("couch", dal, of_session)

    @on["memory"]
    @pytest.mark.parametrize("turn", [1, 2])
    def test_on_memory(dal, dal_backend, of_session, turn):
        assert dal_backend == "memory"
        runs_on("memory", dal, of_session)
        dal.emulator.clock.advance(60)

    @pytest.mark.parametrize("expected", [pytest.param(name, marks=mark) for name, mark in on.items()])
    def test_parameter_chooses(dal, of_session, expected):
        runs_on(expected, dal, of_session)

    @on["couch"]
    class TestNearestMark:
        @on["memory"]
        def test_wins(self, dal, of_session):
            runs_on("memory", dal, of_session)

    class TestOfUnittest(unittest.TestCase):
        @on["memory"]
        def test_on_memory(self):
            self.assertIn("MemoryBackend", repr(made_at_import))

        @on["couch"]
        def test_on_couch(self):
            self.assertIn("CouchBackend", repr(made_at_import))

        def test_unmarked(self):
            made_at_import.put_document("of unittest", {})
""")
INI = "[pytest]\ndal_databases = tasks\n"
# Tests on memory, on the backend of the run, and on CouchDB.
MEMORY, RUN, COUCH = 5, 3, 4


@pytest.fixture
def live(served_address: str) -> dict[str, str]:
    """The environment of a run that can have a CouchDB. Without one, an emulator over HTTP stands in for it."""
    return live_environment(served_address)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
@pytest.mark.parametrize("backend", ["memory", "couch", "both", "compare"])
def test_marked_tests_run_on_the_backend_they_name(
    tmp_path: Path, live: dict[str, str], backend: str, workers: tuple[str, ...]
) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    printed = run(
        tmp_path, f"--dal-backend={backend}", *workers, environment=live, timeout_s=120, test_choosing=CHOOSING
    )
    expected = MEMORY + COUCH + RUN * (2 if backend == "both" else 1)
    assert f"{expected} passed" in printed, printed
    assert "failed" not in printed
    if backend == "both":
        assert f"{RUN} tests agree, 0 differ, {MEMORY + COUCH} did not run on both" in printed
        only = "not run on couch, passed on memory (for memory only)"
        assert f"NOT COMPARED test_choosing.py::test_on_memory[1]: {only}" in printed
        only = "passed on couch, not run on memory (for couch only)"
        assert f"NOT COMPARED test_choosing.py::TestOfUnittest::test_on_couch: {only}" in printed


@pytest.mark.parametrize("setting", ["environment", "conftest"])
def test_default_run_uses_the_server_only_for_marked_tests(tmp_path: Path, live: dict[str, str], setting: str) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    if setting == "conftest":
        (tmp_path / "conftest.py").write_text(f"import os\nos.environ.update({live!r})\n")
    printed = run(tmp_path, environment=live if setting == "environment" else {}, test_choosing=CHOOSING)
    assert f"{MEMORY + COUCH + RUN} passed" in printed, printed


def test_test_on_couch_is_skipped_without_an_address(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    printed = run(tmp_path, "-rs", test_choosing=CHOOSING)
    assert f"{MEMORY + RUN} passed, {COUCH} skipped" in printed, printed
    assert "for a CouchDB only: @pytest.mark.dal(backend='couch'); set COUCHDB_URL" in printed


def test_tests_that_choose_are_not_compared(tmp_path: Path, live: dict[str, str]) -> None:
    test = """
        import pytest
        from couchdal import CouchDAL

        db = CouchDAL()

        @pytest.mark.dal(backend="couch")
        def test_on_couch():
            db.put_document("a", {})
            db.get_document("a")

        @pytest.mark.dal(backend="memory")
        def test_on_memory():
            db.put_document("a", {})

        def test_compared():
            db.put_document("a", {})
            db.get_document("a")
            db.info()
    """
    printed = run(tmp_path, "--dal-backend=compare", environment=live, test_it=unindented(test))
    assert "3 passed" in printed, printed
    assert "3 answers compared" in printed


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("backend='sql'", "the mark dal takes backend='memory' or backend='couch', not 'sql'"),
        ("backend='couch', emulator=True", "the mark dal takes emulator=True or backend='couch', not both"),
    ],
)
def test_wrong_backend_is_one_error_at_the_start(tmp_path: Path, mark: str, says: str) -> None:
    test = f"import pytest\n@pytest.mark.dal({mark})\ndef test_it():\n    pass\n"
    printed = run(tmp_path, test_it=test)
    assert f"test_it.py::test_it: {says}" in printed, printed
    assert "passed" not in printed
