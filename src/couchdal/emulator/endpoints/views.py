"""``_design/{name}/_view/{view}``, ``/queries`` below it, and ``_info``: what design documents make of the others.

Source: ``chttpd_view``, ``couch_mrview_util:validate_args``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from sys import maxsize

from couchdal.emulator.endpoints.all_docs import shown_documents
from couchdal.emulator.endpoints.view_query import MAX_LIMIT, ViewQuery, parse_parameters, validate_view
from couchdal.emulator.engine.documents.document_read import open_winner
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.views.view import NO_KEY, RowQuery, read_view
from couchdal.emulator.engine.views.view_definition import MapView
from couchdal.emulator.engine.views.view_index import ViewIndex
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, MethodNotAllowed, QueryParseError, ServerError
from couchdal.http.answers import json_response
from couchdal.http.json_text import decode_request
from couchdal.http.messages import ABSENT, Response


def read(call: Call) -> Response:
    """GET or POST: the rows of a view, or what its reduce function makes of them."""
    return json_response(view_answer(call, call.args["name"], call.args["view"]))


def view_answer(call: Call, design: str, view: str, *, listed: bool = False) -> dict[str, object]:
    """Return the answer of a view of a design document to this request's parameters; ``listed`` is for a list function.

    Only without one, a list of one key is that key.
    """
    body = _design_body(call, design)
    if call.method == "POST":
        call.require_json_type()
        given = call.json_object()
        if _listed(given, "queries") is not ABSENT:
            raise BadRequest("The `queries` parameter is no longer supported at this endpoint")
        query = parse_parameters(_start(_listed(given, "keys"), listed), given.items(), decoded=True)
    else:
        text = call.param("keys")
        keys = ABSENT if text is None else decode_request(text.encode("utf-8", "surrogateescape"))
        query = _start(keys, listed)
    query = parse_parameters(query, call.params, decoded=False)
    index = call.db.indexes.view_index(call.db, body)
    _validate(index, view, query)
    return _answer(call.db, index, view, query)


def _listed(given: Mapping[str, object], name: str) -> object:
    value = given.get(name, ABSENT)
    if value is not ABSENT and type(value) is not list:
        raise BadRequest(f"`{name}` member must be an array.")
    return value


def _start(keys: object, listed: bool) -> ViewQuery:
    """Return the query before its parameters are read, which will say the one key that may stand for a list of it."""
    return ViewQuery() if isinstance(keys, list) and len(keys) == 1 and not listed else ViewQuery(keys=keys)


def queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: several queries of one view."""
    body, view = _design_body(call, call.args["name"]), call.args["view"]
    call.require_json_type()
    given = call.json_object()
    values = _listed(given, "queries")
    if values is ABSENT:
        raise BadRequest("POST body must include `queries` parameter.")
    shared = parse_parameters(ViewQuery(), call.params, decoded=False)
    index = call.db.indexes.view_index(call.db, body)
    _ = index.group.find(view)
    shared = replace(shared, keys=ABSENT, group=None, group_level=None)
    parsed = []
    for value in values if isinstance(values, list) else ():
        if type(value) is not dict:
            raise BadRequest("Request body must be a JSON object")
        parsed.append(parse_parameters(shared, value.items(), decoded=True))
        _validate(index, view, parsed[-1])
    try:
        return json_response({"results": [_answer(call.db, index, view, query) for query in parsed]})
    except QueryParseError as error:
        # In an answer that has begun, an error shows no trace.
        raise QueryParseError(error.reason) from None
    except ServerError as error:
        error.is_traced = False
        raise


def refuse(call: Call) -> Response:
    """Any path below ``_view`` that names no view."""
    raise MethodNotAllowed("Only GET,POST,HEAD allowed", headers={"allow": "GET,POST,HEAD"})


def info(call: Call) -> Response:
    """GET: how far the index of a design document's views has come."""
    index = call.db.indexes.view_index(call.db, _design_body(call, call.args["name"]))
    pending = call.db.update_seq - index.seq
    described = {
        "updates_pending": {"minimum": pending, "preferred": pending, "total": pending},
        "waiting_commit": False,
        "waiting_clients": 0,
        "updater_running": False,
        "update_seq": index.seq,
        "sizes": {"file": 0, "external": 0, "active": 0},
        "signature": index.group.signature,
        "purge_seq": index.purge_seq,
        "language": index.group.language,
        "compact_running": False,
        "collator_versions": [],
    }
    return json_response({"name": call.args["name"], "view_index": described})


def _design_body(call: Call, design: str) -> Mapping[str, object]:
    record, _ = open_winner(call.db, f"_design/{design}")
    return record.body


def _reduces(view: MapView, name: str, query: ViewQuery) -> bool:
    return view.reduce_of(name) is not None and query.reduce is not False


def _validate(index: ViewIndex, name: str, query: ViewQuery) -> None:
    _, view = index.group.find(name)
    validate_view(query, reduces=_reduces(view, name, query), partitioned=index.partitioned)


def _answer(db: Database, index: ViewIndex, name: str, query: ViewQuery) -> dict[str, object]:
    _, found = index.group.find(name)
    reduced = _reduces(found, name, query)
    return read_view(db, index, name, _rows(query), reduced=reduced, update=query.update, update_seq=query.update_seq)


def _rows(query: ViewQuery) -> RowQuery:
    level = query.group_level or 0
    return RowQuery(
        query.keys if isinstance(query.keys, list) else None,
        NO_KEY if query.start_key is ABSENT else query.start_key,
        NO_KEY if query.end_key is ABSENT else query.end_key,
        query.start_key_docid,
        query.end_key_docid,
        query.inclusive_end,
        query.descending,
        query.skip,
        maxsize if query.limit == MAX_LIMIT else query.limit,
        query.sorted,
        None if query.groups_by_key else level,
        shown_documents(query),
        query.partition,
    )
