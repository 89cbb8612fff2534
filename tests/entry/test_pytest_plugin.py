"""The pytest plugin, in separate test runs."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from plugin_runs import live_environment, run, unindented

from couchdal import CouchBackend, CouchDAL
from couchdal.transcripts.scenario import RECORDED_ADMIN


def test_every_test_starts_empty_whichever_module_made_the_handle(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        application="from couchdal import CouchDAL\ndal = CouchDAL()\n",
        test_isolated="""
            import pytest
            from application import dal as made_at_import
            from couchdal import CouchDAL

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


each_backend = pytest.mark.parametrize("backend", ["memory", "couch"])

SCOPES = """
    import pytest
    from couchdal import CouchDAL
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


def test_dal_check_fails_the_test_that_breaks_the_data(tmp_path: Path) -> None:
    broken = """
        from couchdal import CouchDAL

        def test_writes():
            CouchDAL().put_document("a", {})

        def test_breaks():
            CouchDAL().put_document("a", {})
            CouchDAL().backend.server.databases["default"].doc_count += 1
    """
    assert "2 passed" in run(tmp_path, test_broken=unindented(broken))
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_check = true\n")
    for printed in (run(tmp_path), run(tmp_path, "-o", "dal_check=false", "--dal-check")):
        assert "1 failed, 1 passed" in printed
        assert "default: doc_count is 2, but there are 1 documents" in printed


def test_dal_check_checks_every_server_that_a_test_used(tmp_path: Path) -> None:
    broken = """
        import pytest
        from couchdal import AsyncCouchDAL, CouchDAL, MemoryBackend

        @pytest.fixture(scope="module")
        def backend():
            return MemoryBackend()

        def test_of_its_own():
            db = CouchDAL(MemoryBackend(), database="own")
            db.create_database()
            db.put_document("a", {})
            db.backend.server.databases["own"].doc_count += 1

        def test_of_a_fixture(backend):
            db = CouchDAL(backend, database="shared")
            db.create_database()
            db.put_document("a", {})
            backend.server.databases["shared"].doc_count += 1

        def test_that_uses_neither():
            pass
    """
    printed = run(tmp_path, "--dal-check", test_broken=unindented(broken))
    assert "2 failed, 1 passed" in printed
    assert "own: doc_count is 2, but there are 1 documents" in printed
    assert "shared: doc_count is 2, but there are 1 documents" in printed


@each_backend
def test_each_scope_sees_its_fixtures_and_is_rolled_back_at_its_end(
    tmp_path: Path, live: dict[str, str], backend: str
) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        environment=live,
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


@each_backend
def test_late_wide_fixture_outlives_open_narrow_scopes(tmp_path: Path, live: dict[str, str], backend: str) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        environment=live,
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


@each_backend
def test_unittest_cases_are_isolated_too(tmp_path: Path, live: dict[str, str], backend: str) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        environment=live,
        test_case=unindented("""
            import unittest
            from couchdal import CouchDAL
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


FIXTURES = """
    import asyncio
    import json
    import urllib.request

    def test_handle(dal):
        dal.put_document("a", {})
        assert dal.info()["doc_count"] == 1

    def test_handle_again(dal):
        assert dal.info()["doc_count"] == 0

    def test_asynchronous_handle(async_dal):
        async def write():
            async with async_dal:
                return await async_dal.put_document("a", {})
        assert asyncio.run(write())["ok"]

    def test_more_databases(make_dal):
        one, other, named = make_dal(), make_dal(), make_dal("named-database")
        one.put_document("a", {})
        assert other.info()["doc_count"] == 0
        assert {one.name, other.name, "named-database"} <= set(one.all_dbs())

    def test_none_of_them_is_left(dal):
        left = [name for name in dal.all_dbs() if name.startswith(("dal-test", "test-", "named-database"))]
        assert left in ([], [dal.name])
"""


def test_fixtures_give_handles_on_the_memory_server(tmp_path: Path) -> None:
    printed = run(tmp_path, test_fixtures=unindented(FIXTURES))
    assert "5 passed" in printed, printed


def test_couch_server_is_reset_for_each_test(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_served=unindented("""
            import json
            import pytest
            import urllib.request

            @pytest.mark.parametrize("turn", [1, 2])
            def test_any_client(couch_server, dal, turn):
                request = urllib.request.Request(f"{couch_server}/web", method="PUT")
                assert json.load(urllib.request.urlopen(request)) == {"ok": True}
                assert "web" in dal.all_dbs()
                dal.database("web").put_document("a", {})
                assert json.load(urllib.request.urlopen(f"{couch_server}/web/a"))["_id"] == "a"
        """),
    )
    assert "2 passed" in printed, printed


WIDE = unindented("""
    import json
    import pytest
    import urllib.request

    def ask(address, method="GET"):
        with urllib.request.urlopen(urllib.request.Request(address, method=method)) as answer:
            return json.load(answer)

    @pytest.fixture(scope="session")
    def application(couch_server):
        ask(f"{couch_server}/kept", "PUT")
        return couch_server

    @pytest.mark.parametrize("turn", [1, 2])
    def test_any_client(application, couch_server, dal, turn):
        assert application == couch_server
        assert ask(f"{application}/web", "PUT") == {"ok": True}
        assert set(dal.all_dbs()) >= {"kept", "web"}
        ask(f"{application}/kept", "DELETE")
""")


def test_session_fixtures_use_couch_server(tmp_path: Path, live: dict[str, str]) -> None:
    before = databases(live)
    printed = run(tmp_path, "--dal-backend=both", environment=live, test_wide=WIDE)
    assert "4 passed" in printed, printed
    assert databases(live) == before


ADMIN = (
    unindented("""
    import base64
    import urllib.error
    import urllib.request
    import pytest
    from couchdal import CouchDAL, Unauthorized

    def header(password):
        return "Basic " + base64.b64encode(f"RECORDED_NAME:{password}".encode()).decode()

    def status(address, method, **headers):
        request = urllib.request.Request(address, method=method, headers=headers)
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    @pytest.mark.parametrize("turn", [1, 2])
    def test_credentials(turn, couch_server, dal):
        right, wrong = header("RECORDED_PASSWORD"), header("wrong")
        assert status(f"{couch_server}/one", "PUT", Authorization=right) == 201
        assert status(f"{couch_server}/one", "DELETE", Authorization=wrong) == 401
        sent = dal.request("GET", "/_session", headers={"authorization": right}).value()["userCtx"]
        assert (sent["name"], sent["roles"]) == ("RECORDED_NAME", ["_admin"])
        assert dal.request("GET", "/_all_dbs", headers={"authorization": wrong}).status == 401

    @pytest.mark.parametrize("turn", [1, 2])
    def test_no_credentials(turn, couch_server, dal):
        assert status(f"{couch_server}/two", "PUT") == 201
        assert "_admin" in dal.get("/_session")["userCtx"]["roles"]
        assert dal.all_dbs().count("two") == 1

    @pytest.mark.dal(emulator=True)
    @pytest.mark.parametrize("turn", [1, 2])
    def test_another_admin_ends_the_party(turn, dal):
        dal.backend.reset() if turn == 2 else None
        assert "_admin" in dal.get("/_session")["userCtx"]["roles"]
        dal.emulator.fork().handle_request("/")
        dal.backend.server.admins["other"] = "secret"
        with pytest.raises(Unauthorized):
            dal.create_database()

    def test_fails(dal):
        dal.put_document("a", {})
        assert not "shown"
""")
    .replace("RECORDED_NAME", RECORDED_ADMIN[0])
    .replace("RECORDED_PASSWORD", RECORDED_ADMIN[1])
)


def test_admin_of_the_settings_may_send_credentials(tmp_path: Path, live: dict[str, str]) -> None:
    admin = ":".join(RECORDED_ADMIN)
    (tmp_path / "test_admin.py").write_text(ADMIN)
    option = run(tmp_path, f"--dal-admin={admin}", "-v")
    assert "1 failed, 6 passed" in option, option
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ndal_admin = {admin}\n")
    setting = run(tmp_path, "-v", "--dal-backend=both", "-l", environment=live)
    assert "10 passed, 2 skipped" in setting.replace("2 failed, ", ""), setting
    assert admin not in option + setting
    wrong = run(tmp_path, "--dal-admin=hidden-secret")
    assert "dal_admin must be name:password" in wrong
    assert "hidden-secret" not in wrong


CANCELLED = unindented("""
    import asyncio
    import threading
    import time
    import pytest
    from couchdal import AsyncCouchDAL

    made_at_import = AsyncCouchDAL()

    async def follow(dal):
        async with dal.changes("continuous") as feed:
            async for change in feed:
                pass

    async def poll(dal):
        await dal.get("/_changes?feed=longpoll&since=now&timeout=10000")

    async def cancel(reader, dal):
        await dal.post_document({})
        task = asyncio.create_task(reader(dal))
        await asyncio.sleep(0.2)
        before = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return before

    def seconds_to_cancel(reader, dal):
        # Until the loop has ended, which waits for threads.
        before = asyncio.run(cancel(reader, dal))
        return time.monotonic() - before

    @pytest.mark.parametrize("made", ["at import", "in the test"])
    @pytest.mark.parametrize("reader", [follow, poll])
    def test_cancel(reader, made):
        dal = made_at_import if made == "at import" else AsyncCouchDAL()
        # The fastest, because the machine may be busy.
        assert min(seconds_to_cancel(reader, dal) for _ in range(3)) < 0.1
        # No thread goes on waiting.
        assert threading.active_count() == 1
""")


def test_cancelling_the_reader_of_a_feed_ends_at_once_on_every_backend(tmp_path: Path, live: dict[str, str]) -> None:
    """On both backends, a handle made at import delegates; one made in a test is of the backend itself."""
    printed = run(tmp_path, "--dal-backend=both", environment=live, test_cancelled=CANCELLED)
    assert "8 passed" in printed, printed


@pytest.fixture
def live(served_address: str) -> dict[str, str]:
    """The environment of a live run: the server that ``COUCHDB_URL`` names, or an emulator over HTTP."""
    return live_environment(served_address)


def databases(live: dict[str, str]) -> list[str]:
    backend = CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])
    return CouchDAL(backend, database="x").all_dbs()


def test_live_run_gives_each_test_private_databases_and_deletes_them(tmp_path: Path, live: dict[str, str]) -> None:
    before = databases(live)
    printed = run(
        tmp_path,
        "--dal-backend=couch",
        environment=live,
        test_fixtures=unindented(FIXTURES),
        test_scopes=unindented("""
            import pytest
            from couchdal import CouchDAL
            made_at_import = CouchDAL()

            @pytest.fixture(scope="module")
            def shared():
                made_at_import.put_document("shared", {})

            def test_shared_is_there(shared):
                assert made_at_import.info()["doc_count"] == 1

            def test_shared_is_there_still():
                made_at_import.get_document("shared")
                assert repr(made_at_import.backend).startswith("<CouchBackend")
        """),
    )
    assert "7 passed" in printed, printed
    assert "couchdal: couch backend (--dal-backend)" in run(tmp_path, "--dal-backend=couch", "-v", environment=live)
    assert databases(live) == before


def test_live_run_creates_the_databases_that_handles_name_and_deletes_only_them(
    tmp_path: Path, live: dict[str, str]
) -> None:
    backend = CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])
    # A name that nobody uses: the server may be one with data.
    with CouchDAL(backend, database=f"kept-{uuid4().hex}") as kept:
        kept.create_database()
        try:
            deletes_only_what_handles_name(tmp_path, live, kept.name)
        finally:
            kept.delete_database()


def deletes_only_what_handles_name(tmp_path: Path, live: dict[str, str], kept: str) -> None:
    before = databases(live)
    printed = run(
        tmp_path,
        "--dal-backend=both",
        environment=live,
        test_named=unindented(f"""
            import asyncio
            import pytest
            from couchdal import AsyncCouchDAL, CouchDAL, NotFound, Unreachable

            tasks = CouchDAL(database="tasks", create=True)

            @pytest.mark.parametrize("turn", [1, 2])
            def test_each_test_starts_empty(turn):
                tasks.put_document("one", {{}})
                assert CouchDAL(database="tasks").info()["doc_count"] == 1

            def test_async_handle():
                asyncio.run(AsyncCouchDAL(database="tasks", create=True).put_document("one", {{}}))

            def test_creation_is_neither_counted_nor_hit_by_a_fault():
                with tasks.expect(requests=1), tasks.faults.lose_answer(method="PUT"), pytest.raises(Unreachable):
                    tasks.put_document("one", {{}})
                assert tasks.info()["doc_count"] == 1

            def test_deleted_database_stays_missing():
                tasks.put_document("one", {{}})
                tasks.delete_database()
                with pytest.raises(NotFound):
                    tasks.info()

            def test_nothing_is_created_before_a_deletion():
                with pytest.raises(NotFound):
                    tasks.delete_database()
                with pytest.raises(NotFound):
                    tasks.info()

            def test_handle_from_another_handle_creates_nothing():
                with pytest.raises(NotFound):
                    tasks.database("archive").info()

            def test_database_that_existed_before_is_not_seen():
                kept = CouchDAL(database="{kept}")
                with pytest.raises(NotFound):
                    kept.info()
                kept.create_database()
                kept.delete_database()
        """),
    )
    assert "8 tests agree, 0 differ" in printed, printed
    assert kept in before
    assert databases(live) == before


def test_both_backends_count_only_tests_that_ran_on_both(tmp_path: Path, live: dict[str, str]) -> None:
    printed = run(
        tmp_path,
        "--dal-backend=both",
        "-x",
        test_halves=unindented("""
            import pytest

            @pytest.mark.skip
            def test_skipped():
                pass

            def test_agrees():
                pass

            def test_fails():
                assert False

            def test_never_begins():
                pass
        """),
        environment=live,
    )
    assert "NOT COMPARED test_halves.py::test_skipped: not run on couch, skipped on memory" in printed
    assert "NOT COMPARED test_halves.py::test_agrees: not run on couch, passed on memory" in printed
    assert "0 tests agree, 0 differ, 3 did not run on both" in printed
    printed = run(tmp_path, "--dal-backend=both", environment=live)
    assert "3 tests agree, 0 differ, 1 did not run on both" in printed
    printed = run(tmp_path, "--dal-backend=both", "-k", "agrees and memory", environment=live)
    assert "0 tests agree, 0 differ, 1 did not run on both" in printed


UNEVEN = """
    import os
    import pytest

    @pytest.fixture
    def fails_in_setup(dal_backend):
        assert dal_backend == "memory"

    @pytest.fixture
    def fails_in_teardown(dal_backend):
        yield
        assert dal_backend == "memory"

    def test_agrees(dal):
        pass

    def test_setup(fails_in_setup):
        pass

    def test_teardown(fails_in_teardown):
        pass

    def test_last(dal_backend):
        if "CRASH" in os.environ and dal_backend == "couch":
            os._exit(3)
"""


def test_verdict_counts_only_halves_that_ran(tmp_path: Path, live: dict[str, str]) -> None:
    order = ("-p", "no:randomly")
    printed = run(tmp_path, "--dal-backend=both", *order, environment=live, test_uneven=unindented(UNEVEN))
    assert "DIFFERS test_uneven.py::test_teardown: error in teardown on couch, passed on memory" in printed, printed
    assert "NOT COMPARED test_uneven.py::test_setup: error on couch, passed on memory" in printed
    assert "2 tests agree, 1 differ, 1 did not run on both" in printed
    printed = run(tmp_path, "--dal-backend=both", *order, "--maxfail=1", environment=live)
    assert "NOT COMPARED test_uneven.py::test_last: not run on couch, passed on memory" in printed, printed
    assert "1 tests agree, 0 differ, 3 did not run on both" in printed
    printed = run(tmp_path, "--dal-backend=both", *order, "-n", "2", environment={**live, "CRASH": "1"})
    assert "NOT COMPARED test_uneven.py::test_last: crashed on couch, passed on memory" in printed, printed
    assert "1 tests agree, 1 differ, 2 did not run on both" in printed
    # As with --lf, one half runs again.
    again = ("--deselect", "test_uneven.py::test_agrees[memory]", "-k", "agrees")
    printed = run(tmp_path, "--dal-backend=both", *order, *again, environment=live)
    assert "NOT COMPARED test_uneven.py::test_agrees: passed on couch, not run on memory" in printed, printed
    assert "0 tests agree, 0 differ, 1 did not run on both" in printed


EMULATOR_ONLY = unindented("""
    import unittest
    import pytest
    from couchdal import CouchDAL, MemoryOnly

    made_at_import = CouchDAL()

    @pytest.mark.dal(emulator=True)
    def test_marked(dal):
        dal.emulator.clock.advance(60)
        made_at_import.snapshot().restore()

    @pytest.mark.dal(emulator=True)
    class TestMarked(unittest.TestCase):
        def test_method(self):
            made_at_import.emulator.seed_ids(1)

        @pytest.mark.dal(emulator=False)
        def test_unmarked_method(self):
            made_at_import.put_document("a", {})

    def test_unmarked(dal, dal_backend):
        if dal_backend == "couch":
            with pytest.raises(MemoryOnly, match=r"mark the test with @pytest.mark.dal\\(emulator=True\\)"):
                dal.emulator
""")


@pytest.mark.parametrize("backend", ["memory", "couch", "compare", "both"])
def test_marked_tests_are_for_the_emulator_only(tmp_path: Path, live: dict[str, str], backend: str) -> None:
    printed = run(tmp_path, f"--dal-backend={backend}", "-rs", environment=live, test_marked=EMULATOR_ONLY)
    expected = {"memory": "4 passed", "both": "6 passed, 2 skipped"}.get(backend, "2 passed, 2 skipped")
    assert expected in printed, printed
    assert ("for the emulator only: @pytest.mark.dal(emulator=True)" in printed) == (backend != "memory")
    if backend == "both":
        only = "passed on memory (for the emulator only)"
        assert f"NOT COMPARED test_marked.py::test_marked: skipped on couch, {only}" in printed
        assert f"NOT COMPARED test_marked.py::TestMarked::test_method: skipped on couch, {only}" in printed
        assert "2 tests agree, 0 differ, 2 did not run on both" in printed


def test_both_backends_run_each_test_and_differences_are_reported(tmp_path: Path, live: dict[str, str]) -> None:
    printed = run(
        tmp_path,
        "--dal-backend=both",
        environment=live,
        test_both=unindented("""
            import unittest
            import pytest
            from hypothesis import given, settings, strategies as st
            from couchdal import AsyncCouchDAL, CouchDAL, MemoryOnly

            made_at_import = CouchDAL()
            elsewhere = made_at_import.database("elsewhere")
            async_at_import = AsyncCouchDAL()

            def test_handles_made_at_import_follow(dal_backend):
                assert ("Couch" in repr(made_at_import)[10:]) == (dal_backend == "couch")
                assert made_at_import.info()["doc_count"] == 0
                made_at_import.put_document("one", {})
                assert CouchDAL().get_document("one") == made_at_import.get_document("one")
                elsewhere.create_database()
                elsewhere.put_document("two", {})
                assert CouchDAL(database="elsewhere").info()["doc_count"] == 1

            def test_forks_are_the_emulators_alone(dal_backend):
                if dal_backend == "memory":
                    fork = made_at_import.fork()
                    fork.put_document("in the fork", {})
                    assert made_at_import.info()["doc_count"] == 0
                else:
                    with pytest.raises(MemoryOnly):
                        made_at_import.fork()

            class TestOfUnittest(unittest.TestCase):
                @classmethod
                def setUpClass(cls):
                    made_at_import.put_document("of the class", {"backend": repr(CouchDAL().backend)[:12]})

                def test_runs_on_both(self):
                    made_at_import.put_document("one", {})
                    self.assertEqual(made_at_import.info()["doc_count"], 2)
                    found = made_at_import.get_document("of the class")["backend"]
                    self.assertEqual(found, repr(CouchDAL().backend)[:12])

                def test_differs_too(self):
                    self.assertIn("MemoryBackend", repr(made_at_import))

            @given(number=st.integers(0, 9))
            @settings(max_examples=3, deadline=None)
            def test_examples(number):
                made_at_import.put_local("example", {"n": number})

            @pytest.fixture(scope="session")
            def first_backend():
                return repr(CouchDAL().backend)

            def test_wide_fixture_is_made_anew(first_backend, dal_backend):
                assert first_backend.lower().startswith(f"<{dal_backend}")

            def test_async_handle_made_at_import_follows():
                import asyncio
                asyncio.run(async_at_import.put_document("three", {}))
                assert [row["id"] for row in CouchDAL().all_docs()["rows"]] == ["three"]

            @pytest.mark.parametrize("name", ["a-b", "c"])
            def test_agrees(dal, name):
                dal.put_document(name, {})

            def test_differs(dal, dal_backend):
                assert dal_backend == "memory"

            def test_without_a_database():
                pass
        """),
    )
    assert "20 passed" in printed, printed
    assert "2 failed" in printed
    assert "DIFFERS test_both.py::test_differs: failed on couch, passed on memory" in printed
    assert "DIFFERS test_both.py::TestOfUnittest::test_differs_too: failed on couch, passed on memory" in printed
    assert "9 tests agree, 2 differ" in printed
    assert "9 tests agree, 2 differ" in run(tmp_path, "--dal-backend=both", "-n2", environment=live)


@pytest.mark.parametrize(
    ("arguments", "environment", "settings", "header"),
    [
        ((), {}, "", "couchdal: memory backend (the default under pytest)"),
        ((), {}, "dal_backend = memory", "couchdal: memory backend (dal_backend in the project's settings)"),
        ((), {"DAL_BACKEND": "memory"}, "dal_backend = couch", "couchdal: memory backend (DAL_BACKEND)"),
        (("--dal-backend=memory",), {"DAL_BACKEND": "couch"}, "", "couchdal: memory backend (--dal-backend)"),
    ],
)
def test_header_names_the_backend_and_where_it_was_chosen(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], settings: str, header: str
) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
    test = "import os\ndef test_it(): assert os.environ.get('DAL_BACKEND') in (None, 'memory')\n"
    printed = run(tmp_path, "-v", *arguments, environment=environment, test_it=test)
    assert header in printed, printed
    assert "1 passed" in printed


@pytest.mark.parametrize(("arguments", "settings"), [((), "dal_indexes = require"), (("--dal-indexes=require",), "")])
def test_option_or_setting_requires_indexes(tmp_path: Path, arguments: tuple[str, ...], settings: str) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
    printed = run(
        tmp_path,
        *arguments,
        test_it=unindented("""
            import pytest
            from couchdal import CouchDAL, CouchError
            made_at_import = CouchDAL()

            def test_query_without_an_index_is_refused():
                made_at_import.info()
                with pytest.raises(CouchError) as refused:
                    made_at_import.find({"n": 1})
                assert refused.value.error == "index_required"
        """),
    )
    assert "1 passed" in printed, printed


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [((), "dal_couchdb_version = 3.3"), (("--dal-couchdb-version=3.3",), "dal_couchdb_version = 3.4")],
)
def test_option_or_setting_chooses_the_version(tmp_path: Path, arguments: tuple[str, ...], settings: str) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
    printed = run(
        tmp_path,
        *arguments,
        test_it=unindented("""
            from couchdal import CouchDAL, Request

            def test_version():
                assert CouchDAL().backend.send(Request("GET", "/")).value()["version"] == "3.3.3"
        """),
    )
    assert "1 passed" in printed, printed


def test_unknown_version_in_the_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_couchdb_version = 2.3\n")
    assert "dal_couchdb_version must be one of: 3.3, 3.4, 3.5" in run(tmp_path, test_it="")


def test_unknown_backend_in_the_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_backend = redis\n")
    assert "dal_backend must be one of memory, sqlite, couch, both, compare, not 'redis'" in run(tmp_path, test_it="")


def test_other_hosts_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    test = unindented("""
        import pytest
        from couchdal import BackendError, CouchBackend, CouchDAL, HostRefused

        def test_refused():
            dal = CouchDAL(CouchBackend("http://admin:hidden@couch.invalid:1", database="x", timeout=2))
            with pytest.raises(HostRefused, match="tests may not reach http://couch.invalid:1 unless") as refused:
                dal.info()
            assert "hidden" not in str(refused.value)

        def test_allowed():
            with pytest.raises(BackendError) as failed:
                CouchDAL(CouchBackend("http://db.invalid:1", database="x", timeout=2)).info()
            assert not isinstance(failed.value, HostRefused)
    """)
    assert "2 passed" in run(tmp_path, "--dal-allow-host=db.invalid", test_guard=test)
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_allowed_hosts = other.invalid DB.invalid\n")
    assert "2 passed" in run(tmp_path, test_guard=test)


NAMED = """
    import pytest
    from couchdal import CouchDAL, NotFound

    tasks = CouchDAL(database="tasks")

    @pytest.fixture(scope="session")
    def wide():
        CouchDAL(database="users").put_document("wide", {})

    @pytest.mark.parametrize("turn", [1, 2])
    def test_named_databases_exist(turn, wide):
        assert tasks.info()["doc_count"] == 0
        assert CouchDAL(database="users").info()["doc_count"] == 1
        assert [name for name in tasks.all_dbs() if name[0] != "_"] == ["tasks", "users"]
        tasks.delete_database()

    def test_other_databases_do_not():
        for handle in (CouchDAL(database="others"), tasks.database("others")):
            with pytest.raises(NotFound, match="dal_databases"):
                handle.info()
        assert CouchDAL().info()["doc_count"] == 0
"""


def test_databases_of_the_setting_exist_in_every_test(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_databases = tasks users\n")
    printed = run(tmp_path, test_named=unindented(NAMED))
    assert "3 passed" in printed, printed
    (tmp_path / "pytest.ini").unlink()
    assert "3 passed" in run(tmp_path, "--dal-databases=tasks,users")
    assert "dal_databases: Name: 'Tasks'. Only lowercase characters" in run(tmp_path, "--dal-databases=Tasks")


SEEDED = """
    import pytest
    from couchdal import CouchDAL
    dal = CouchDAL()

    def ids(database=None):
        return [row["id"] for row in CouchDAL(database=database).all_docs()["rows"]]

    @pytest.mark.parametrize("turn", [1, 2])
    @pytest.mark.dal(seed="seeds/*.json")
    def test_finds_its_seed_in_each_run(turn):
        assert ids() == ["a", "b", "every"]
        dal.put_document("c", {})
        dal.delete_database()

    @pytest.mark.dal(seed=["seeds/one.json"], database="other")
    def test_seed_of_another_database():
        assert ids("other") == ["a"]
        assert ids() == ["every"]

    @pytest.fixture
    def writes():
        assert "b" in ids()
        dal.put_document("fixture", {})

    @pytest.fixture(scope="module")
    def wide():
        dal.put_document("wide", {})

    @pytest.mark.dal(seed="seeds/two.json")
    def test_seed_is_there_before_the_fixtures_of_the_test_and_after_wider_ones(wide, writes):
        assert ids() == ["b", "every", "fixture", "wide"]

    def test_setting_alone():
        assert ids() == ["every", "wide"]
"""


def test_seeds_are_found_by_each_test(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "one.json").write_text('[{"_id": "a"}]')
    (tmp_path / "seeds" / "two.json").write_text('{"_id": "b"}')
    (tmp_path / "every.json").write_text('{"_id": "every"}')
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_seed = every.json\n")
    printed = run(tmp_path, test_seeded=unindented(SEEDED))
    assert "5 passed" in printed, printed


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ('seed="none/*.json"', "test_it.py::test_it: no seed 'none/*.json' in"),
        ("seeds=1", "the mark dal takes seed=, database=, emulator= and backend=, not seeds"),
        (
            "'a.json'",
            "test_it.py::test_it: the mark dal takes seed=, database=, emulator= and backend=, not positional",
        ),
        ("seed=1", "test_it.py::test_it: the mark dal takes names: seed= a file or a list of files"),
    ],
)
def test_wrong_mark_names_the_test(tmp_path: Path, mark: str, says: str) -> None:
    test = f"import couchdal\nimport pytest\n@pytest.mark.dal({mark})\ndef test_it():\n    couchdal.CouchDAL().info()\n"
    printed = run(tmp_path, test_it=test)
    assert says in printed, printed
    assert "passed" not in printed


def test_report_of_a_failed_test_names_the_dumps_of_its_databases(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        f"--basetemp={tmp_path / 'temporary'}",
        test_failing=unindented("""
            from couchdal import CouchDAL

            def test_fails():
                CouchDAL().put_document("evidence", {"n": 1})
                assert False
        """),
    )
    assert "couchdal: the databases when the test failed" in printed, printed
    file = tmp_path / "temporary" / "dal" / "test_failing.py-test_fails" / "default.ndjson"
    assert f"default: 1 document in {file}" in printed
    assert json.loads(file.read_text())["_id"] == "evidence"


def test_marked_fault_affects_only_its_test(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_faults=unindented("""
            import pytest
            from couchdal import Conflict, CouchDAL

            @pytest.mark.dal_faults("answer", 409, method="PUT", nth=2)
            @pytest.mark.dal_faults("delay", 0)
            def test_marked(dal):
                dal.put_document("a", {})
                with pytest.raises(Conflict):
                    CouchDAL().put_document("b", {})

            def test_unmarked(dal):
                dal.put_document("a", {})
                dal.put_document("b", {})

            @pytest.mark.dal_faults("explode")
            def test_unknown(dal):
                pass

            @pytest.mark.dal_faults("answer", 409, tims=1)
            def test_wrong_option(dal):
                pass

            @pytest.mark.dal_faults
            def test_nothing(dal):
                pass

            def test_after_the_errors(dal):
                dal.put_document("a", {})
        """),
    )
    assert "3 passed" in printed, printed
    assert "test_faults.py::test_unknown: dal_faults: unknown fault 'explode'" in printed
    assert "test_faults.py::test_wrong_option: dal_faults: " in printed
    assert "test_faults.py::test_nothing: the mark dal_faults needs the name of a fault" in printed


def test_options_cannot_be_abbreviated(tmp_path: Path) -> None:
    assert "unrecognized arguments: --dal-back=couch" in run(tmp_path, "--dal-back=couch", test_it="")


@pytest.mark.parametrize("backend", ["couch", "both"])
def test_missing_address_of_the_server_is_one_error_at_the_start(tmp_path: Path, backend: str) -> None:
    test = "from couchdal import CouchDAL\n" + "".join(f"def test_{n}(): CouchDAL().info()\n" for n in range(5))
    printed = run(tmp_path, f"--dal-backend={backend}", test_it=test)
    assert printed.count("no CouchDB is named: set COUCHDB_URL") == 1, printed
    assert "failed" not in printed
    assert "passed" not in printed


@pytest.mark.parametrize("where", ["mark", "setting"])
def test_missing_seed_is_one_error_before_the_first_test(tmp_path: Path, where: str) -> None:
    mark = "import pytest\npytestmark = pytest.mark.dal(seed='gone.json')\n" if where == "mark" else ""
    if where == "setting":
        (tmp_path / "pytest.ini").write_text("[pytest]\ndal_seed = gone.json\n")
    printed = run(tmp_path, test_it=mark + "".join(f"def test_{n}(): pass\n" for n in range(5)))
    assert printed.count("no seed 'gone.json' in") == 1, printed
    assert "AssertionError" not in printed
    assert "passed" not in printed


def test_isolation_holds_in_parallel_workers(tmp_path: Path) -> None:
    printed = run(tmp_path, "-n", "2", test_fixtures=unindented(FIXTURES), test_more=unindented(FIXTURES))
    assert "10 passed" in printed, printed


SHUFFLED = """
    import random

    def pytest_collection_modifyitems(items):
        random.Random(SEED).shuffle(items)
"""
MANY = """
    import threading
    import anyio
    import pytest
    from couchdal import AsyncCouchDAL, CouchDAL
    made_at_import = CouchDAL()

    @pytest.fixture(scope="module")
    def shared():
        made_at_import.put_document("shared", {})

    @pytest.mark.parametrize("turn", range(20))
    def test_writes(turn):
        made_at_import.put_document("a", {"turn": turn})
        assert "shared" in ids() or ids() == ["a"]

    @pytest.mark.parametrize("turn", range(20))
    def test_writes_beside_a_module_fixture(shared, turn):
        made_at_import.put_document("b", {})
        assert ids() == ["b", "shared"]

    @pytest.mark.parametrize("turn", range(10))
    def test_threads_write(turn):
        threads = [threading.Thread(target=write, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([name for name in ids() if name.isdigit()]) == 8

    @pytest.mark.anyio
    @pytest.mark.parametrize("turn", range(10))
    async def test_event_loop_writes(async_dal, turn):
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(async_dal.put_document, str(number), {})
        assert len([name for name in ids() if name.isdigit()]) == 5

    def write(name):
        CouchDAL().put_document(name, {})

    def ids():
        return [row["id"] for row in made_at_import.all_docs()["rows"]]

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_isolation_holds_in_any_order_with_threads_and_event_loops(
    tmp_path: Path, seed: int, workers: tuple[str, ...]
) -> None:
    conftest = 'pytest_plugins = ["anyio.pytest_plugin"]\n' + unindented(SHUFFLED).replace("SEED", str(seed))
    printed = run(tmp_path, *workers, conftest=conftest, test_many=unindented(MANY), test_more=unindented(MANY))
    assert "120 passed" in printed, printed


def test_private_servers_are_left_alone(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_private="""
            from couchdal import CouchDAL, MemoryBackend
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
                assert "couchdal.pytest_plugin" in sys.modules
                loaded = {name for name in sys.modules if name.partition(".")[0] in ("couchdal", "dal")}
                ours = {name for name in loaded if "testing" not in name}
                assert ours == {"couchdal", "couchdal.pytest_plugin"}
        """.replace("\n            ", "\n"),
    )
    assert "1 passed" in printed, printed


def test_plugin_empties_the_server_between_the_tests_of_this_run(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("couchdal.pytest_plugin") or request.config.pluginmanager.hasplugin(
        "couchdal"
    )


@pytest.mark.parametrize("backend", ["memory", "couch"])
def test_late_wide_fixture_keeps_nothing_of_the_test(tmp_path: Path, live: dict[str, str], backend: str) -> None:
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        "-p",
        "no:randomly",
        environment=live,
        test_late=unindented("""
            import pytest

            @pytest.fixture(scope="session")
            def of_session():
                pass

            @pytest.fixture
            def narrow(dal, request):
                dal.put_document("one", {})
                dal.database("tasks", create=True).put_document("one", {})
                request.getfixturevalue("of_session")

            def test_first(narrow):
                pass

            def test_fails(dal):
                dal.put_document("one", {})
                assert False

            def test_next(dal):
                assert set(dal.all_dbs()) <= {"_replicator", "_users", "_global_changes"}
        """),
    )
    assert "1 failed, 2 passed" in printed, printed


@pytest.mark.parametrize("scope", ["class", "module", "session"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("backend", ["memory", "couch"])
def test_wide_fixture_that_raises_leaves_no_writes(
    tmp_path: Path, live: dict[str, str], scope: str, late: bool, backend: str
) -> None:
    before = databases(live)
    printed = run(
        tmp_path,
        f"--dal-backend={backend}",
        environment=live,
        test_raising=unindented(f"""
            import pytest
            from couchdal import CouchDAL
            dal = CouchDAL()

            def ids():
                return [row["id"] for row in dal.all_docs()["rows"]]

            @pytest.fixture(scope="{scope}")
            def asked_for():
                dal.put_document("asked-for", {{}})

            @pytest.fixture(scope="{scope}")
            def raising(request):
                dal.put_document("before", {{}})
                request.getfixturevalue("asked_for")
                dal.put_document("half", {{}})
                dal.get("/_users/_local/half", "PUT", {{}})
                dal.database("half", create=True).put_document("one", {{}})
                raise RuntimeError("half-way")

            @pytest.fixture
            def narrow():
                dal.put_document("narrow", {{}})

            @pytest.fixture
            def tolerant(request, narrow):
                if {late}:
                    try:
                        request.getfixturevalue("raising")
                    except RuntimeError:
                        pass
                    assert ids() == ["asked-for", "narrow"]

            class TestAll:
                def test_tolerant(self, tolerant):
                    pass

                def test_fails(self, raising):
                    pass

                def test_sees_nothing_of_it(self):
                    assert ids() == ["asked-for"]
                    assert "half" not in dal.all_dbs()
                    assert dal.request("GET", "/_users/_local/half").status == 404

                def test_fixture_that_was_asked_for_stays(self, asked_for):
                    assert ids() == ["asked-for"]
        """),
    )
    assert "3 passed, 1 error" in printed, printed
    assert databases(live) == before
