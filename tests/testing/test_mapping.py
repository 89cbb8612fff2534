"""What tests see of a live server: their own databases, under the names that they use, and no data of others."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from socket import gethostname

import pytest
from plugin_runs import live_environment

from couchdal import AsyncCouchDAL, CouchBackend, CouchDAL, Forbidden, Request, Response
from couchdal.backends.couch_server import CouchServer
from couchdal.http.json_text import JSON
from couchdal.middleware.chain import install
from couchdal.testing.copying import ask, member, objects
from couchdal.testing.live import LiveDatabases
from couchdal.testing.mapping import Mapping
from couchdal.testing.names import PREFIX

FOREIGN = "private-foreign"
REPLICATOR = "private-foreign/_replicator"


@pytest.fixture
def live(served_address: str) -> dict[str, str]:
    return live_environment(served_address)


def backend_of(live: dict[str, str]) -> CouchBackend:
    return CouchBackend(live["COUCHDB_URL"], user=live["COUCHDB_USER"], password=live["COUCHDB_PASSWORD"])


@pytest.fixture
def databases(live: dict[str, str]) -> Iterator[LiveDatabases]:
    """The private names of a test run. The server has a database and a replication of somebody else."""
    databases = LiveDatabases(backend_of(live), default="default")
    key = databases.backend.server_key
    assert isinstance(key, CouchServer)
    for name in (FOREIGN, REPLICATOR):
        databases.backend.send(Request("PUT", f"/{name.replace('/', '%2F')}"))
    remove = install(Mapping(databases, key).map, innermost=True)
    yield databases
    remove()
    databases.stop()
    backend = backend_of(live)
    for name in (FOREIGN, REPLICATOR):
        backend.send(Request("DELETE", f"/{name.replace('/', '%2F')}"))
    backend.close()


@pytest.fixture
def dal(live: dict[str, str], databases: LiveDatabases) -> Iterator[CouchDAL]:
    """A handle with the databases ``default`` and ``tasks``."""
    databases.begin(1)
    with CouchDAL(backend_of(live), database="default", create=True) as handle:
        handle.put_document("one", {})
        handle.database("tasks", create=True).put_document("one", {})
        yield handle


def supported(dal: CouchDAL, method: str, path: str, payload: object = None) -> Response:
    """Return an answer; skip the test if the server does not implement the path."""
    answer = dal.request(method, path) if payload is None else dal.request(method, path, json=payload)
    if answer.status == 501:
        pytest.skip(f"the stand-in does not implement {path}")
    return answer


def test_credentials_are_for_the_server_and_not_for_its_lists(dal: CouchDAL, live: dict[str, str]) -> None:
    account = f"{live['COUCHDB_USER']}:{live['COUCHDB_PASSWORD']}".encode()
    basic = {"authorization": f"Basic {b64encode(account).decode()}"}
    wrong = {"authorization": f"Basic {b64encode(b'wrong:wrong').decode()}"}
    for path in ("/_all_dbs", "/_dbs_info"):
        assert dal.request("GET", path, headers=basic).status == 200
        assert dal.request("GET", path, headers=wrong).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/_all_dbs",
        "/_dbs_info",
        "/_active_tasks",
        "/_scheduler/jobs",
        "/_scheduler/docs",
        "/_reshard/jobs",
        "/_node/_local/_all_dbs",
        "/_node/_local/_dbs/tasks",
        "/",
        "/_design/d/_show/request",
    ],
)
def test_head_has_the_length_that_get_has(dal: CouchDAL, path: str) -> None:
    dal.put_document("_design/d", {"shows": {"request": "function(doc, req) { return toJSON(req.path); }"}})
    for shown in (path, path + "/one" if "_show" in path else path):
        head = supported(dal, "HEAD", shown)
        body = dal.request("GET", shown).content()
        assert head.status == 200
        assert (int(head.headers["content-length"]), head.content()) == (len(body), b"")
        assert PREFIX.encode() not in body
        assert FOREIGN.encode() not in body


@pytest.mark.parametrize("path", [f"/_node/_local/_dbs/{FOREIGN}", f"/_scheduler/docs/{FOREIGN}%2F_replicator"])
def test_database_of_somebody_else_does_not_exist(dal: CouchDAL, path: str) -> None:
    assert supported(dal, "GET", path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/_node/_local/_dbs/_all_docs",
        "/_node/_local/_dbs/_changes",
        "/_node/_local/_users/_all_docs",
        f"/_node/_local/shards%2F00000000-ffffffff%2F{FOREIGN}.1",
        f"/_node/_local/{FOREIGN}",
    ],
)
def test_databases_of_a_node_cannot_be_read(dal: CouchDAL, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert dal.request(method, path).status == 403
    with pytest.raises(Forbidden, match="has the databases of others: tests may not read it on a live server"):
        dal.get(path)


@pytest.mark.parametrize("key", ["vhosts/example.com", "couch_peruser/enable", "mem3/shards_db"])
def test_settings_that_lead_to_other_databases_are_refused(dal: CouchDAL, key: str) -> None:
    with pytest.raises(Forbidden, match="the test run could not undo PUT"):
        dal.get(f"/_node/_local/_config/{key}", "PUT", "x")


@pytest.mark.parametrize("source", ["_dbs", "{url}/_dbs", "{url}/_node/_local/_dbs", "{url}/_node%2F_local%2F_dbs"])
def test_list_of_all_databases_is_not_replicated(dal: CouchDAL, live: dict[str, str], source: str) -> None:
    written = source.format(url=live["COUCHDB_URL"])
    for body in ({"source": written, "target": "tasks"}, {"source": {"url": written}, "target": "tasks"}):
        with pytest.raises(Forbidden):
            dal.get("/_replicate", "POST", body)
        with pytest.raises(Forbidden):
            dal.get("/_replicator/private-list", "PUT", body)


def test_replication_of_somebody_else_is_hidden_and_goes_on(
    dal: CouchDAL, databases: LiveDatabases, live: dict[str, str]
) -> None:
    account = f"{live['COUCHDB_USER']}:{live['COUCHDB_PASSWORD']}@"
    url = live["COUCHDB_URL"].replace("://", f"://{account}")
    body = {"source": f"{url}/{FOREIGN}", "target": f"{url}/{FOREIGN}-copy", "create_target": True, "continuous": True}
    job = str(member(ask(databases.backend, "POST", "/_replicate", body), "_local_id"))
    try:
        assert objects(member(dal.get("/_scheduler/jobs"), "jobs")) == []
        path = f"/_scheduler/jobs/{job.replace('+', '%2B')}"
        assert dal.request("GET", path).status == 404
        for name in ("replication_id", "_local_id", "id"):
            answer = dal.request("POST", "/_replicate", json={name: job, "cancel": True})
            assert (answer.status, member(answer.value(), "error")) == (404, "not_found")
        assert member(ask(databases.backend, "GET", path), "id") == job
        # One of the test's own is seen and cancelled.
        own = {"source": f"{url}/default", "target": f"{url}/tasks", "continuous": True}
        mine = member(dal.get("/_replicate", "POST", own), "_local_id")
        assert [row["id"] for row in objects(member(dal.get("/_scheduler/jobs"), "jobs"))] == [mine]
        assert member(dal.get("/_replicate", "POST", {"replication_id": mine, "cancel": True}), "ok") is True
    finally:
        ask(databases.backend, "POST", "/_replicate", {"replication_id": job, "cancel": True})
        databases.backend.send(Request("DELETE", f"/{FOREIGN}-copy"))


def test_replicator_database_of_a_test_has_a_scheduler(dal: CouchDAL) -> None:
    jobs = dal.database("jobs/_replicator", create=True)
    jobs.put_document("copy", {"source": "http://127.0.0.1:1/a", "target": "http://127.0.0.1:1/b"})
    for path in ("jobs%2F_replicator", "jobs/_replicator"):
        rows = objects(member(dal.get(f"/_scheduler/docs/{path}"), "docs"))
        # CouchDB finds new documents a while later.
        assert {str(row["database"]) for row in rows} <= {"jobs/_replicator"}
        assert member(dal.get(f"/_scheduler/docs/{path}/copy"), "database") == "jobs/_replicator"


def test_server_is_the_same_by_each_of_its_names(live: dict[str, str], databases: LiveDatabases) -> None:
    key = databases.backend.server_key
    assert isinstance(key, CouchServer)
    if key.url.host not in ("127.0.0.1", "localhost"):
        pytest.skip("the server is on another machine")
    mapping, port = Mapping(databases, key), live["COUCHDB_URL"].rpartition(":")[2]
    for host in ("localhost", "127.0.0.1", "127.0.0.2", gethostname()):
        assert mapping.concerns(CouchBackend(f"http://{host}:{port}").server_key), host
    for address in (f"http://192.0.2.1:{port}", "http://localhost:1"):
        assert not mapping.concerns(CouchBackend(address).server_key)


@pytest.fixture
def updates(dal: CouchDAL, databases: LiveDatabases) -> Iterator[CouchDAL]:
    """A handle on a server that has a feed of its databases."""
    made = databases.backend.send(Request("PUT", "/_global_changes")).status in (201, 202)
    for number in range(3):
        ask(databases.backend, "PUT", f"/{FOREIGN}/{number}", {})
    for name in ("default", "tasks"):
        dal.database(name).put_document("two", {})
    yield dal
    if made:
        databases.backend.send(Request("DELETE", "/_global_changes"))


def names_of(rows: JSON) -> set[str]:
    return {str(row["db_name"]) for row in objects(rows)}


def wait_for_own(dal: CouchDAL) -> list[dict[str, JSON]]:
    """Return the rows once CouchDB has written them, which it does a while after the changes."""
    while True:
        found = dal.get("/_db_updates?feed=longpoll&timeout=5000&since=0")
        rows = objects(member(found, "results"))
        assert rows
        if {"default", "tasks"} <= names_of(rows):
            return rows


def test_feed_of_databases_has_only_those_of_tests(updates: CouchDAL) -> None:
    rows = wait_for_own(updates)
    assert names_of(rows) <= {"default", "tasks", "_users", "_replicator", "_global_changes"}
    text = updates.request("GET", "/_db_updates").content()
    assert text.startswith(b'{"results":[\n{"')
    assert b'}\n],\n"last_seq":' in text
    # A limit counts what tests see.
    limited = updates.get("/_db_updates?limit=1")
    assert len(objects(member(limited, "results"))) == 1
    assert member(limited, "last_seq") == objects(member(limited, "results"))[0]["seq"]


@pytest.mark.parametrize("feed", ["continuous", "eventsource"])
def test_streamed_feed_of_databases_has_only_those_of_tests(updates: CouchDAL, feed: str) -> None:
    wait_for_own(updates)
    answer = updates.request("GET", f"/_db_updates?feed={feed}&since=0&timeout=500")
    text = b"".join(answer.chunks()).decode()
    assert "default" in text
    assert "tasks" in text
    assert FOREIGN not in text
    assert PREFIX not in text
    limited = updates.request("GET", f"/_db_updates?feed={feed}&since=0&timeout=5000&limit=2")
    lines = [line for line in b"".join(limited.chunks()).decode().split("\n") if line.startswith(('{"db', "data: {"))]
    assert len(lines) == 2


def test_long_poll_waits_for_a_database_of_the_test(updates: CouchDAL, databases: LiveDatabases) -> None:
    last = str(member(updates.get("/_db_updates?since=now"), "last_seq"))
    ask(databases.backend, "PUT", f"/{FOREIGN}/later", {})
    empty = updates.request("GET", "/_db_updates", params={"feed": "longpoll", "since": last, "timeout": 300})
    found = names_of(member(empty.value(), "results"))
    assert FOREIGN not in found


def test_event_loop_reads_the_feed_of_databases(updates: CouchDAL, live: dict[str, str]) -> None:
    wait_for_own(updates)

    async def read() -> bytes:
        async with AsyncCouchDAL(backend_of(live), database="default") as dal:
            answer = await dal.request("GET", "/_db_updates?feed=continuous&since=0&timeout=300")
            return b"".join([chunk async for chunk in answer.achunks()])

    rows = [json.loads(line) for line in asyncio.run(read()).split(b"\n") if line]
    assert {"default", "tasks"} <= {row["db_name"] for row in rows if "db_name" in row}
    assert all(row.get("db_name") != FOREIGN for row in rows)


def test_stream_of_a_replicator_database_has_the_names_that_the_test_wrote(dal: CouchDAL, live: dict[str, str]) -> None:
    jobs, url = dal.database("jobs/_replicator", create=True), live["COUCHDB_URL"]
    jobs.put_document("copy", {"source": f"{url}/default", "target": f"{url}/tasks"})
    answer = jobs.request("GET", "/_changes?feed=continuous&include_docs=true&timeout=300")
    text = b"".join(answer.chunks())
    assert f'"source":"{url}/default"'.encode() in text
    assert PREFIX.encode() not in text
