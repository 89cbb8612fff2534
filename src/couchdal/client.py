"""``CouchDAL``: path and payload to a request, an answer to a result or an exception.

It holds none of CouchDB's rules: what it does is the same whichever backend answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from couchdal.backends import open_backend, with_database
from couchdal.backends.base import BaseBackend
from couchdal.base_client import Handle
from couchdal.config import choose_indexes
from couchdal.errors import Unreachable
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


def _blocking(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[CouchDAL, P], T]:
    """Return the method that makes a call and waits for its result."""

    def method(self: CouchDAL, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    return as_method(method, operation)


class CouchDAL(Handle[BaseBackend]):
    """One database of a CouchDB, or of its in-process emulator; safe to share between threads.

    ``backend`` is ``"couch"``, ``"memory"`` or a backend object. Without it ``DAL_BACKEND`` decides, then whether
    pytest runs (memory), else it is CouchDB. All ``"memory"`` handles of a process share one server. ``database``
    falls back to ``COUCHDB_DATABASE``; the emulator creates it on first use. With ``indexes="require"``, queries
    that no index serves fail; with ``"watch"`` they are remembered for ``suggest_indexes``. Every method raises
    ``CouchError`` for a status >= 400 and ``BackendError`` where no usable answer came; what it returns is the
    caller's own copy.

    >>> dal = CouchDAL("memory")
    >>> dal.get("/_bulk_docs", "POST", {"docs": [{"_id": "t1", "type": "task"}]})[0]["ok"]
    True
    >>> dal.get("/_find", "POST", {"selector": {"type": "task"}})["docs"][0]["_id"]
    't1'
    """

    def __init__(
        self, backend: BaseBackend | str | None = None, *, database: str | None = None, indexes: str | None = None
    ) -> None:
        if backend is None or isinstance(backend, str):
            backend = open_backend(backend)
        elif not isinstance(backend, BaseBackend):
            raise TypeError(f"backend must be 'couch', 'memory' or a BaseBackend, not {type(backend).__name__}")
        self.backend = watched(with_database(backend, database), choose_indexes(indexes))

    # ``Any``, as ``json.loads`` has it: only the caller knows what stands behind a path.
    def get(self, path: str, method: str = "GET", payload: object = None) -> Any:
        """Return the decoded answer to ``method path``; the path is relative to the database and may carry a query.

        ``/`` is the database itself, ``/_session`` and its like are the server's. A payload that is not JSON raises
        ``TypeError`` or ``ValueError`` before anything is sent.
        """
        return self.backend.handle_request(path, method, payload)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = ABSENT,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Response:
        """Return the whole answer, whatever its status is. Values of ``params`` other than text are sent as JSON."""
        return self.backend.exchange(
            self.backend.relative_request(method, add_query(path, params), json, headers, body)
        )

    def database(self, name: str) -> CouchDAL:
        """Return a handle on another database of the same server. It is not created: see ``create_database``."""
        return CouchDAL(self.backend.bind(name))

    def fork(self) -> CouchDAL:
        """Return a handle on another memory server of the same state; what one of them does, the other never sees.

        It costs the same whatever the databases hold. Raises ``MemoryOnly`` for a real server.
        """
        return CouchDAL(self.backend.require_emulator("fork()").fork(), indexes=self._index_mode)

    def load(self, path: str | PathLike[str]) -> int:
        """Write the documents of a file, and return how many: see ``dump`` and ``couchdal.operations.seeding``.

        A file is a JSON array, one object a line, an answer of ``_all_docs`` with its documents, or a backup. What
        names its revision keeps it. Raises ``ValueError`` for another file, and ``CouchError`` for a refused document.
        """
        from couchdal.operations.seeding import load

        return self._take(load(path))

    def dump(self, path: str | PathLike[str]) -> int:
        """Write all documents to a file, one a line, with their conflicts, histories and attachments."""
        from couchdal.operations.seeding import dump

        return self._take(dump(path))

    def _take(self, steps: Steps) -> int:
        result: object = None
        try:
            while True:
                result = self._run(steps.send(result))
        except StopIteration as done:
            return cast(int, done.value)

    def reset(self) -> None:
        """Empty the whole emulated server. Raises ``ResetRefused`` on a real one."""
        self._reset()

    def close(self) -> None:
        """Give back the connections."""
        self.backend.close()

    def __enter__(self) -> CouchDAL:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    get_document = _blocking(documents.get_document)
    open_revs = _blocking(documents.open_revs)
    put_document = _blocking(documents.put_document)
    post_document = _blocking(documents.post_document)
    delete_document = _blocking(documents.delete_document)
    copy_document = _blocking(documents.copy_document)
    get_local = _blocking(documents.get_local)
    put_local = _blocking(documents.put_local)
    delete_local = _blocking(documents.delete_local)
    get_attachment = _blocking(documents.get_attachment)
    put_attachment = _blocking(documents.put_attachment)
    delete_attachment = _blocking(documents.delete_attachment)

    bulk_docs = _blocking(many.bulk_docs)
    bulk_get = _blocking(many.bulk_get)
    revs_diff = _blocking(many.revs_diff)
    all_docs = _blocking(many.all_docs)
    find = _blocking(many.find)
    explain = _blocking(many.explain)
    view = _blocking(many.view)

    info = _blocking(databases.info)
    create_database = _blocking(databases.create_database)
    delete_database = _blocking(databases.delete_database)
    get_security = _blocking(databases.get_security)
    put_security = _blocking(databases.put_security)
    get_revs_limit = _blocking(databases.get_revs_limit)
    put_revs_limit = _blocking(databases.put_revs_limit)
    purge = _blocking(databases.purge)
    compact = _blocking(databases.compact)
    create_index = _blocking(databases.create_index)
    get_indexes = _blocking(databases.get_indexes)
    delete_index = _blocking(databases.delete_index)
    all_dbs = _blocking(databases.all_dbs)
    session = _blocking(databases.session)
    uuids = _blocking(databases.uuids)

    @overload
    def changes(
        self, feed: Literal["normal", "longpoll"] = "normal", **options: Unpack[ChangesOptions]
    ) -> ChangesResult: ...

    @overload
    def changes(self, feed: Literal["continuous", "eventsource"], **options: Unpack[ChangesOptions]) -> ChangeFeed: ...

    def changes(self, feed: many.Feed = "normal", **options: Unpack[ChangesOptions]) -> ChangesResult | ChangeFeed:
        """Return what changed after ``since``, oldest first: see ``ChangesOptions`` for what can be asked.

        ``"longpoll"`` waits until there is something. ``"continuous"`` and ``"eventsource"`` yield changes as they
        come, until nothing came for ``timeout`` milliseconds; with ``heartbeat`` they go on until they are closed.
        """
        operation = many.changes(feed, **options)
        if feed in ("normal", "longpoll"):
            return self._run(operation)
        response = self.backend.exchange(operation.request(self.backend))
        if response.status >= 400:
            self.backend.result(response)
        return ChangeFeed(response)

    def _run(self, operation: Operation[T]) -> T:
        return operation.result(self.backend, self.backend.exchange(operation.request(self.backend)))


class ChangeFeed:
    """Changes as they come. Closing it, or leaving its ``with`` block, ends the feed.

    Another thread may close it too: that ends a wait for a change at once on the emulator, with the next heartbeat
    on a real server.
    """

    def __init__(self, response: Response) -> None:
        self._response = response
        self._changes = self._read()
        self._closed = False

    def _read(self) -> Iterator[Change]:
        lines = ChangeLines()
        try:
            for chunk in self._response.chunks():
                if self._closed:
                    return
                yield from lines.feed(chunk)
        except Unreachable:
            # A connection that was closed on purpose did not break off.
            if not self._closed:
                raise
        finally:
            self.close()

    def __iter__(self) -> ChangeFeed:
        return self

    def __next__(self) -> Change:
        return next(self._changes)

    def close(self) -> None:
        """End the feed, and give back its connection."""
        self._closed = True
        self._response.close()

    def __enter__(self) -> ChangeFeed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
