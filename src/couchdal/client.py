"""``CouchDAL``, the blocking client: turns calls into requests, and answers into results or exceptions.

It contains none of CouchDB's rules, and works alike on every backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from couchdal.backends import open_backend, with_database
from couchdal.backends.base import BaseBackend
from couchdal.base_client import BaseClient
from couchdal.config import choose_indexes
from couchdal.errors import BackendError, CouchError, Unreachable
from couchdal.http.messages import ABSENT, Response
from couchdal.http.redaction import name_request
from couchdal.middleware import creating, watched
from couchdal.operations.changes import ChangeLines, Feed, changes
from couchdal.operations.databases import DatabaseOperations
from couchdal.operations.operation import add_query, open_feed
from couchdal.operations.updates import UpdateOperations

if TYPE_CHECKING:
    from typing import Self, Unpack

    from couchdal.operations.follower import ChangesFollower
    from couchdal.operations.typed import TypedDocuments
    from couchdal.types import Change, ChangesOptions, ChangesResult, FollowOptions

T = TypeVar("T")


class CouchDAL(UpdateOperations, DatabaseOperations, BaseClient[BaseBackend]):
    """One database of a CouchDB or of the built-in emulator. Threads may share a handle.

    ``backend`` is ``"couch"``, ``"memory"``, the address of a data file such as ``"sqlite:///tasks.db"``, or a backend
    object. Without it, ``DAL_BACKEND`` decides; without that, the emulator is used under pytest and CouchDB otherwise.
    All ``"memory"`` handles of a process share one server.

    ``database`` defaults to ``COUCHDB_DATABASE``. In tests, that default database exists. ``create_database`` creates
    any other one, and ``create=True`` creates it before its first use. Requests to a missing database raise
    ``NotFound``.

    With ``indexes="require"``, a query that no index serves fails. With ``indexes="watch"`` it is recorded for
    ``suggest_indexes``.

    Every method raises ``CouchError`` for a status >= 400, and ``BackendError`` if no usable answer came. Results
    are copies, so the caller may change them.

    >>> db = CouchDAL("memory", database="tasks", create=True)
    >>> db.put_document("t1", {"type": "task"})["ok"]
    True
    >>> db.find({"type": "task"})["docs"][0]["_id"]
    't1'
    """

    def __init__(
        self,
        backend: BaseBackend | str | None = None,
        *,
        database: str | None = None,
        create: bool = False,
        indexes: str | None = None,
    ) -> None:
        if backend is None or isinstance(backend, str):
            backend = open_backend(backend)
        elif not isinstance(backend, BaseBackend):
            raise TypeError(f"backend must be 'couch', 'memory' or a BaseBackend, not {type(backend).__name__}")
        provided = creating(with_database(backend, database), create)
        self.backend: BaseBackend = watched(provided, choose_indexes(indexes))

    # ``Any``, as ``json.loads`` returns it: only the caller knows what a path answers.
    def get(self, path: str, method: str = "GET", payload: object = None) -> Any:
        """Send a request and return the decoded answer. The path is relative to the database and may have a query.

        ``/`` is the database itself; ``/_session``, ``/_all_dbs`` and the like are the server's. Raise ``TypeError`` or
        ``ValueError`` for a payload that is not JSON, before anything is sent.

        >>> db.get("/_bulk_docs", "POST", {"docs": [{"_id": "t1", "type": "task"}]})[0]["ok"]
        True
        >>> db.get("/_find", "POST", {"selector": {"type": "task"}})["docs"][0]["_id"]
        't1'
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
        """Send a request and return the whole answer, whatever its status.

        In ``params``, values other than text are sent as JSON.

        >>> answer = db.request("GET", "/missing")
        >>> answer.status, answer.value()
        (404, {'error': 'not_found', 'reason': 'missing'})
        """
        request = self.backend.relative_request(method, add_query(path, params), json, headers, body)
        try:
            response = self.backend.exchange(request)
        except (CouchError, BackendError) as error:
            name_request(error, request)
            raise
        response.name_error = partial(name_request, request=request, is_path_written=True)
        return response

    def database(self, name: str, *, create: bool = False) -> CouchDAL:
        """Return a handle on another database of the same server. ``create`` creates it before its first use.

        >>> archive = db.database("archive", create=True)
        >>> archive.info()["doc_count"]
        0
        """
        return CouchDAL(self.backend.bind(name), create=create)

    def fork(self) -> CouchDAL:
        """Return a handle on a copy of the emulator. Neither sees what is written to the other.

        The cost does not depend on what the databases hold. Raise ``MemoryOnly`` for a real server.

        >>> other = db.fork()
        >>> other.put_document("a", {})["ok"]
        True
        >>> db.info()["doc_count"]
        0
        """
        return CouchDAL(self.backend.require_emulator("fork()").fork(), indexes=self._index_mode)

    def reset(self) -> None:
        """Empty the emulator: all databases, users and settings. Raise ``ResetRefused`` for a real server.

        >>> db.reset()
        """
        self._reset()

    def close(self) -> None:
        """Close the connections. The next request opens new ones.

        >>> db.close()
        """
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def changes(
        self, feed: Literal["normal", "longpoll"] = "normal", **options: Unpack[ChangesOptions]
    ) -> ChangesResult: ...

    @overload
    def changes(self, feed: Literal["continuous", "eventsource"], **options: Unpack[ChangesOptions]) -> ChangeFeed: ...

    def changes(self, feed: Feed = "normal", **options: Unpack[ChangesOptions]) -> ChangesResult | ChangeFeed:
        """Return the changes after ``since``, the oldest first. ``ChangesOptions`` lists the other options.

        ``"longpoll"`` waits for the first change. ``"continuous"`` and ``"eventsource"`` return a feed that yields
        changes as they happen. It ends when none came for ``timeout`` milliseconds; with ``heartbeat``, it continues
        until it is closed.

        >>> written = db.put_document("a", {})
        >>> [change["id"] for change in db.changes()["results"]]
        ['a']
        >>> with db.changes("continuous", timeout=10) as feed:
        ...     [change["id"] for change in feed]
        ['a']
        """
        operation = changes(feed, **options)
        if feed in ("normal", "longpoll"):
            return self._run(operation)
        return ChangeFeed(open_feed(self.backend, operation))

    def follow_changes(
        self,
        name: str,
        *,
        since: str | int = "0",
        heartbeat: int = 10_000,
        checkpoint_every: int = 100,
        longest_pause_s: float = 30.0,
        **options: Unpack[FollowOptions],
    ) -> ChangesFollower:
        """Return an iterator over all changes. It continues until it is stopped, and in the next run of the program.

        It opens the feed again when it breaks off, after a pause that doubles up to ``longest_pause_s``. ``name`` is
        the id of its checkpoint, a local document of the database. ``since`` is where the first run begins; ``"now"``
        skips all earlier changes. The checkpoint is saved after ``checkpoint_every`` processed changes at the latest.
        If the database is created again or returns to an older state, changes are delivered again. ``heartbeat`` is in
        milliseconds.

        >>> written = db.put_document("a", {})
        >>> with db.follow_changes("mailer") as changes:
        ...     next(changes)["id"]
        'a'
        """
        from couchdal.operations.follower import ChangesFollower  # few programs follow changes
        from couchdal.operations.following import Progress

        progress = Progress(
            name,
            since=since,
            heartbeat=heartbeat,
            checkpoint_every=checkpoint_every,
            longest_pause_s=longest_pause_s,
            options=options,
        )
        return ChangesFollower(self.backend, progress)

    def typed(self, cls: type[T]) -> TypedDocuments[T]:
        """Return the documents of this database as objects of a pydantic model, a msgspec struct or a dataclass.

        The class needs fields for ``_id`` and ``_rev``. Raise ``TypeError`` if it has none.

        >>> from dataclasses import make_dataclass
        >>> Task = make_dataclass("Task", ["title", ("_id", str, "t1"), ("_rev", str, "")])
        >>> stored = db.typed(Task).put(Task("write tests"))
        >>> db.typed(Task).get("t1").title
        'write tests'
        """
        from couchdal.operations.typed import TypedDocuments  # few programs use it

        return TypedDocuments(self, cls)


class ChangeFeed:
    """An iterator over changes as they happen, made by ``CouchDAL.changes``. To end it, close it or leave its block.

    Another thread may close it. On the emulator this ends a waiting iteration at once, on a real server with the next
    heartbeat.

    >>> written = db.put_document("a", {})
    >>> with db.changes("continuous", heartbeat=1000) as feed:
    ...     next(feed)["id"]
    'a'
    """

    def __init__(self, response: Response) -> None:
        self._response = response
        self._changes = self._parsed()
        self._closed = False

    def _parsed(self) -> Iterator[Change]:
        lines = ChangeLines(self._response.name_error)
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

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        return next(self._changes)

    def close(self) -> None:
        """End the feed and free its connection.

        >>> feed = db.changes("continuous", heartbeat=1000)
        >>> feed.close()
        >>> list(feed)
        []
        """
        self._closed = True
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
