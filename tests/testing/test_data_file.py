"""``--dal-backend=sqlite``: tests on the data of a file, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_runs import run, unindented

from couchdal import CouchDAL

TESTS = unindented("""
    import pytest
    from couchdal import CouchDAL, SqliteBackend

    at_import = CouchDAL(database="tasks", create=True)

    @pytest.mark.parametrize("turn", range(4))
    def test_starts_with_what_the_file_holds(dal, dal_backend, turn):
        assert isinstance(dal.backend.server_key, type(at_import.backend.server_key))
        assert dal_backend == "memory"
        tasks = [row["id"] for row in at_import.get("/_all_docs")["rows"]]
        assert tasks == EXPECTED
        at_import.put_document("new", {"turn": turn})
        CouchDAL(database="other", create=True).put_document("new", {})

    def test_data_is_in_a_file():
        assert "SqliteBackend" in repr(at_import.backend)
""")


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_each_test_starts_with_the_data_of_the_file(tmp_path: Path, workers: tuple[str, ...]) -> None:
    path = tmp_path / "seed.db"
    with CouchDAL(f"sqlite:///{path}", database="tasks", create=True) as db:
        db.put_document("one", {"title": "Write"})
    before = path.read_bytes()
    ended = run(
        tmp_path,
        "--dal-backend=sqlite",
        *workers,
        environment={"COUCHDAL_DATA": str(path)},
        test_file=TESTS.replace("EXPECTED", "['one']"),
    )
    assert "5 passed" in ended
    assert path.read_bytes() == before


def test_without_a_file_tests_start_empty(tmp_path: Path) -> None:
    ended = run(tmp_path, environment={"DAL_BACKEND": "sqlite"}, test_file=TESTS.replace("EXPECTED", "[]"))
    assert "5 passed" in ended
    assert "sqlite backend (DAL_BACKEND)" in run(tmp_path, "-v", environment={"DAL_BACKEND": "sqlite"})


def test_missing_file_is_named_before_the_first_test(tmp_path: Path) -> None:
    path = tmp_path / "missing.db"
    ended = run(tmp_path, "--dal-backend=sqlite", environment={"COUCHDAL_DATA": str(path)}, test_file=TESTS)
    assert f"{path} does not exist" in ended
    assert not path.exists()
