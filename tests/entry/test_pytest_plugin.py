"""The pytest plugin, in test runs of its own: every test finds the memory server empty."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"


def run(folder: Path, **files: str) -> str:
    """Run pytest over the files in a process of its own, with the plugin; returns what it printed."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUCHDB_", "DAL_", "PYTEST"))}
    plugin = [] if installed() else ["-p", "dal.pytest_plugin"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout + ended.stderr


def unindented(text: str) -> str:
    return textwrap.dedent(text)


def installed() -> bool:
    """Whether the entry point is there; where only the sources are, the plugin is named by hand."""
    from importlib.metadata import entry_points

    return any(found.value == "dal.pytest_plugin" for found in entry_points(group="pytest11"))


def test_each_test_starts_empty_whichever_module_made_the_handle(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        application="from dal import CouchDAL\ndal = CouchDAL()\n",
        test_isolated="""
            import pytest
            from application import dal as made_at_import
            from dal import CouchDAL

            @pytest.fixture
            def document():
                made_at_import.put_document("from-fixture", {})

            @pytest.mark.parametrize("number", range(3))
            def test_writes_the_same_document_each_time(number, document):
                made_at_import.put_document("a", {})
                CouchDAL().database("other").create_database()
                assert CouchDAL().info()["doc_count"] == 2

            def test_sees_nothing_of_it():
                assert CouchDAL().info()["doc_count"] == 0
                assert "other" not in CouchDAL().all_dbs()

            class TestClass:
                def test_in_a_class(self):
                    made_at_import.put_document("a", {})

            def test_again_nothing():
                assert made_at_import.info()["update_seq"].startswith("0-")
        """.replace("\n            ", "\n"),
    )
    assert "6 passed" in printed, printed


SCOPES = """
    import pytest
    from dal import CouchDAL
    dal = CouchDAL()

    def ids():
        return [row["id"] for row in dal.all_docs()["rows"]]

    @pytest.fixture(scope="session")
    def of_session():
        dal.put_document("session", {})
        dal.database("kept").create_database()
        yield
        assert ids() == ["session"]
        dal.put_document("finalizer", {})

    @pytest.fixture(scope="module")
    def of_module():
        dal.put_document("module", {})
        yield
        assert "module" in ids() and "test" not in ids()

    @pytest.fixture(scope="class")
    def of_class():
        dal.put_document("class", {})
        yield
        assert "class" in ids() and "test" not in ids()

    @pytest.fixture
    def of_test():
        dal.put_document("fixture", {})
        yield
        assert "test" in ids()
        dal.put_document("finalizer", {})
"""


def test_each_scope_sees_its_fixtures_and_is_undone_at_its_end(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        conftest=unindented(SCOPES),
        test_first=unindented("""
            from conftest import CouchDAL, dal, ids
            import pytest

            def test_nothing_is_there():
                assert ids() == []

            @pytest.mark.parametrize("turn", [1, 2])
            def test_session_and_test(of_session, of_test, turn):
                assert ids() == ["fixture", "session"]
                dal.put_document("test", {})

            class TestClass:
                @pytest.mark.parametrize("turn", [1, 2])
                def test_all(self, of_session, of_module, of_class, of_test, turn):
                    assert ids() == ["class", "fixture", "module", "session"]
                    dal.put_document("test", {})
                    rev = dal.get_document("module")["_rev"]
                    dal.delete_document("module", rev=rev)
                    dal.delete_database("kept")
                    dal.put_document("module", {})

            def test_module_is_there_still():
                assert ids() == ["module", "session"]
                assert "kept" in CouchDAL().all_dbs()
        """),
        test_second=unindented("""
            from conftest import dal, ids

            def test_session_is_there_still(of_session):
                assert ids() == ["session"]
                dal.delete_database()
        """),
        test_third=unindented("""
            from conftest import ids

            def test_session_is_there_still():
                assert ids() == ["session"]
        """),
    )
    assert "8 passed" in printed, printed


def test_wide_fixture_that_comes_late_outlives_the_narrow_scopes_that_were_open(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        conftest=unindented(SCOPES),
        test_first=unindented("""
            from conftest import dal, ids

            def test_module_first(of_module):
                assert ids() == ["module"]

            def test_session_later(of_module, of_session):
                assert ids() == ["module", "session"]
                dal.put_document("test", {})

            def test_both_are_there(of_module):
                assert ids() == ["module", "session"]
        """),
        test_second=unindented("""
            from conftest import dal, ids

            def test_session_is_there_still(of_session):
                assert ids() == ["session"]
                assert dal.database("kept").info()["doc_count"] == 0
        """),
    )
    assert "4 passed" in printed, printed


def test_unittest_cases_are_isolated_too(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_case=unindented("""
            import unittest
            from dal import CouchDAL
            dal = CouchDAL()

            class TestCase(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    dal.put_document("class", {})

                def setUp(self):
                    dal.put_document("setup", {})

                def test_one(self):
                    dal.put_document("one", {})
                    self.assertEqual(dal.info()["doc_count"], 3)

                test_other = test_one

            def test_nothing_is_left():
                assert dal.info()["doc_count"] == 0
        """),
    )
    assert "3 passed" in printed, printed


def test_private_servers_are_left_alone(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_private="""
            from dal import CouchDAL, MemoryBackend
            dal = CouchDAL(MemoryBackend())

            def test_writes():
                dal.put_document("a", {})

            def test_reads():
                assert dal.info()["doc_count"] == 1
        """.replace("\n            ", "\n"),
    )
    assert "2 passed" in printed, printed


def test_run_that_does_not_use_the_package_does_not_import_the_emulator(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_other="""
            import sys

            def test_other():
                assert "dal.pytest_plugin" in sys.modules
                ours = {name for name in sys.modules if name.partition(".")[0] == "dal"}
                assert ours == {"dal", "dal.pytest_plugin", "dal.pytest_plugin.isolation"}
        """.replace("\n            ", "\n"),
    )
    assert "1 passed" in printed, printed


def test_plugin_empties_the_server_between_the_tests_of_this_run(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("dal.pytest_plugin") or request.config.pluginmanager.hasplugin(
        "couchdal"
    )
