"""Hostile requests over raw sockets: each gets an honest answer, and the server stays as it was."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from processes import couchdal_serve
from raw_http import Served, Wire

from couchdal import MemoryBackend

# `make soak` sets more.
SECONDS = float(os.environ.get("HOSTILE_SECONDS") or (60 if os.environ.get("SOAK") else 5))


@pytest.fixture
def wire() -> Wire:
    wire = Wire(Served(MemoryBackend()).port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    return wire


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("GET http://h", 200),
        ("GET http://h?x=1", 200),
        ("POST http://h", 405),
        ("GET http://h:99999/", 200),
        ("GET http://h:99999/_up", 200),
    ],
)
@pytest.mark.parametrize("parted", [True, False])
def test_host_in_a_target_is_ignored(wire: Wire, target: str, status: int, parted: bool) -> None:
    wire.send(f"{target} HTTP/1.1\nHost: x\nContent-Length: 2\n\n")
    if parted:
        time.sleep(0.05)
    assert wire.send("{}").answer().status == status
    assert wire.ask("GET /_up HTTP/1.1").status == 200


@pytest.mark.parametrize("size", [65_536, 70_000, 200_000])
@pytest.mark.parametrize("after", ["", "Content-Length: 3\n"])
def test_target_over_the_limit_is_a_bad_request(wire: Wire, size: int, after: str) -> None:
    answer = wire.send(f"GET /{'a' * size} HTTP/1.1\nHost: x\n{after}\n").answer()
    assert (answer.status, answer.closed) == (400, True)
    assert answer.json() == {"error": "bad_request", "reason": "The head of the request is too large."}


def test_function_may_answer_with_any_status(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    statuses = {"999": 999, "600": 600, "418": 418, "1000": 500, "0": 500, "-1": 500}
    functions = {
        f"s{code}": f"function(doc, req) {{ return [{{_id: 's{code}'}}, {{code: {code}, body: 'x'}}]; }}"
        for code in statuses
    }
    assert wire.ask("PUT /db/_design/d HTTP/1.1", json.dumps({"updates": functions}).encode()).status == 201
    for code, status in statuses.items():
        for parted in (False, True):
            wire.send(f"POST /db/_design/d/_update/s{code} HTTP/1.1\nHost: x\nContent-Length: 2\n\n")
            if parted:
                time.sleep(0.05)
            answer = wire.send("{}").answer()
            assert answer.status in ((409,) if parted else (status,)), code
        assert wire.ask(f"GET /db/s{code} HTTP/1.1").status == 200
    # What HTTP cannot say is our failure, and not the client's.
    assert "-1 is not an HTTP status" in caplog.text


def test_functions_get_a_query_that_is_not_utf8(wire: Wire) -> None:
    shows = {"q": "function(doc, req) { return {json: req.query}; }"}
    assert wire.ask("PUT /db/_design/d HTTP/1.1", json.dumps({"shows": shows}).encode()).status == 201
    for query, seen in (("a=%ff", {"a": "\ufffd"}), ("%ff=1", {"\ufffd": "1"}), ("a=%c3%a9", {"a": "é"})):
        assert wire.ask(f"GET /db/_design/d/_show/q?{query} HTTP/1.1").json() == seen


REQUESTS = [
    b"GET /db/_all_docs?include_docs=true HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /db/_changes?feed=continuous&timeout=200 HTTP/1.1\r\nHost: x\r\n\r\n",
    b'PUT /db/a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{"x":1}',
    b"POST /db/_find HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'f\r\n{"selector":{}}\r\n0\r\nX-Trailer: 1\r\n\r\n',
    b"POST /_session HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\nname=a&pass=",
    b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /_up HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /db HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    b"POST http://h HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://h:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b" ",
    b":",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"%ff",
]


def mutated(choices: random.Random) -> bytes:
    data = bytearray(b"".join(choices.choice(REQUESTS) for _ in range(choices.choice((1, 1, 2, 20)))))
    for _ in range(choices.choice((0, 0, 1, 1, 3))):
        at = choices.randrange(len(data) + 1)
        kind = choices.randrange(4)
        if kind == 0:
            data[at:at] = choices.choice(PIECES)
        elif kind == 1:
            del data[at : at + choices.randrange(1, 20)]
        elif kind == 2:
            data[at : at + 1] = bytes((choices.randrange(256),))
        else:
            del data[at:]
    return bytes(data)


def attack(port: int, choices: random.Random) -> None:
    """Send mutated requests in random pieces, read some of the answer, and leave in a random way."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection, suppress(OSError):
        data = mutated(choices)
        cut = choices.randrange(len(data) + 1)
        connection.sendall(data[:cut])
        if choices.random() < 0.5:
            time.sleep(choices.choice((0, 0.001, 0.01)))
        connection.sendall(data[cut:])
        end = choices.randrange(4)
        if end == 0:
            connection.shutdown(socket.SHUT_WR)
        if end < 2:
            connection.settimeout(0.02)
            with suppress(TimeoutError):
                while connection.recv(65536):
                    pass
        if end == 3:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def test_mutated_requests_leave_no_traceback(record_property: Callable[[str, object], None]) -> None:
    seed = random.randrange(1 << 32)
    choices = random.Random(seed)
    count = 0
    with couchdal_serve() as (url, process):
        port = int(url.rpartition(":")[2])
        wire = Wire(port)
        wire.ask("PUT /db HTTP/1.1")
        wire.ask("PUT /db/long HTTP/1.1", json.dumps({"x": "a" * 1_000_000}).encode())
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            attack(port, choices)
            count += 1
            if count % 50 == 0:
                begun = time.monotonic()
                assert wire.ask("GET /_up HTTP/1.1").status == 200, seed
                assert time.monotonic() - begun < 2, seed
        process.terminate()
        _, errors = process.communicate(timeout=20)
    record_property("hostile connections", count)
    assert errors == "", f"seed {seed}: {errors[:4000]}"
    assert process.returncode in (0, -15)
