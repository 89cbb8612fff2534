"""What followers of a changes feed decide: where to continue, when to save, and which errors they survive.

The checkpoint is a local document of the followed database. If the database is deleted and created again, the
checkpoint is gone. If the database returns to an older state, so does the checkpoint. In both cases, changes are
delivered again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from couchdal.errors import NO_DATABASE, BackendError, CouchError, HostRefused, NotConfigured
from couchdal.operations.changes import changes

if TYPE_CHECKING:
    from couchdal.operations.operation import Operation
    from couchdal.types import Change, ChangesResult, DatabaseInfo, Document, FollowOptions

_LOG = logging.getLogger("couchdal.follow")
_FIRST_PAUSE_S = 0.1
#: Processed changes are saved at most this often, unless there are many.
SAVED_EVERY_S = 1.0
_TRANSIENT = frozenset((408, 423, 429))


class Progress:
    """The progress of one follower. ``name`` is the id of its checkpoint."""

    def __init__(
        self,
        name: str,
        *,
        since: str | int,
        heartbeat: int,
        checkpoint_every: int,
        longest_pause_s: float,
        options: FollowOptions,
    ) -> None:
        if not name:
            raise ValueError("a follower must have a name, for its checkpoint")
        if checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, not {checkpoint_every}")
        self.name: str = name.removeprefix("_local/")
        self._first = str(since)
        self._heartbeat = heartbeat
        self._every = checkpoint_every
        self._longest_pause_s = longest_pause_s
        self._options = options
        self._failures = 0
        self._was_connected = False
        self._instance: str | None = None
        # Four sequences: of the caller's current change, of the last change it received, processed, and saved.
        self._current: str | None = None
        self._received = self._processed = self._saved = "0"
        self._unsaved = 0
        self._saved_at = time.monotonic()
        # Checked now, so that a wrong option fails in the caller's line.
        self.feed()

    def feed(self) -> Operation[ChangesResult]:
        """Return the call that opens the feed after the last change that the caller received."""
        return changes("continuous", since=self._received, heartbeat=self._heartbeat, **self._options)

    def went_back(self, info: DatabaseInfo, checkpoint: Document | None) -> bool:
        """Return whether the database is another one than this follower has read, or in an older state."""
        if checkpoint is None or checkpoint.get("since") != self._saved:
            return True
        return info["instance_start_time"] != self._instance or _number(info["update_seq"]) < _number(self._received)

    def resume(self, info: DatabaseInfo, checkpoint: Document | None) -> bool:
        """Decide where the feed begins, before each connection. Return whether the checkpoint must be saved."""
        begins = self._instance is None
        if not begins and not self.went_back(info, checkpoint):
            return not self.is_saved
        start = "0"
        if begins:
            start = info["update_seq"] if self._first == "now" else self._first
        else:
            _LOG.warning("%s: the database is new or in an older state; changes are delivered again", self.name)
        self._instance = info["instance_start_time"]
        if checkpoint is not None and checkpoint.get("instance_start_time") == self._instance:
            stored = str(checkpoint.get("since"))
            start = stored if _number(stored) <= _number(info["update_seq"]) else "0"
        self._current, self._received, self._processed, self._unsaved = None, start, start, 0
        return True

    def deliver(self, change: Change) -> None:
        """Note the change that the caller receives."""
        self._current = self._received = change["seq"]

    def processed(self) -> None:
        """Note that the caller has processed the last change."""
        if self._current is not None:
            self._processed, self._current = self._current, None
            self._unsaved += 1

    def is_save_due(self, *, idle: bool) -> bool:
        """Return whether to save now. An ``idle`` feed has no change that waits for the caller."""
        if self._unsaved >= self._every:
            return True
        return idle and self._unsaved > 0 and time.monotonic() - self._saved_at >= SAVED_EVERY_S

    @property
    def is_saved(self) -> bool:
        """Whether every processed change is saved."""
        return self._unsaved == 0

    def checkpoint(self) -> dict[str, object]:
        """Return the checkpoint to save."""
        return {"since": self._processed, "instance_start_time": self._instance}

    def saved(self, checkpoint: Mapping[str, object]) -> None:
        """Note that a checkpoint was saved."""
        self._saved = str(checkpoint["since"])
        self._unsaved, self._saved_at = 0, time.monotonic()

    def not_saved(self, error: Exception) -> None:
        """Note that a checkpoint could not be saved. The changes since the last one may come again."""
        self._saved_at = time.monotonic()
        _LOG.warning("%s: the checkpoint was not saved: %s", self.name, error)

    def connected(self) -> None:
        """Note that the feed has answered."""
        self._failures = 0
        self._was_connected = True

    def survives(self, error: BackendError | CouchError) -> bool:
        """Return whether another attempt may succeed.

        A database or a filter that is missing at the start is an error. Later, somebody may be creating it again.
        """
        if isinstance(error, CouchError):
            final = 400 <= error.status < 500 and error.status not in _TRANSIENT
            begun = self._was_connected or (self._instance is not None and error.reason == NO_DATABASE)
            final = final and not (error.status == 404 and begun)
        else:
            final = isinstance(error, (NotConfigured, HostRefused))
        if not final:
            _LOG.warning("%s: the feed broke off, and is opened again: %s", self.name, error)
        return not final

    def pause(self) -> float:
        """Return the seconds to wait before the next connection. They double with each failure."""
        self._failures += 1
        return min(self._longest_pause_s, _FIRST_PAUSE_S * float(2 ** min(self._failures - 1, 30)))


def _number(seq: str) -> int:
    """Return the number that a sequence begins with. It counts changes; the rest is the server's own."""
    number = str(seq).partition("-")[0]
    return int(number) if number.isdigit() else 0
