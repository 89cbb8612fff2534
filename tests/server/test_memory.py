"""Memory of the served emulator: hostile bodies and abandoned answers do not make it grow."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from processes import couchdal_serve
from raw_http import Answer, Served, Wire

from couchdal import BadRequest, MemoryBackend, TooLarge
from couchdal.http.messages import ANONYMOUS_BODY, INFLATED_BODY, decompress

MIB = 1024 * 1024
AS_JSON = "Content-Type: application/json"
ADMIN, WRONG = (f"Authorization: Basic {b64encode(one).decode()}" for one in (b"root:secret", b"root:wrong"))
TOO_LARGE = {"error": "too_large", "reason": "the request entity is too large"}


def bomb(size: int) -> bytes:
    """Return the gzip of a JSON string of ``size`` letters, in members of 8 MiB."""
    return gzip.compress(b'{"name":"') + gzip.compress(b"a" * 8 * MIB) * (size // (8 * MIB)) + gzip.compress(b'"}')


def peak_of(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_gzip_bomb_takes_little_memory() -> None:
    packed = bomb(1024 * MIB)
    assert len(packed) < 1.2 * MIB
    with couchdal_serve("--admin", "root:secret") as (url, process):
        port = int(url.rpartition(":")[2])
        assert Wire(port).ask(f"PUT /db HTTP/1.1\n{ADMIN}").status == 201
        before = peak_of(process.pid)
        for head in ("POST /_session", "PUT /db/a"):
            for credentials in ("X-None: 1", ADMIN, WRONG):
                answer = send(port, f"{head} HTTP/1.1\n{credentials}\n{AS_JSON}\nContent-Encoding: gzip", packed)
                assert answer.status in (401, 413)
                # The body of an administrator may be large.
                grown = INFLATED_BODY * 2.5 if credentials == ADMIN and head.startswith("PUT") else 20 * MIB
                assert peak_of(process.pid) - before < grown, (head, credentials)
                before = peak_of(process.pid)


def send(port: int, head: str, body: bytes) -> Answer:
    """Send a request whose body the server may refuse to receive, and return the answer."""
    wire = Wire(port)
    wire.send(f"{head}\nHost: x\nContent-Length: {len(body)}\n\n")
    with suppress(ConnectionError):
        wire.send(body)
    answer = wire.answer()
    wire.close()
    return answer


@pytest.mark.parametrize("chunked", [True, False])
def test_anonymous_clients_send_small_bodies(chunked: bool) -> None:
    port = Served(MemoryBackend(admin=("root", "secret"))).port

    def answer_to(head: str, size: int) -> Answer:
        body = b'{"x":"' + b"a" * (size - 8) + b'"}'
        if not chunked:
            return send(port, f"{head}\n{AS_JSON}", body)
        wire = Wire(port).send(f"{head}\n{AS_JSON}\nHost: x\nTransfer-Encoding: chunked\n\n")
        wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        return wire.answer()

    assert Wire(port).ask(f"PUT /db HTTP/1.1\n{ADMIN}").status == 201
    assert answer_to("PUT /db/a HTTP/1.1", ANONYMOUS_BODY).status == 401
    assert answer_to("POST /_session HTTP/1.1", ANONYMOUS_BODY).status == 400
    for head in ("PUT /db/a HTTP/1.1", "POST /_session HTTP/1.1", f"POST /_session HTTP/1.1\n{ADMIN}"):
        refused = answer_to(head, ANONYMOUS_BODY + 1)
        assert (refused.status, refused.json(), refused.closed) == (413, TOO_LARGE, True)
    assert answer_to(f"PUT /db/a HTTP/1.1\n{WRONG}", ANONYMOUS_BODY + 1).status == 401
    assert answer_to(f"PUT /db/a HTTP/1.1\n{ADMIN}", 2 * ANONYMOUS_BODY).status == 201


def test_without_an_administrator_only_logins_are_small() -> None:
    port = Served(MemoryBackend()).port
    assert Wire(port).ask("PUT /db HTTP/1.1").status == 201
    body = json.dumps({"name": "x" * 2 * ANONYMOUS_BODY}).encode()
    assert send(port, "PUT /db/a HTTP/1.1", body).status == 201
    assert send(port, f"POST /_session HTTP/1.1\n{AS_JSON}", body).json() == TOO_LARGE


def test_gzip_is_inflated_as_couchdb_does() -> None:
    one, two = gzip.compress(b"one"), gzip.compress(b"two" * 100_000)
    assert decompress(one + two, "gzip") == b"one" + b"two" * 100_000
    for malformed in (b"", b"garbage", one[:-1], one + b"\0", one + b"garbage", one + two[:-3]):
        with pytest.raises(BadRequest, match="not properly gzipped"):
            decompress(malformed, "gzip")


def test_gzip_is_inflated_up_to_a_limit() -> None:
    one = gzip.compress(b"12345")
    assert decompress(one + one, "gzip", 10) == b"1234512345"
    for packed in (one + one, one + one + b"garbage", gzip.compress(b"1" * 10_000_000)):
        with pytest.raises(TooLarge):
            decompress(packed, "gzip", 9)
