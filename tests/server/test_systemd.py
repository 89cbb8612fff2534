"""The server's messages to systemd: ready, alive and stopping, and none when it hangs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import couchdal_serve, stuck_server

from couchdal.config import take_variables
from couchdal.server.systemd import Notifier

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no such sockets")

INTERVAL_S = 1.0
WATCHED = {"WATCHDOG_USEC": str(int(INTERVAL_S * 1_000_000))}


class Systemd:
    """systemd's end of the protocol."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def next(self, within_s: float = 10.0) -> str | None:
        self.socket.settimeout(within_s)
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return None

    def all_for(self, seconds: float) -> list[str]:
        ends, found = time.monotonic() + seconds, []
        while (left := ends - time.monotonic()) > 0:
            state = self.next(left)
            found += [state] if state is not None else []
        return found


@pytest.fixture
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """systemd at a path, or at an abstract address if the test asks for one."""
    kind = getattr(request, "param", "file")
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract addresses")
    # The path of a socket has at most 107 characters.
    address = f"@couchdal-{os.getpid()}" if kind == "abstract" else os.path.relpath(tmp_path / "notify")
    found = Systemd(address)
    yield found
    found.socket.close()


@pytest.mark.parametrize("systemd", ["file", "abstract"], indirect=True)
def test_server_says_that_it_is_ready_alive_and_stopping(systemd: Systemd) -> None:
    with couchdal_serve(NOTIFY_SOCKET=systemd.address, **WATCHED) as (_, process):
        assert systemd.next() == "READY=1"
        begun = time.monotonic()
        assert [systemd.next() for _ in range(5)] == ["WATCHDOG=1"] * 5
        # The first one comes at once, the others at half the interval.
        assert 1.5 * INTERVAL_S < time.monotonic() - begun < 4 * INTERVAL_S
        process.send_signal(signal.SIGTERM)
        while (state := systemd.next()) == "WATCHDOG=1":
            pass
        assert state == "STOPPING=1"
        assert process.wait(5) == -signal.SIGTERM
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.parametrize("path", ["/loop", "/lock"])
def test_server_is_silent_when_it_hangs(systemd: Systemd, path: str) -> None:
    with stuck_server(path, 10, NOTIFY_SOCKET=systemd.address, **WATCHED) as process:
        assert systemd.next() == "READY=1"
        # It was alive until it hung.
        assert set(systemd.all_for(INTERVAL_S / 2)) <= {"WATCHDOG=1"}
        assert systemd.all_for(2 * INTERVAL_S) == []
        # This is how systemd ends it.
        process.send_signal(signal.SIGABRT)
        assert process.wait(5) == -signal.SIGABRT
        assert process.stderr
        assert "in hold" in process.stderr.read() or path == "/loop"


def test_proxy_is_alive_while_its_loop_turns(systemd: Systemd) -> None:
    flags = ("--backend", "couch", "--upstream", "http://127.0.0.1:1")
    with couchdal_serve(*flags, NOTIFY_SOCKET=systemd.address, **WATCHED):
        assert [systemd.next() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize("more", [{}, {**WATCHED, "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}])
def test_server_that_is_not_watched_only_says_that_it_is_ready(systemd: Systemd, more: dict[str, str]) -> None:
    with couchdal_serve(NOTIFY_SOCKET=systemd.address, **more):
        assert systemd.next() == "READY=1"
        assert systemd.all_for(0.5) == []


def test_server_says_nothing_without_the_socket(systemd: Systemd) -> None:
    with couchdal_serve(**WATCHED, PYTHONPROFILEIMPORTTIME="1") as (_, process):
        assert systemd.all_for(INTERVAL_S) == []
        process.send_signal(signal.SIGTERM)
        imported = process.communicate(timeout=10)[1]
    assert "couchdal.server.listener" in imported
    assert "couchdal.server.systemd" not in imported


def test_server_goes_on_without_systemds_socket(tmp_path: Path) -> None:
    with couchdal_serve(NOTIFY_SOCKET=str(tmp_path / "missing")) as (_, process):
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=10)[1]
        assert process.returncode == -signal.SIGTERM
    assert said.splitlines() == [
        "WARNING:couchdal.server:cannot send READY=1 to systemd: No such file or directory",
        "WARNING:couchdal.server:cannot send STOPPING=1 to systemd: No such file or directory",
    ]


def test_child_processes_do_not_get_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    taken = take_variables(given)
    assert taken == given
    assert not given.keys() & os.environ.keys()
    assert Notifier(taken).interval_s == 0.5
