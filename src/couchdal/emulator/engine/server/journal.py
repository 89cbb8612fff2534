"""The journal: makes every write of a server happen wholly or not at all.

An exception can end a write between any two steps: a signal handler raises it (Ctrl-C, the time limit of a test), or
memory or the stack runs out. So a write has three steps. It computes all of its changes, publishes them as a commit
with one assignment, and applies the commit. If a commit is interrupted, the next request that takes the server's lock
finishes it. All steps of ``redo`` can be repeated from the beginning.

If the server has a data file, a commit is on the disk before it is applied. If that fails, nothing changes.

The journal does not know documents or databases. It also keeps the counters of the server, because every part that
counts something has access to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from couchdal.emulator.engine.server.keeper import Keeper
from couchdal.errors import BackendError
from couchdal.pace import begin_long

#: The value that an attribute of an object gets.
Assignment: TypeAlias = tuple[object, str, object]
Action: TypeAlias = Callable[[], object]
#: Writes to the disk what a commit changes.
Keep: TypeAlias = Callable[[Keeper], object]

_REENTERED = (
    "this thread is already in the middle of a request to this server. A signal handler or a finalizer that"
    " interrupted it cannot use the server; let it set a flag, or raise"
)


class Commit(ABC):
    """A write that was computed and must be finished. ``outer`` is the commit that it is part of."""

    __slots__ = ("outer",)

    outer: Commit | None

    @property
    def keep(self) -> Keep | None:
        """The function that writes the commit to the disk, or ``None`` if it changes no stored data."""
        return None

    @abstractmethod
    def apply(self) -> None:
        """Make the write. It runs once."""

    @abstractmethod
    def redo(self) -> None:
        """Finish the write, even if a part of it was applied."""

    @abstractmethod
    def wake(self) -> None:
        """Wake the feeds that the write concerns."""


class Journal:
    """The commit of a server that is being applied, if any. The caller holds the server's lock."""

    __slots__ = ("busy", "commits", "counted", "counts", "keeper", "pending")

    def __init__(self) -> None:
        #: True while a request is running.
        self.busy: bool = False
        #: How many writes were made. A request that has made one is not started again.
        self.commits: int = 0
        self.pending: Commit | None = None
        #: The counters of ``_stats``, by path. Answers are counted by method and status.
        self.counts: defaultdict[str | tuple[str, int], int] = defaultdict(int)
        #: What the present request has counted, if it may start again; ``None`` for others. Writes are not in it.
        self.counted: list[tuple[str, int]] | None = None
        #: The keeper that writes commits to the disk; ``None`` if they stay in memory.
        self.keeper: Keeper | None = None

    def settle(self) -> None:
        """Finish an interrupted commit. Raise ``BackendError`` if the caller interrupts a request of its own thread."""
        if self.busy:
            raise BackendError(_REENTERED, "the memory backend")
        while (commit := self.pending) is not None:
            if self.keeper is not None and commit.keep is not None and not self.keeper.holds_next():
                # The commit was interrupted before it was on the disk, so it was not applied either.
                self.pending = commit.outer
                continue
            commit.redo()
            self.pending = commit.outer
            if self.keeper is not None:
                self.keeper.catch_up()
            commit.wake()

    def publish(self, commit: Commit) -> None:
        """Make a write."""
        if self.keeper is not None:
            self.begin_keeping()
        self.commits += 1
        commit.outer = self.pending
        self.pending = commit
        if self.keeper is not None:
            self.keep(commit)
        commit.apply()
        if self.keeper is not None:
            self.keeper.catch_up()
        commit.wake()
        self.pending = commit.outer

    def uncount(self) -> None:
        """Forget what the present request has counted."""
        for name, number in self.counted or ():
            self.counts[name] -= number

    def begin_keeping(self) -> None:
        """Leave the event loop before a write to the disk: other requests must not wait for it there."""
        begin_long()

    def keep(self, commit: Commit) -> None:
        """Write the pending commit to the disk. If that fails, it is not pending any more."""
        keeper, keep = self.keeper, commit.keep
        if keeper is None or keep is None:
            return
        is_kept = False
        try:
            with keeper.transaction():
                keep(keeper)
            is_kept = True
        finally:
            if not is_kept and not keeper.holds_next():
                self.pending = commit.outer


class Changes(Commit):
    """A write that consists of assignments and of actions that can be repeated.

    ``recover`` repairs the effects of interrupted actions. ``woken`` wakes feeds. ``keep`` writes the changes to the
    disk.
    """

    __slots__ = ("_actions", "_assignments", "_keep", "_recover", "_woken")

    def __init__(
        self,
        assignments: Sequence[Assignment],
        actions: Sequence[Action] = (),
        *,
        woken: Sequence[Action] = (),
        recover: Sequence[Action] = (),
        keep: Keep | None = None,
    ) -> None:
        self._assignments = assignments
        self._actions = actions
        self._woken = woken
        self._recover = recover
        self._keep = keep

    @property
    def keep(self) -> Keep | None:
        return self._keep

    def apply(self) -> None:
        for target, name, value in self._assignments:
            setattr(target, name, value)
        for action in self._actions:
            action()

    def redo(self) -> None:
        self.apply()
        for action in self._recover:
            action()

    def wake(self) -> None:
        for wake in self._woken:
            wake()
