"""The pytest plugin, in test runs of its own: every test finds the memory server empty."""

from __future__ import annotations

import os
import subprocess
import sys
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
                assert {name for name in sys.modules if name.startswith("dal")} == {"dal", "dal.pytest_plugin"}
        """.replace("\n            ", "\n"),
    )
    assert "1 passed" in printed, printed


def test_plugin_empties_the_server_between_the_tests_of_this_run(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("dal.pytest_plugin") or request.config.pluginmanager.hasplugin(
        "couchdal"
    )
