"""``--dal-backend=compare``, in separate test runs against a server that stands in for a CouchDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_runs import run, unindented
from processes import couchdal_serve

AGREEING = """
    import asyncio
    import pytest
    from couchdal import AsyncCouchDAL, CouchDAL, NotFound

    made_at_import = CouchDAL()

    @pytest.fixture(scope="module")
    def of_module():
        made_at_import.put_document("of-module", {"n": 1})

    def test_documents(dal, of_module):
        posted = dal.post_document({"n": 2})
        dal.update_document(posted["id"], lambda doc: {**doc, "n": 3})
        page = dal.find({"n": {"$gt": 0}}, limit=1)
        dal.find({"n": {"$gt": 0}}, limit=1, bookmark=page["bookmark"])
        dal.delete_document("of-module", rev=dal.get_document("of-module")["_rev"])
        assert dal.info()["doc_count"] == 1

    def test_it_is_there_again(dal, of_module):
        assert dal.get_document("of-module")["n"] == 1

    def test_databases(make_dal):
        with pytest.raises(NotFound):
            CouchDAL(database="tasks").info()
        CouchDAL(database="tasks", create=True).put_document("a", {})
        make_dal("other").put_document("b", {})
        assert made_at_import.all_dbs() == CouchDAL().all_dbs()

    def test_listed(make_dal):
        assert make_dal().info()["doc_count"] == 0

    def test_feed(dal):
        dal.put_document("a", {})
        with dal.changes("continuous", timeout=20) as feed:
            assert [change["id"] for change in feed] == ["of-module", "a"]

    def test_asynchronous():
        async def work():
            async with AsyncCouchDAL() as db:
                await db.put_document("a", {})
        asyncio.run(work())

    @pytest.mark.dal_faults("answer", 503)
    def test_faults_answer_for_both(dal):
        with pytest.raises(Exception):
            dal.info()

    def test_other_clients(couch_server):
        import urllib.request
        urllib.request.urlopen(urllib.request.Request(couch_server + "/raw", method="PUT")).read()
        urllib.request.urlopen(couch_server + "/raw").read()

    def test_who(dal):
        dal.get("/_session")
"""

DIFFERING = """
    import pytest
    from couchdal.middleware.chain import install

    def wrong(backend, request):
        response = yield request
        if request.path.endswith("/_all_docs"):
            response.body = response.content().replace(b'"total_rows":1', b'"total_rows":7')
        return response

    install(wrong, innermost=True)

    def test_passes_but_differs(dal):
        dal.put_document("a", {})
        assert dal.all_docs()["rows"]
        dal.get_document("a")

    def test_fails_by_itself_too(dal):
        dal.put_document("a", {})
        assert dal.all_docs()["total_rows"] == 1

    @pytest.fixture
    def listed(dal):
        dal.put_document("a", {})
        return dal.all_docs()

    def test_of_a_fixture(listed):
        pass

    def test_next_one_is_compared_anew(dal):
        dal.put_document("b", {})
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The settings for a live server: that of COUCHDB_URL, or one of ours."""
    if os.environ.get("COUCHDB_URL"):
        yield {name: text for name, text in os.environ.items() if name.startswith("COUCHDB_")}
        return
    with couchdal_serve("--admin", "admin:pw") as (address, _):
        yield {"COUCHDB_URL": address.replace("://", "://admin:pw@")}


def test_a_suite_that_agrees_passes(tmp_path: Path, environment: dict[str, str]) -> None:
    printed = run(tmp_path, "--dal-backend=compare", test_agreeing=unindented(AGREEING), environment=environment)
    assert "9 passed" in printed
    assert "differ as known: the memory server needs no credentials" in printed
    assert "answers compared" in printed


def test_the_first_difference_fails_its_test(tmp_path: Path, environment: dict[str, str]) -> None:
    printed = run(tmp_path, "--dal-backend=compare", test_wrong=unindented(DIFFERING), environment=environment)
    assert "2 failed, 1 passed, 1 error" in printed
    assert printed.count("first difference: body.total_rows is 7 on CouchDB, 1 on the emulator") == 3
    assert "request 2 of this test" in printed
    assert "test_wrong.py:15)" in printed
    assert "assert 7 == 1" in printed


def test_databases_of_the_setting_are_deleted_and_made_on_both(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_databases = tasks users\n")
    test = """
        import pytest
        from couchdal import CouchDAL, FileExists

        @pytest.mark.parametrize("turn", [1, 2])
        def test_deletes(dal, turn):
            dal.database("tasks").delete_database()
            assert "tasks" not in dal.all_dbs()
            with pytest.raises(FileExists):
                dal.database("users").create_database()
    """
    printed = run(tmp_path, "--dal-backend=compare", environment=environment, test_setting=unindented(test))
    assert "2 passed" in printed, printed


def test_workers_count_together(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_known_differences = known.toml\n")
    (tmp_path / "known.toml").write_text(
        '[[difference]]\nreason = "it counts wrong"\nendpoint = "/{db}/_all_docs"\nignore = ["body.total_rows"]\n'
    )
    wrong = unindented(DIFFERING).replace('["total_rows"] == 1', '["total_rows"] == 7')
    printed = run(tmp_path, "-n2", test_wrong=wrong, environment={**environment, "DAL_BACKEND": "compare"})
    assert "4 passed" in printed
    assert "3 differ as known: it counts wrong" in printed


@pytest.mark.parametrize("text", ["[[difference]]\nendpoint = '/{db}'\n", None])
def test_a_wrong_file_of_known_differences_ends_the_run(
    tmp_path: Path, environment: dict[str, str], text: str | None
) -> None:
    if text is not None:
        (tmp_path / "known.toml").write_text(text)
    printed = run(tmp_path, "--dal-backend=compare", "-o", "dal_known_differences=known.toml", environment=environment)
    assert "ERROR: dal_known_differences: " in printed
    assert "known.toml" in printed


def test_a_server_is_needed(tmp_path: Path) -> None:
    assert "set COUCHDB_URL" in run(tmp_path, "--dal-backend=compare")
