"""``couchdal serve --data``: a served emulator whose data outlives the process."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from processes import couchdal_serve

from couchdal import CouchBackend, CouchDAL, NotConfigured
from couchdal.server.options import check_backend, read_options


def test_start_line_says_where_data_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "data.db")
    with couchdal_serve("--data", path) as (address, _), pytest.raises(NotConfigured, match=f"at {address}"):
        CouchDAL(f"sqlite:///{path}")


def test_replication_document_goes_on_when_the_server_starts_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    arguments = ("--data", str(tmp_path / "data.db"), "--port", port)
    address = f"http://127.0.0.1:{port}"
    tasks, copy, jobs = (CouchDAL(CouchBackend(address, database=name)) for name in ("tasks", "copy", "_replicator"))
    with couchdal_serve(*arguments) as (_, process):
        tasks.create_database()
        copy.create_database()
        job = {"source": f"{address}/tasks", "target": f"{address}/copy", "continuous": True}
        jobs.put_document("job", job)
        tasks.put_document("before", {})
        wait_for(copy, "before")
        process.kill()
    with couchdal_serve(*arguments):
        tasks.put_document("after", {})
        wait_for(copy, "after")
    for handle in (tasks, copy, jobs):
        handle.close()


def wait_for(db: CouchDAL, doc_id: str) -> None:
    ends = time.monotonic() + 30
    while db.request("HEAD", f"/{doc_id}").status != 200:
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"backend": "sqlite"}, "add --data FILE"),
        ({"backend": "memory", "data": "a.db"}, "--backend memory keeps no data"),
        ({"backend": "couch", "data": "a.db"}, "--data is for the emulator"),
    ],
)
def test_option_that_makes_no_sense_is_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(NotConfigured, match=said):
        check_backend(read_options(flags, {}))
