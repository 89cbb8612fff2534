"""A circuit breaker: a server that fails repeatedly gets no requests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens after ``failures`` in a row, for ``pause_s`` seconds; then one request tries the server again."""

    def __init__(self, failures: int, pause_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._monotonic = monotonic
        self._failures = 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def wait_s(self) -> float:
        """Return the seconds until the server may get a request; 0 means now."""
        return max(0.0, self._retry_at - self._monotonic()) if self.is_open else 0.0

    def begin(self) -> None:
        """Note that a request is sent. While the breaker is open, this allows one request per pause."""
        if self.is_open:
            self._retry_at = self._monotonic() + self._pause_s

    def succeed(self) -> None:
        self._failures = 0

    def fail(self) -> None:
        self._failures += 1
        if self.is_open:
            self._retry_at = self._monotonic() + self._pause_s
