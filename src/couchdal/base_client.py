"""``BaseClient``: the members of ``CouchDAL`` and ``AsyncCouchDAL`` that do no I/O."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Generic, TypeVar

from couchdal.backends.base import Backend
from couchdal.errors import ResetRefused

if TYPE_CHECKING:
    from couchdal.backends.base import Emulator
    from couchdal.emulator.engine.server.server import ServerClock
    from couchdal.emulator.engine.server.snapshot import Snapshot
    from couchdal.middleware.faults import Faults
    from couchdal.middleware.index_watch import IndexWatch, SuggestedIndex
    from couchdal.middleware.request_log import RequestLog

B = TypeVar("B", bound=Backend)


class BaseClient(Generic[B]):
    """One database of a server. ``CouchDAL`` and ``AsyncCouchDAL`` add the requests."""

    backend: B

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name!r} on {self.backend!r}>"

    @property
    def name(self) -> str | None:
        """The database that this handle's paths are relative to.

        >>> CouchDAL("memory", database="tasks").name
        'tasks'
        """
        return self.backend.database or self.backend.default_database

    @property
    def faults(self) -> Faults:
        """Faults to inject into this handle's server: see ``couchdal.Faults``.

        >>> with db.faults.answer(503):
        ...     db.request("GET", "/").status
        503
        """
        from couchdal.middleware.faults import Faults  # most programs inject no faults

        return Faults(self.backend.server_key)

    @property
    def requests(self) -> RequestLog:
        """The log of the requests to this handle's server, from any handle. Logging starts at the first access.

        >>> len(db.requests)
        0
        """
        from couchdal.middleware.request_log import log_of  # most programs keep no log

        return log_of(self.backend.server_key)

    def expect(
        self,
        *,
        requests: int | None = None,
        requests_max: int | None = None,
        docs_examined_max: int | None = None,
        statuses: Collection[int] | None = None,
    ) -> AbstractContextManager[RequestLog]:
        """Raise ``AssertionError`` with the list of requests if those of a ``with`` block are not as expected.

        >>> with db.expect(requests=1, statuses={200}):
        ...     info = db.info()
        """
        from couchdal.middleware.request_log import expecting  # only tests expect

        return expecting(self.backend.server_key, requests, requests_max, docs_examined_max, statuses)

    @property
    def emulator(self) -> Emulator:
        """What only the emulator can do: the clock, seeded ids, snapshots, forks.

        Raise ``MemoryOnly`` if this handle uses a real server.

        >>> db.emulator.clock.advance(60)
        """
        return self.backend.emulator

    @property
    def clock(self) -> ServerClock:
        """The emulator's clock. ``advance(seconds)`` moves it. Raise ``MemoryOnly`` for a real server.

        >>> db.clock.advance(600)
        """
        return self.backend.require_emulator("clock").clock

    def seed_ids(self, seed: int) -> None:
        """Restart the emulator's generated ids. The same seed gives the same ids.

        Raise ``MemoryOnly`` for a real server.

        >>> db.seed_ids(1)
        """
        self.backend.require_emulator("seed_ids()").seed_ids(seed)

    def snapshot(self) -> Snapshot:
        """Save the emulator's state; ``snapshot.restore()`` brings it back. Raise ``MemoryOnly`` for a real server.

        >>> snapshot = db.snapshot()
        >>> snapshot.restore()
        """
        return self.backend.require_emulator("snapshot()").snapshot()

    def rollback(self) -> AbstractContextManager[None]:
        """Undo every change to the emulator within a ``with`` block. Raise ``MemoryOnly`` for a real server.

        This includes all databases and changes through other handles.

        >>> with db.rollback():
        ...     written = db.put_document("temporary", {})
        """
        return self.backend.require_emulator("rollback()").rollback()

    def _reset(self) -> None:
        self.backend.require_emulator("reset()", ResetRefused).reset()
        watch = self._watch()
        if watch is not None:
            watch.clear()

    def suggest_indexes(self) -> list[SuggestedIndex]:
        """Return the indexes that queries through this handle needed, the most needed ones first.

        Raise ``RuntimeError`` unless the handle was made with ``indexes="watch"`` or ``indexes="require"``.

        >>> CouchDAL(indexes="watch").suggest_indexes()
        []
        """
        watch = self._watch()
        if watch is None:
            raise RuntimeError('queries are watched only with indexes="watch" or indexes="require"')
        return watch.suggestions()

    @property
    def _index_mode(self) -> str | None:
        """``"watch"`` or ``"require"`` if this handle watches its queries, else ``None``."""
        watch = self._watch()
        return None if watch is None else "require" if watch.require else "watch"

    def _watch(self) -> IndexWatch | None:
        if not self.backend.middleware:
            return None
        from couchdal.middleware.index_watch import find_watch  # most handles watch nothing

        return find_watch(self.backend)
