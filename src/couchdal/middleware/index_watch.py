"""Middleware that watches for queries without an index: it counts the indexes they need, or refuses them.

It recognizes such a query by the warning or the error in CouchDB's answer, so it works with every backend.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from couchdal.backends.base import Backend
from couchdal.errors import NO_INDEX_WARNING, BadRequest, CouchError
from couchdal.http.json_text import decode_request
from couchdal.http.messages import Request, Response
from couchdal.middleware.chain import Steps, with_middleware

# The limit bounds memory: clients of a server may name any field.
_MOST_NEEDED = 1000

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend

B = TypeVar("B", bound=Backend)


class SuggestedIndex(NamedTuple):
    """An index that ``queries`` queries needed. POST its ``definition`` to ``/_index`` to create it."""

    database: str
    fields: tuple[str, ...]
    queries: int

    @property
    def definition(self) -> dict[str, object]:
        """The body of ``POST /_index`` that creates the index."""
        return {"index": {"fields": list(self.fields)}}


class IndexWatch:
    """The middleware of one handle and of its views. With ``require``, it refuses queries without an index."""

    def __init__(self, *, require: bool) -> None:
        self.require = require
        self._needed: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def __call__(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        response = yield request
        parts = request.path.split("/")
        if request.method != "POST" or len(parts) < 3 or parts[-1] != "_find" or not _lacks_index(response):
            return response
        fields = _needed_fields(request)
        if fields is None:
            return response
        needed = parts[1], fields
        if needed in self._needed or len(self._needed) < _MOST_NEEDED:
            self._needed[needed] += 1
        return _refusal(parts[1], fields) if self.require and response.status < 400 else response

    def suggestions(self) -> list[SuggestedIndex]:
        """Return the indexes that the queries so far needed, the most needed ones first."""
        return [SuggestedIndex(*index, queries) for index, queries in self._needed.most_common()]

    def clear(self) -> None:
        """Forget all queries."""
        self._needed.clear()


def watch_indexes(backend: B, *, require: bool) -> B:
    """Return a view of a backend with an ``IndexWatch``; a backend that has one already stays as it is."""
    return backend if find_watch(backend) is not None else with_middleware(backend, IndexWatch(require=require))


def find_watch(backend: Backend) -> IndexWatch | None:
    """Return the ``IndexWatch`` of a backend, if it has one."""
    return next((found for found in backend.middleware if isinstance(found, IndexWatch)), None)


def _refusal(database: str, fields: tuple[str, ...]) -> Response:
    wanted = json.dumps({"index": {"fields": list(fields)}}, ensure_ascii=False)
    error = BadRequest(
        f"No index serves this query, and one is required: POST {wanted} to /{database}/_index", error="index_required"
    )
    return Response(error.status, {"content-type": "application/json"}, json=dict(error.body))


def _lacks_index(response: Response) -> bool:
    body = response.value() if response.status in (200, 400) and response.stream is None else None
    if not isinstance(body, dict):
        return False
    warning, error = body.get("warning"), body.get("error")
    return (isinstance(warning, str) and NO_INDEX_WARNING in warning.split("\n")) or error == "no_usable_index"


def _needed_fields(request: Request) -> tuple[str, ...] | None:
    from couchdal.emulator.engine.mango.index_suggestion import suggest_fields  # most queries have an index

    try:
        body = decode_request(request.content())
        return suggest_fields(body) if isinstance(body, dict) else None
    except CouchError:
        return None
