"""How long a client waits for the next bytes of an answer, by the clock of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from couchdal.errors import TimedOut
from couchdal.http.messages import Feed

# How often a wait looks at a clock that a test may advance.
_LOOK_S = 0.02


class Patience:
    """The read time-out of one request. ``seconds`` is ``None`` for a client that waits without a limit."""

    __slots__ = ("_clock", "_until", "seconds")

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self.seconds: float | None = seconds
        self._clock = clock
        self._until = 0.0

    def begin(self) -> None:
        """Begin to wait for the next bytes."""
        if self.seconds is not None:
            self._until = self._clock() + self.seconds

    def left(self, wait: float) -> float:
        """Return how long to wait: ``wait`` seconds, or less. Raise ``TimedOut`` if the time is over."""
        if self.seconds is None:
            return wait
        left = self._until - self._clock()
        if left <= 0:
            raise TimedOut(f"no answer came within {self.seconds:g} s")
        return min(wait, left)

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds. Raise ``TimedOut`` if the client does not wait that long."""
        self.begin()
        until = self._clock() + seconds
        while (rest := until - self._clock()) > 0:
            time.sleep(min(self.left(rest), _LOOK_S))

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds, and let other tasks run."""
        from couchdal.backends.event_libraries import pause  # imports asyncio, which blocking clients never need

        self.begin()
        until = self._clock() + seconds
        while (rest := until - self._clock()) > 0:
            await pause(min(self.left(rest), _LOOK_S))

    def watch(self, feed: Feed) -> Feed:
        """Return a feed that raises ``TimedOut`` when the client would time out."""
        return feed if self.seconds is None else PatientFeed(feed, self)


class PatientFeed:
    """A feed whose reader gives up when nothing has come for some time."""

    def __init__(self, feed: Feed, patience: Patience) -> None:
        self._feed = feed
        self._patience = patience
        patience.begin()

    def poll(self) -> tuple[bytes, float | None]:
        chunk, wait = self._feed.poll()
        if chunk or wait is None:
            self._patience.begin()
            return chunk, wait
        return chunk, self._patience.left(wait)

    def subscribe(self, wake: Callable[[], None]) -> None:
        self._feed.subscribe(wake)

    def close(self) -> None:
        self._feed.close()

    def __iter__(self) -> Iterator[bytes]:
        changed = Event()
        self.subscribe(changed.set)
        try:
            wait: float | None = 0.0
            while wait is not None:
                changed.clear()
                chunk, wait = self.poll()
                if chunk:
                    yield chunk
                    self._patience.begin()
                if wait:
                    changed.wait(wait)
        finally:
            self.close()
