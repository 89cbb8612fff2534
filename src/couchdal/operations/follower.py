"""``ChangesFollower``: the changes of a database, for as long as the program runs and from one run to the next."""

from __future__ import annotations

from collections import deque
from itertools import chain
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING

from couchdal.errors import BackendError, CouchError, NotFound
from couchdal.operations.changes import ChangeLines
from couchdal.operations.databases import DatabaseOperations
from couchdal.operations.documents import DocumentOperations
from couchdal.operations.following import SAVED_EVERY_S
from couchdal.operations.operation import open_feed

if TYPE_CHECKING:
    from typing import Self

    from couchdal.backends.base import BaseBackend
    from couchdal.http.messages import Response
    from couchdal.operations.following import Progress
    from couchdal.types import Change, DatabaseInfo, Document

# While this many changes wait for the caller, the feed is not read further.
MOST_WAITING = 100


class _Calls(DocumentOperations, DatabaseOperations):
    def __init__(self, backend: BaseBackend) -> None:
        self.backend = backend


class ChangesFollower:
    """An iterator over all changes of a database, made by ``CouchDAL.follow_changes``.

    A change counts as processed when the caller asks for the next one. The checkpoint is saved after that, so each
    change is delivered at least once. Use the iterator in one thread, in a ``with`` block. A second thread reads the
    feed, so ``stop`` takes effect at once on every backend.

    >>> rows = db.bulk_docs([{"_id": "a"}, {"_id": "b"}])
    >>> with db.follow_changes("mailer") as changes:
    ...     for change in changes:
    ...         print(change["id"])
    ...         if change["id"] == "b":
    ...             changes.stop()
    a
    b
    """

    def __init__(self, backend: BaseBackend, progress: Progress) -> None:
        self._calls = _Calls(backend)
        self._progress = progress
        # Held while the checkpoint is read or written, so that nobody takes an older one for the last.
        self._saving = Lock()
        # Guards everything below, and the progress.
        self._changed = Condition()
        self._waiting: deque[Change] = deque()
        self._error: Exception | None = None
        self._stopped = False
        self._response: Response | None = None
        self._thread: Thread | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        with self._changed:
            self._progress.processed()
            if self._thread is None and not self._stopped:
                self._thread = Thread(target=self._read, name=f"follow {self._progress.name}", daemon=True)
                self._thread.start()
        while True:
            with self._changed:
                if not (self._waiting or self._stopped or self._error):
                    # Wake up to save the last changes of a feed that has become silent.
                    self._changed.wait(None if self._progress.is_saved else SAVED_EVERY_S)
                is_due = not self._stopped and self._progress.is_save_due(idle=not self._waiting)
            if is_due:
                self.checkpoint()
            with self._changed:
                if self._stopped:
                    break
                if self._waiting:
                    change = self._waiting.popleft()
                    self._progress.deliver(change)
                    self._changed.notify_all()
                    return change
                if self._error is not None:
                    raise self._error
        self.close()
        raise StopIteration

    def stop(self) -> None:
        """End the iteration, from any thread.

        The caller's current change counts as processed if the caller asks for the next one.

        >>> with db.follow_changes("mailer") as changes:
        ...     changes.stop()
        ...     list(changes)
        []
        """
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            response, self._response = self._response, None
            self._changed.notify_all()
        if response is not None:
            response.close()

    def checkpoint(self) -> None:
        """Save the checkpoint now. The next run begins after the changes that were processed.

        >>> with db.follow_changes("mailer") as changes:
        ...     changes.checkpoint()
        """
        with self._saving:
            with self._changed:
                if self._progress.is_saved:
                    return
                saved = self._progress.checkpoint()
            try:
                self._calls.put_local(self._progress.name, saved)
            except (BackendError, CouchError) as error:
                self._progress.not_saved(error)
            else:
                self._progress.saved(saved)

    def close(self) -> None:
        """Stop, and save the checkpoint.

        >>> db.follow_changes("mailer").close()
        """
        self.stop()
        self.checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        """Read changes into the queue of the caller, until stopped. This runs in the second thread."""
        while not self._stopped:
            try:
                self._resume()
                self._read_feed()
            except (BackendError, CouchError) as error:
                if self._stopped:
                    return
                with self._changed:
                    if not self._progress.survives(error):
                        self._error = error
                        self._changed.notify_all()
                        return
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, self._progress.pause())

    def _resume(self) -> None:
        with self._saving:
            info, checkpoint = self._state()
            with self._changed:
                # The new feed delivers these changes again.
                self._waiting.clear()
                if not self._progress.resume(info, checkpoint):
                    return
                saved = self._progress.checkpoint()
            self._calls.put_local(self._progress.name, saved)
            self._progress.saved(saved)

    def _state(self) -> tuple[DatabaseInfo, Document | None]:
        info = self._calls.info()
        try:
            return info, self._calls.get_local(self._progress.name)
        except NotFound:
            return info, None

    def _went_back(self) -> bool:
        with self._saving:
            info, checkpoint = self._state()
            with self._changed:
                return self._progress.went_back(info, checkpoint)

    def _read_feed(self) -> None:
        """Read the feed until it ends, or until a heartbeat shows that the database returned to an older state."""
        response = open_feed(self._calls.backend, self._progress.feed())
        with self._changed:
            self._response = response
        lines = ChangeLines(response.name_error)
        try:
            # Begin with an empty chunk: if the follower was stopped meanwhile, the loop ends at once.
            for chunk in chain([b""], response.chunks()):
                changes = lines.feed(chunk)
                with self._changed:
                    self._progress.connected()
                    self._changed.wait_for(lambda: self._stopped or len(self._waiting) < MOST_WAITING)
                    if self._stopped:
                        return
                    self._waiting += changes
                    self._changed.notify_all()
                if chunk and not changes and self._went_back():
                    return
        finally:
            response.close()
