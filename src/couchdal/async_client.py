"""``AsyncCouchDAL``, the client for programs on an event loop: ``CouchDAL`` with awaitable methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from couchdal.backends import open_backend, with_database
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.event_loop import for_event_loop
from couchdal.base_client import BaseClient
from couchdal.config import choose_indexes
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import ABSENT, Response
from couchdal.http.redaction import name_request
from couchdal.middleware import creating, watched
from couchdal.operations.async_databases import AsyncDatabaseOperations
from couchdal.operations.async_updates import AsyncUpdateOperations
from couchdal.operations.changes import ChangeLines, Feed, changes
from couchdal.operations.operation import Operation, add_query, open_async_feed

if TYPE_CHECKING:
    from typing import Self, Unpack

    from couchdal.operations.async_follower import AsyncChangesFollower
    from couchdal.operations.async_typed import AsyncTypedDocuments
    from couchdal.types import Change, ChangesOptions, ChangesResult, FollowOptions

T = TypeVar("T")


class AsyncCouchDAL(
    AsyncUpdateOperations,
    AsyncDatabaseOperations,
    BaseClient[AsyncBackend],
):
    """``CouchDAL`` for programs on an event loop: the same arguments, results, errors and choice of backend.

    It takes a blocking backend object too. The emulator is called directly, any other backend from threads.

    >>> db = AsyncCouchDAL("memory", database="tasks", create=True)
    >>> (await db.put_document("t1", {"type": "task"}))["ok"]
    True
    >>> (await db.find({"type": "task"}))["docs"][0]["_id"]
    't1'
    """

    def __init__(
        self,
        backend: AsyncBackend | BaseBackend | str | None = None,
        *,
        database: str | None = None,
        create: bool = False,
        indexes: str | None = None,
    ) -> None:
        if backend is None or isinstance(backend, str):
            backend = open_backend(backend)
        if isinstance(backend, BaseBackend):
            backend = for_event_loop(backend)
        elif not isinstance(backend, AsyncBackend):
            raise TypeError(f"backend must be 'couch', 'memory' or a backend, not {type(backend).__name__}")
        provided = creating(with_database(backend, database), create)
        self.backend: AsyncBackend = watched(provided, choose_indexes(indexes))

    # ``Any``, as ``json.loads`` returns it: only the caller knows what a path answers.
    async def get(self, path: str, method: str = "GET", payload: object = None) -> Any:
        """Send a request and return the decoded answer, as ``CouchDAL.get`` does.

        >>> (await db.get("/_bulk_docs", "POST", {"docs": [{"_id": "t1", "type": "task"}]}))[0]["ok"]
        True
        """
        return await self.backend.handle_request(path, method, payload)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = ABSENT,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Response:
        """Send a request and return the whole answer, whatever its status. A feed's ``stream`` is asynchronous.

        >>> (await db.request("GET", "/missing")).status
        404
        """
        request = self.backend.relative_request(method, add_query(path, params), json, headers, body)
        try:
            response = await self.backend.exchange(request)
        except (CouchError, BackendError) as error:
            name_request(error, request)
            raise
        response.name_error = partial(name_request, request=request, is_path_written=True)
        return response

    def database(self, name: str, *, create: bool = False) -> AsyncCouchDAL:
        """Return a handle on another database of the same server. ``create`` creates it before its first use.

        >>> (await db.database("archive", create=True).info())["doc_count"]
        0
        """
        return AsyncCouchDAL(self.backend.bind(name), create=create)

    def fork(self) -> AsyncCouchDAL:
        """Return a handle on a copy of the emulator. Neither sees what is written to the other.

        The cost does not depend on what the databases hold. Raise ``MemoryOnly`` for a real server.

        >>> (await db.fork().put_document("a", {}))["ok"]
        True
        >>> (await db.info())["doc_count"]
        0
        """
        return AsyncCouchDAL(self.backend.require_emulator("fork()").fork(), indexes=self._index_mode)

    async def reset(self) -> None:
        """Empty the emulator: all databases, users and settings. Raise ``ResetRefused`` for a real server.

        >>> await db.reset()
        """
        self._reset()

    async def close(self) -> None:
        """Close the connections. They also close when the event loop ends.

        >>> await db.close()
        """
        await self.backend.aclose()

    #: The name that ``contextlib.aclosing`` uses for ``close``.
    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    def changes(
        self, feed: Literal["normal", "longpoll"] = "normal", **options: Unpack[ChangesOptions]
    ) -> Coroutine[Any, Any, ChangesResult]: ...

    @overload
    def changes(
        self, feed: Literal["continuous", "eventsource"], **options: Unpack[ChangesOptions]
    ) -> AsyncChangeFeed: ...

    def changes(
        self, feed: Feed = "normal", **options: Unpack[ChangesOptions]
    ) -> Coroutine[Any, Any, ChangesResult] | AsyncChangeFeed:
        """Return the changes after ``since``, as ``CouchDAL.changes`` does.

        ``await`` the result of ``"normal"`` and ``"longpoll"``. Iterate over that of ``"continuous"`` and
        ``"eventsource"`` with ``async for``: the request is sent, and may fail, when the iteration starts.

        >>> written = await db.put_document("a", {})
        >>> [change["id"] for change in (await db.changes())["results"]]
        ['a']
        >>> [change["id"] async for change in db.changes("continuous", timeout=10)]
        ['a']
        """
        operation = changes(feed, **options)
        return self._run(operation) if feed in ("normal", "longpoll") else AsyncChangeFeed(self.backend, operation)

    def follow_changes(
        self,
        name: str,
        *,
        since: str | int = "0",
        heartbeat: int = 10_000,
        checkpoint_every: int = 100,
        longest_pause_s: float = 30.0,
        **options: Unpack[FollowOptions],
    ) -> AsyncChangesFollower:
        """Return an iterator over all changes. It continues until it is stopped, and in the next run of the program.

        It opens the feed again when it breaks off, after a pause that doubles up to ``longest_pause_s``. ``name`` is
        the id of its checkpoint, a local document of the database. ``since`` is where the first run begins; ``"now"``
        skips all earlier changes. The checkpoint is saved after ``checkpoint_every`` processed changes at the latest.
        If the database is created again or returns to an older state, changes are delivered again. ``heartbeat`` is in
        milliseconds.

        >>> written = await db.put_document("a", {})
        >>> async with db.follow_changes("mailer") as changes:
        ...     (await anext(changes))["id"]
        'a'
        """
        from couchdal.operations.async_follower import AsyncChangesFollower  # few programs follow changes
        from couchdal.operations.following import Progress

        progress = Progress(
            name,
            since=since,
            heartbeat=heartbeat,
            checkpoint_every=checkpoint_every,
            longest_pause_s=longest_pause_s,
            options=options,
        )
        return AsyncChangesFollower(self.backend, progress)

    def typed(self, cls: type[T]) -> AsyncTypedDocuments[T]:
        """Return the documents of this database as objects of a pydantic model, a msgspec struct or a dataclass.

        The class needs fields for ``_id`` and ``_rev``. Raise ``TypeError`` if it has none.

        >>> from dataclasses import make_dataclass
        >>> Task = make_dataclass("Task", ["title", ("_id", str, "t1"), ("_rev", str, "")])
        >>> stored = await db.typed(Task).put(Task("write tests"))
        >>> (await db.typed(Task).get("t1")).title
        'write tests'
        """
        from couchdal.operations.async_typed import AsyncTypedDocuments  # few programs use it

        return AsyncTypedDocuments(self, cls)


class AsyncChangeFeed:
    """An asynchronous iterator over changes as they happen, made by ``AsyncCouchDAL.changes``.

    To end it, close it, leave its block, or break out of the loop and drop it.

    >>> written = await db.put_document("a", {})
    >>> feed = db.changes("continuous", heartbeat=1000)
    >>> (await anext(feed))["id"]
    'a'
    >>> await feed.close()
    """

    def __init__(self, backend: AsyncBackend, operation: Operation[ChangesResult]) -> None:
        self._changes = _follow(backend, operation)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        return await anext(self._changes)

    async def close(self) -> None:
        """End the feed and free its connection.

        >>> await db.changes("continuous").close()
        """
        await self._changes.aclose()

    #: The name that ``contextlib.aclosing`` uses for ``close``.
    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Hidden from type checkers, which report the mistake themselves.
    if not TYPE_CHECKING:

        def __await__(self) -> NoReturn:
            raise TypeError(
                'a continuous feed is not awaited; write `async for change in db.changes("continuous"): ...`'
            )


async def _follow(backend: AsyncBackend, operation: Operation[ChangesResult]) -> AsyncGenerator[Change, None]:
    response = await open_async_feed(backend, operation)
    lines = ChangeLines(response.name_error)
    async with aclosing(response.achunks()) as stream:
        async for chunk in stream:
            for change in lines.feed(chunk):
                yield change
