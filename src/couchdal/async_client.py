"""``AsyncCouchDAL``: the calls of ``CouchDAL`` for callers on an event loop.

What is sent and how answers are read is shared with ``CouchDAL``; only the waiting is written here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from couchdal.backends import open_backend, with_database
from couchdal.backends.base import AsyncBackend, BaseBackend, collect
from couchdal.backends.event_loop import for_event_loop
from couchdal.base_client import Handle
from couchdal.config import choose_indexes
from couchdal.http.messages import ABSENT, Response
from couchdal.middleware import watched
from couchdal.operations import databases, documents, many
from couchdal.operations.feed import ChangeLines
from couchdal.operations.operation import Operation, add_query, as_method

if TYPE_CHECKING:
    from typing import Unpack

    from couchdal.operations.seeding import Steps
    from couchdal.types import Change, ChangesOptions, ChangesResult

P = ParamSpec("P")
T = TypeVar("T")


def _awaitable(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[AsyncCouchDAL, P], Awaitable[T]]:
    """Return the method that makes a call and awaits its result."""

    async def method(self: AsyncCouchDAL, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    return as_method(method, operation)


class AsyncCouchDAL(Handle[AsyncBackend]):
    """``CouchDAL`` with every method awaitable: the same arguments, results, errors and choice of backend.

    A blocking backend object is welcome too: the emulator is called directly, any other from threads.
    """

    def __init__(
        self,
        backend: AsyncBackend | BaseBackend | str | None = None,
        *,
        database: str | None = None,
        indexes: str | None = None,
    ) -> None:
        if backend is None or isinstance(backend, str):
            backend = open_backend(backend)
        if isinstance(backend, BaseBackend):
            backend = for_event_loop(backend)
        elif not isinstance(backend, AsyncBackend):
            raise TypeError(f"backend must be 'couch', 'memory' or a backend, not {type(backend).__name__}")
        self.backend = watched(with_database(backend, database), choose_indexes(indexes))

    async def get(self, path: str, method: str = "GET", payload: object = None) -> Any:
        """Return the decoded answer to ``method path``, as ``CouchDAL.get`` does."""
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
        """Return the whole answer, whatever its status is. A feed's ``stream`` is an asynchronous iterator."""
        request = self.backend.relative_request(method, add_query(path, params), json, headers, body)
        return await self.backend.exchange(request)

    def database(self, name: str) -> AsyncCouchDAL:
        """Return a handle on another database of the same server. It is not created: see ``create_database``."""
        return AsyncCouchDAL(self.backend.bind(name))

    def fork(self) -> AsyncCouchDAL:
        """Return a handle on another memory server of the same state; what one of them does, the other never sees.

        It costs the same whatever the databases hold. Raises ``MemoryOnly`` for a real server.
        """
        return AsyncCouchDAL(self.backend.require_emulator("fork()").fork(), indexes=self._index_mode)

    async def load(self, path: str | PathLike[str]) -> int:
        """Write the documents of a file, as ``CouchDAL.load`` does."""
        from couchdal.operations.seeding import load

        return await self._take(load(path))

    async def dump(self, path: str | PathLike[str]) -> int:
        """Write all documents to a file, as ``CouchDAL.dump`` does."""
        from couchdal.operations.seeding import dump

        return await self._take(dump(path))

    async def _take(self, steps: Steps) -> int:
        result: object = None
        try:
            while True:
                result = await self._run(steps.send(result))
        except StopIteration as done:
            return cast(int, done.value)

    async def reset(self) -> None:
        """Empty the whole emulated server. Raises ``ResetRefused`` on a real one."""
        self._reset()

    async def aclose(self) -> None:
        """Give back the connections; they end with the event loop at the latest."""
        await self.backend.aclose()

    async def __aenter__(self) -> AsyncCouchDAL:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    get_document = _awaitable(documents.get_document)
    open_revs = _awaitable(documents.open_revs)
    put_document = _awaitable(documents.put_document)
    post_document = _awaitable(documents.post_document)
    delete_document = _awaitable(documents.delete_document)
    copy_document = _awaitable(documents.copy_document)
    get_local = _awaitable(documents.get_local)
    put_local = _awaitable(documents.put_local)
    delete_local = _awaitable(documents.delete_local)
    get_attachment = _awaitable(documents.get_attachment)
    put_attachment = _awaitable(documents.put_attachment)
    delete_attachment = _awaitable(documents.delete_attachment)

    bulk_docs = _awaitable(many.bulk_docs)
    bulk_get = _awaitable(many.bulk_get)
    revs_diff = _awaitable(many.revs_diff)
    all_docs = _awaitable(many.all_docs)
    find = _awaitable(many.find)
    explain = _awaitable(many.explain)
    view = _awaitable(many.view)

    info = _awaitable(databases.info)
    create_database = _awaitable(databases.create_database)
    delete_database = _awaitable(databases.delete_database)
    get_security = _awaitable(databases.get_security)
    put_security = _awaitable(databases.put_security)
    get_revs_limit = _awaitable(databases.get_revs_limit)
    put_revs_limit = _awaitable(databases.put_revs_limit)
    purge = _awaitable(databases.purge)
    compact = _awaitable(databases.compact)
    create_index = _awaitable(databases.create_index)
    get_indexes = _awaitable(databases.get_indexes)
    delete_index = _awaitable(databases.delete_index)
    all_dbs = _awaitable(databases.all_dbs)
    session = _awaitable(databases.session)
    uuids = _awaitable(databases.uuids)

    @overload
    def changes(
        self, feed: Literal["normal", "longpoll"] = "normal", **options: Unpack[ChangesOptions]
    ) -> Awaitable[ChangesResult]: ...

    @overload
    def changes(
        self, feed: Literal["continuous", "eventsource"], **options: Unpack[ChangesOptions]
    ) -> AsyncIterator[Change]: ...

    def changes(
        self, feed: many.Feed = "normal", **options: Unpack[ChangesOptions]
    ) -> Awaitable[ChangesResult] | AsyncIterator[Change]:
        """Return what changed after ``since``, as ``CouchDAL.changes`` does.

        ``await`` the result of ``"normal"`` and ``"longpoll"``, and go through that of ``"continuous"`` and
        ``"eventsource"`` with ``async for``; errors come with the first step.
        """
        operation = many.changes(feed, **options)
        return self._run(operation) if feed in ("normal", "longpoll") else self._follow(operation)

    async def _follow(self, operation: Operation[ChangesResult]) -> AsyncGenerator[Change, None]:
        response = await self.backend.exchange(operation.request(self.backend))
        if response.status >= 400:
            self.backend.result(await collect(response))
        lines = ChangeLines()
        async with aclosing(response.achunks()) as stream:
            async for chunk in stream:
                for change in lines.feed(chunk):
                    yield change

    async def _run(self, operation: Operation[T]) -> T:
        response = await self.backend.exchange(operation.request(self.backend))
        return operation.result(self.backend, await collect(response))
