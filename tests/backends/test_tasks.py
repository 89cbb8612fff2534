"""The pace of a request in a thread: how it waits to make a large answer."""

from __future__ import annotations

from threading import Lock, Timer

import pytest

from couchdal.backends.tasks import OutOfTime, Stopped, Task
from couchdal.backends.threads import Turns
from couchdal.emulator.engine.server.server import Server


@pytest.fixture
def taken() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


def begun(timeout_s: float) -> Task:
    task = Task(Server(), Turns(), timeout_s)
    task.begin()
    return task


def test_request_that_waits_for_a_lock_ends_in_time(taken: Lock) -> None:
    task = begun(0.01)
    with pytest.raises(OutOfTime):
        task.hold(taken)
    assert task.held is None


def test_request_that_has_written_waits_beyond_its_time(taken: Lock) -> None:
    task = begun(0.01)
    task.has_written = True
    Timer(0.25, taken.release).start()
    task.hold(taken)
    assert task.held is taken


def test_stopped_request_does_not_wait_for_a_lock(taken: Lock) -> None:
    task = begun(60.0)
    task.stop()
    with pytest.raises(Stopped):
        task.hold(taken)
