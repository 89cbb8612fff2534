"""``AsyncChangesFollower``: ``ChangesFollower`` for programs on an event loop.

anyio cancels the wait for the next change, so it works on every event loop that the backend works on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING

from anyio import CancelScope, sleep

from couchdal.errors import BackendError, CouchError, NotFound
from couchdal.operations.async_databases import AsyncDatabaseOperations
from couchdal.operations.async_documents import AsyncDocumentOperations
from couchdal.operations.changes import ChangeLines
from couchdal.operations.operation import open_async_feed

if TYPE_CHECKING:
    from typing import Self

    from couchdal.backends.base import AsyncBackend
    from couchdal.operations.following import Progress
    from couchdal.types import Change, DatabaseInfo, Document


class _Calls(AsyncDocumentOperations, AsyncDatabaseOperations):
    def __init__(self, backend: AsyncBackend) -> None:
        self.backend = backend


class AsyncChangesFollower:
    """An asynchronous iterator over all changes of a database, made by ``AsyncCouchDAL.follow_changes``.

    A change counts as processed when the next one is asked for. The checkpoint is saved after that, so each change
    comes at least once. Use it in ``async with``, in one task.

    >>> rows = await db.bulk_docs([{"_id": "a"}, {"_id": "b"}])
    >>> async with db.follow_changes("mailer") as changes:
    ...     async for change in changes:
    ...         print(change["id"])
    ...         if change["id"] == "b":
    ...             changes.stop()
    a
    b
    """

    def __init__(self, backend: AsyncBackend, progress: Progress) -> None:
        self._calls = _Calls(backend)
        self._progress = progress
        self._changes = self._follow()
        self._stopped = False
        self._scope: CancelScope | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        self._progress.processed()
        while not self._stopped:
            change: Change | None = None
            with CancelScope() as self._scope:
                change = await anext(self._changes)
            self._scope = None
            if self._stopped:
                break
            if self._progress.is_save_due(idle=change is None):
                await self.checkpoint()
            if change is not None:
                self._progress.deliver(change)
                return change
        await self.close()
        raise StopAsyncIteration

    def stop(self) -> None:
        """End the iteration, from any task of the same event loop.

        >>> async with db.follow_changes("mailer") as changes:
        ...     changes.stop()
        ...     [change["id"] async for change in changes]
        []
        """
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def checkpoint(self) -> None:
        """Save now which changes were processed. The next run begins after them.

        >>> async with db.follow_changes("mailer") as changes:
        ...     await changes.checkpoint()
        """
        if not self._progress.is_saved:
            try:
                await self._save()
            except (BackendError, CouchError) as error:
                self._progress.not_saved(error)

    async def close(self) -> None:
        """Stop, and save the checkpoint.

        >>> await db.follow_changes("mailer").close()
        """
        self.stop()
        await self._changes.aclose()
        await self.checkpoint()

    #: The name that ``contextlib.aclosing`` uses for ``close``.
    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            await self.close()
        else:
            # A cancelled task ends at once. What was not saved comes again.
            self.stop()
            await self._changes.aclose()

    async def _follow(self) -> AsyncGenerator[Change | None, None]:
        """Yield the changes of one connection after the other, and ``None`` when nothing waits."""
        while True:
            try:
                await self._resume()
                async with aclosing(self._read_feed()) as feed:
                    async for change in feed:
                        yield change
            except (BackendError, CouchError) as error:
                if not self._progress.survives(error):
                    raise
            await sleep(self._progress.pause())

    async def _resume(self) -> None:
        info, checkpoint = await self._state()
        if self._progress.resume(info, checkpoint):
            await self._save()

    async def _save(self) -> None:
        saved = self._progress.checkpoint()
        await self._calls.put_local(self._progress.name, saved)
        self._progress.saved(saved)

    async def _state(self) -> tuple[DatabaseInfo, Document | None]:
        info = await self._calls.info()
        try:
            return info, await self._calls.get_local(self._progress.name)
        except NotFound:
            return info, None

    async def _read_feed(self) -> AsyncGenerator[Change | None, None]:
        """Yield changes until the feed ends, or until a heartbeat finds that the database went back."""
        response = await open_async_feed(self._calls.backend, self._progress.feed())
        lines = ChangeLines(response.name_error)
        async with aclosing(response.achunks()) as stream:
            async for chunk in stream:
                self._progress.connected()
                changes = lines.feed(chunk)
                for change in changes:
                    yield change
                if not changes:
                    yield None
                    if self._progress.went_back(*await self._state()):
                        return
