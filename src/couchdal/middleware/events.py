"""Request events, for metrics and for the coverage of the data-access layer.

No event holds a body, a header or the value of a parameter, so none holds a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from couchdal.api.parameters import parameters_of
from couchdal.api.routes import Route, find_route
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import Request, Response
from couchdal.http.urls import parse_query, split_path
from couchdal.middleware.chain import Steps, install

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend

# The operators whose arguments are selectors. The arguments of the others are data.
_NESTING = frozenset(("$and", "$or", "$nor", "$not", "$elemMatch", "$allMatch", "$keyMapMatch"))
_ROWS = ("rows", "docs", "results", "indexes")


class RequestEvent(NamedTuple):
    """One request.

    ``endpoint`` is the pattern of the route, or ``None`` if no route has the path. ``status`` is ``None`` if no answer
    came. ``error`` is CouchDB's error word or the name of the exception. ``parameters`` are the names of the parameters
    in the query, and in the body if the endpoint takes some there. ``operators`` are the operators of the body's
    selectors. ``rows`` and ``docs_examined`` are ``None`` if the answer does not have these numbers.
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
    """Call ``callback`` after each request to any server, or to one (``backend.server_key``).

    Return a function that ends it. The callback runs in the thread of the request, for failed requests too. The caller
    of the request sees an exception that it raises.
    """

    def watch(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        start = time.perf_counter()
        try:
            response = yield request
        except (BackendError, CouchError) as error:
            callback(_event(backend.name, request, error, time.perf_counter() - start))
            raise
        callback(_event(backend.name, request, response, time.perf_counter() - start))
        return response

    return install(watch, server, outermost=True)


def _event(backend: str, request: Request, outcome: Response | BackendError | CouchError, spent: float) -> RequestEvent:
    route, database = _find_route(request.path)
    body = _parameters_in_body(route, request)
    status: int | None = None
    error: str | None = None
    answer: Mapping[str, object] = {}
    if isinstance(outcome, Response):
        status, answer = outcome.status, _answer(outcome)
        error = str(answer.get("error", "unknown_error")) if status >= 400 else None
    elif isinstance(outcome, CouchError):
        status, error = outcome.status, outcome.error
    else:
        error = type(outcome).__name__
    rows = next((len(found) for found in map(answer.get, _ROWS) if isinstance(found, list)), None)
    examined = _object(answer.get("execution_stats")).get("total_docs_examined")
    return RequestEvent(
        route.pattern if route is not None else None,
        request.method,
        database,
        backend,
        status,
        error,
        spent,
        frozenset(_parameters(request, body)),
        frozenset(_operators(_selector(body))),
        rows,
        examined if isinstance(examined, int) else None,
    )


def _parameters_in_body(route: Route | None, request: Request) -> Mapping[str, object]:
    # The members of other bodies are ids of documents, or the contents of one.
    takes_some = route is not None and parameters_of(route, request.method).body
    return _object(request.value()) if takes_some else {}


def _answer(response: Response) -> Mapping[str, object]:
    """Return the members of an answer. Attachments and feeds are not read."""
    if response.stream is not None or not (response.json or "json" in response.headers.get("content-type", "")):
        return {}
    return _object(response.value())


def _parameters(request: Request, body: Mapping[str, object]) -> Iterator[str]:
    yield from (name for name, _ in _query(request))
    yield from body
    queries = body.get("queries")
    for query in queries if isinstance(queries, list) else ():
        yield from _object(query)


def _selector(body: Mapping[str, object]) -> object:
    return body["selector"] if "selector" in body else _object(body.get("index")).get("partial_filter_selector")


def _find_route(path: str) -> tuple[Route | None, str | None]:
    """Return the route of a path and the database in it."""
    try:
        route, args = find_route(split_path(path))
    except CouchError:
        return None, None
    return route, args.get("db")


def _query(request: Request) -> list[tuple[str, str]]:
    try:
        return parse_query(request.query)
    except CouchError:
        return []


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _operators(selector: object) -> Iterator[str]:
    for name, argument in _object(selector).items():
        if name.startswith("$"):
            yield name
            if name not in _NESTING:
                continue
        if isinstance(argument, list) and name in _NESTING:
            for item in argument:
                yield from _operators(item)
        else:
            yield from _operators(argument)
