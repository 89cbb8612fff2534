"""A backend that watches for queries without an index: it remembers what they would have needed, or refuses them.

It stands before any other backend, and knows of their answers only what CouchDB's warnings and errors say.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple, TypeVar, cast

from couchdal.backends.base import AsyncBackend, Backend, BaseBackend
from couchdal.backends.delegating import WrappingBackend
from couchdal.errors import BadRequest, CouchError
from couchdal.http.json_text import decode_request
from couchdal.http.messages import Request, Response

_NO_INDEX = "No matching index found, create an index to optimize query time."

_Backend = TypeVar("_Backend", bound=Backend)


class SuggestedIndex(NamedTuple):
    """An index that ``queries`` queries would have needed. ``definition`` is what to POST to ``/_index``."""

    database: str
    fields: tuple[str, ...]
    queries: int

    @property
    def definition(self) -> dict[str, object]:
        return {"index": {"fields": list(self.fields)}}


class _Watching(WrappingBackend):
    """What the blocking and the asynchronous watch share. Views of other databases remember in the same place."""

    def _watch(self, wrapped: Backend, require: bool, needed: Counter[tuple[str, tuple[str, ...]]] | None) -> None:
        self._require = require
        self._needed: Counter[tuple[str, tuple[str, ...]]] = Counter() if needed is None else needed
        self.name = wrapped.name
        self.database = wrapped.database
        self.fallback_database = wrapped.fallback_database

    def suggest_indexes(self) -> list[SuggestedIndex]:
        """Return the indexes that the queries so far would have needed, the most wanted ones first."""
        return [SuggestedIndex(*index, queries) for index, queries in self._needed.most_common()]

    def _examined(self, request: Request, response: Response) -> Response:
        """Return the response, or where an index is required and was lacking, the error in its place."""
        parts = request.path.split("/")
        if request.method != "POST" or len(parts) < 3 or parts[-1] != "_find" or not _lacks_index(response):
            return response
        fields = _needed_fields(request)
        if fields is None:
            return response
        self._needed[parts[1], fields] += 1
        if not self._require or response.status >= 400:
            return response
        wanted = json.dumps({"index": {"fields": list(fields)}}, ensure_ascii=False)
        error = BadRequest(
            f"No index serves this query, and one is required: POST {wanted} to /{parts[1]}/_index",
            error="index_required",
        )
        return Response(error.status, {"content-type": "application/json"}, json=dict(error.body))


def _lacks_index(response: Response) -> bool:
    body = response.value() if response.status in (200, 400) and response.stream is None else None
    if not isinstance(body, dict):
        return False
    warning = body.get("warning")
    return (isinstance(warning, str) and _NO_INDEX in warning.split("\n")) or body.get("error") == "no_usable_index"


def _needed_fields(request: Request) -> tuple[str, ...] | None:
    from couchdal.emulator.engine.mango.index_suggestion import suggest_fields  # only where an index is lacking

    try:
        body = decode_request(request.content())
        return suggest_fields(body) if isinstance(body, dict) else None
    except CouchError:
        return None


class IndexWatch(_Watching, BaseBackend):
    """Another backend, watched; with ``require``, a query without an index is 400 ``index_required``."""

    wrapped: BaseBackend

    def __init__(
        self,
        backend: BaseBackend,
        *,
        require: bool = False,
        needed: Counter[tuple[str, tuple[str, ...]]] | None = None,
    ) -> None:
        self.wrapped = backend
        self._watch(backend, require, needed)

    def __repr__(self) -> str:
        return f"<IndexWatch of {self.wrapped!r}>"

    def send(self, request: Request) -> Response:
        return self._examined(request, self.wrapped.send(request))

    def fork(self) -> IndexWatch:
        return IndexWatch(self.wrapped.fork(), require=self._require)

    def bind(self, database: str, *, provide: bool = False) -> IndexWatch:
        bound = self.wrapped.bind(database, provide=provide)
        return IndexWatch(bound, require=self._require, needed=self._needed)

    def reset(self) -> None:
        self.wrapped.reset()
        self._needed.clear()

    def close(self) -> None:
        self.wrapped.close()

    def for_event_loop(self) -> AsyncBackend:
        return AsyncIndexWatch(self.wrapped.for_event_loop(), require=self._require, needed=self._needed)


class AsyncIndexWatch(_Watching, AsyncBackend):
    """``IndexWatch`` for callers on an event loop."""

    wrapped: AsyncBackend

    def __init__(
        self,
        backend: AsyncBackend,
        *,
        require: bool = False,
        needed: Counter[tuple[str, tuple[str, ...]]] | None = None,
    ) -> None:
        self.wrapped = backend
        self.streams = backend.streams
        self._watch(backend, require, needed)

    def __repr__(self) -> str:
        return f"<AsyncIndexWatch of {self.wrapped!r}>"

    async def send(self, request: Request) -> Response:
        return self._examined(request, await self.wrapped.send(request))

    def fork(self) -> AsyncIndexWatch:
        return AsyncIndexWatch(self.wrapped.fork(), require=self._require)

    def bind(self, database: str, *, provide: bool = False) -> AsyncIndexWatch:
        bound = self.wrapped.bind(database, provide=provide)
        return AsyncIndexWatch(bound, require=self._require, needed=self._needed)

    async def reset(self) -> None:
        await self.wrapped.reset()
        self._needed.clear()

    async def attend(self) -> None:
        await self.wrapped.attend()

    async def aclose(self) -> None:
        await self.wrapped.aclose()


def watch_indexes(backend: _Backend, *, require: bool) -> _Backend:
    """Return a blocking or an asynchronous backend, watched; one that is watched already stays as it is."""
    watched: Backend = backend
    if isinstance(backend, BaseBackend) and not isinstance(backend, IndexWatch):
        watched = IndexWatch(backend, require=require)
    elif isinstance(backend, AsyncBackend) and not isinstance(backend, AsyncIndexWatch):
        watched = AsyncIndexWatch(backend, require=require)
    return cast(_Backend, watched)
