"""What blocking and asynchronous handles share: whatever needs no waiting.

It sends no requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from couchdal.backends.base import Backend

if TYPE_CHECKING:
    from couchdal.backends.snapshot import Snapshot
    from couchdal.emulator.engine.server.server import ServerClock
    from couchdal.middleware.faults import Faults
    from couchdal.middleware.index_watch import SuggestedIndex
    from couchdal.middleware.request_log import RequestLog

B = TypeVar("B", bound=Backend)


class Handle(Generic[B]):
    """A database of a server. ``CouchDAL`` and ``AsyncCouchDAL`` add the requests."""

    backend: B

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name!r} on {self.backend!r}>"

    @property
    def name(self) -> str | None:
        """The database that this handle's paths are relative to."""
        return self.backend.database or self.backend.fallback_database

    @property
    def faults(self) -> Faults:
        """What can be made to go wrong on this handle's server: see ``couchdal.middleware.faults.Faults``."""
        from couchdal.middleware.faults import Faults

        return Faults(self.backend.server_key)

    @property
    def requests(self) -> RequestLog:
        """The log of the requests to this handle's server, whoever made them. It begins when it is first asked for."""
        from couchdal.middleware.request_log import log_of

        return log_of(self.backend.server_key)

    def expect(
        self,
        *,
        requests: int | None = None,
        requests_max: int | None = None,
        docs_examined_max: int | None = None,
        statuses: Collection[int] | None = None,
    ) -> AbstractContextManager[RequestLog]:
        """Raise ``AssertionError`` with the list of requests where those of a ``with`` block are not as expected."""
        from couchdal.middleware.request_log import expecting

        return expecting(self.backend.server_key, requests, requests_max, docs_examined_max, statuses)

    @property
    def clock(self) -> ServerClock:
        """The memory server's clock, to ``advance(seconds)``. Raises ``MemoryOnly`` for a real server."""
        return self.backend.clock

    def seed_ids(self, seed: int) -> None:
        """Begin another run of generated ids, the same for the same number. Raises ``MemoryOnly`` for a real server."""
        self.backend.seed_ids(seed)

    def snapshot(self) -> Snapshot:
        """Return the memory server's state as it is now, to ``restore()`` it. Raises ``MemoryOnly`` elsewhere."""
        return self.backend.snapshot()

    @contextmanager
    def rollback(self) -> Iterator[None]:
        """Undo at the end of a ``with`` block what was changed in it, in all databases, by whichever handle."""
        snapshot = self.snapshot()
        try:
            yield
        finally:
            snapshot.restore()

    def suggest_indexes(self) -> list[SuggestedIndex]:
        """Return the indexes that queries through this handle would have needed, the most wanted ones first.

        Raises ``RuntimeError`` for a handle that was not made with ``indexes="watch"`` or ``"require"``.
        """
        return self.backend.suggest_indexes()
