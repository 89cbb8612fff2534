"""Bodies are streamed both ways, and each side learns that the other has disconnected."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from raw_http import Upstream, Wire, answering

ServeProxy = Callable[..., Wire]
MEGABYTE = 1_000_000
SIZE = 200 * MEGABYTE
MOST_GROWTH_MB = 30
PART = b'{"id":"0123456789","key":"0123456789","value":{"rev":"1-967a00dff5e02add41819138abb3284d"}},\r\n' * 1000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def within(seconds: float, happened: Callable[[], object]) -> bool:
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def proxy_process(upstream: Upstream) -> Iterator[tuple[int, Callable[[], float]]]:
    """A proxy process: its port, and a function for its peak memory growth in megabytes."""
    command = [
        sys.executable,
        "-m",
        "couchdal.cli",
        "serve",
        "--backend",
        "couch",
        "--upstream",
        upstream.url,
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r":(\d+)", process.stdout.readline())
        assert found
        Wire(int(found[1])).ask("GET /db/doc HTTP/1.1")

        def peak_mb() -> float:
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            assert peak
            return int(peak[1]) / 1000

        before = peak_mb()
        yield int(found[1]), lambda: peak_mb() - before
        process.terminate()
        assert process.stderr
        assert process.stderr.read() == ""


only_on_linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")


def chunked(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(SIZE // len(PART)):
        connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))
    connection.sendall(b"0\r\n\r\n")


def measured(connection: socket.socket) -> None:
    count = SIZE // len(PART)
    connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % (count * len(PART)))
    for _ in range(count):
        connection.sendall(PART)


def read_all(wire: Wire) -> int:
    """Read an answer to the end of its connection and return the number of bytes."""
    size = len(wire.rest)
    while part := wire.socket.recv(1 << 20):
        size += len(part)
    return size


@only_on_linux
@pytest.mark.parametrize("answer", [chunked, measured])
@pytest.mark.parametrize("request_line", ["GET /db/_all_docs?include_docs=true", "POST /db/_bulk_docs", "GET /db/d/a"])
def test_long_answer_is_not_collected(
    answer: Callable[[socket.socket], None], request_line: str, upstream: Upstream
) -> None:
    upstream.script = [answering(), answer]
    with proxy_process(upstream) as (port, growth_mb):
        wire = Wire(port).send(f"{request_line} HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 0\n\n")
        assert read_all(wire) > 199 * MEGABYTE
        assert growth_mb() < MOST_GROWTH_MB


@only_on_linux
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_long_body_is_not_collected(framing: str, upstream: Upstream) -> None:
    taken = 0

    def swallow(stream: object) -> int:
        nonlocal taken
        while part := stream.read1(1 << 16):  # type: ignore[attr-defined]
            taken += len(part)
            if taken >= SIZE:
                break
        return taken

    upstream.swallow = swallow
    with proxy_process(upstream) as (port, growth_mb):
        wire = Wire(port)
        head = "PUT /db/doc/file HTTP/1.1\nHost: x\nContent-Type: application/octet-stream\n"
        part = bytes(MEGABYTE)
        if framing == "chunked":
            wire.send(f"{head}Transfer-Encoding: chunked\n\n")
            for _ in range(200):
                wire.send(b"%x\r\n%s\r\n" % (len(part), part))
            wire.send(b"0\r\n\r\n")
        else:
            wire.send(f"{head}Content-Length: {SIZE}\n\n")
            for _ in range(200):
                wire.send(part)
        assert wire.answer().status == 200
        assert growth_mb() < MOST_GROWTH_MB
    assert taken >= SIZE


def test_client_that_does_not_read_slows_the_server_down(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))
            sent += len(PART)

    upstream.script = [endless]
    wire = serve_proxy().send("GET /db/_all_docs HTTP/1.1\nHost: x\n\n")
    assert within(5, lambda: sent > MEGABYTE)
    time.sleep(0.5)
    held = sent
    time.sleep(0.5)
    # No more than the buffers of the sockets hold.
    assert sent == held < 60 * MEGABYTE
    assert sum(len(wire.socket.recv(MEGABYTE)) for _ in range(100)) > MEGABYTE
    assert within(5, lambda: sent > held)


def test_server_that_does_not_read_slows_the_upload_down(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.swallow = lambda _: time.sleep(5)
    wire = serve_proxy().send(f"PUT /db/doc/file HTTP/1.1\nHost: x\nContent-Length: {SIZE}\n\n")
    wire.socket.settimeout(1)
    sent = 0
    with suppress(TimeoutError):
        while sent < SIZE:
            sent += wire.socket.send(bytes(MEGABYTE))
    assert sent < 60 * MEGABYTE


@pytest.mark.parametrize("feed", ["continuous", "eventsource", "longpoll"])
def test_feed_is_forwarded_row_by_row_with_heartbeats(feed: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    rows = [b'{"seq":"1"}\n', b"\n", b"\n", b'{"seq":"2"}\n']
    go = [False] * len(rows)

    def follow(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for number, row in enumerate(rows):
            assert within(5, lambda number=number: go[number])
            connection.sendall(b"%x\r\n%s\r\n" % (len(row), row))
        connection.sendall(b"0\r\n\r\n")

    upstream.script = [follow]
    wire = serve_proxy().send(f"GET /db/_changes?feed={feed}&heartbeat=1000 HTTP/1.1\nHost: x\n\n")
    head = wire.read_until(b"\r\n\r\n")
    assert b"200" in head
    assert b"chunked" in head
    for number, row in enumerate(rows):
        go[number] = True
        assert wire.read_until(b"\r\n") == b"%x" % len(row)
        assert wire.take(len(row) + 2) == row + b"\r\n"
    assert wire.read_until(b"\r\n\r\n") == b"0"


@pytest.mark.parametrize("query", ["heartbeat=200", "timeout=200", "HEARTBEAT=200&timeout=90000"])
def test_feed_of_a_server_that_falls_silent_ends(query: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [silent]
    wire = serve_proxy(timeout="0.3").send(f"GET /db/_changes?feed=continuous&{query} HTTP/1.1\nHost: x\n\n")
    begun = time.monotonic()
    # The status was sent, so the client learns of it by an answer that stays incomplete.
    with pytest.raises(EOFError):
        wire.answer()
    assert 0.4 < time.monotonic() - begun < 5


def silent(connection: socket.socket) -> None:
    """Start a feed, and note that the client disconnects."""
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n\n\r\n")
    connection.settimeout(10)
    connection.recv(1)


@pytest.mark.parametrize(
    ("step", "target"),
    [
        (silent, "/db/_changes?feed=continuous"),
        # Not even a status arrived.
        (lambda connection: connection.recv(1), "/db/_find"),
        (chunked, "/db/_all_docs"),
    ],
)
def test_disconnected_client_ends_its_request(
    step: Callable[[socket.socket], None], target: str, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [step]
    wire = serve_proxy().send(f"{'POST' if 'find' in target else 'GET'} {target} HTTP/1.1\nHost: x\n\n")
    assert within(5, lambda: upstream.received)
    time.sleep(0.1)
    wire.close()
    assert within(1, lambda: upstream.closed == 1)


def test_client_that_disconnects_while_it_sends_a_body_ends_the_request(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    ended = []

    def swallow(stream: object) -> None:
        with suppress(OSError):
            while stream.read1(1 << 16):  # type: ignore[attr-defined]
                pass
        ended.append(True)

    upstream.swallow = swallow
    wire = (
        serve_proxy().send(f"PUT /db/doc/file HTTP/1.1\nHost: x\nContent-Length: {MEGABYTE}\n\n").send(bytes(200_000))
    )
    assert within(5, lambda: upstream.received)
    wire.close()
    assert within(1, lambda: ended)


@pytest.mark.parametrize("target", ["/db/_changes?feed=continuous", "/db/_all_docs", "/db/doc/file"])
@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked\r\n\r\n186a0\r\n", b"content-length: 999999\r\n\r\n"])
def test_server_that_disconnects_leaves_the_answer_incomplete(
    target: str, framing: bytes, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [lambda connection: connection.sendall(HEAD + framing + b"x" * 90_000)]
    wire = serve_proxy().send(f"GET {target} HTTP/1.1\nHost: x\n\n")
    with pytest.raises(EOFError):
        wire.answer()


def test_server_that_disconnects_during_a_short_answer_is_a_bad_gateway(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    upstream.script = [lambda connection: connection.sendall(HEAD + b"content-length: 999\r\n\r\nxxx")]
    assert serve_proxy().ask("PUT /db/doc HTTP/1.1", b"{}").status == 502


def test_content_length_is_forwarded(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    content = b"x" * 300_000
    upstream.script = [HEAD + b"content-length: 300000\r\n\r\n" + content]
    answer = serve_proxy().ask("GET /db/doc/file HTTP/1.1")
    assert (answer.headers["content-length"], answer.body) == ("300000", content)
    assert "transfer-encoding" not in answer.headers


def test_head_has_the_length_and_ends(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [b'HTTP/1.1 200 OK\r\ncontent-length: 300000\r\netag: "1-a"\r\n\r\n']
    answer = serve_proxy().ask("HEAD /db/doc/file HTTP/1.1")
    assert (answer.status, answer.headers["content-length"], answer.headers["etag"]) == (200, "300000", '"1-a"')


def test_compressed_answer_is_forwarded_unchanged(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [HEAD + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\n\x1f\x8b\x08\x00\x00"]
    answer = serve_proxy().ask("GET /db/doc/file HTTP/1.1\nAccept-Encoding: gzip")
    assert upstream.received[0].header("accept-encoding") == "gzip"
    assert (answer.headers["content-encoding"], answer.body) == ("gzip", b"\x1f\x8b\x08\x00\x00")


def test_connections_are_kept_on_both_sides(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy()
    for _ in range(5):
        assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    # One for these requests, one for health checks.
    assert upstream.accepted == 2
