"""How the server ends: within its time-out after SIGTERM, whatever it does, and at once after a second signal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress

import pytest
from processes import ask, couchdal_serve, stuck_server
from raw_http import Wire

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")

TIMEOUT_S = 1.0
# The server has half a second more to end, and this process may wait for its turn.
LATEST_S = TIMEOUT_S + 0.5 + 0.25
AS_JSON = "HTTP/1.1\nHost: x\nContent-Type: application/json\n"

Hostile = Callable[[int, ExitStack], object]


def open_wire(port: int, stack: ExitStack) -> Wire:
    return stack.enter_context(closing(Wire(port)))


def post(port: int, stack: ExitStack, path: str, payload: object) -> None:
    body = json.dumps(payload).encode()
    open_wire(port, stack).send(f"POST {path} {AS_JSON}Content-Length: {len(body)}\n\n").send(body)


def put(port: int, path: str, payload: object = None) -> None:
    with closing(Wire(port)) as wire:
        body = b"" if payload is None else json.dumps(payload).encode()
        assert wire.ask(f"PUT {path} HTTP/1.1\nContent-Type: application/json", body).status == 201


def query_view(port: int, stack: ExitStack, **functions: str) -> None:
    put(port, "/db")
    put(port, "/db/a", {"n": 1})
    put(port, "/db/b", {"n": 2})
    put(port, "/db/_design/d", {"views": {"v": functions}})
    for _ in range(10):
        open_wire(port, stack).send("GET /db/_design/d/_view/v HTTP/1.1\nHost: x\n\n")


def endless_map(port: int, stack: ExitStack) -> None:
    query_view(port, stack, map="function (doc) { while (1); }")


def endless_reduce(port: int, stack: ExitStack) -> None:
    query_view(port, stack, map="function (doc) { emit(1, 1); }", reduce="function () { while (1); }")


def endless_search(pattern: str, text: str) -> Hostile:
    def search(port: int, stack: ExitStack) -> None:
        put(port, "/db")
        put(port, "/db/a", {"text": text})
        for _ in range(10):
            post(port, stack, "/db/_find", {"selector": {"text": {"$regex": pattern}}})

    return search


def unread_downloads(port: int, stack: ExitStack) -> None:
    put(port, "/db")
    put(port, "/db/a", {"text": "x" * 4_000_000})
    for _ in range(50):
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", port)))).sendall(
            b"GET /db/a HTTP/1.1\r\nHost: x\r\n\r\n"
        )


def unread_feeds(port: int, stack: ExitStack) -> None:
    put(port, "/db")
    put(port, "/db/a", {"text": "x" * 4_000_000})
    for _ in range(20):
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", port)))).sendall(
            b"GET /db/_changes?feed=continuous&include_docs=true HTTP/1.1\r\nHost: x\r\n\r\n"
        )


def slow_bodies(port: int, stack: ExitStack) -> None:
    put(port, "/db")
    for number in range(50):
        open_wire(port, stack).send(f"PUT /db/{number} {AS_JSON}Content-Length: 1000\n\n{{")


HOSTILE: dict[str, Hostile] = {
    "endless map": endless_map,
    "endless reduce": endless_reduce,
    "regular expression that backtracks": endless_search("(a|aa)+$", "a" * 5000 + "b"),
    "regular expression that folds case": endless_search("(?i)" + "s" * 20_000, "s" * 20_000),
    "unread downloads": unread_downloads,
    "unread feeds": unread_feeds,
    "slow bodies": slow_bodies,
}


def seconds_to_end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> float:
    begun = time.monotonic()
    process.send_signal(how)
    process.wait(20)
    return time.monotonic() - begun


@pytest.mark.parametrize("name", HOSTILE)
def test_terminated_server_ends_within_its_timeout(name: str) -> None:
    with couchdal_serve("--shutdown-timeout", str(TIMEOUT_S)) as (url, process), ExitStack() as stack:
        HOSTILE[name](int(url.rpartition(":")[2]), stack)
        time.sleep(0.5)
        assert seconds_to_end(process) < LATEST_S
        assert process.stderr
        assert "Traceback" not in process.stderr.read()


def test_terminated_server_ends_and_says_what_is_open_when_its_loop_is_blocked() -> None:
    with stuck_server("/loop", TIMEOUT_S) as process:
        assert seconds_to_end(process) < LATEST_S
        assert process.returncode == 1
        assert process.stderr
        said = process.stderr.read()
    assert re.fullmatch(
        r"couchdal: the server did not end within 1 s; still open: 1 requests, 0 feeds, \d connections;"
        r" the event loop is blocked\n",
        said,
    )


def test_terminated_server_ends_when_its_lock_is_never_freed() -> None:
    with stuck_server("/lock", TIMEOUT_S) as process:
        assert seconds_to_end(process) < LATEST_S


def test_terminated_server_ends_when_nobody_reads_its_standard_error() -> None:
    with stuck_server("/loop", TIMEOUT_S) as process:
        # The pipe is full, so writers wait.
        assert process.stderr
        os.set_blocking(process.stderr.fileno(), False)
        writer = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        try:
            for size in (4096, 1):
                with suppress(BlockingIOError):
                    while os.write(writer, b"x" * size):
                        pass
            assert seconds_to_end(process) < LATEST_S
        finally:
            os.close(writer)
        assert process.returncode == -signal.SIGALRM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("path", ["/loop", "/lock"])
def test_second_signal_ends_the_server_at_once(path: str, second: signal.Signals) -> None:
    with stuck_server(path, 60) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        assert seconds_to_end(process, second) < 0.5
        assert process.returncode == -second


def test_terminated_server_lets_requests_end_for_less_than_a_second() -> None:
    with couchdal_serve("--shutdown-timeout", "0.3") as (url, process), ExitStack() as stack:
        slow_bodies(int(url.rpartition(":")[2]), stack)
        assert ask(url)[0] == 200
        assert seconds_to_end(process) < 1.0
