"""The replicator between servers: the emulator, the emulator over HTTP, and the server of ``COUCHDB_URL``."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from random import Random
from threading import Thread
from time import monotonic, sleep
from urllib.parse import urlsplit

import pytest
from handles import LIVE
from raw_http import Upstream, answering

from couchdal import BaseBackend, CouchBackend, CouchDAL, CouchError, MemoryBackend, NotFound, Unreachable
from couchdal.backends.peers import LocalAndRemote
from couchdal.emulator.engine.replication.endpoint import Endpoint, parse_endpoint
from couchdal.emulator.engine.replication.peer import Peer
from couchdal.emulator.engine.replication.replication import parse_replication
from couchdal.emulator.engine.replication.replication_id import Place, replication_id
from couchdal.emulator.engine.replication.replicator import replicate
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response
from couchdal.transcripts.scenario import RECORDED_ADMIN


@pytest.fixture(params=["http", *(["live"] if LIVE else [])])
def remote(request, couch) -> Iterator[CouchDAL]:
    """A new database on another server."""
    backend: BaseBackend = CouchBackend(LIVE) if request.param == "live" else couch()
    handle = CouchDAL(backend, database=f"repl{uuid.uuid4().hex[:12]}")
    handle.create_database()
    yield handle
    handle.delete_database()
    backend.close()


@pytest.fixture
def local() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(), database="local")
    handle.create_database()
    return handle


def address(handle: CouchDAL, served_address: str) -> JSON:
    """Return a database of the other server as a side of a replication."""
    account = RECORDED_ADMIN
    if handle.backend.name != served_address:
        parts = urlsplit(LIVE or "")
        account = parts.username or "", parts.password or ""
    basic = {"basic": dict(zip(("username", "password"), account, strict=True))}
    return {"url": f"{handle.backend.name}/{handle.backend.database}", "auth": basic}


def scribble(handle: CouchDAL, seed: int) -> None:
    """Edit, delete and attach at random, and make conflicts."""
    random = Random(seed)
    for _ in range(25):
        doc_id = random.choice(["a", "b", "ü/x y", "_design/d", "c+%"])
        doc: dict[str, JSON] = {"_id": doc_id, "n": random.randrange(99), "f": 1.0, "t": "é\u2028"}
        try:
            known = handle.get_document(doc_id)
        except NotFound:
            known = None
        if random.random() < 0.4:
            text = base64.b64encode(b"hello" * random.randrange(50)).decode()
            doc["_attachments"] = {"a.txt": {"content_type": "text/plain", "data": text}}
        if known is not None:
            rev = str(known["_rev"])
            doc["_rev"] = rev
            stubs = known.get("_attachments")
            if isinstance(stubs, dict) and random.random() < 0.6:
                doc["_attachments"] = stubs
            if random.random() < 0.2:
                doc = {"_id": doc_id, "_rev": rev, "_deleted": True}
            elif random.random() < 0.3:
                digits = "".join(random.choices("0123456789abcdef", k=32))
                conflict = {"_id": doc_id, "_rev": f"{rev.partition('-')[0]}-{digits}", "n": random.randrange(99)}
                handle.get("/_bulk_docs", "POST", {"docs": [conflict], "new_edits": False})
                continue
        handle.get("/_bulk_docs", "POST", {"docs": [doc]})


def trees(handle: CouchDAL) -> dict[str, list[str]]:
    """Return the leaves of each document, with their histories and attachments."""
    rows = handle.get("/_changes?style=all_docs")["results"]
    found = {}
    for row in rows:
        prefix = "_design/" if row["id"].startswith("_design/") else ""
        quoted = prefix + "".join(f"%{byte:02X}" for byte in row["id"].removeprefix(prefix).encode())
        leaves = handle.get(f"/{quoted}?open_revs=all&revs=true&attachments=true")
        found[row["id"]] = sorted(json.dumps(leaf, sort_keys=True) for leaf in leaves)
    return found


@pytest.mark.parametrize("seed", range(2))
def test_pull_and_push_give_the_same_trees(local, remote, served_address, seed):
    there = address(remote, served_address)
    scribble(remote, seed)
    local.get("/_replicate", "POST", {"source": there, "target": "local"})
    assert trees(local) == trees(remote)
    scribble(local, seed + 100)
    local.get("/_replicate", "POST", {"source": "local", "target": there})
    assert trees(local) == trees(remote)
    scribble(remote, seed + 200)
    answer = local.get("/_replicate", "POST", {"source": there, "target": "local"})
    assert len(answer["history"]) == 2
    assert trees(local) == trees(remote)


class _Failing(LocalAndRemote):
    """Fails one request of those that a replication sends, before or after the server got it."""

    def __init__(self, backend: MemoryBackend, at: int, *, after: bool) -> None:
        super().__init__(self._answered, backend.server, pause=lambda _: None)
        self.left = at
        self._backend = backend
        self._after = after

    def _answered(self, request: Request) -> Response:
        self.left -= 1
        if self.left == 0 and not self._after:
            raise Unreachable("cut off")
        response = self._backend.send(request)
        if self.left == 0:
            raise Unreachable("cut off")
        return response


@pytest.mark.parametrize("after", [False, True])
def test_interruption_at_every_request_is_repaired_by_the_next_run(local, after):
    scribble(local, 7)
    backend = local.backend
    assert isinstance(backend, MemoryBackend)
    target = CouchDAL(backend, database="copy")
    here = {"source": "http://127.0.0.1:5984/local", "target": "http://127.0.0.1:5984/copy", "worker_batch_size": 2}
    replication = parse_replication(here)
    at, is_interrupted = 0, True
    while is_interrupted:
        at += 1
        target.create_database()
        peers = _Failing(backend, at, after=after)
        is_interrupted = False
        try:
            replicate(backend.server, replication, peers)
        except CouchError:
            is_interrupted = True
        replicate(backend.server, replication, LocalAndRemote(backend.send, backend.server, pause=print))
        assert trees(target) == trees(local)
        assert local.emulator.check() == []
        target.delete_database()
    assert at > 20


def test_passwords_show_nowhere(local):
    there = {"url": "http://ann:hidden@127.0.0.1:1/db", "headers": {"authorization": "Basic YTpoaWRkZW4="}}
    assert "hidden" not in repr(parse_endpoint(there))
    with pytest.raises(CouchError) as raised:
        local.get("/_replicate", "POST", {"source": there, "target": "local", "retries_per_request": 0})
    assert raised.value.reason.startswith('{session_request_failed,"http://127.0.0.1:1/_session","ann"')
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("name", ["proxy", "source_proxy"])
def test_requests_go_through_a_proxy(local, name):
    proxy = Upstream(answering(404, {"error": "not_found", "reason": "no_db_file"}))
    url = f"http://ann:secret@127.0.0.1:{proxy.port}"
    body = {"source": "http://127.0.0.1:1/db?x=1", "target": "http://127.0.0.1:1/copy", name: url}
    with pytest.raises(CouchError) as raised:
        local.get("/_replicate", "POST", body)
    proxy.stop()
    assert (raised.value.error, raised.value.reason) == ("db_not_found", "could not open http://127.0.0.1:1/db?x=1")
    (request,) = proxy.received
    assert (request.method, request.target) == ("GET", "http://127.0.0.1:1/db?x=1")
    assert request.header("proxy-authorization") == "Basic " + base64.b64encode(b"ann:secret").decode()


def test_jobs_show_their_proxies_without_credentials(local):
    sides = {"source": "http://127.0.0.1:1/db", "target": "http://127.0.0.1:1/copy"}
    body = {**sides, "source_proxy": "http://ann:secret@127.0.0.1:2", "continuous": True, "retries_per_request": 0}
    local.get("/_replicator/job", "PUT", body)
    (doc,) = local.get("/_scheduler/docs")["docs"]
    assert (doc["source_proxy"], doc["target_proxy"]) == ("http://127.0.0.1:2", None)


def test_socks_proxies_are_not_supported(local):
    sides = {"source": "http://127.0.0.1:1/db", "target": "local"}
    answer = local.request("POST", "/_replicate", json={**sides, "proxy": "socks5://127.0.0.1:2"})
    assert (answer.status, answer.value()["reason"]) == (501, "replications through a SOCKS proxy")


@pytest.mark.parametrize(
    ("proxy", "status", "error", "reason"),
    [
        (3, 500, "error", "Invalid proxy url"),
        ("x", 500, "badmatch", "{error,invalid_uri}"),
        ("ftp://x", 400, "invalid_replication", "proxy has an invalid url"),
    ],
)
def test_malformed_proxy_is_refused(local, proxy, status, error, reason):
    sides = {"source": "http://127.0.0.1:1/db", "target": "local"}
    answer = local.request("POST", "/_replicate", json={**sides, "proxy": proxy})
    assert (answer.status, answer.value()["error"], answer.value()["reason"]) == (status, error, reason)


def test_tests_reach_no_other_machine(local):
    for source in ("http://couch.example.com:5984/db", "https://ann:pw@couch.example.com/db"):
        answer = local.request("POST", "/_replicate", json={"source": source, "target": "local"})
        assert (answer.status, answer.value()["error"]) == (500, "host_refused")
        assert "DAL_ALLOWED_HOSTS" in answer.value()["reason"]
        assert "pw" not in answer.value()["reason"]


def test_served_emulator_replicates_while_it_answers_others(couch):
    served = CouchDAL(couch(), database=f"repl{uuid.uuid4().hex[:12]}")
    name = served.create_database() and served.backend.database
    served.get("/_bulk_docs", "POST", {"docs": [{"_id": f"{n:05}", "text": "x" * 100} for n in range(3000)]})
    answers: list[JSON] = []
    body = {"source": name, "target": f"{name}-copy", "create_target": True}
    thread = Thread(target=lambda: answers.append(served.get("/_replicate", "POST", body)))
    thread.start()
    waits = []
    while thread.is_alive():
        begun = monotonic()
        served.get("/_up")
        waits.append(monotonic() - begun)
    thread.join()
    assert answers[0]["history"][0]["docs_written"] == 3000  # type: ignore[index, call-overload]
    copy = CouchDAL(couch(), database=f"{name}-copy")
    assert copy.info()["doc_count"] == 3000
    assert len(waits) > 5
    for handle in (served, copy):
        handle.delete_database()


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = monotonic() + 20
    while not is_so():
        assert monotonic() < deadline
        sleep(0.02)


def test_served_emulator_runs_documents_and_continuous_replications(couch, served_address):
    source = CouchDAL(couch(), database=f"repl{uuid.uuid4().hex[:12]}")
    copies = [CouchDAL(couch(), database=f"{source.backend.database}-{number}") for number in range(2)]
    for handle in (source, *copies):
        handle.create_database()
    source.put_document("a", {})
    there = [address(handle, served_address) for handle in (source, *copies)]
    job = {"source": there[0], "target": there[1], "continuous": True}
    source.get(f"/_replicator/{source.backend.database}", "PUT", job)
    begun = source.get("/_replicate", "POST", {"source": there[0], "target": there[2], "continuous": True})
    for count in (1, 2):
        eventually(lambda count=count: all(copy.info()["doc_count"] == count for copy in copies))
        source.put_document("b", {}) if count == 1 else None
    assert begun["_local_id"] in [job["id"] for job in source.get("/_scheduler/jobs")["jobs"]]
    source.get("/_replicate", "POST", {"cancel": True, "id": begun["_local_id"]})
    rev = source.get(f"/_replicator/{source.backend.database}")["_rev"]
    source.get(f"/_replicator/{source.backend.database}?rev={rev}", "DELETE")
    eventually(lambda: source.get("/_scheduler/jobs")["total_rows"] == 0)
    for handle in (source, *copies):
        handle.delete_database()


def test_servers_go_on_from_each_others_checkpoints(local, remote, served_address):
    copy = CouchDAL(remote.backend, database=f"{remote.backend.database}-copy")
    copy.create_database()
    welcome = remote.backend.send(Request("GET", "/", headers={"accept": "application/json"})).value()
    local.emulator.config["couchdb/uuid"] = welcome["uuid"]  # type: ignore[index, call-overload]
    body = {"source": address(remote, served_address), "target": address(copy, served_address)}
    last = 0
    for sessions, runner in enumerate((remote, local, remote), 1):
        remote.put_document(str(sessions), {})
        answer = runner.get("/_replicate", "POST", body)
        entry = answer["history"][0]
        assert (len(answer["history"]), entry["docs_written"], entry["start_last_seq"]) == (sessions, sessions, last)
        last = answer["source_last_seq"]
    copy.delete_database()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_checkpoint_of_an_older_version_is_continued(local, remote, served_address, version):
    copy = CouchDAL(remote.backend, database=f"{remote.backend.database}-copy")
    copy.create_database()
    remote.put_document("a", {})
    body = {"source": address(remote, served_address), "target": address(copy, served_address)}
    remote.get("/_replicate", "POST", body)
    welcome = remote.backend.send(Request("GET", "/", headers={"accept": "application/json"})).value()
    config = remote.backend.send(Request("GET", "/_node/_local/_config/httpd")).value()
    port = int(config.get("port", 5984))  # type: ignore[union-attr, arg-type]
    place = Place(welcome["uuid"], LocalAndRemote.machine, port)  # type: ignore[index, call-overload]
    new, old = (replication_id(parse_replication(body), place, str, number) for number in (4, version))
    for handle in (remote, copy):
        log = handle.get(f"/_local/{new}")
        handle.get(f"/_local/{new}?rev={log.pop('_rev')}", "DELETE")
        handle.get(f"/_local/{old}", "PUT", log)
    remote.put_document("b", {})
    answer = remote.get("/_replicate", "POST", body)
    assert [entry["docs_written"] for entry in answer["history"]] == [2, 1]
    assert answer["replication_id_version"] == 4
    copy.delete_database()


class _CutOff(LocalAndRemote):
    """Cuts a replication off at one of its requests, to whichever server, before or after the server got it."""

    def __init__(self, backend: MemoryBackend, at: int, *, after: bool) -> None:
        super().__init__(backend.send, backend.server, pause=lambda _: None)
        self.left = at
        self._after = after

    def open(self, side: Endpoint, *, retries: int, timeout_s: float) -> Peer:
        peer = super().open(side, retries=0, timeout_s=timeout_s)
        send = peer.send

        def cut_off(request: Request) -> Response:
            self.left -= 1
            if self.left == 0 and not self._after:
                raise Unreachable("cut off")
            response = send(request)
            if self.left == 0:
                raise Unreachable("cut off")
            return response

        peer.send = cut_off
        return peer


@pytest.mark.soak
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("pushes", [False, True])
def test_interruption_between_servers_is_repaired(local, remote, served_address, pushes, after):
    backend = local.backend
    there, here = address(remote, served_address), "http://127.0.0.1:5984/local"
    origin, copy = (local, remote) if pushes else (remote, local)
    scribble(origin, 7)
    sides = {"source": here, "target": there} if pushes else {"source": there, "target": here}
    replication = parse_replication({**sides, "worker_batch_size": 2})
    at, is_interrupted = 0, True
    while is_interrupted:
        at += 1
        copy.delete_database()
        copy.create_database()
        is_interrupted = False
        try:
            replicate(backend.server, replication, _CutOff(backend, at, after=after))
        except CouchError:
            is_interrupted = True
        replicate(backend.server, replication, LocalAndRemote(backend.send, backend.server, pause=print))
        assert trees(local) == trees(remote)
    assert at > 20
