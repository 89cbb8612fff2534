"""A whole server in one file: what survives a restart, and what happens if the file cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stored_state import state_of

from couchdal import CouchDAL, NotConfigured, SqliteBackend
from couchdal.http.messages import Request, Response


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data.db")


@pytest.fixture
def db(path: str) -> Iterator[CouchDAL]:
    with CouchDAL(f"sqlite:///{path}", database="tasks") as handle:
        handle.create_database()
        yield handle


def reopened(db: CouchDAL) -> SqliteBackend:
    """Close a file, and open it as another process would."""
    db.close()
    backend = db.backend
    assert isinstance(backend, SqliteBackend)
    return SqliteBackend(backend.path, database="tasks")


def in_child(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return ran.stdout + ran.stderr


def fill(db: CouchDAL) -> None:
    """Write something of everything that a server keeps."""
    rev = db.put_document("a", {"n": 12345678901234567890123, "z": -0.0, "s": "é\u2028\U0001f600", "l": [{}]})["rev"]
    for n in range(3):
        rev = db.put_document("a", {"_id": "a", "_rev": rev, "n": n})["rev"]
    conflict = {
        "_id": "a",
        "_rev": "2-abc",
        "_attachments": {"x.txt": {"data": "aGVsbG8=", "content_type": "text/plain"}},
    }
    db.get(
        "/_bulk_docs", "POST", {"new_edits": False, "docs": [conflict, {"_id": "a", "_rev": "9-" + "c" * 32, "x": 1}]}
    )
    db.request("PUT", "/b/big.bin", body=bytes(range(256)) * 9000, headers={"content-type": "image/png"})
    db.request("PUT", "/b2/empty.bin", body=b"", headers={"content-type": "image/png"})
    rev = db.put_document("gone", {})["rev"]
    db.get(f"/gone?rev={rev}", "DELETE")
    db.get("/_local/checkpoint", "PUT", {"seq": 7})
    db.get("/_revs_limit", "PUT", 50)
    db.get("/_purged_infos_limit", "PUT", 9)
    db.get("/_security", "PUT", {"admins": {"names": ["z"], "roles": []}, "members": {"names": [], "roles": []}})
    made = db.get("/_bulk_docs", "POST", {"docs": [{"n": n} for n in range(250)]})
    db.get("/_purge", "POST", {made[0]["id"]: [made[0]["rev"]]})
    db.get("/_design/d", "PUT", {"views": {"all": {"map": "function (doc) { emit(doc._id); }"}}})
    db.get("/_users/org.couchdb.user:jo", "PUT", {"name": "jo", "password": "pw", "type": "user", "roles": []})
    db.emulator.config["couchdb/max_document_size"] = "777"
    db.emulator.config["chttpd_auth/iterations"] = "1"
    db.request("PUT", "/_node/_local/_config/log/level", json="debug")
    db.database("parts").create_database(partitioned=True)
    db.database("dropped").create_database()
    db.database("dropped").delete_database()
    # From now on, requests need credentials.
    db.emulator.config["admins/anna"] = "secret"


def test_everything_survives_a_restart(db: CouchDAL) -> None:
    fill(db)
    before = state_of(db.backend.server_key)  # type: ignore[arg-type]
    again = reopened(db)
    assert state_of(again.server) == before
    assert again.check() == []
    again.close()


def test_a_session_survives_a_restart(db: CouchDAL) -> None:
    fill(db)
    login = {"name": "jo", "password": "pw"}
    cookie = db.request("POST", "/_session", json=login).headers["set-cookie"].partition(";")[0]
    again = reopened(db)
    answer = again.send(Request("GET", "/_session", headers={"cookie": cookie}))
    assert answer.value()["userCtx"]["name"] == "jo"
    again.close()


def test_sequences_and_ids_go_on_after_a_restart(db: CouchDAL) -> None:
    first = db.get("/", "POST", {})
    since = db.get("/_changes")["last_seq"]
    again = CouchDAL(reopened(db))
    second = again.get("/", "POST", {})
    assert second["id"] != first["id"]
    assert [row["id"] for row in again.get(f"/_changes?since={since}")["results"]] == [second["id"]]
    again.close()


def test_a_closed_file_is_opened_by_the_next_request(db: CouchDAL, path: str) -> None:
    db.put_document("a", {})
    db.close()
    assert os.listdir(os.path.dirname(path)) == ["data.db"]
    assert "True" in in_child(
        f"from dal import CouchDAL; db = CouchDAL('sqlite:///{path}', database='tasks');"
        "print(db.put_document('b', {})['ok']); db.close()"
    )
    assert db.get("/_all_docs")["total_rows"] == 2


def test_handles_of_one_file_share_a_server(db: CouchDAL, path: str) -> None:
    db.put_document("a", {})
    assert CouchDAL(f"sqlite:///{path}", database="tasks").get("/a")["_id"] == "a"


def test_one_process_owns_a_file(db: CouchDAL, path: str) -> None:
    found = in_child(f"from dal import CouchDAL; CouchDAL('sqlite:///{path}')")
    assert f"{path} is in use by process {os.getpid()}" in found


def test_others_can_look_at_a_file_in_use(db: CouchDAL, path: str) -> None:
    db.put_document("a", {})
    looking = CouchDAL(f"sqlite:///{path}?mode=ro", database="tasks")
    assert looking.get("/a")["_id"] == "a"
    refused = looking.request("PUT", "/b", json={})
    assert (refused.status, refused.value()["error"]) == (403, "forbidden")
    assert looking.request("GET", "/b").status == 404
    looking.close()


def test_environment_names_the_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_BACKEND", "sqlite")
    monkeypatch.setenv("COUCHDAL_DATA", path)
    with CouchDAL(database="tasks", create=True) as db:
        db.put_document("a", {})
    assert os.path.getsize(path)
    monkeypatch.delenv("COUCHDAL_DATA")
    with pytest.raises(NotConfigured, match="set COUCHDAL_DATA"):
        CouchDAL()


@pytest.mark.parametrize("url", ["sqlite:data.db", "sqlite:///", "sqlite://host/data.db", "sqlite:///a.db?mode=x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(NotConfigured, match="must be sqlite:///"):
        CouchDAL(url)


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_rollback_leaves_the_file_as_it_was(db: CouchDAL) -> None:
    db.put_document("before", {})
    with db.emulator.rollback():
        db.put_document("within", {})
    db.put_document("after", {})
    again = CouchDAL(reopened(db))
    assert [row["id"] for row in again.get("/_all_docs")["rows"]] == ["after", "before"]
    again.close()


def test_what_a_fork_writes_stays_in_memory(db: CouchDAL) -> None:
    fork = db.fork()
    fork.put_document("fork", {})
    db.put_document("file", {})
    again = CouchDAL(reopened(db))
    assert [row["id"] for row in again.get("/_all_docs")["rows"]] == ["file"]
    again.close()


def test_a_snapshot_that_the_file_has_left_is_restored_in_memory_only(db: CouchDAL) -> None:
    snapshot = db.emulator.snapshot()
    snapshot.restore()
    db.put_document("kept", {})
    snapshot.restore()
    assert db.request("GET", "/kept").status == 404
    db.put_document("lost", {})
    again = CouchDAL(reopened(db))
    assert [row["id"] for row in again.get("/_all_docs")["rows"]] == ["kept"]
    again.close()


def test_a_state_with_changes_of_another_one_is_restored_in_memory_only(db: CouchDAL) -> None:
    early = db.emulator.snapshot()
    before = db.emulator.snapshot()
    db.put_document("carried", {})
    carried = early.with_changes_since(before)
    carried.restore()
    db.put_document("lost", {})
    assert [row["id"] for row in db.get("/_all_docs")["rows"]] == ["carried", "lost"]
    early.restore()
    db.put_document("kept", {})
    again = CouchDAL(reopened(db))
    assert [row["id"] for row in again.get("/_all_docs")["rows"]] == ["kept"]
    assert again.emulator.check() == []
    again.close()


# --- compaction -------------------------------------------------------------------------------------------------------


def test_compaction_gives_space_back(db: CouchDAL, path: str) -> None:
    for turn in range(4):
        revs = {row["id"]: {"_rev": row["value"]["rev"]} for row in db.get("/_all_docs")["rows"]}
        docs = [{"_id": f"{n}", "text": f"{turn}" * 3000, **revs.get(f"{n}", {})} for n in range(300)]
        db.get("/_bulk_docs", "POST", {"docs": docs})
    first = db.get("/7?revs_info=true")
    server = db.backend.server_key
    db.get("/_compact", "POST", {})
    assert os.path.getsize(path) < 300 * 3000 * 2
    statuses = [one["status"] for one in db.get("/7?revs_info=true")["_revs_info"]]
    assert statuses == ["available", "missing", "missing", "missing"]
    assert db.get("/7")["_rev"] == first["_rev"]
    before = state_of(server)  # type: ignore[arg-type]
    again = reopened(db)
    assert state_of(again.server) == before
    assert again.check() == []
    again.close()


# --- broken files -----------------------------------------------------------------------------------------------------


def broken(path: str, how: str) -> None:
    data = Path(path).read_bytes()
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "short":
        data = data[:50]
    elif how == "text":
        data = b"hello" * 1000
    elif how == "flipped header":
        data = bytes([data[0] ^ 1]) + data[1:]
    elif how == "newer":
        data = data[:60] + (99).to_bytes(4, "big") + data[64:]
    else:
        place = data.index(b"a body to find")
        data = data[:place] + b"X" + data[place + 1 :]
    Path(path).write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "short", "text", "flipped header", "newer"])
@pytest.mark.parametrize("mode", ["", "?mode=ro"])
def test_a_broken_file_is_named_and_left_alone(db: CouchDAL, path: str, how: str, mode: str) -> None:
    db.get("/_bulk_docs", "POST", {"docs": [{"text": f"a body to find {n}"} for n in range(300)]})
    db.close()
    broken(path, how)
    before = Path(path).read_bytes()
    copy = shutil.copy(path, path + "2")
    with pytest.raises(NotConfigured, match=r"data\.db2 (is|has|holds)"):
        CouchDAL(f"sqlite:///{copy}{mode}")
    assert Path(copy).read_bytes() == before
    assert not os.path.exists(copy + "-owner")


@pytest.mark.parametrize("mode", ["", "?mode=ro"])
def test_a_damaged_document_is_named_and_the_others_are_shown(db: CouchDAL, path: str, mode: str) -> None:
    db.get("/_bulk_docs", "POST", {"docs": [{"_id": f"{n}", "text": f"a body to find {n}"} for n in range(300)]})
    db.close()
    broken(path, "flipped body")
    with CouchDAL(f"sqlite:///{path}{mode}", database="tasks") as again:
        answers = [again.request("GET", f"/{n}") for n in range(300)]
        (wrong,) = [answer.value() for answer in answers if answer.status != 200]
        assert wrong["error"] == "file_corruption"
        assert wrong["reason"].startswith(f"{path} is damaged: the checksum of document '")
        assert again.request("GET", "/_all_docs").status == 500
        assert again.emulator.check() == [wrong["reason"]]


def test_a_foreign_database_is_left_alone(path: str) -> None:
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    before = Path(path).read_bytes()
    with pytest.raises(NotConfigured, match="not a data file of couchdal"):
        CouchDAL(f"sqlite:///{path}")
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["CREATE TRIGGER evil AFTER UPDATE ON meta BEGIN DELETE FROM docs; END", "CREATE VIEW evil AS SELECT * FROM docs"],
    ids=["trigger", "view"],
)
def test_a_file_with_foreign_triggers_or_views_is_refused_and_left_alone(
    db: CouchDAL, path: str, statement: str
) -> None:
    db.put_document("a", {})
    db.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    before = Path(path).read_bytes()
    with pytest.raises(NotConfigured, match="'evil', which couchdal did not make"):
        SqliteBackend(path)
    with pytest.raises(NotConfigured, match="'evil', which couchdal did not make"):
        SqliteBackend(path, read_only=True)
    assert Path(path).read_bytes() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"missing/data\.db cannot be"):
        CouchDAL(f"sqlite:///{tmp_path}/missing/data.db")


def test_looking_creates_no_file(path: str) -> None:
    with pytest.raises(NotConfigured, match="does not exist"):
        CouchDAL(f"sqlite:///{path}?mode=ro")
    assert not os.path.exists(path)


# --- failing disks ----------------------------------------------------------------------------------------------------


def test_a_write_that_fails_changes_nothing_and_work_goes_on(
    db: CouchDAL, file_size: Callable[[int | None], None]
) -> None:
    db.put_document("before", {})
    server = db.backend.server_key
    state = state_of(server)  # type: ignore[arg-type]
    file_size(150_000)
    answers: list[Response] = [
        db.request("PUT", "/big", json={"text": "x" * 400_000}),
        db.request("POST", "/_bulk_docs", json={"docs": [{"text": "x" * 2000} for _ in range(400)]}),
    ]
    for answer in answers:
        assert answer.status == 500
        assert answer.value()["error"] == "file_error"
        assert "data.db" in answer.value()["reason"]
    assert state_of(server) == state  # type: ignore[arg-type]
    file_size(None)
    assert db.request("PUT", "/big", json={"text": "x" * 400_000}).status == 201
    again = CouchDAL(reopened(db))
    assert [row["id"] for row in again.get("/_all_docs")["rows"]] == ["before", "big"]
    assert again.emulator.check() == []
    again.close()
