"""Attachments that ``couchdal serve --data`` stores while they arrive, and reads while they are sent."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import sqlite3
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from processes import couchdal_serve

from couchdal import CouchDAL, MemoryBackend

MIB = 1 << 20
BYTES = bytes(range(251)) * 14_000
TEXT = b"".join(b"line %d of some text\n" % n for n in range(150_000))


class Served:
    """A server with a file, and a connection to it."""

    def __init__(self, address: str, path: Path, process: subprocess.Popen[str]) -> None:
        self.host = urlsplit(address).netloc
        self.path = path
        self.process = process
        self.client = http.client.HTTPConnection(self.host, timeout=60)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request. A value that is not a body is sent as JSON. The caller reads the answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, (dict, str)):
            body, sent = json.dumps(body).encode(), {"content-type": "application/json", **sent}
        chunked = "transfer-encoding" in sent
        self.client.request(method, path, body, sent, encode_chunked=chunked)  # type: ignore[arg-type]
        return self.client.getresponse()

    def value(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        return json.loads(self.ask(method, path, body, **headers).read())

    def rows(self, table: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def peak_mib(self) -> float:
        """Return the most memory that the server has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def await_no_rows(self) -> None:
        """Wait until the parts of unfinished uploads are removed."""
        ends = time.monotonic() + 30
        while self.rows("leftovers") or self.rows("attachments"):
            assert time.monotonic() < ends
            time.sleep(0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("served") / "a.db"
    with couchdal_serve("--data", str(path)) as (address, process):
        yield Served(address, path, process)


@pytest.fixture
def name(server: Served, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test."""
    name = f"t{abs(hash(request.node.name))}"
    server.value("PUT", f"/{name}")
    yield name
    server.value("DELETE", f"/{name}")


def in_parts(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 70_001] for start in range(0, len(data), 70_001))


FRAMINGS: dict[str, Callable[[bytes], tuple[object, dict[str, str]]]] = {
    "length": lambda data: (data, {}),
    "chunks": lambda data: (in_parts(data), {"transfer_encoding": "chunked"}),
}
KINDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "bytes": (BYTES, {"content_type": "application/octet-stream"}),
    "text": (TEXT, {"content_type": "text/plain"}),
    "gzip": (gzip.compress(BYTES * 3, 0), {"content_type": "a/b", "content_encoding": "gzip"}),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_upload_has_the_answers_of_one_in_memory(kind: str, framing: str, server: Served, name: str) -> None:
    data, headers = KINDS[kind]
    body, framed = FRAMINGS[framing](data)
    memory = CouchDAL(MemoryBackend(), database=name, create=True)
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    assert (
        server.value("PUT", f"/{name}/a/x", body, **headers, **framed)
        == memory.request("PUT", "/a/x", body=data, headers=sent).value()
    )
    assert server.value("GET", f"/{name}/a?att_encoding_info=true") == memory.get("/a?att_encoding_info=true")
    assert server.rows("leftovers") == 0
    for accepted in ("gzip", "identity"):
        expected = memory.request("GET", "/a/x", headers={"accept-encoding": accepted})
        answer = server.ask("GET", f"/{name}/a/x", accept_encoding=accepted)
        assert answer.read() == expected.content()
        known = {key: value for key, value in expected.headers.items() if key != "content-length"}
        assert {key: answer.getheader(key) for key in known} == known


RANGES = ("0-0", f"{MIB - 10}-{MIB + 9}", f"{MIB}-{3 * MIB}", "3000000-", "-5", "-9999999", "1-2,5-6", "9-2000000,5-6")


@pytest.mark.parametrize("span", RANGES)
def test_ranges_are_those_of_an_attachment_in_memory(span: str, server: Served, name: str) -> None:
    memory = CouchDAL(MemoryBackend(), database=name, create=True)
    memory.put_attachment("a", "x", BYTES)
    server.value("PUT", f"/{name}/a/x", BYTES, content_type="application/octet-stream")
    expected = memory.request("GET", "/a/x", headers={"range": f"bytes={span}"})
    answer = server.ask("GET", f"/{name}/a/x", range=f"bytes={span}")
    content = answer.read()
    assert answer.status == expected.status == 206
    if "," in span:
        # The boundaries differ.
        assert [part[36:] for part in content.split(b"--")] == [part[36:] for part in expected.content().split(b"--")]
    else:
        assert content == expected.content()
        assert answer.getheader("content-range") == expected.headers["content-range"]
    head = server.ask("HEAD", f"/{name}/a/x")
    assert (head.read(), head.getheader("content-length")) == (b"", str(len(BYTES)))


def test_stub_keeps_the_data_and_deletion_frees_it(server: Served, name: str) -> None:
    server.value("PUT", f"/{name}/a/x", BYTES)
    with closing(sqlite3.connect(server.path)) as connection:
        rowids = connection.execute("SELECT rowid FROM attachments").fetchall()
        doc = server.value("GET", f"/{name}/a")
        rev = server.value("PUT", f"/{name}/a", {**doc, "n": 1})["rev"]
        copied = server.ask("COPY", f"/{name}/a", destination="b")
        assert (copied.read(), copied.status)[1] == 201
        assert connection.execute("SELECT rowid FROM attachments").fetchall()[: len(rowids)] == rowids
    assert server.ask("GET", f"/{name}/a/x").read() == BYTES
    server.value("DELETE", f"/{name}/a?rev={rev}")
    assert server.ask("GET", f"/{name}/b/x").read() == BYTES
    server.value("DELETE", f"/{name}/b?rev={copied.getheader('etag', '').strip(chr(34))}")
    server.value("POST", f"/{name}/_compact", {})
    assert server.rows("attachments") == 0


# --- refused and unfinished uploads -----------------------------------------------------------------------------------


@pytest.fixture
def small_limit(server: Served) -> Iterator[int]:
    setting = "/_node/_local/_config/couchdb/max_attachment_size"
    server.value("PUT", setting, "2500000")
    yield 2_500_000
    server.value("DELETE", setting)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.usefixtures("small_limit")
def test_upload_above_the_limit_is_refused_before_it_is_read(framing: str, server: Served, name: str) -> None:
    read = 0

    def body() -> Iterator[bytes]:
        nonlocal read
        for _ in range(400):
            read += MIB
            yield b"x" * MIB

    headers = {"transfer_encoding": "chunked"} if framing == "chunks" else {"content_length": str(400 * MIB)}
    try:
        answer = server.ask("PUT", f"/{name}/a/x", body(), **headers)
        assert (answer.status, json.loads(answer.read())["error"]) == (413, "attachment_too_large")
    except (BrokenPipeError, ConnectionResetError):
        assert framing == "chunks"
    server.client.close()
    assert server.ask("GET", f"/{name}/a").status == 404
    server.client.close()
    server.await_no_rows()


def test_conflict_is_answered_and_leaves_nothing(server: Served, name: str) -> None:
    server.value("PUT", f"/{name}/a", {})
    answer = server.ask("PUT", f"/{name}/a/x", BYTES)
    assert (answer.status, json.loads(answer.read())["error"]) == (409, "conflict")
    answer = server.ask("PUT", f"/{name}/a/x?rev=1-abc", BYTES)
    assert (answer.status, json.loads(answer.read())["reason"]) == (409, "missing_rev")
    server.await_no_rows()


def begun(server: Served, path: str) -> http.client.HTTPConnection:
    """Begin an upload, and return when the first parts are stored."""
    client = http.client.HTTPConnection(server.host, timeout=60)
    client.putrequest("PUT", path)
    client.putheader("content-length", str(50 * MIB))
    client.endheaders()
    client.send(bytes(8 * MIB))
    ends = time.monotonic() + 30
    while server.rows("attachments") < 4:
        assert time.monotonic() < ends
        time.sleep(0.01)
    return client


def test_client_that_leaves_half_way_leaves_nothing(server: Served, name: str) -> None:
    client = begun(server, f"/{name}/a/x")
    # Others are not disturbed, and a compaction leaves the parts of an upload.
    assert server.value("PUT", f"/{name}/b", {})["ok"]
    server.value("POST", f"/{name}/_compact", {})
    assert server.rows("attachments") >= 4
    assert server.ask("GET", f"/{name}/a").status == 404
    server.client.close()
    client.close()
    server.await_no_rows()


def test_database_that_is_deleted_meanwhile_is_not_written_to(server: Served, name: str) -> None:
    client = begun(server, f"/{name}/a/x")
    server.value("DELETE", f"/{name}")
    server.value("PUT", f"/{name}")
    client.send(bytes(42 * MIB))
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (500, "conflict")
    client.close()
    assert server.value("GET", f"/{name}/a")["error"] == "not_found"
    server.await_no_rows()


def test_next_start_removes_what_a_killed_server_had_received(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with couchdal_serve("--data", str(path)) as (address, process):
        server = Served(address, path, process)
        server.value("PUT", "/tasks")
        client = begun(server, "/tasks/a/x")
        process.kill()
        process.wait()
        client.close()
    assert server.rows("leftovers") == 1
    with CouchDAL(f"sqlite:///{path}", database="tasks") as db:
        assert db.get("/")["doc_count"] == 0
        assert db.emulator.check() == []
    assert (server.rows("leftovers"), server.rows("attachments")) == (0, 0)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [80, pytest.param(1024, marks=pytest.mark.soak)])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_memory_does_not_grow_with_the_attachment(
    framing: str, size: int, tmp_path: Path, figure: Callable[[str, float], None]
) -> None:
    block = hashlib.sha512(b"").digest() * (MIB // 64)
    with couchdal_serve("--data", str(tmp_path / "a.db")) as (address, process):
        server = Served(address, tmp_path / "a.db", process)
        server.value("PUT", "/tasks")
        server.value("PUT", "/tasks/small/x", bytes(100_000))
        before = server.peak_mib()
        headers = {"transfer_encoding": "chunked"} if framing == "chunks" else {"content_length": str(size * MIB)}
        sent = server.ask("PUT", "/tasks/a/x", (block for _ in range(size)), **headers)
        assert (sent.read() and sent.status) == 201
        digest, answer = hashlib.md5(), server.ask("GET", "/tasks/a/x")
        while data := answer.read(MIB):
            digest.update(data)
        stub = server.value("GET", "/tasks/a")["_attachments"]["x"]
        assert (stub["length"], stub["digest"]) == (size * MIB, "md5-" + b64encode(digest.digest()).decode())
        grown = server.peak_mib() - before
    figure(f"MiB of memory for {size} MiB by {framing}", round(grown))
    assert grown < 50
