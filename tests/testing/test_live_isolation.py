"""Live test runs: nothing that existed before is touched. A served emulator stands in for CouchDB without a URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest
from plugin_runs import SOURCE, clean_environment, live_environment, run, unindented

from couchdal import BaseBackend, CouchBackend, CouchDAL, MemoryBackend, Request, Response
from couchdal.http.json_text import JSON
from couchdal.middleware.request_log import log_of
from couchdal.testing.copying import ask, member, objects, read_leaves
from couchdal.testing.live import LiveScope
from couchdal.testing.names import PREFIX, PrivateNames, machine
from couchdal.testing.system import Kept, System

NUMBER = 20
OLD = [f"private-old-{number}" for number in range(NUMBER)]
USERS = [f"private-user-{number}" for number in range(6)]
LOCALS = [f"_local/private-{number}" for number in range(3)]


@pytest.fixture
def live(served_address: str) -> dict[str, str]:
    """The environment of a live run: the server that ``COUCHDB_URL`` names, or the stand-in."""
    return live_environment(served_address)


@pytest.fixture
def server(live: dict[str, str]) -> Iterator[CouchBackend]:
    backend = CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])
    yield backend
    backend.close()


@pytest.fixture
def old(server: CouchBackend) -> Iterator[None]:
    """Databases with conflicts, tombstones, attachments, local documents and settings; users; a replication."""
    # An earlier test may have been killed.
    System(server, PrivateNames()).restore_ended(leftovers(server))
    remove(server)
    for number, name in enumerate(OLD):
        dal = CouchDAL(server, database=name)
        dal.create_database(partitioned=number % 5 == 4)
        dal.bulk_docs([{"_id": f"p:{n}", "n": n} for n in range(number + 1)])
        rev = dal.put_document("p:deleted", {})["rev"]
        dal.delete_document("p:deleted", rev=rev)
        for rev in ("2-a", "2-b"):
            body = {"_id": "p:conflict", "_rev": rev, "by": rev}
            dal.get("/_bulk_docs", "POST", {"docs": [body], "new_edits": False})
        rev = dal.put_document("p:file", {})["rev"]
        dal.put_attachment("p:file", "a.bin", bytes(range(256)), content_type="application/x", rev=rev)
        dal.put_local("checkpoint", {"n": number})
        dal.put_local("checkpoint", {"n": number + 1, "_rev": "0-1"})
        dal.put_security({"admins": {"names": [f"boss{number}"], "roles": []}, "members": {"names": [], "roles": []}})
        dal.put_revs_limit(500 + number)
    root = CouchDAL(server, database=OLD[0])
    password = {"password": "secret"}
    for name in USERS:
        path = f"/_users/org.couchdb.user:{name}"
        root.get(path, "PUT", {"name": name, "roles": ["reader"], "type": "user", **password})
        user = root.get(path)
        root.get(path, "PUT", {**user, "roles": ["writer"]})
        # The others get the same hash: to compute one takes long.
        password = {key: user[key] for key in ("password_scheme", "derived_key", "salt", "iterations", "pbkdf2_prf")}
    # A history that a lower limit would cut.
    user = root.get(f"/_users/org.couchdb.user:{USERS[5]}?revs=true")
    history = [f"{number:032x}" for number in range(12)]
    user["_revisions"] = {"start": user["_revisions"]["start"] + 12, "ids": [*history, *user["_revisions"]["ids"]]}
    user["_rev"] = f"{user['_revisions']['start']}-{history[0]}"
    root.get("/_users/_bulk_docs", "POST", {"docs": [user], "new_edits": False})
    for number, doc_id in enumerate(LOCALS):
        root.get(f"/_users/{doc_id}", "PUT", {"n": number})
    yield
    remove(server)


def remove(server: CouchBackend) -> None:
    for name in OLD:
        CouchDAL(server, database=name).request("DELETE", "/")
    root = CouchDAL(server, database="_users")
    for doc_id in [*(f"org.couchdb.user:{name}" for name in USERS), *LOCALS]:
        found = root.request("GET", f"/{doc_id}")
        if found.status == 200:
            root.request("DELETE", f"/{doc_id}", params={"rev": found.value()["_rev"]})  # type: ignore[index, call-overload]


def state(server: CouchBackend) -> dict[str, JSON]:
    """Return all that may not change: documents with leaves and attachments, local ones, settings, configuration."""
    found: dict[str, JSON] = {}
    for name in (*OLD, "_users", "_replicator"):
        changes = ask(server, "GET", f"/{name}/_changes", query="style=all_docs")
        leaves = [
            (str(row["id"]), str(leaf["rev"]))
            for row in objects(member(changes, "results"))
            for leaf in objects(row["changes"])
        ]
        found[name] = {
            "leaves": sorted(map(json.dumps, read_leaves(server, name, leaves))) if leaves else [],
            "locals": ask(server, "GET", f"/{name}/_local_docs", query="include_docs=true"),
            "security": ask(server, "GET", f"/{name}/_security"),
            "revs_limit": ask(server, "GET", f"/{name}/_revs_limit"),
        }
        if name in OLD:
            info = ask(server, "GET", f"/{name}")
            found[name + " information"] = {
                key: member(info, key) for key in ("update_seq", "purge_seq", "instance_start_time", "doc_count")
            }
    found["configuration"] = configuration(server)
    return found


def configuration(server: CouchBackend) -> JSON:
    answer = server.send(Request("GET", "/_node/_local/_config"))
    assert answer.status in (200, 501)
    return answer.value() if answer.status == 200 else None


def leftovers(server: CouchBackend) -> list[str]:
    names = ask(server, "GET", "/_all_dbs")
    assert isinstance(names, list)
    return [str(name) for name in names if str(name).startswith("dal-test-")]


HOSTILE = """
    import asyncio
    import json
    import os
    import signal
    import time
    import httpx2
    import pytest
    from couchdal import AsyncCouchDAL, CouchBackend, CouchDAL, CouchError, Forbidden, NotFound

    db = CouchDAL()
    OLD = [f"private-old-{number}" for number in range(20)]
    USER = "/_users/org.couchdb.user:private-user-"
    URL = os.environ["COUCHDB_URL"]
    ALIAS = URL.replace("127.0.0.1", "localhost")
    by_hand = CouchBackend(ALIAS, user=os.environ["COUCHDB_USER"],
                           password=os.environ["COUCHDB_PASSWORD"])

    def supported(method, path, payload=None):
        try:
            return db.get(path, method, payload)
        except CouchError as error:
            if "missing_doc" in error.reason:
                # CouchDB's replicator read a user that the other worker was putting back.
                return db.get(path, method, payload)
            if error.status != 501:
                raise
            pytest.skip(error.reason)

    @pytest.fixture(scope="session")
    def of_session():
        wide = CouchDAL(database=OLD[19], create=True)
        wide.bulk_docs([{"_id": str(number)} for number in range(3)])
        return wide

    @pytest.mark.parametrize("name", OLD[:14])
    def test_writes_and_deletes(name):
        dal = CouchDAL(database=name)
        with pytest.raises(NotFound):
            dal.get_document("p:0")
        dal.create_database()
        dal.put_document("p:0", {})
        dal.put_security({"admins": {"names": ["me"], "roles": []}, "members": {}})
        dal.put_revs_limit(1)
        assert dal.info()["db_name"] == name
        dal.delete_database()

    @pytest.mark.parametrize("name", OLD[14:19])
    def test_handles_made_by_hand(name):
        dal = CouchDAL(by_hand, database=name, create=True)
        assert dal.all_docs()["rows"] == []
        dal.delete_database()

    @pytest.mark.parametrize("name", OLD[:3])
    def test_async(name):
        async def use():
            async with AsyncCouchDAL(database=name, create=True) as dal:
                assert (await dal.info())["doc_count"] == 0
                await dal.put_document("p:0", {})
                assert name in await dal.all_dbs()
                await dal.delete_database()
        asyncio.run(use())

    @pytest.mark.parametrize("turn", range(4))
    def test_deletes_all_that_it_finds(of_session, turn):
        db.put_document("one", {})
        for name in db.all_dbs():
            if not name.startswith("_"):
                db.delete_database(name)
        assert [name for name in db.all_dbs() if not name.startswith("_")] == []
        for name in OLD:
            assert db.request("DELETE", "/_all_dbs").status >= 400
            with pytest.raises(NotFound):
                db.delete_database(name)

    @pytest.mark.parametrize("turn", range(3))
    def test_wide_fixture_is_put_back(of_session, turn):
        assert [row["id"] for row in of_session.all_docs()["rows"]] == ["0", "1", "2"]
        of_session.put_document("mine", {})
        of_session.purge({"0": [of_session.get_document("0")["_rev"]]})

    @pytest.mark.parametrize("turn", range(5))
    def test_raw_client_wipes(couch_server, turn):
        with httpx2.Client(base_url=couch_server) as client:
            name = OLD[turn]
            assert client.get(f"/{name}").status_code == 404
            assert client.put(f"/{name}").headers["location"] == f"{couch_server}/{name}"
            assert client.post(f"/{name}", json={"_id": "p:0"}).status_code == 201
            moved = client.request("COPY", f"/{name}/p:0", headers={"destination": "p:1"})
            assert moved.headers["location"] == f"{couch_server}/{name}/p:1"
            assert name in client.get("/_all_dbs").json()
            for found in client.get("/_all_dbs").json():
                if not found.startswith("_"):
                    assert client.delete(f"/{found}").json() == {"ok": True}
            for each in OLD:
                for path in (f"/{each}", f"//{each}", f"/{each}/p:0", "/" + each.replace("-", "%2D"), f"/{each}/"):
                    assert client.delete(couch_server + path).status_code in (400, 404), path

    @pytest.mark.parametrize("path", ["/_users", "/_replicator", "/_cluster_setup", "/_node/_local/_restart",
                                      "/_users/_purge", "/_dbs", "/_dbs/" + OLD[0]])
    def test_refused(couch_server, path):
        method = "POST" if path.endswith(("setup", "restart", "purge")) else "DELETE"
        answer = httpx2.request(method, couch_server + path, json={} if method == "POST" else None)
        assert answer.status_code == 403, answer.text
        if path in ("/_users", "/_users/_purge"):
            assert "only --dal-live-database=_users lets tests use _users as it is" in answer.json()["reason"]

    @pytest.mark.parametrize("number", range(5))
    def test_users_change(number):
        user = db.get(USER + str(number))
        assert user["roles"] == ["writer"]
        changed = db.get(USER + str(number), "PUT", {**user, "roles": ["taken"], "password": "other"})
        if number % 2:
            db.get(f"{USER}{number}?rev={changed['rev']}", "DELETE")
        db.get(USER + "new", "PUT", {"name": "private-user-new", "password": "x", "roles": [], "type": "user"})
        body = {"name": "private-user-bulk", "password": "x", "roles": [], "type": "user"}
        bulk = {"docs": [{"_id": "org.couchdb.user:private-user-bulk", **body}]}
        assert "rev" in db.get("/_users/_bulk_docs", "POST", bulk)[0]
        db.get("/_users/_local/private-0", "PUT", {"n": 9})
        db.get("/_users/_local/private-1?rev=0-1", "DELETE")
        db.get("/_users/_local/private-new", "PUT", {"n": 9})

    def test_settings_of_system_databases_change():
        db.get("/_users/_revs_limit", "PUT", 7)
        assert db.get("/_users/_revs_limit") == 7
        user = db.get(USER + "5")
        db.get(USER + "5", "PUT", {**user, "roles": ["taken"]})
        try:
            db.get("/_users/_security", "PUT", {"admins": {"names": ["x"], "roles": []}, "members": {}})
        except Forbidden:
            # CouchDB's configuration may forbid it.
            pass
        db.get("/_replicator/_security", "PUT", {"admins": {"names": ["x"], "roles": []}, "members": {}})

    @pytest.mark.parametrize("key", ["log/level", "private/new", "admins/private-admin"])
    def test_configuration_changes(key):
        supported("PUT", f"/_node/_local/_config/{key}", "debug")

    @pytest.mark.parametrize("key", ["chttpd/port", "admins/" + os.environ["COUCHDB_USER"]])
    def test_vital_configuration_is_refused(key):
        with pytest.raises(Forbidden):
            db.get(f"/_node/_local/_config/{key}", "PUT", "1")

    @pytest.mark.parametrize("target", ["_users", "{url}/_users", "{alias}/_replicator", "{raw}/_users/"])
    def test_replication_into_system_databases_is_refused(couch_server, target):
        named = target.format(url=URL, alias=ALIAS, raw=couch_server)
        for body in ({"source": OLD[0], "target": named}, {"source": OLD[0], "target": {"url": named}}):
            with pytest.raises(Forbidden):
                db.get("/_replicate", "POST", body)
            with pytest.raises(Forbidden):
                db.get("/_replicator/private-job", "PUT", body)

    @pytest.mark.parametrize("endpoint", ["{name}", "{url}/{name}", "{alias}/{name}", "{raw}/{name}"])
    def test_replications(couch_server, endpoint):
        source = CouchDAL(database=OLD[2], create=True)
        source.put_document("p:0", {})
        named = [endpoint.format(name=name, url=URL, alias=ALIAS, raw=couch_server) for name in (OLD[2], OLD[3])]
        assert supported("POST", "/_replicate", {"source": "_users", "target": OLD[6], "create_target": True})["ok"]
        body = {"source": named[0], "target": named[1], "create_target": True}
        assert supported("POST", "/_replicate", body)["ok"]
        assert CouchDAL(database=OLD[3]).info()["doc_count"] == 1
        if endpoint == "{name}":
            return
        db.get("/_replicator/private-job", "PUT", {**body, "continuous": True})
        written = db.get("/_replicator/private-job")
        assert (written["source"], written["target"]) == tuple(named)
        source.put_document("p:1", {})
        deadline = time.monotonic() + 20
        while CouchDAL(database=OLD[3]).info()["doc_count"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "dal-test" not in json.dumps(db.get("/_scheduler/jobs"))

    @pytest.mark.parametrize("kill", KILLS)
    def test_is_killed_half_way(kill):
        CouchDAL(database=OLD[4], create=True).put_document("p:0", {})
        user = db.get(USER + "0")
        db.get(USER + "0", "PUT", {**user, "roles": ["taken"]})
        db.get("/_users/_local/private-2", "PUT", {"n": 9})
        body = {"source": OLD[4], "target": OLD[5], "create_target": True, "continuous": True}
        assert db.get("/_replicate", "POST", body)["ok"]
        if kill == "exit":
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)

    @pytest.mark.parametrize("name", OLD[:3])
    @pytest.mark.dal(seed="seed.json", database="private-old-5")
    def test_seeds_and_made_databases(make_dal, name):
        assert CouchDAL(database=OLD[5]).info()["doc_count"] == 1
        made = make_dal(name)
        made.put_document("p:0", {})
        assert made.name == name
"""


def hostile(folder: Path, kills: str) -> str:
    (folder / "seed.json").write_text('[{"_id": "p:seed"}]')
    text = unindented(HOSTILE).replace("KILLS", kills)
    (folder / "test_hostile.py").write_text(text)
    return text


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_hostile_suite_leaves_everything_as_it_was(
    tmp_path: Path, live: dict[str, str], server: CouchBackend, old: None, workers: tuple[str, ...]
) -> None:
    before = state(server)
    hostile(tmp_path, '["exit", "SIGKILL"]' if workers else "[]")
    printed = run(tmp_path, "--dal-backend=couch", "-p", "no:randomly", *workers, environment=live, timeout_s=150)
    failed = [line for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert all("is_killed_half_way" in line for line in failed), printed
    assert len(failed) == (2 if workers else 0), printed
    # The next run removes what the killed workers left.
    next_run(tmp_path, live)
    after = state(server)
    for name, value in before.items():
        assert after[name] == value, name
    assert leftovers(server) == []


def next_run(folder: Path, live: dict[str, str]) -> None:
    other = folder / "next"
    other.mkdir(exist_ok=True)
    test = "from couchdal import CouchDAL\ndef test_it():\n    assert CouchDAL().info()['doc_count'] == 0\n"
    printed = run(other, "--dal-backend=couch", environment=live, test_it=test)
    assert "1 passed" in printed, printed


def test_next_run_puts_back_what_a_killed_run_changed(
    tmp_path: Path, live: dict[str, str], server: CouchBackend, old: None
) -> None:
    before = state(server)
    hostile(tmp_path, '["SIGKILL"]')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--dal-backend=couch", "-k", "killed"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={**clean_environment(), "PYTHONPATH": str(SOURCE), **live}, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    changed = state(server)
    assert changed["_users"] != before["_users"]
    assert any(name.startswith("dal-test-kept-") for name in leftovers(server))
    assert "dal-test" in json.dumps(ask(server, "GET", "/_scheduler/jobs"))
    next_run(tmp_path, live)
    assert state(server) == before
    assert leftovers(server) == []
    assert "dal-test" not in json.dumps(ask(server, "GET", "/_scheduler/jobs"))


def test_isolated_test_costs_two_more_requests(
    tmp_path: Path, live: dict[str, str], served_emulator: MemoryBackend
) -> None:
    test = """
        import pytest
        from couchdal import CouchDAL
        db = CouchDAL()
        tasks = CouchDAL(database="tasks", create=True)

        @pytest.mark.parametrize("turn", range(10))
        @pytest.mark.parametrize("dal", [db, tasks], ids=["default", "named"])
        def test_it(dal, turn):
            dal.put_document("a", {})
    """
    if "COUCHDB_URL" in os.environ:
        pytest.skip("only the stand-in counts its requests")
    with log_of(served_emulator.server_key).block() as made:
        printed = run(tmp_path, "--dal-backend=couch", environment=live, test_it=unindented(test))
    assert "20 passed" in printed, printed
    # Each test creates its database, writes and deletes the database. The first request looks for what is left over.
    assert len(made) == 1 + 20 * 3, "\n".join(map(str, made))


def test_named_live_database_is_used_as_it_is(
    tmp_path: Path, live: dict[str, str], server: CouchBackend, old: None
) -> None:
    test = f"""
        from couchdal import CouchDAL

        def test_it(couch_server):
            dal = CouchDAL(database="{OLD[0]}")
            assert dal.get_document("p:0")["n"] == 0
            assert "{OLD[0]}" in dal.all_dbs() and "{OLD[1]}" not in dal.all_dbs()
            dal.put_document("p:new", {{}})
    """
    printed = run(
        tmp_path, "--dal-backend=couch", f"--dal-live-database={OLD[0]}", environment=live, test_it=unindented(test)
    )
    assert "1 passed" in printed, printed
    assert CouchDAL(server, database=OLD[0]).get_document("p:new")["_id"] == "p:new"


LATE = """
    import pytest
    from couchdal import CouchDAL

    db = CouchDAL()

    @pytest.fixture(scope="module")
    def of_module():
        db.put_local("module", {"n": 1})
        db.put_local("both", {"n": 1})
        db.put_local("gone", {"n": 1})

    @pytest.fixture(scope="session")
    def of_session():
        db.put_security({"admins": {"names": ["boss"], "roles": []}, "members": {"names": [], "roles": []}})
        db.put_revs_limit(7)
        db.put_document("document", {})
        db.put_local("session", {"n": 2})
        db.put_local("both", {**db.get_local("both"), "n": 2})

    def test_module_first(of_module):
        pass

    def test_late(of_module, of_session):
        assert db.get_local("both")["n"] == 2
        db.put_local("of-test", {})
"""

LATER = """
    from couchdal import CouchDAL

    db = CouchDAL()

    def test_rest(of_session):
        assert [row["id"] for row in db.get("/_local_docs")["rows"]] == ["_local/both", "_local/session"]
        assert db.get_local("both")["n"] == 2
        assert db.get_security()["admins"]["names"] == ["boss"]
        assert db.get_revs_limit() == 7
        assert db.get_document("document")["_id"] == "document"
"""


def test_late_wide_fixture_keeps_settings_and_local_documents(tmp_path: Path, live: dict[str, str]) -> None:
    fixture, rest = unindented(LATE).split("def test_module")
    files = {"conftest": fixture, "test_first": "from conftest import db\n\ndef test_module" + rest}
    printed = run(tmp_path, "--dal-backend=couch", environment=live, **files, test_second=unindented(LATER))
    assert "3 passed" in printed, printed


class Interleaved(BaseBackend):
    """A backend whose next answer about an owner, or about a path, comes before the other runs go on."""

    def __init__(self, server: BaseBackend, others: Callable[[], object], after: str = "/owner") -> None:
        self._server = server
        self._others: Callable[[], object] | None = others
        self._after = after

    def send(self, request: Request) -> Response:
        response = self._server.send(request)
        if request.method == "GET" and request.path.endswith(self._after) and self._others is not None:
            others, self._others = self._others, None
            others()
        return response


@pytest.mark.parametrize("turn", ["the other claims", "the other ends", "a third one begins"])
def test_old_value_of_a_killed_run_is_put_back_once(server: CouchBackend, turn: str) -> None:
    kept = Kept("database", "/private-race", [])
    killed, lock = f"{PREFIX}1-{machine()}-zzzzz-", f"/{kept.lock}"
    third = PrivateNames().prefix
    for path in (lock, kept.path):
        server.send(Request("DELETE", path))
        ask(server, "PUT", path)
    ask(server, "PUT", f"{lock}/owner", {"run": killed, "kind": kept.kind, "path": kept.path, "value": []})

    def others() -> None:
        if turn == "the other claims":
            owner = ask(server, "GET", f"{lock}/owner")
            assert isinstance(owner, dict)
            ask(server, "PUT", f"{lock}/owner", {**owner, "run": third})
            return
        System(server, PrivateNames()).restore_ended([kept.lock])
        assert server.send(Request("GET", kept.path)).status == 404
        if turn == "a third one begins":
            ask(server, "PUT", lock)
            ask(server, "PUT", f"{lock}/owner", {"run": third, "kind": kept.kind, "path": kept.path, "value": []})
        # Somebody uses the name. A second restoration would delete it.
        ask(server, "PUT", kept.path)

    try:
        System(Interleaved(server, others), PrivateNames()).restore_ended([kept.lock])
        assert server.send(Request("GET", kept.path)).status == 200
        assert server.send(Request("GET", lock)).status == (404 if turn == "the other ends" else 200)
    finally:
        for path in (lock, kept.path):
            server.send(Request("DELETE", path))


@pytest.mark.parametrize("turn", ["another removes it", "a third one begins", "a third one begins and says so"])
def test_lock_without_an_owner_is_removed_once(
    server: CouchBackend, monkeypatch: pytest.MonkeyPatch, turn: str
) -> None:
    """Two runs find the lock of a run that was killed before it recorded its owner."""
    kept = Kept("database", "/private-race", [])
    lock, third = f"/{kept.lock}", PrivateNames()
    server.send(Request("DELETE", lock))
    ask(server, "PUT", lock)
    owner = {"run": third.prefix, "kind": kept.kind, "path": kept.path, "value": []}
    created = System._created
    # The killed run created it long ago.
    age = {"seconds": 3600}
    monkeypatch.setattr(System, "_created", lambda self, lock: -age["seconds"] + (created(self, lock) or 0))

    def others() -> None:
        System(server, PrivateNames()).restore_ended([kept.lock])
        assert server.send(Request("GET", lock)).status == 404
        if turn != "another removes it":
            ask(server, "PUT", lock)
            age["seconds"] = 0
        if turn.endswith("says so"):
            ask(server, "PUT", f"{lock}/owner", owner)

    try:
        System(Interleaved(server, others, after=lock), PrivateNames()).restore_ended([kept.lock])
        assert server.send(Request("GET", lock)).status == (404 if turn == "another removes it" else 200)
        if turn == "a third one begins":
            # Nothing is in its way.
            ask(server, "PUT", f"{lock}/owner", owner)
    finally:
        server.send(Request("DELETE", lock))


def test_run_waits_while_another_looks_at_its_new_lock(server: CouchBackend) -> None:
    kept, names = Kept("database", "/private-race", []), PrivateNames()
    server.send(Request("DELETE", f"/{kept.lock}"))

    def claims() -> None:
        claim = ask(server, "PUT", f"/{kept.lock}/owner", {"run": names.prefix, "kind": "nothing"})
        query = f"rev={member(claim, 'rev')}"
        Timer(0.2, lambda: server.send(Request("DELETE", f"/{kept.lock}/owner", query))).start()

    scope = LiveScope(1, (), ())
    system = System(Interleaved(server, claims, after=kept.path), names)
    try:
        system.keep(scope, kept.kind, [kept.path])
        assert member(ask(server, "GET", f"/{kept.lock}/owner"), "kind") == kept.kind
    finally:
        system.end(scope, [])
    assert server.send(Request("GET", f"/{kept.lock}")).status == 404
