"""Interception in test runs: the fixture, the mark and the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from plugin_runs import live_environment, run, unindented

import couchdal
from couchdal import CouchBackend, CouchDAL

APPLICATION = unindented("""
    import requests

    URL = "http://couchdb.example:5984"
    session = requests.Session()

    def save(doc_id, **body):
        answer = session.put(f"{URL}/tasks/{doc_id}", json=body)
        answer.raise_for_status()
        return answer.json()["rev"]

    def create():
        return session.put(f"{URL}/tasks").status_code
""")

BY_SETTING = unindented("""
    import pytest
    import application

    @pytest.mark.parametrize("turn", [1, 2])
    def test_write_is_undone(turn, dal):
        assert application.create() == 201
        assert application.save("a", n=1).startswith("1-")
        assert dal.database("tasks").get_document("a")["n"] == 1
""")

BY_MARK = unindented("""
    import pytest
    import requests
    import application

    @pytest.mark.dal_intercept("http://couchdb.example:*")
    @pytest.mark.parametrize("turn", [1, 2])
    def test_marked(turn, dal):
        assert application.create() == 201
        with dal.faults.answer(503, method="PUT", times=1), pytest.raises(requests.HTTPError) as caught:
            application.save("a")
        assert caught.value.response.status_code == 503
        with dal.expect(requests=1):
            application.save("a")
        assert dal.requests[-1].path == "/tasks/a"

    def test_unmarked():
        with pytest.raises(requests.ConnectionError):
            application.create()

    @pytest.fixture
    def prepared(couch_intercept):
        assert requests.put(f"{couch_intercept}/prepared").status_code == 201
        return couch_intercept

    @pytest.mark.dal_intercept("http://couchdb.example:*")
    @pytest.mark.parametrize("turn", [1, 2])
    def test_with_the_fixture(turn, prepared, dal):
        assert prepared == "http://couchdb.example:5984"
        assert set(requests.get(f"{prepared}/_all_dbs").json()) >= {"prepared"}
        assert dal.database("prepared").info()["db_name"] == "prepared"
""")

BY_FIXTURE = unindented("""
    import pytest
    import requests
    import httpx

    @pytest.mark.parametrize("turn", [1, 2])
    def test_any_client(turn, couch_intercept, dal):
        for number, client in enumerate((requests, httpx)):
            made = client.put(f"{couch_intercept}/web{number}")
            assert (made.status_code, made.headers["location"]) == (201, f"{couch_intercept}/web{number}")
            assert client.post(f"{couch_intercept}/web{number}", json={"_id": "a"}).status_code == 201
            assert f"web{number}" in client.get(f"{couch_intercept}/_all_dbs").json()
            assert dal.database(f"web{number}").get_document("a")["_id"] == "a"
            feed = client.get(f"{couch_intercept}/web{number}/_changes?feed=continuous&timeout=10").text
            assert '"id":"a"' in feed

    @pytest.mark.parametrize("turn", [1, 2])
    def test_event_loops(turn, couch_intercept):
        import asyncio
        import aiohttp

        async def work():
            async with httpx.AsyncClient() as one, aiohttp.ClientSession() as other:
                assert (await one.put(f"{couch_intercept}/web")).status_code == 201
                async with other.put(f"{couch_intercept}/web/a", json={}) as made:
                    assert made.status == 201
                assert (await one.get(f"{couch_intercept}/web/a")).json()["_id"] == "a"

        asyncio.run(work())
""")

LEFT_ON = unindented("""
    import couchdal
    import pytest
    import requests

    def test_leaves_it_on():
        couchdal.intercept("http://couchdb.example:5984").__enter__()

    def test_next_one():
        with pytest.raises(requests.ConnectionError):
            requests.get("http://couchdb.example:5984")
""")


LATE = unindented("""
    import couchdal
    import pytest
    import requests

    URL = "http://couchdb.example:5984"

    @pytest.fixture(scope="session")
    def of_session():
        with couchdal.intercept(URL):
            yield

    @pytest.fixture
    def of_test():
        with couchdal.intercept("http://other.example:5984"):
            yield

    @pytest.fixture
    def left_on():
        couchdal.intercept("http://left.example:5984").__enter__()

    @pytest.fixture(scope="class")
    def of_class(request):
        request.getfixturevalue("of_session")

    def test_late(request):
        request.getfixturevalue("of_test")
        request.getfixturevalue("of_class")
        assert requests.get(f"{URL}/_up").ok

    def test_goes_on():
        assert requests.get(f"{URL}/_up").ok
        with pytest.raises(requests.ConnectionError):
            requests.get("http://other.example:5984")

    def test_fixture_leaves_it_on(left_on):
        pass
""")


def test_interception_lasts_as_long_as_its_fixture(tmp_path: Path) -> None:
    printed = run(tmp_path, "-p", "no:randomly", test_it=LATE)
    assert "3 passed, 1 error" in printed, printed
    assert "the test left the interception of http://left.example:5984 on" in printed, printed


def test_setting_intercepts_for_all_tests(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_intercept = http://couchdb.example:5984\n")
    printed = run(tmp_path, application=APPLICATION, test_it=BY_SETTING)
    assert "2 passed" in printed, printed


def test_mark_intercepts_for_one_test(tmp_path: Path) -> None:
    printed = run(tmp_path, "--strict-markers", application=APPLICATION, test_it=BY_MARK)
    assert "5 passed" in printed, printed


def test_fixture_returns_an_address(tmp_path: Path) -> None:
    printed = run(tmp_path, test_it=BY_FIXTURE)
    assert "4 passed" in printed, printed


def test_wrong_origin_of_setting_and_mark_is_one_clear_error(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.dal_intercept('couchdb:5984')\ndef test_it():\n    pass\n"
    printed = run(tmp_path, test_it=text)
    assert "dal_intercept: an origin must look like http://couchdb:5984" in printed, printed
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_intercept = http://couchdb:5984/db\n")
    printed = run(tmp_path)
    assert "ERROR: dal_intercept: an origin has no path; write http://couchdb:5984" in printed, printed


def test_interception_that_a_test_leaves_on_fails_it_and_ends(tmp_path: Path) -> None:
    printed = run(tmp_path, test_it=LEFT_ON)
    assert "the test left the interception of http://couchdb.example:5984 on" in printed, printed
    assert "2 passed, 1 error" in printed, printed


@pytest.fixture
def live(served_address: str) -> dict[str, str]:
    """The environment of a live run: the server that ``COUCHDB_URL`` names, or an emulator over HTTP."""
    return live_environment(served_address)


def databases(live: dict[str, str]) -> list[str]:
    backend = CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])
    with CouchDAL(backend, database="x") as dal:
        return dal.all_dbs()


def test_live_run_sends_requests_to_private_databases(tmp_path: Path, live: dict[str, str]) -> None:
    before = databases(live)
    (tmp_path / "pytest.ini").write_text("[pytest]\ndal_intercept = http://couchdb.example:5984\n")
    files = {"application": APPLICATION, "test_setting": BY_SETTING, "test_fixture": BY_FIXTURE}
    printed = run(tmp_path, "--dal-backend=both", environment=live, **files)
    assert "12 passed" in printed, printed
    for name in ("pytest.ini", "test_setting.py"):
        (tmp_path / name).unlink()
    # Here the clients name the live server itself.
    printed = run(tmp_path, "--dal-backend=couch", environment=live, test_fixture=BY_FIXTURE)
    assert "4 passed" in printed, printed
    assert databases(live) == before


TOOLS = unindented("""
    import asyncio
    import aiohttp
    import httpx
    import pytest
    import requests

    QUERY = {"selector": {"n": 1}}

    def prepare(url):
        requests.put(f"{url}/db").raise_for_status()
        requests.put(f"{url}/db/a", json={"n": 1}).raise_for_status()

    def test_blocking(couch_intercept):
        prepare(couch_intercept)
        answer = httpx.post(f"{couch_intercept}/db/_find", json=QUERY)
        assert answer.status_code == 200, answer.text
        assert [doc["_id"] for doc in answer.json()["docs"]] == ["a"]

    def test_event_loop(couch_intercept):
        prepare(couch_intercept)

        async def find():
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{couch_intercept}/db/_find", json=QUERY) as answer:
                    return await answer.json()

        assert len(asyncio.run(find())["docs"]) == 1
""")


def test_tools_see_intercepted_requests(tmp_path: Path, live: dict[str, str]) -> None:
    printed = run(tmp_path, "--dal-indexes=require", test_tools=TOOLS)
    assert "index_required" in printed, printed
    assert "2 failed" in printed, printed
    printed = run(tmp_path, "--dal-coverage=term", test_tools=TOOLS)
    assert "2 passed" in printed, printed
    assert "/{db}/_find" in printed, printed
    printed = run(tmp_path, "--dal-backend=compare", environment=live, test_tools=TOOLS)
    assert "6 answers compared" in printed, printed
    assert "2 passed" in printed, printed


def test_indexes_that_intercepted_queries_lack_are_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_INDEXES", "watch")
    with couchdal.intercept("http://couchdb.example:5984", backend=couchdal.MemoryBackend()) as on:
        requests.put("http://couchdb.example:5984/db").raise_for_status()
        requests.post("http://couchdb.example:5984/db/_find", json={"selector": {"n": 1}}).raise_for_status()
        assert [(found.database, found.fields) for found in on.suggest_indexes()] == [("db", ("n",))]


BY_SESSION = unindented("""
    import couchdal
    import httpx
    import pytest
    import requests

    URL = "http://couchdb.example:5984"

    @pytest.fixture(scope="session")
    def couch(dal_backend):
        with couchdal.intercept(URL):
            yield URL

    @pytest.fixture(scope="module")
    def tasks(couch):
        requests.put(f"{couch}/tasks").raise_for_status()
        requests.put(f"{couch}/tasks/of-module", json={}).raise_for_status()
        return f"{couch}/tasks"

    @pytest.mark.parametrize("turn", [1, 2])
    def test_writes_are_undone(tasks, turn):
        assert requests.get(tasks).json()["doc_count"] == 1
        assert httpx.put(f"{tasks}/one", json={}).status_code == 201

    def test_handle_sees_them(dal, tasks, dal_backend):
        assert dal.database("tasks").info()["doc_count"] == 1
        kind = "MemoryBackend" if dal_backend == "memory" else "CouchBackend"
        assert kind in repr(dal)

    @pytest.mark.dal_intercept("http://other.example:5984")
    def test_mark_within_the_session(couch):
        assert requests.get("http://other.example:5984/_up").ok
        assert requests.get(f"{couch}/_up").ok
""")


@pytest.mark.parametrize("backend", ["memory", "couch", "both"])
def test_session_fixture_intercepts_for_all_tests(tmp_path: Path, live: dict[str, str], backend: str) -> None:
    before = databases(live)
    printed = run(tmp_path, f"--dal-backend={backend}", environment=live, test_session=BY_SESSION)
    assert ("8 passed" if backend == "both" else "4 passed") in printed, printed
    assert databases(live) == before
