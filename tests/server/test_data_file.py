"""``couchdal serve --data``: a served emulator whose data outlives the process, however that ends."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from processes import ask, couchdal_serve

from couchdal import CouchDAL, NotConfigured
from couchdal.server.options import check_backend, read_options


def write(address: str, client: int, acknowledged: list[str], stop: threading.Event) -> None:
    """Write documents until the server dies, and note each that it has acknowledged."""
    number = 0
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
        while not stop.is_set():
            doc_id = f"{client}-{number}"
            try:
                connection.request("PUT", f"/tasks/{doc_id}", '{"number": 1}')
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status == 201:
                acknowledged.append(doc_id)
            number += 1


@pytest.mark.parametrize("rounds", [2, pytest.param(500, marks=pytest.mark.soak)])
def test_no_acknowledged_write_is_lost_when_the_server_is_killed(tmp_path: Path, rounds: int) -> None:
    acknowledged: list[str] = []
    for turn in range(rounds):
        with couchdal_serve("--data", str(tmp_path / "data.db")) as (address, process):
            ask(f"{address}/tasks", "PUT")
            stop = threading.Event()
            clients = [
                threading.Thread(target=write, args=(address, 8 * turn + client, acknowledged, stop))
                for client in range(8)
            ]
            for client in clients:
                client.start()
            stop.wait(0.3 + 0.01 * (turn % 20))
            os.kill(process.pid, signal.SIGKILL)
            stop.set()
            for client in clients:
                client.join()
        with CouchDAL(f"sqlite:///{tmp_path}/data.db", database="tasks") as db:
            stored = {row["id"] for row in db.get("/_all_docs")["rows"]}
            assert stored.issuperset(acknowledged)
            assert db.emulator.check() == []
    assert acknowledged


def test_start_line_says_where_data_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "data.db")
    with couchdal_serve("--data", path) as (address, _), pytest.raises(NotConfigured, match=f"at {address}"):
        CouchDAL(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"backend": "sqlite"}, "add --data FILE"),
        ({"backend": "memory", "data": "a.db"}, "--backend memory keeps no data"),
        ({"backend": "couch", "data": "a.db"}, "--data is for the embedded CouchDB"),
    ],
)
def test_option_that_makes_no_sense_is_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        check_backend(read_options(flags, {}))
