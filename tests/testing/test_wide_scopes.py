"""Fixtures of all scopes: what they write lasts as long as they do, on the memory server and on a live one."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_runs import live_environment, run, unindented

from couchdal import CouchBackend, CouchDAL

BACKENDS = ("memory", "couch")

SHARED = """
    from couchdal import CouchDAL, NotFound

    db = CouchDAL()
    USER = "/_users/org.couchdb.user:private-"
    LEVEL, DEPTH = "/_node/_local/_config/private/level", "/_node/_local/_config/private/depth"
    JOB = "/_replicator/private-job"

    def ids():
        return [row["id"] for row in db.all_docs()["rows"]]

    def write_user(name, *roles):
        found = db.request("GET", USER + name)
        rev = {"_rev": found.value()["_rev"]} if found.status == 200 else {}
        body = {"name": "private-" + name, "password": "x", "roles": list(roles), "type": "user"}
        db.get(USER + name, "PUT", {**body, **rev})

    def roles(name):
        found = db.request("GET", USER + name)
        return found.value()["roles"] if found.status == 200 else None
"""

PACKAGE = """
    import pytest
    from shared import CouchDAL, db, write_user

    @pytest.fixture(scope="package")
    def of_package():
        db.put_document("package", {})
        db.put_local("package", {"n": 1})
        write_user("package", "reader")
        other = CouchDAL(database="other", create=True)
        other.put_document("x", {})
        return other
"""

SESSION = """
    import pytest
    from shared import db

    @pytest.fixture(scope="session")
    def of_session():
        db.put_document("session", {})
"""

FIRST = """
    import pytest
    from shared import db, ids, roles, write_user

    @pytest.mark.parametrize("turn", [1, 2])
    def test_write_is_undone(of_package, turn):
        assert ids() == ["package"]
        db.put_document("mine", {})
        of_package.put_document("y", {})
        assert of_package.info()["doc_count"] == 2
        assert roles("package") == ["reader"]
        write_user("package", "taken")

    @pytest.fixture(scope="module")
    def of_module():
        db.put_document("module", {})
        write_user("package", "writer")

    def test_module(of_package, of_module):
        assert ids() == ["module", "package"]
        assert roles("package") == ["writer"]

    def test_late_session(of_session):
        assert ids() == ["module", "package", "session"]
"""

SECOND = """
    from shared import db, ids, roles

    def test_module_has_ended(of_package):
        assert ids() == ["package", "session"]
        assert db.get_local("package")["n"] == 1
        assert roles("package") == ["reader"]
        assert of_package.info()["doc_count"] == 1
"""

OUTSIDE = """
    import pytest
    from shared import CouchDAL, NotFound, ids, roles

    def test_package_has_ended():
        assert ids() == ["session"]
        assert roles("package") is None
        with pytest.raises(NotFound):
            CouchDAL(database="other").info()
"""


LATE = """
    import pytest
    from shared import DEPTH, JOB, LEVEL, db, roles, write_user

    @pytest.fixture(scope="module")
    def of_module():
        write_user("late", "module")
        db.get("/_users/_local/private-late", "PUT", {"n": 1})
        db.get(LEVEL, "PUT", "module")
        db.get(DEPTH, "PUT", "module")
        db.get("/_users/_revs_limit", "PUT", 70)
        db.get(JOB, "PUT", {"source": "http://127.0.0.1:1/a", "target": "http://127.0.0.1:1/b"})

    @pytest.fixture(scope="session")
    def of_session():
        write_user("late", *(roles("late") or ["none"]), "session")
        known = db.request("GET", "/_users/_local/private-late").value()
        db.get("/_users/_local/private-late", "PUT", {"n": 2, "_rev": known["_rev"]})
        db.get(LEVEL, "PUT", "session")
        db.get("/_users/_revs_limit", "PUT", 80)
        # CouchDB writes the state of the replication into the document.
        while (known := db.request("GET", JOB)).status == 200:
            db.request("DELETE", f"{JOB}?rev={known.value()['_rev']}")

    def check(depth):
        assert roles("late") == ["module", "session"]
        assert db.get("/_users/_local/private-late")["n"] == 2
        assert db.get(LEVEL) == "session"
        assert db.get("/_users/_revs_limit") == 80
        assert db.request("GET", JOB).status == 404
        assert db.request("GET", DEPTH).status == depth

    @pytest.mark.parametrize("turn", [1, 2])
    def test_test_is_undone(of_module, turn):
        assert roles("late") == ["module"]
        assert db.get("/_users/_revs_limit") == 70
        write_user("late", "test")
        db.get(LEVEL, "PUT", "test")
        db.get("/_users/_revs_limit", "PUT", 60)
        assert db.get("/_users/_revs_limit") == 60

    @pytest.mark.parametrize("turn", [1, 2])
    def test_late_fixture(of_module, of_session, turn):
        check(depth=200)
        write_user("late", "test")
        db.get(LEVEL, "PUT", "test")
        db.get("/_users/_revs_limit", "PUT", 60)
"""

LATER = """
    from test_late import check

    def test_module_has_ended(of_session):
        check(depth=404)
"""


def run_in_order(tmp_path: Path, served_address: str, backend: str, **files: str) -> str:
    """Run test files in the order of their names, and return what pytest prints."""
    return run(
        tmp_path,
        f"--dal-backend={backend}",
        "-p",
        "no:randomly",
        environment=live_environment(served_address),
        shared=unindented(SHARED),
        **files,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_late_session_fixture_keeps_what_it_changed_of_the_server(
    tmp_path: Path, served_address: str, backend: str
) -> None:
    fixtures, tests = unindented(LATE).split("def check")
    printed = run_in_order(
        tmp_path,
        served_address,
        backend,
        conftest=fixtures,
        test_late=fixtures.partition("@")[0] + "def check" + tests,
        test_later=unindented(LATER),
    )
    assert "5 passed" in printed, printed
    dal = CouchDAL(server_of(served_address), database="_users")
    assert dal.request("GET", "/org.couchdb.user:private-late").status == 404
    assert dal.request("GET", "/_local/private-late").status == 404
    assert dal.get("/_revs_limit") == 1000
    assert dal.request("GET", "/_node/_local/_config/private/level").status == 404


@pytest.mark.parametrize("backend", BACKENDS)
def test_package_fixture_lasts_for_its_package(tmp_path: Path, served_address: str, backend: str) -> None:
    files = {
        "one/__init__": "",
        "one/conftest": PACKAGE,
        "one/test_first": FIRST,
        "one/within/__init__": "",
        "one/within/test_second": SECOND,
    }
    (tmp_path / "one/within").mkdir(parents=True)
    printed = run_in_order(
        tmp_path,
        served_address,
        backend,
        conftest=unindented(SESSION),
        test_outside=unindented(OUTSIDE),
        **{name: unindented(text) for name, text in files.items()},
    )
    assert "6 passed" in printed, printed


def server_of(address: str) -> CouchBackend:
    live = live_environment(address)
    return CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])


FIRST_USE = """
    from couchdal import CouchDAL

    LEVEL, ADMIN = "/_node/_local/_config/private/level", "/_node/_local/_config/admins/private-admin"

    def test_first_use_of_the_server():
        for path in (LEVEL, ADMIN):
            CouchDAL().get(path, "PUT", "secret")

    def test_configuration_is_as_before():
        for path in (LEVEL, ADMIN):
            assert CouchDAL().request("GET", path).status == 404
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_configuration_of_the_first_test_is_undone(tmp_path: Path, served_address: str, backend: str) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        "-p",
        "no:randomly",
        environment=live_environment(served_address) if backend == "couch" else {},
        test_it=unindented(FIRST_USE),
    )
    assert "2 passed" in printed, printed
