"""The served emulator waits awake for a client that asks again at once, and only for such a one, and not for long."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.entry.test_command_line import couchdal_serve
from tests.support.raw_http import Served, Wire

from couchdal import MemoryBackend
from couchdal.server import protocol as http_protocol
from couchdal.server.protocol import Lookout


class TurnedByHand:
    """An event loop whose turns are taken by the test."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.due.append(callback)

    def turn(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


def test_it_is_awake_until_time_is_up_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(http_protocol, "perf_counter", lambda: now)
    loop, lookout = TurnedByHand(), Lookout()

    lookout.begin(loop, now)  # type: ignore[arg-type]
    for _ in range(3):
        loop.turn()
        assert len(loop.due) == 1
    now += 0.9 * http_protocol._LOOKOUT_S
    lookout.begin(loop, now)  # type: ignore[arg-type]
    assert len(loop.due) == 1
    now += 0.9 * http_protocol._LOOKOUT_S
    loop.turn()
    assert len(loop.due) == 1
    now += 0.2 * http_protocol._LOOKOUT_S
    loop.turn()
    assert loop.due == []

    lookout.begin(loop, now)  # type: ignore[arg-type]
    assert len(loop.due) == 1


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(Lookout, "begin", lambda self, loop, now: found.append(now))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return found


def ask(wire: Wire) -> None:
    assert wire.ask("GET /_up HTTP/1.1").status == 200


def test_who_was_quick_is_looked_out_for(begun: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_LOOKOUT_S", 5.0)
    wire = Wire(Served(MemoryBackend()).port)
    ask(wire)
    assert begun == []
    ask(wire)
    ask(wire)
    assert len(begun) == 2


def test_who_was_slow_is_not(begun: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_LOOKOUT_S", 0.0)
    wire = Wire(Served(MemoryBackend()).port)
    for _ in range(3):
        ask(wire)
    assert begun == []


def test_one_of_several_is_not(begun: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_LOOKOUT_S", 5.0)
    wire = Wire(Served(MemoryBackend()).port)
    other = Wire(wire.port)
    ask(other)
    for _ in range(3):
        ask(wire)
    other.close()
    assert begun == []


def test_with_one_processor_nobody_is(begun: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_LOOKOUT_S", 5.0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    wire = Wire(Served(MemoryBackend()).port)
    for _ in range(3):
        ask(wire)
    assert begun == []


@pytest.mark.skipif(sys.platform != "linux", reason="the processor time of another process is read from /proc")
def test_a_server_that_nobody_asks_sleeps() -> None:
    with couchdal_serve() as (address, process):
        wire = Wire(int(address.rpartition(":")[2]))
        for _ in range(200):
            ask(wire)
        before = processor_seconds(process.pid)
        time.sleep(0.5)
        assert processor_seconds(process.pid) - before <= 0.1
        wire.close()


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
