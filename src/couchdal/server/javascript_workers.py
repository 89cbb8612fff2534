"""JavaScript in worker processes that can be killed, as CouchDB's query servers can.

If a function does not end, only its request fails. Workers start when they are needed, and serve one design document
after another. They end with the server.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from threading import Condition
from time import monotonic
from typing import NoReturn

from couchdal.emulator.engine.javascript.runtime import TIME_LIMIT_S, TIMED_OUT, Engine, Stopped, is_installed
from couchdal.errors import NotSupported
from couchdal.pace import seconds_left
from couchdal.server.javascript_worker import ASK, HEAD, START, STOPPED, TURN

#: The most workers. CouchDB has up to 100.
MOST_WORKERS = 8
# If this many workers are idle, an engine starts in one of them. Otherwise it starts in a new worker, so that engines
# which are used in turns do not replace one another.
_WARM = 2
# A function cannot return more than this, because its memory is smaller.
_LONGEST_ANSWER = 256 * 1024 * 1024
_READ_SIZE = 256 * 1024
_STARTING_S = 30.0
# The variables that a worker gets. None of them holds a password.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")


class Workers:
    """A pool of worker processes. ``time_limit_s`` is how long one function may run, in real time."""

    def __init__(self, most: int = MOST_WORKERS, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.most = most
        self.time_limit_s = time_limit_s
        self._changed = Condition()
        # The last used one is at the end.
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        # Workers that are starting count as busy.
        self._starting = 0
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<Workers: {len(self._busy)} of {self.most} busy, {len(self._idle)} idle>"

    @property
    def pids(self) -> list[int]:
        """The ids of the worker processes."""
        with self._changed:
            return [worker.pid for worker in (*self._idle, *self._busy)]

    def start(self, load: str) -> Engine:
        """Return an engine that has run the command ``load``. Raise ``NotSupported`` if JavaScript is not installed."""
        if not is_installed():
            raise NotSupported("functions of design documents need JavaScript: pip install 'couchdal[views]'")
        return _Engine(self, load, next(self._numbers))

    def close(self) -> None:
        """Kill all workers. A function that runs is stopped."""
        with self._changed:
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.kill()

    def lease(self, engine: int) -> Worker:
        """Return a worker for one engine alone, if possible the one that served it last. Raise ``Stopped``."""
        with self._changed:
            if not self._changed.wait_for(self._has_room, self.time_limit_s):
                raise Stopped(TIMED_OUT)
            known = next((worker for worker in self._idle if worker.engine == engine), None)
            is_full = len(self._idle) + len(self._busy) + self._starting >= self.most
            if known is None and self._idle and (is_full or len(self._idle) >= _WARM):
                known = self._idle[0]
            if known is not None:
                self._idle.remove(known)
                self._busy.add(known)
                return known
            self._starting += 1
        try:
            worker = Worker()
        except OSError as error:
            raise Stopped(f"a worker process cannot start: {error.strerror or error}") from None
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify()
        with self._changed:
            self._busy.add(worker)
        return worker

    def _has_room(self) -> bool:
        return bool(self._idle) or len(self._busy) + self._starting < self.most

    def release(self, worker: Worker) -> None:
        """Take a worker back, unless it was killed."""
        with self._changed:
            self._busy.discard(worker)
            if worker.is_alive:
                self._idle.append(worker)
            self._changed.notify()


class _Engine:
    def __init__(self, workers: Workers, load: str, number: int) -> None:
        self._workers = workers
        self._load = load
        self._number = number

    def ask(self, commands: Sequence[str]) -> list[str]:
        worker = self._workers.lease(self._number)
        is_done = False
        try:
            limit_s = self._workers.time_limit_s
            left_s = seconds_left()
            if left_s is not None:
                limit_s = min(limit_s, left_s)
            if worker.engine != self._number:
                worker.start(self._load, limit_s)
                worker.engine = self._number
            answers = worker.ask(commands, limit_s)
            is_done = True
            return answers
        finally:
            if not is_done and worker.engine is not None:
                # The rest of its answers will not be read.
                worker.kill()
            self._workers.release(worker)


class Worker:
    """One worker process, which one thread uses at a time."""

    def __init__(self) -> None:
        #: The number of the engine that it runs; None if it runs none.
        self.engine: int | None = None
        self.is_alive: bool = True
        self._connection, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "couchdal.server.javascript_worker"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            except OSError:
                self._connection.close()
                raise
        self.pid: int = self._process.pid
        self._received = bytearray()
        self._is_new = True

    def start(self, load: str, limit_s: float) -> None:
        """Run a command in a new engine. Raise ``Stopped``."""
        self.engine = None
        # On a busy machine, starting an interpreter may take longer than the time limit of a function.
        limit_s += _STARTING_S if self._is_new else 0
        self._send(START, load, limit_s)
        self._answer(limit_s)
        self._is_new = False

    def ask(self, commands: Sequence[str], limit_s: float) -> list[str]:
        """Return the answer to each command. Raise ``Stopped``: then the worker has no engine, or was killed."""
        self._send(ASK, "\n".join(commands), limit_s)
        return [self._answer(limit_s) for _ in commands]

    def _send(self, kind: bytes, text: str, limit_s: float) -> None:
        body = text.encode()
        self._connection.settimeout(limit_s)
        try:
            self._connection.sendall(HEAD.pack(kind, len(body)) + body)
        except TimeoutError:
            self._fail(TIMED_OUT)
        except OSError:
            self._fail()

    def _answer(self, limit_s: float) -> str:
        turns: list[str] = []
        try:
            kind, text = self._message(limit_s)
            while kind == TURN:
                turns.append(text)
                left_s = seconds_left()
                # As on CouchDB, the time limit applies to each turn of a list function.
                kind, text = self._message(limit_s if left_s is None else min(limit_s, left_s))
        except Stopped as stopped:
            stopped.turns = turns
            raise
        if kind == STOPPED:
            self.engine = None
            raise Stopped(text, turns)
        return text

    def _message(self, limit_s: float) -> tuple[bytes, str]:
        until = monotonic() + limit_s
        kind, length = HEAD.unpack(self._receive(HEAD.size, until))
        if length > _LONGEST_ANSWER:
            self._fail("the answer is too long")
        return kind, self._receive(length, until).decode()

    def _receive(self, size: int, until: float) -> bytes:
        received = self._received
        while len(received) < size:
            left = until - monotonic()
            if left <= 0:
                self._fail(TIMED_OUT)
            self._connection.settimeout(left)
            try:
                part = self._connection.recv(_READ_SIZE)
            except TimeoutError:
                self._fail(TIMED_OUT)
            except OSError:
                part = b""
            if not part:
                self._fail()
            received += part
        found = bytes(received[:size])
        del received[:size]
        return found

    def _fail(self, reason: str | None = None) -> NoReturn:
        """Kill the process and raise ``Stopped``. Without a reason, the process has ended by itself."""
        if reason is None:
            with suppress(subprocess.TimeoutExpired):
                # Report a signal as a shell does. CouchDB does so too.
                status = self._process.wait(1)
                reason = f"{{exit_status,{status if status >= 0 else 128 - status}}}"
        self.kill()
        raise Stopped(reason or "{exit_status,1}")

    def kill(self) -> None:
        """End the process at once."""
        self.is_alive = False
        self.engine = None
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        self._connection.close()
