"""The rows of a view that a request asks for.

Sources: ``chttpd_view``, ``couch_mrview_http:parse_body_and_query``, ``couch_mrview_util:validate_args``.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import maxsize

from couchdal.emulator.engine.config.settings import MAX_LIMIT
from couchdal.emulator.engine.documents.document_read import open_winner
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.views.row_range import RowQuery
from couchdal.emulator.engine.views.view import read_view
from couchdal.emulator.engine.views.view_definition import MapView
from couchdal.emulator.engine.views.view_index import ViewIndex
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.document_query import readable
from couchdal.emulator.http.listings import shown_documents
from couchdal.emulator.http.view_query import ViewQuery, parse_parameters, parse_queries, validate_view
from couchdal.errors import BadRequest, QueryParseError, ServerError
from couchdal.http.json_text import decode_request
from couchdal.http.messages import ABSENT


def view_rows(call: Call, design: str, view: str, *, for_list: bool = False) -> dict[str, object]:
    """Return the rows of a view that a request asks for. A list function gets them with ``for_list``."""
    body = _design_body(call, design)
    readable(call, f"_design/{design}", body)
    if call.method == "POST":
        call.require_json_type()
        given = call.json_object()
        if not for_list and _array_member(given, "queries") is not ABSENT:
            raise BadRequest("The `queries` parameter is no longer supported at this endpoint")
        keys = given.get("keys", ABSENT) if for_list else _array_member(given, "keys")
        query = parse_parameters(_start(keys, for_list), given.items(), decoded=True)
    else:
        text = call.param("keys")
        keys = ABSENT if text is None else decode_request(text.encode("utf-8", "surrogateescape"))
        query = _start(keys, for_list)
    query = parse_parameters(query, call.params, decoded=False)
    index = _index(call, body)
    query = _validated(call, index, view, query)
    try:
        return _rows(call.db, index, view, query)
    except QueryParseError:
        if for_list:
            # CouchDB passes the error of a reversed range to the list function in place of rows, and crashes.
            raise ServerError("function_clause", error="unknown_error") from None
        raise


def view_queries(call: Call, design: str, view: str) -> list[dict[str, object]]:
    """Return the rows of each query in the body of a request."""
    body = _design_body(call, design)
    readable(call, f"_design/{design}", body)
    call.require_json_type()
    values = _array_member(call.json_object(), "queries")
    if not isinstance(values, list):
        raise BadRequest("POST body must include `queries` parameter.")
    shared = parse_parameters(ViewQuery(), call.params, decoded=False)
    index = _index(call, body)
    index.group.find(view)
    queries = [_validated(call, index, view, query) for query in parse_queries(shared, values)]
    try:
        return [_rows(call.db, index, view, query) for query in queries]
    except QueryParseError as error:
        # CouchDB has begun the answer by now, so its error has no reference to a stack trace.
        raise QueryParseError(error.reason) from None
    except ServerError as error:
        error.is_traced = False
        raise


def view_info(call: Call, design: str) -> dict[str, object]:
    """Return the state of the index of a design document's views."""
    return call.db.indexes.view_index(call.db, _design_body(call, design)).info(call.db)


def _design_body(call: Call, design: str) -> Mapping[str, object]:
    record, _ = open_winner(call.db, f"_design/{design}")
    return record.body


def _index(call: Call, body: Mapping[str, object]) -> ViewIndex:
    index = call.db.indexes.view_index(call.db, body)
    index.reduce_limit = call.server.settings.reduce_limit
    return index


def _array_member(body: Mapping[str, object], name: str) -> object:
    """Return a member of a body, or ``ABSENT``. Raise ``BadRequest`` if it is not an array."""
    value = body.get(name, ABSENT)
    if value is not ABSENT and type(value) is not list:
        raise BadRequest(f"`{name}` member must be an array.")
    return value


def _start(keys: object, for_list: bool) -> ViewQuery:
    """Return the query to which the parameters are applied.

    ``keys`` with one key means the same as ``key``, and ``key`` is a parameter. For a list function they differ.
    """
    return ViewQuery() if isinstance(keys, list) and len(keys) == 1 and not for_list else ViewQuery(keys=keys)


def _reduces(view: MapView, name: str, query: ViewQuery) -> bool:
    return view.reduce_of(name) is not None and query.reduce is not False


def _validated(call: Call, index: ViewIndex, name: str, query: ViewQuery) -> ViewQuery:
    _, view = index.group.find(name)
    reduces = _reduces(view, name, query)
    return validate_view(query, call.server.settings, reduces=reduces, partitioned=index.partitioned)


def _rows(db: Database, index: ViewIndex, name: str, query: ViewQuery) -> dict[str, object]:
    _, view = index.group.find(name)
    reduced = _reduces(view, name, query)
    wanted = _row_query(query)
    answer = read_view(db, index, name, wanted, reduced=reduced, update=query.update, update_seq=query.update_seq)
    index.count_reductions(db)
    return answer


def _row_query(query: ViewQuery) -> RowQuery:
    return RowQuery(
        keys=query.keys if isinstance(query.keys, list) else None,
        start_key=query.start_key,
        end_key=query.end_key,
        start_key_docid=query.start_key_docid,
        end_key_docid=query.end_key_docid,
        inclusive_end=query.inclusive_end,
        descending=query.descending,
        skip=query.skip,
        limit=maxsize if query.limit == MAX_LIMIT else query.limit,
        sorted=query.sorted,
        group_level=None if query.groups_by_key else query.group_level or 0,
        shown=shown_documents(query),
        partition=query.partition,
    )
