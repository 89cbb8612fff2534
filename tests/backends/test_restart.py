"""A server after a restart on its data file, as its clients see it; and files that earlier versions wrote."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sized
from contextlib import closing
from hashlib import md5
from pathlib import Path

import pytest
from disk_workload import WRITES, ask, state_of

from couchdal import CouchDAL, SqliteBackend
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.sqlite import copy_file
from couchdal.emulator.storage.sqlite_schema import FORMAT
from couchdal.emulator.storage.sqlite_values import sealed
from couchdal.http.messages import Request

DATA = Path(__file__).parents[1] / "data"


class Restarting:
    """A server that ``restart`` ends and starts again on the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = SqliteBackend(path)

    def restart(self) -> None:
        self.backend.close()
        self.backend = SqliteBackend(self.path)

    def ask(self, method: str, path: str, payload: object = None) -> object:
        return ask(self.backend, method, path, payload)

    def status(self, method: str, path: str, user: str) -> int:
        """Return the status of a request by a user whose password is "secret"."""
        credentials = "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()
        return self.backend.send(Request(method, path, "", {"authorization": credentials})).status


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Restarting]:
    server = Restarting(tmp_path / "a.db")
    server.ask("PUT", "/tasks")
    yield server
    server.backend.close()


def test_every_answer_is_the_same_after_a_restart(server: Restarting) -> None:
    for turn, (kind, write) in enumerate(WRITES.items()):
        if kind != "copy back":
            server.backend.send(write(server.backend, turn)).result()
    before = state_of(server.backend)
    server.restart()
    assert state_of(server.backend) == before
    assert server.backend.check() == []


def test_users_log_in_and_security_holds_after_a_restart(server: Restarting) -> None:
    server.ask("PUT", "/_node/_local/_config/chttpd_auth/iterations", "10")
    for name in ("jo", "al"):
        user = {"name": name, "type": "user", "roles": [], "password": "secret"}
        server.ask("PUT", f"/_users/org.couchdb.user:{name}", user)
    server.ask("PUT", "/tasks/_security", {"members": {"names": ["jo"], "roles": []}})
    server.ask("PUT", "/_node/_local/_config/admins/anna", "secret")
    server.restart()
    assert server.status("GET", "/tasks", "jo") == 200
    assert server.status("GET", "/tasks", "al") == 403
    assert server.status("GET", "/_users/_all_docs", "jo") == 401
    assert server.status("GET", "/_users/_all_docs", "anna") == 200
    assert server.backend.send(Request("GET", "/tasks")).status == 401


def test_configuration_has_its_effect_after_a_restart(server: Restarting) -> None:
    server.ask("PUT", "/_node/_local/_config/couchdb/max_document_size", "100")
    server.restart()
    body = json.dumps({"text": "x" * 200}).encode()
    answer = server.backend.send(Request("PUT", "/tasks/a", "", {"content-type": "application/json"}, body))
    assert (answer.status, answer.value()["error"]) == (413, "document_too_large")  # type: ignore[index,call-overload]


def test_limits_hold_after_a_restart(server: Restarting) -> None:
    server.ask("PUT", "/tasks/_revs_limit", 2)
    server.restart()
    rev = ""
    for n in range(4):
        rev = server.ask("PUT", "/tasks/a", {"n": n, **({"_rev": rev} if rev else {})})["rev"]  # type: ignore[index]
    assert len(server.ask("GET", "/tasks/a?revs=true")["_revisions"]["ids"]) == 2  # type: ignore[index]


def test_purged_revision_stays_purged_after_a_restart(server: Restarting) -> None:
    rev = server.ask("PUT", "/tasks/a", {})["rev"]  # type: ignore[index]
    server.ask("POST", "/tasks/_purge", {"a": [rev]})
    server.restart()
    assert server.ask("GET", "/tasks/_purged_infos") == {"purged_infos": [{"id": "a", "revs": [rev]}]}
    assert server.ask("GET", "/tasks")["purge_seq"].startswith("1-")  # type: ignore[index]
    rev = server.ask("PUT", "/tasks/b", {})["rev"]  # type: ignore[index]
    assert server.ask("POST", "/tasks/_purge", {"b": [rev]})["purge_seq"] is None  # type: ignore[index]
    assert server.ask("GET", "/tasks")["purge_seq"].startswith("2-")  # type: ignore[index]


def test_feeds_go_on_after_a_restart(server: Restarting) -> None:
    server.ask("PUT", "/tasks/a", {})
    since = server.ask("GET", "/tasks/_changes")["last_seq"]  # type: ignore[index]
    server.restart()
    assert server.ask("GET", f"/tasks/_changes?since={since}")["results"] == []  # type: ignore[index]
    server.ask("PUT", "/tasks/b", {})
    (row,) = server.ask("GET", f"/tasks/_changes?feed=longpoll&since={since}")["results"]  # type: ignore[index]
    assert (row["id"], row["seq"].partition("-")[0]) == ("b", "2")


def test_queries_give_the_same_rows_after_a_restart(server: Restarting) -> None:
    server.ask("POST", "/tasks/_bulk_docs", {"docs": [{"_id": str(n), "n": n} for n in range(50)]})
    views = {"by_n": {"map": "function (doc) { emit(doc.n % 7, doc.n); }", "reduce": "_stats"}}
    server.ask("PUT", "/tasks/_design/d", {"views": views})
    server.ask("POST", "/tasks/_index", {"index": {"fields": ["n"]}, "ddoc": "i", "name": "i"})
    query = {"selector": {"n": {"$gt": 40}}, "use_index": "i", "sort": [{"n": "desc"}]}

    def rows() -> list[object]:
        found = server.ask("POST", "/tasks/_find", query)
        assert "warning" not in found  # type: ignore[operator]
        return [found["docs"], server.ask("GET", "/tasks/_design/d/_view/by_n?group=true")]  # type: ignore[index]

    before = rows()
    server.restart()
    assert rows() == before
    server.ask("PUT", "/tasks/more", {"n": 99})
    assert rows()[0][0]["n"] == 99  # type: ignore[index]


def test_replication_finds_its_checkpoint_after_a_restart(server: Restarting) -> None:
    server.ask("PUT", "/copy")
    server.ask("POST", "/tasks/_bulk_docs", {"docs": [{"_id": str(n)} for n in range(20)]})
    job = {"source": "tasks", "target": "copy"}
    first = server.ask("POST", "/_replicate", job)
    assert first["history"][0]["docs_written"] == 20  # type: ignore[index]
    server.restart()
    assert server.ask("POST", "/_replicate", job)["no_changes"] is True  # type: ignore[index]
    server.ask("PUT", "/tasks/more", {})
    again = server.ask("POST", "/_replicate", job)
    # CouchDB adds to the counts of the checkpoint.
    assert again["history"][0]["docs_read"] == 21  # type: ignore[index]
    assert again["history"][1]["session_id"] == first["session_id"]  # type: ignore[index]


@pytest.mark.parametrize("continuous", [True, False])
def test_replication_document_goes_on_after_a_restart(server: Restarting, continuous: bool) -> None:
    server.ask("PUT", "/copy")
    server.ask("PUT", "/tasks/before", {})
    sides = {"source": "http://127.0.0.1:5984/tasks", "target": "http://127.0.0.1:5984/copy"}
    server.ask("PUT", "/_replicator/job", {**sides, "continuous": continuous})
    server.backend.settle()
    assert server.ask("GET", "/copy")["doc_count"] == 1  # type: ignore[index]
    before = server.ask("GET", "/_replicator/job")
    server.restart()
    server.ask("PUT", "/tasks/after", {})
    server.backend.settle()
    # A replication that has completed does not begin again.
    assert server.ask("GET", "/copy")["doc_count"] == 1 + continuous  # type: ignore[index]
    (doc,) = server.ask("GET", "/_scheduler/docs")["docs"]  # type: ignore[index]
    assert doc["state"] == ("running" if continuous else "completed")
    if not continuous:
        assert server.ask("GET", "/_replicator/job") == before


# --- files of earlier versions, and copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(DATA.glob("format-*.db")), ids=lambda file: file.stem)
def test_file_of_each_format_is_read_and_brought_up_to_date(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    shutil.copy(file, path)
    # ``state_of`` returned this when the file was written.
    expected = json.loads(file.with_suffix(".json").read_text("utf-8"))
    for _ in range(2):
        backend = SqliteBackend(path)
        assert state_of(backend) == expected
        assert backend.check() == []
        assert backend.send(Request("GET", "/tasks/with3/b.bin")).body == bytes(range(256)) * 8
        rows = ask(backend, "GET", "/tasks/_design/all/_view/by_id")["rows"]
        assert len(rows) == expected["tasks"]["doc_count"] - 2
        backend.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)


def test_deleted_databases_leave_nothing_in_the_server_or_the_file(tmp_path: Path) -> None:
    """A database that is created again has other sequences, also after a restart."""
    path = tmp_path / "a.db"

    def sizes(backend: SqliteBackend) -> dict[str, int]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                "SELECT name FROM meta WHERE length(value) > 100 UNION SELECT name FROM databases"
            )
            found = {"long values and databases in the file": len(rows.fetchall())}
        server = backend.server
        values = {name: getattr(server, name) for name in Server.__slots__ if name != "__weakref__"}
        found |= {name: len(value) for name, value in values.items() if isinstance(value, Sized)}
        assert server.announced is not None
        return found | {"announced": sum(map(len, server.announced))}

    def seq_of_new(backend: SqliteBackend, name: str) -> str:
        ask(backend, "PUT", f"/{name}")
        seq: str = ask(backend, "GET", f"/{name}")["update_seq"]
        ask(backend, "DELETE", f"/{name}")
        return seq

    backend = SqliteBackend(path)
    ask(backend, "PUT", "/_global_changes")
    seqs = {seq_of_new(backend, "again")}
    ask(backend, "GET", "/_db_updates")
    before = sizes(backend)
    for number in range(40):
        seq_of_new(backend, f"deleted-{number}")
        ask(backend, "GET", "/_db_updates")
    after = sizes(backend)
    seqs.add(seq_of_new(backend, "again"))
    backend.close()
    backend = SqliteBackend(path)
    seqs.add(seq_of_new(backend, "again"))
    assert len(seqs) == 3
    assert after == before
    backend.close()


def test_database_that_an_earlier_version_deleted_gets_other_sequences(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    backend = SqliteBackend(path)
    ask(backend, "PUT", "/other")
    backend.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE name = 'generation'")
        counts = sealed({"_replicator": 1, "_users": 1, "again": 7})
        connection.execute("INSERT INTO meta VALUES ('generations', ?)", (counts,))
    backend = SqliteBackend(path)
    ask(backend, "PUT", "/again")
    assert backend.server.database("again").seq_text == md5(b"again/8").hexdigest()
    backend.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM meta WHERE name = 'generations'").fetchone() == (0,)


def test_each_format_has_a_kept_file() -> None:
    formats = {int(file.stem.partition("-")[2]) for file in DATA.glob("format-*.db")}
    assert formats >= set(range(1, FORMAT))


def with_sqlite(path: str, copy: str) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def with_a_process(path: str, copy: str) -> None:
    code = "import sys; from couchdal.emulator.storage.sqlite import copy_file; copy_file(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, path, copy], check=True, timeout=60)


@pytest.mark.parametrize("make", [with_sqlite, copy_file, with_a_process])
def test_copy_of_a_file_in_use_has_what_was_answered_before(
    make: Callable[[str, str], None], server: Restarting, tmp_path: Path
) -> None:
    answered: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            number = len(answered)
            docs = [{"_id": f"{number}-{part}", "text": "x" * 2000} for part in range(5)]
            server.ask("POST", "/tasks/_bulk_docs", {"docs": docs})
            answered.append(str(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(3):
            while len(answered) < 10 * (turn + 1):
                stop.wait(0.001)
            before = list(answered)
            copy = tmp_path / f"copy-{turn}.db"
            make(str(server.path), str(copy))
            with CouchDAL(f"sqlite:///{copy}", database="tasks") as db:
                ids = {row["id"] for row in db.get("/_all_docs")["rows"]}
                assert {f"{number}-{part}" for number in before for part in range(5)} <= ids
                # No request was applied in part.
                assert len(ids) % 5 == 0
                assert db.emulator.check() == []
    finally:
        stop.set()
        writer.join()
