"""Events of the seam: one for each request, for metrics and for the coverage of the data-access layer.

No event carries a body, a header or a value of a parameter: nothing in it is secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from couchdal.api.routes import IN_PARTITION, find_route
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import Request, Response
from couchdal.http.urls import parse_query, split_path
from couchdal.middleware.chain import Steps, install

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend

# Where the members of a body are options. Elsewhere they may be the ids of documents, or what is in these.
_OPTIONS_IN_BODY = frozenset(
    ("_find", "_explain", "_index", "_bulk_docs", "_bulk_get", "_changes", "_all_docs", "_design_docs", "_local_docs",
     "queries", "_dbs_info", "_bulk_delete")
)  # fmt: skip
# The operators whose arguments are selectors again; those of the others are data.
_NESTING = frozenset(("$and", "$or", "$nor", "$not", "$elemMatch", "$allMatch", "$keyMapMatch"))
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
    endpoint, database = _place(request.path)
    body = _options(endpoint, request)
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
        endpoint,
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


def _options(endpoint: str | None, request: Request) -> Mapping[str, object]:
    last = (endpoint or "").rpartition("/")[2]
    return _object(request.value()) if last in _OPTIONS_IN_BODY else {}


def _answer(response: Response) -> Mapping[str, object]:
    """Return the members of an answer; of attachments and feeds, which are not looked at, none."""
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


def _place(path: str) -> tuple[str | None, str | None]:
    try:
        route, args = find_route(split_path(path))
    except CouchError:
        return None, None
    within = f"/{{db}}/_partition/{{partition}}/{args.get('rest')}"
    return within if "partition" in args and within in IN_PARTITION else route.pattern, args.get("db")


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
