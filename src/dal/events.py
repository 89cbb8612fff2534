"""Events of the seam: one for each request, for metrics and for the coverage of the data-access layer.

No event carries a body, a header or a value of a parameter: nothing in it is secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from dal.backends.interception import Exchange, install
from dal.errors import BackendError, CouchError
from dal.routing import find_route, split_path
from dal.wire import Request, Response, parse_query

if TYPE_CHECKING:
    from dal.backends.base import AsyncBackend, BaseBackend

# The endpoints whose bodies are options, and those whose bodies hold a selector somewhere.
_OPTIONS_IN_BODY = ("/{db}/_find", "/{db}/_explain", "/{db}/_index", "/{db}/_bulk_docs", "/{db}/_bulk_get")
_ROWS = ("rows", "docs", "results", "indexes")


class RequestEvent(NamedTuple):
    """One request. ``endpoint`` is the pattern of a route, None where no route has the path.

    ``status`` is None where no answer came; ``error`` is CouchDB's error word or the exception's name. ``parameters``
    are the names of those in the query and, where a body is made of options, in the body; ``operators`` those of its
    selectors. ``rows`` and ``docs_examined`` are None where an answer does not tell.
    """

    endpoint: str | None
    method: str
    database: str | None
    backend: str
    status: int | None
    error: str | None
    duration_s: float
    parameters: frozenset[str]
    operators: frozenset[str]
    rows: int | None
    docs_examined: int | None


def observe(callback: Callable[[RequestEvent], None], server: object = None) -> Callable[[], None]:
    """Call a function with each request to all servers, or to one (``backend.server_key``); returns what ends it.

    It is called in the thread of the request, also where that failed; what it raises, the caller of the request sees.
    """

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Exchange:
        start = time.perf_counter()
        try:
            response = yield request
        except BackendError as error:
            callback(_event(backend.name, request, None, type(error).__name__, time.perf_counter() - start))
            raise
        callback(_event(backend.name, request, response, None, time.perf_counter() - start))
        return response

    return install(watch, server, outermost=True)


def _event(backend: str, request: Request, response: Response | None, error: str | None, spent: float) -> RequestEvent:
    endpoint, database = _place(request.path)
    body = _object(request.value())
    parameters = {name for name, _ in _query(request)}
    if endpoint in _OPTIONS_IN_BODY or endpoint == "/{db}/_changes":
        parameters.update(body)
    answer = _object(response.value()) if response is not None and response.stream is None else {}
    if response is not None and response.status >= 400:
        error = str(answer.get("error", "unknown_error"))
    rows = next((len(found) for found in map(answer.get, _ROWS) if isinstance(found, list)), None)
    examined = _object(answer.get("execution_stats")).get("total_docs_examined")
    return RequestEvent(
        endpoint,
        request.method,
        database,
        backend,
        None if response is None else response.status,
        error,
        spent,
        frozenset(parameters),
        frozenset(_operators(body)) if endpoint in (*_OPTIONS_IN_BODY[:3], "/{db}/_changes") else frozenset(),
        rows,
        examined if isinstance(examined, int) else None,
    )


def _place(path: str) -> tuple[str | None, str | None]:
    try:
        route, args = find_route(split_path(path))
    except CouchError:
        return None, None
    return route.pattern, args.get("db")


def _query(request: Request) -> list[tuple[str, str]]:
    try:
        return parse_query(request.query)
    except CouchError:
        return []


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _operators(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name.startswith("$"):
                yield name
            yield from _operators(member)
    elif isinstance(value, list):
        for item in value:
            yield from _operators(item)
