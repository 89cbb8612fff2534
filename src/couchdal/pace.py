"""The pace of a request: long work lets others work, and ends when its time is over or nobody waits for it.

Long loops call ``give_way``, or iterate over ``paced`` items. What that does is up to whoever runs the request: this
module and its callers have no clock and no threads. In a program that uses the emulator in its own process, it usually
does nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from operator import length_hint
from typing import Any, TypeVar

#: How many seconds the caller of the current request waits for the next bytes, if it is another HTTP client.
caller_timeout_s: ContextVar[float | None] = ContextVar("couchdal_caller_timeout_s", default=None)
#: A JSON value with more values in it is large.
MOST_VALUES: int = 2000
T = TypeVar("T")
D = TypeVar("D")

# Work on this many items, between two steps, takes a few hundred microseconds at most.
_EVERY = 32
# Encoding this many characters of a string takes as long as encoding one value.
_PER_VALUE = 256
# Work on more items than these takes long.
_MANY = 5000
# A list that is longer is sorted in pieces, because nobody else can work while Python sorts a list.
_LONGEST_SORTED = 4096


class Pace(ABC):
    """How one request runs. Each thread has at most one."""

    #: Whether the request holds the server's lock.
    holds_lock: bool = False
    #: Whether the request has written something. After that it has no deadline.
    has_written: bool = False
    #: Whether the answer holds a large value, so that it is encoded in pieces.
    is_large: bool = False

    @abstractmethod
    def step(self) -> None:
        """Let others work if it is their turn. Raise an exception if the request must not go on."""

    @abstractmethod
    def begin_long(self) -> None:
        """Prepare for a step that takes long, such as a call of JavaScript. Raise if that is impossible here."""

    @abstractmethod
    def unlocked(self) -> AbstractContextManager[None]:
        """Let others have the server's lock, if the request holds it, while the caller works in steps."""

    @abstractmethod
    def waiting(self) -> AbstractContextManager[None]:
        """Let others work and have the server's lock while the caller waits for something."""

    @abstractmethod
    def computing(self) -> AbstractContextManager[None]:
        """Let others work and have the server's lock while the caller computes without the interpreter's lock.

        Only a few callers compute at once. Raise an exception if none of them ends in time.
        """

    @abstractmethod
    def left(self) -> float | None:
        """Return how many seconds the request may still take; ``None`` means no limit."""

    @abstractmethod
    def view(self, db: D) -> AbstractContextManager[D] | None:
        """Return a view of a database for reads without the server's lock; ``None`` if the request needs the lock."""


class _Here(threading.local):
    pace: Pace | None = None


#: The pace of the work in this thread; ``None`` if nobody waits for it.
here: _Here = _Here()


def give_way() -> None:
    """Let others work if it is their turn. Raise an exception if the request must not go on."""
    pace = here.pace
    if pace is not None:
        pace.step()


def give_way_for(items: Sized) -> None:
    """Let others work if it is their turn, before one step that works on all items."""
    pace = here.pace
    if pace is not None:
        if len(items) > _MANY:
            pace.begin_long()
        else:
            pace.step()


def begin_long() -> None:
    """Prepare for a step that takes long. Call this before the step, and before anything is changed."""
    pace = here.pace
    if pace is not None:
        pace.begin_long()


def begin_large() -> None:
    """Call this before a large value becomes part of an answer, and before anything is changed."""
    pace = here.pace
    if pace is not None:
        pace.begin_long()
        pace.is_large = True


def size_of(value: Any, most: int) -> int:
    """Return about how many values a value has, or a number above ``most`` if there are more."""
    kind = type(value)
    if kind is str:
        return 1 + len(value) // _PER_VALUE
    if kind is not dict and kind is not list:
        return 1
    size = 1 + len(value)
    if size <= most:
        for member in value.values() if kind is dict else value:
            size += size_of(member, most - size)
            if size > most:
                break
    return size


def begin_if_large(value: object) -> None:
    """Call this before a value becomes part of an answer. A large one takes long."""
    if here.pace is not None and size_of(value, MOST_VALUES) > MOST_VALUES:
        begin_large()


def waiting() -> AbstractContextManager[None]:
    """Return a context for waiting: others work meanwhile, and may take the server's lock."""
    pace = here.pace
    return nullcontext() if pace is None else pace.waiting()


def unlocked() -> AbstractContextManager[None]:
    """Return a context for steps of work that need nothing of the server: others may take its lock."""
    pace = here.pace
    return nullcontext() if pace is None else pace.unlocked()


def computing() -> AbstractContextManager[None]:
    """Return a context for one long computation that releases the interpreter's lock: others work meanwhile."""
    pace = here.pace
    return nullcontext() if pace is None else pace.computing()


def seconds_left() -> float | None:
    """Return how long the running request may still take; ``None`` means no limit."""
    pace = here.pace
    return None if pace is None else pace.left()


def view_of(db: D) -> AbstractContextManager[D] | None:
    """Return a view of a database for reads without the server's lock; ``None`` if the request needs the lock."""
    pace = here.pace
    return None if pace is None else pace.view(db)


def paced(items: Iterable[T], every: int = _EVERY) -> Iterable[T]:
    """Return the items, with a step after some of them. Without a pace, these are the items themselves."""
    pace = here.pace
    if pace is None or length_hint(items, every) < every:
        return items
    return _paced(items, pace.step, every)


def _paced(items: Iterable[T], step: Callable[[], None], every: int) -> Iterator[T]:
    left = every
    for item in items:
        left -= 1
        if not left:
            step()
            left = every
        yield item


def paced_sort(items: list[Any]) -> None:
    """Sort a list. A long one is sorted in pieces, with steps between them."""
    if here.pace is None or len(items) <= _LONGEST_SORTED:
        items.sort()
        return
    from heapq import merge  # only servers sort lists in pieces

    pieces = []
    for start in range(0, len(items), _LONGEST_SORTED):
        give_way()
        pieces.append(sorted(items[start : start + _LONGEST_SORTED]))
    items[:] = paced(merge(*pieces))
