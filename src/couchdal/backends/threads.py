"""Threads for long requests, and the turns that they take: only a few work at once, so the event loop keeps running.

This module does not know what a request is.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic

# How many threads work at once. A second one works while the first is in a call that releases the interpreter's lock.
_AT_ONCE = 2
# How long a thread works before the next one has its turn.
_TURN_S = 0.005
_MOST_THREADS = 64
_IDLE_S = 10.0


class Turns:
    """Lets a few threads work at once. Those that have not worked yet come first; the others take turns."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        #: Bounds the computations that need no turn, because they could use all processors.
        self.processors: threading.BoundedSemaphore = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) - 1))
        self._lock = threading.Lock()
        self._free = at_once
        # For each waiting thread, a lock that is released when it may work.
        self._new: deque[threading.Lock] = deque()
        self._others: deque[threading.Lock] = deque()

    def begin(self, *, new: bool) -> float:
        """Wait for the turn of this thread, and return when it should end."""
        with self._lock:
            if self._free:
                self._free -= 1
                return monotonic() + _TURN_S
            mine = threading.Lock()
            mine.acquire()
            (self._new if new else self._others).append(mine)
        mine.acquire()
        return monotonic() + _TURN_S

    def end(self) -> None:
        """End the turn of this thread."""
        with self._lock:
            waiting = self._new or self._others
            if waiting:
                waiting.popleft().release()
            else:
                self._free += 1

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Work for less than one turn."""
        self.begin(new=True)
        try:
            yield
        finally:
            self.end()

    def are_awaited(self) -> bool:
        """Return whether threads wait for their turn."""
        return bool(self._new or self._others)


class Threads:
    """Daemon threads that start when they are needed and end when they are idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._count = self._idle = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise, when a thread is free."""
        with self._lock:
            starts = not self._idle and self._count < _MOST_THREADS
            self._count += starts
            # An idle thread is promised to this job.
            self._idle -= bool(self._idle)
        self._jobs.put(job)
        if starts:
            threading.Thread(target=self._work, name="couchdal request", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        self._count -= 1
                        return
                continue
            job()
            # Otherwise an idle thread would keep the last request and its answer.
            del job
            with self._lock:
                self._idle += 1
