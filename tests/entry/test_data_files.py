"""``couchdal info``, ``check``, ``dump`` and ``load``: what a data file holds, and a copy of it by way of text."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from couchdal import CouchDAL
from couchdal.cli import main


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return the path of a file with everything that a dump has to keep."""
    path = str(tmp_path / "a.db")
    with CouchDAL(f"sqlite:///{path}", database="tasks", create=True) as db:
        for number in range(120):
            db.put_document(f"task-{number}", {"number": number})
        rev = db.get("/task-1")["_rev"]
        note = {"note": {"content_type": "text/plain", "data": "aGVsbG8="}}
        db.get("/task-1", "PUT", {"_rev": rev, "_attachments": note})
        db.delete_document("task-2", db.get("/task-2")["_rev"])
        conflict = {"_id": "task-3", "_rev": "1-0123456789abcdef0123456789abcdef"}
        db.get("/_bulk_docs", "POST", {"new_edits": False, "docs": [conflict]})
        db.get("/_local/checkpoint", "PUT", {"seq": 7})
        db.get("/_revs_limit", "PUT", 20)
        db.get("/_security", "PUT", {"members": {"names": ["reader"]}})
        # It refuses documents that were there before it.
        function = "function (doc) { if (doc.number === 5) throw {forbidden: 'too late'}; }"
        db.put_document("_design/rules", {"validate_doc_update": function})
        db.emulator.config["couchdb/max_document_size"] = "123456"
        db.emulator.config["admins/root"] = "secret"
    return path


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    return Ended(main(arguments), *capsys.readouterr())


def load(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, text: str) -> Ended:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return run(capsys, "load", path)


def dumped(capfdbinary: pytest.CaptureFixture[bytes], path: str) -> str:
    assert main(["dump", path]) == 0
    return capfdbinary.readouterr().out.decode()


def test_dump_that_was_loaded_gives_the_same_dump(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = dumped(capfdbinary, path)
    copy = str(tmp_path / "b.db")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["load", copy]) == 0
    assert sorted(dumped(capfdbinary, copy).splitlines()) == sorted(text.splitlines())
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum("doc" in line for line in lines) == 122
    assert {"local": {"_id": "_local/checkpoint", "_rev": "0-1", "seq": 7}} in lines
    assert "secret" not in text


def test_info_counts_documents(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run(capsys, "info", path)
    assert ended.status == 0
    assert "tasks: 120 documents, 1 deleted, update sequence 126\n" in ended.out


def test_check_finds_nothing_in_a_sound_file(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", path) == (0, f"{path} is sound\n", "")


def test_check_names_a_damaged_file(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE docs SET head = x'00' WHERE id = CAST('task-7' AS BLOB)")
        connection.commit()
    ended = run(capsys, "check", path)
    assert (ended.status, ended.err) == (1, "")
    assert ended.out == f"{path} is damaged: the checksum of document 'task-7' is wrong\n"


def test_missing_file_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "missing.db"
    for command in ("info", "check", "dump"):
        assert run(capsys, command, str(path)) == (1, "", f"couchdal {command}: {path} does not exist\n")
    assert not path.exists()


def test_load_leaves_a_file_that_exists_alone(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(path).read_bytes()
    ended = load(monkeypatch, capsys, path, '{"couchdal":1}\n')
    assert ended == (1, "", f"couchdal load: {path} exists; name a new file\n")
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON\n",
        "[]\n",
        '{"couchdal":2}\n',
        '{"database":"tasks"}\n',
        '{"couchdal":1}\n{"unknown":1}\n',
        '{"couchdal":1}\n{"database":"_users"}\n',
        '{"couchdal":1}\n{"database":7}\n',
        '{"couchdal":1}\n{"doc":{"_id":"a"}}\n',
    ],
)
def test_wrong_dump_leaves_no_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = load(monkeypatch, capsys, str(tmp_path / "new.db"), text)
    assert ended.status == 1
    assert ended.err.startswith("couchdal load: the dump cannot be loaded: ")
    assert list(tmp_path.iterdir()) == []
