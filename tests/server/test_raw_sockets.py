"""Mutated HTTP over raw sockets: no traceback, no malformed answer, no growth, and others are answered meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from processes import couchdal_serve
from raw_http import Wire

# For each of the two servers.
SECONDS = float(os.environ.get("HOSTILE_SECONDS") or (60 if os.environ.get("SOAK") else 5))
MEGABYTE = 1 << 20
# How many idle connections the proxy keeps: ten for requests, and some for health checks. Those of feeds are closed.
MOST_KEPT = 12


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


def attack(port: int, choices: random.Random) -> tuple[bytes, bytes]:
    """Send mutated requests in random pieces, read some of the answers, and leave in a random way. Return both."""
    data, received = mutated(choices), b""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection, suppress(OSError):
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
                while part := connection.recv(65536):
                    received += part
        if end == 3:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    return data, received


STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-9]\d\d [ -~]*")
HEADER = re.compile(rb"[!#-'*+.^-z|~A-Z0-9-]+: [^\r\n\0]*")


def malformed(received: bytes) -> str | None:
    """Return what is wrong with answers. The last one may be incomplete."""
    while received:
        head, mark, rest = received.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        if not mark:
            return None if b"HTTP/1.1 ".startswith(received[:9]) or status.startswith(b"HTTP/1.1 ") else repr(head[:80])
        if STATUS_LINE.fullmatch(status) is None or not all(map(HEADER.fullmatch, lines)):
            return repr(head[:400])
        told = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        length, coding = told.get(b"content-length"), told.get(b"transfer-encoding")
        if length is not None and coding is not None:
            return f"two lengths: {head!r}"
        if status.startswith(b"HTTP/1.1 100"):
            received = rest
        elif length is not None:
            received = rest[int(length) :]
        elif coding == b"chunked":
            while (found := re.match(rb"([0-9a-f]+)\r\n", rest)) is not None:
                size, start = int(found[1], 16), found.end()
                if rest[start + size : start + size + 2] not in (b"\r\n", b"\r", b""):
                    return f"a chunk has another size: {rest[:80]!r}"
                rest = rest[start + size + 2 :]
                if size == 0:
                    break
            else:
                if len(rest) > 20:
                    return f"not a chunk: {rest[:80]!r}"
                return None
            received = rest
        else:
            return None
    return None


def test_malformed_answers_are_recognized() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    for good in (answer * 2, chunked * 2, answer[:-1], chunked[:-9], answer[:5], b""):
        assert malformed(good) is None, good
    for bad in (
        answer + b"x",
        answer.replace(b"2", b"1") + answer,
        chunked.replace(b"2\r\n{", b"3\r\n{") + answer,
        answer.replace(b"OK", b"O\nK"),
        answer.replace(b"\r\n\r", b"\r\ntransfer-encoding: chunked\r\n\r"),
    ):
        assert malformed(bad) is not None, bad


class Process:
    """A server process, its memory, and the sockets to it."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.port = int(url.rpartition(":")[2])
        self.process = process

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def servers(kind: str) -> Iterator[tuple[Process, list[subprocess.Popen[str]]]]:
    """Serve an emulator, or a proxy in front of one. Yield the server to attack, and all processes."""
    with ExitStack() as opened:
        url, process = opened.enter_context(couchdal_serve())
        processes = [process]
        wire = Wire(int(url.rpartition(":")[2]))
        wire.ask("PUT /db HTTP/1.1")
        wire.ask("PUT /db/long HTTP/1.1", json.dumps({"x": "a" * 1_000_000}).encode())
        wire.close()
        if kind == "proxy":
            url, process = opened.enter_context(couchdal_serve("--backend", "couch", "--upstream", url))
            processes.append(process)
        yield Process(url, process), processes


@pytest.mark.random
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory and files are read from /proc")
@pytest.mark.parametrize("kind", ["emulator", "proxy"])
def test_mutated_requests(kind: str, figure: Callable[[str, int], None]) -> None:
    seed = random.randrange(1 << 32)
    choices = random.Random(seed)
    count = answers = 0
    slowest = 0.0
    with servers(kind) as (server, processes):
        wire = Wire(server.port)
        for _ in range(300):
            attack(server.port, choices)
        time.sleep(1)
        memory, files = server.memory(), server.files()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            data, received = attack(server.port, choices)
            if b"HEAD" not in data:
                # An answer to HEAD has a length, but no body.
                assert malformed(received) is None, (seed, malformed(received), data[:2000])
            count += 1
            answers += received.count(b"HTTP/1.1 ")
            if count % 50 == 0:
                begun = time.monotonic()
                assert wire.ask("GET /_up HTTP/1.1").status == 200, seed
                slowest = max(slowest, time.monotonic() - begun)
        end = time.monotonic() + 10
        while server.files() > files + MOST_KEPT and time.monotonic() < end:
            time.sleep(0.1)
        grown, left = server.memory() - memory, server.files() - files
        for process in reversed(processes):
            process.terminate()
            _, errors = process.communicate(timeout=20)
            assert errors == "", f"seed {seed}: {errors[:4000]}"
            assert process.returncode in (0, -15)
    figure(f"connections with mutated HTTP to the {kind}", count)
    figure(f"answers to mutated HTTP of the {kind}, with their framing checked", answers)
    figures = f"{kind}: {count} connections, {answers} answers, {grown / MEGABYTE:.1f} MB more, {left} files more"
    print(f"{figures}, the slowest /_up took {slowest * 1000:.0f} ms")  # noqa: T201
    assert slowest < 2, f"seed {seed}: {figures}"
    assert left <= MOST_KEPT, f"seed {seed}: {figures}"
    assert grown < 40 * MEGABYTE, f"seed {seed}: {figures}"
