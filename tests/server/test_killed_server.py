"""``couchdal serve --data``, killed at any moment under eight writers: each answered write is kept, none in part."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from processes import ask, couchdal_serve, environment

from couchdal import CouchDAL, SqliteBackend

WRITERS = 8
# A new file from time to time, so that the rounds take the same time.
ROUNDS_OF_A_FILE = 25
_ATTACHMENT = bytes(range(256)) * 120


class Writer:
    """A client that makes writes of each kind, and remembers which were sent and which were answered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.answered = 0
        self.documents: dict[str, str] = {}
        self.bulks: list[list[str]] = []
        self.deleted: set[str] = set()
        #: The revision and the number of a document that is written again and again.
        self.rev = ""
        self.counter = (0, 0)
        self.local = (0, 0)

    def run(self, address: str, stop: threading.Event, count: threading.Semaphore) -> None:
        """Write until the server dies. Release the semaphore once for each answer."""
        kinds = (self.put, self.bulk, self.update, self.attach, self.checkpoint, self.delete, self.update)
        with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as self.connection:
            while not stop.is_set():
                try:
                    kinds[self.number % len(kinds)]()
                    if self.number % 40 == 39:
                        self.ask("POST", "/tasks/_compact", {})
                except (OSError, http.client.HTTPException):
                    return
                self.number += 1
                self.answered += 1
                count.release()

    def ask(self, method: str, path: str, payload: object) -> object:
        data = payload if isinstance(payload, bytes) else json.dumps(payload)
        self.connection.request(method, path, data, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        value = json.loads(answer.read())
        assert answer.status < 300, value
        return value

    def put(self) -> None:
        doc_id = f"{self.name}-{self.number}"
        self.documents[doc_id] = self.ask("PUT", f"/tasks/{doc_id}", {"n": self.number})["rev"]  # type: ignore[index]

    def bulk(self) -> None:
        ids = [f"{self.name}-{self.number}-{part}" for part in range(6)]
        self.bulks.append(ids)
        rows = self.ask("POST", "/tasks/_bulk_docs", {"docs": [{"_id": doc_id} for doc_id in ids]})
        self.documents.update({row["id"]: row["rev"] for row in rows})  # type: ignore[attr-defined]

    def update(self) -> None:
        self.counter = (self.counter[0], self.number)
        new = {"n": self.number, **({"_rev": self.rev} if self.rev else {})}
        self.rev = self.ask("PUT", f"/tasks/{self.name}-counter", new)["rev"]  # type: ignore[index]
        self.counter = (self.number, self.number)

    def attach(self) -> None:
        doc_id = f"{self.name}-{self.number}"
        self.documents[doc_id] = self.ask("PUT", f"/tasks/{doc_id}/data.bin", _ATTACHMENT)["rev"]  # type: ignore[index]

    def checkpoint(self) -> None:
        self.local = (self.local[0], self.number)
        self.ask("PUT", f"/tasks/_local/{self.name}", {"n": self.number})
        self.local = (self.number, self.number)

    def delete(self) -> None:
        doc_id = next(iter(self.documents))
        rev = self.documents.pop(doc_id)
        # If no answer comes, it may be there or not.
        self.ask("DELETE", f"/tasks/{doc_id}?rev={quote(rev)}", {})
        self.deleted.add(doc_id)

    def check(self, db: CouchDAL, stored: dict[str, str]) -> None:
        """Compare what was answered with what is stored."""
        assert {doc_id: stored.get(doc_id) for doc_id in self.documents} == self.documents
        assert not self.deleted & stored.keys()
        for ids in self.bulks:
            there = [doc_id in stored or doc_id in self.deleted for doc_id in ids]
            # Only the last deletion may have happened without an answer.
            assert not any(there) or there.count(False) <= 1, ids
        for path, (answered, sent) in {
            f"/{self.name}-counter": self.counter,
            f"/_local/{self.name}": self.local,
        }.items():
            answer = db.request("GET", path)
            assert (answer.value()["n"] if answer.status == 200 else 0) in (answered, sent)


@pytest.mark.parametrize("rounds", [2, pytest.param(500, marks=pytest.mark.soak)])
def test_no_acknowledged_write_is_lost_when_the_server_is_killed(tmp_path: Path, rounds: int, figure: object) -> None:
    answered = 0
    for turn in range(rounds):
        path = tmp_path / f"{turn // ROUNDS_OF_A_FILE}.db"
        writers = [Writer(f"{turn}-{number}") for number in range(WRITERS)]
        kill_under(writers, path, random.Random(turn))
        answered += sum(writer.answered for writer in writers)
        with CouchDAL(f"sqlite:///{path}", database="tasks") as db:
            stored = {row["id"]: row["value"]["rev"] for row in db.get("/_all_docs")["rows"]}
            for writer in writers:
                writer.check(db, stored)
            # Read the last attachments whole.
            for doc_id in [row for row in list(stored)[-400:] if db.get(f"/{row}").get("_attachments")][-8:]:
                assert db.request("GET", f"/{doc_id}/data.bin").body == _ATTACHMENT
            assert db.emulator.check() == []
        if turn % ROUNDS_OF_A_FILE == ROUNDS_OF_A_FILE - 1:
            path.unlink()
    assert answered
    figure("servers killed under 8 writers", rounds)  # type: ignore[operator]
    figure("writes they had answered", answered)  # type: ignore[operator]


def kill_under(writers: list[Writer], path: Path, choose: random.Random) -> None:
    """Serve a file to writers, and kill the server after some answers."""
    stop, count = threading.Event(), threading.Semaphore(0)
    with couchdal_serve("--data", str(path)) as (address, process):
        ask(f"{address}/tasks", "PUT")
        clients = [threading.Thread(target=writer.run, args=(address, stop, count)) for writer in writers]
        for client in clients:
            client.start()
        for _ in range(choose.randrange(1, 400)):
            assert count.acquire(timeout=30)
        time.sleep(choose.random() * 0.01)
        os.kill(process.pid, signal.SIGKILL)
        stop.set()
        for client in clients:
            client.join()


HOUSE_KEEPING = {"compaction": ("POST", "/big/_compact", 202), "deletion": ("DELETE", "/big", 200)}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with many documents of two revisions each, and a second database."""
    path = tmp_path_factory.mktemp("large") / "a.db"
    with closing(SqliteBackend(path, synchronous="OFF")) as backend:
        for name, count in (("big", 8000), ("kept", 10)):
            db = CouchDAL(backend, database=name, create=True)
            docs: list[dict[str, object]] = [{"_id": f"{n:05}", "text": "x" * 200} for n in range(count)]
            for _ in range(2):
                rows = db.get("/_bulk_docs", "POST", {"docs": docs})
                docs = [{**doc, "_rev": row["rev"]} for doc, row in zip(docs, rows, strict=True)]
    return path


@pytest.mark.parametrize("kind", HOUSE_KEEPING)
@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=pytest.mark.soak)])
def test_server_killed_while_it_keeps_house_harms_nothing(
    kind: str, rounds: int, large: Path, tmp_path: Path, figure: object
) -> None:
    method, target, status = HOUSE_KEEPING[kind]
    choose, unanswered = random.Random(1), 0
    for turn in range(rounds):
        # A file with a name that this process knows would not be read anew.
        path = Path(shutil.copy(large, tmp_path / f"{turn}.db"))
        with couchdal_serve("--data", str(path)) as (address, process):
            client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
            client.request(method, target, "{}", {"content-type": "application/json"})
            killer = threading.Timer(choose.random() * 0.2, process.kill)
            killer.start()
            try:
                assert client.getresponse().status == status
            except (OSError, http.client.HTTPException):
                unanswered += 1
            killer.join()
            client.close()
            process.wait()
        with CouchDAL(f"sqlite:///{path}", database="big") as db:
            assert db.emulator.check() == []
            found = db.request("GET", "/")
            if found.status == 404:
                assert kind == "deletion"
            else:
                assert found.value()["doc_count"] == 8000  # type: ignore[index,call-overload]
            assert CouchDAL(db.backend, database="kept").get("/")["doc_count"] == 10
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM leftovers").fetchone() == (0,)
            if found.status == 404:
                assert connection.execute("SELECT count(*) FROM docs").fetchone() == (10,)
        path.unlink()
    figure(f"servers killed during a {kind}", rounds)  # type: ignore[operator]
    figure("of them without an answer", unanswered)  # type: ignore[operator]


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_server_killed_while_it_opens_a_file_harms_nothing(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "a.db"
    command = [sys.executable, "-m", "couchdal.cli", "serve", "--port", "0", "--data", str(path)]
    choose = random.Random(1)
    for turn in range(rounds):
        # With a new file, and with one that has documents.
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment()) as process:
            while not path.exists():
                time.sleep(0.001)
            time.sleep(choose.random() * 0.1)
            process.kill()
        with CouchDAL(f"sqlite:///{path}", database="tasks", create=True) as db:
            db.put_document(f"{turn}", {})
            assert db.get("/_all_docs")["total_rows"] == turn % 3 + 1
            assert db.emulator.check() == []
        if turn % 3 == 2:
            path.unlink()
