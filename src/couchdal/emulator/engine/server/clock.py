"""The clock of the engine."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """The date of a server, and the time that its feeds wait.

    By default the date stands still, so that answers can be repeated. With ``date`` it passes, which a server needs for
    its cookies to expire. ``monotonic`` measures how long feeds wait; without it, that time stands still too.
    """

    def __init__(
        self,
        now: float = 1_700_000_000.0,
        monotonic: Callable[[], float] | None = None,
        date: Callable[[], float] | None = None,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._date = date
        #: The sum of all advances.
        self.advanced_s: float = 0.0

    def now(self) -> float:
        """Return seconds since 1970."""
        return self.advanced_s + (self._now if self._date is None else self._date())

    def monotonic(self) -> float:
        """Return seconds for time-outs. They never go back."""
        return self.advanced_s + (self._now if self._monotonic is None else self._monotonic())

    def advance(self, seconds: float) -> None:
        """Let time pass at once. Raise ``ValueError`` if ``seconds`` is negative."""
        self.advanced_s = self.after(seconds)

    def after(self, seconds: float) -> float:
        """Return the sum of all advances after another one. Raise ``ValueError`` if it is negative."""
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds!r}")
        return self.advanced_s + seconds
