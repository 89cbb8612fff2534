"""The pace of a request that a thread answers. It works without the server's lock, and takes turns with others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from couchdal.backends.threads import Turns
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.view import View
from couchdal.pace import Pace

# How often a request that waits for a lock looks whether it must end.
_LOOKS_S = 0.1


class OutOfTime(Exception):
    """The time of a request is over."""


class Stopped(Exception):
    """Nobody waits for the answer any more: the client has disconnected, or the server stops."""


class Task(Pace):
    """The pace of a request in a thread."""

    holds_lock: bool
    #: What ``hold`` took.
    held: Lock | None = None

    def __init__(self, server: Server, turns: Turns, timeout_s: float | None) -> None:
        self._server = server
        self._turns = turns
        self._deadline = None if timeout_s is None else monotonic() + timeout_s
        self._turn_ends = 0.0
        self._stopped = False

    def stop(self) -> None:
        """End the request at its next step."""
        self._stopped = True

    def begin(self) -> None:
        """Wait for a turn to work."""
        self._turn_ends = self._turns.begin(new=True)

    def end(self) -> None:
        """Give the turn back, so that other threads work."""
        self._turns.end()

    def step(self) -> None:
        now = monotonic()
        self._check(now)
        if now > self._turn_ends and not self.holds_lock and self._turns.are_awaited():
            self._turns.end()
            self._turn_ends = self._turns.begin(new=False)

    def _check(self, now: float) -> None:
        """Raise ``Stopped`` or ``OutOfTime`` if the request must end. One that has written has no deadline."""
        if self._stopped:
            raise Stopped
        if self._deadline is not None and now > self._deadline and not self.has_written:
            raise OutOfTime

    def begin_long(self) -> None:
        self.step()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        with self.unlocked():
            self._turns.end()
            try:
                yield
            finally:
                self._turn_ends = self._turns.begin(new=True)

    @contextmanager
    def computing(self) -> Iterator[None]:
        processors = self._turns.processors
        with self.waiting():
            if not processors.acquire(timeout=self.left()):
                raise OutOfTime
            try:
                if self._stopped:
                    raise Stopped
                yield
            finally:
                processors.release()

    def hold(self, lock: Lock) -> None:
        """Take a lock that one task at a time has. Wait for it without a turn. It is released after the task."""
        with self.waiting():
            while not lock.acquire(timeout=_LOOKS_S):
                self._check(monotonic())
            self.held = lock

    @contextmanager
    def unlocked(self) -> Iterator[None]:
        server, releases = self._server, self.holds_lock
        if releases:
            server.journal.busy = self.holds_lock = False
            server.lock.release()
        try:
            yield
        finally:
            if releases:
                server.lock.acquire()
                server.journal.settle()
                server.journal.busy = self.holds_lock = True

    def left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    @contextmanager
    def view(self, db: Database) -> Iterator[Database]:  # type: ignore[override]
        with self._server.exclusively():
            view = View(self._server, db.origin())
        try:
            yield view
        finally:
            with self._server.exclusively():
                view.close()
