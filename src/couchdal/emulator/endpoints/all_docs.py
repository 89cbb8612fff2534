"""``_all_docs``, ``_design_docs``, ``_local_docs``, and ``/queries`` below each. Source: ``chttpd_db``."""

from __future__ import annotations

from couchdal.emulator.endpoints.view_query import MAX_LIMIT, ViewQuery, parse_parameters, validate_listing
from couchdal.emulator.engine.documents.all_docs import Listing, list_keys, list_local, list_range
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest
from couchdal.http.answers import json_response
from couchdal.http.json_text import JSON, decode_request
from couchdal.http.messages import ABSENT, Response


def documents(call: Call) -> Response:
    """GET or POST: all documents that are not deleted."""
    return _answer(call, "all")


def design_documents(call: Call) -> Response:
    """GET or POST: those of them that are design documents."""
    return _answer(call, "design")


def local_documents(call: Call) -> Response:
    """GET or POST: the local documents, which have a list of their own."""
    return _answer(call, "local")


def documents_answer(call: Call) -> dict[str, object]:
    """Return the answer about all documents."""
    return _answered(call, "all")


def _answer(call: Call, namespace: str) -> Response:
    return json_response(_answered(call, namespace))


def _answered(call: Call, namespace: str) -> dict[str, object]:
    db = call.db
    if call.method == "POST":
        call.require_json_type()
        body = call.json_object()
        keys = _keys(body.get("keys", ABSENT), "body member")
        query = parse_parameters(ViewQuery(keys=keys), body.items(), decoded=True)
    else:
        text = call.param("keys")
        keys = ABSENT
        if text is not None:
            keys = _keys(decode_request(text.encode("utf-8", "surrogateescape")), "parameter")
        query = ViewQuery(keys=keys)
    query = parse_parameters(query, call.params, decoded=False)
    validate_listing(query, partitioned=db.partitioned)
    return _listed(call, namespace, query)


def _keys(value: object, where: str) -> object:
    if value is ABSENT or type(value) is list:
        return value
    raise BadRequest(f"`keys` {where} must be an array.")


def _listed(call: Call, namespace: str, query: ViewQuery) -> dict[str, object]:
    db, listing = call.db, to_listing(query, design=namespace == "design")
    keys = query.keys if isinstance(query.keys, list) else None
    if namespace == "local":
        answer = list_local(db, keys, listing)
    else:
        answer = list_range(db, listing) if keys is None else list_keys(db, keys, listing)
    if query.update_seq:
        answer["update_seq"] = None if keys is not None or namespace == "local" else db.seq(db.update_seq)
    return answer


def to_listing(query: ViewQuery, *, design: bool = False) -> Listing:
    """Turn keys into ids: values that are not text sort before every id."""
    start = query.start_key if query.start_key is not ABSENT else query.start_key_docid
    end = query.end_key if query.end_key is not ABSENT else query.end_key_docid
    # Whatever is not text is below every id: as a lower bound it bounds nothing, as an upper one everything.
    upper, key = (start, query.start_key) if query.descending else (end, query.end_key)
    below_all = type(upper) is not str and key is not ABSENT
    start, end = (start if type(start) is str else None), (end if type(end) is str else None)
    if query.partition is not None:
        start, end = _in_partition(query, start, end)
    return Listing(
        start,
        end,
        below_all,
        query.inclusive_end,
        query.descending,
        query.skip,
        None if query.limit == MAX_LIMIT else query.limit,
        shown_documents(query),
        design,
    )


def _in_partition(query: ViewQuery, start: str | None, end: str | None) -> tuple[str | None, str | None]:
    low, high = f"{query.partition}:", f"{query.partition};"
    if query.descending:
        return min(start or high, high), max(end or low, low)
    return max(start or low, low), min(end or high, high)


def shown_documents(query: ViewQuery) -> Shown | None:
    """Return what is shown of documents; None where they are not wanted."""
    if not query.include_docs:
        return None
    if not (query.conflicts or query.attachments or query.att_encoding_info):
        return PLAIN
    return Shown(conflicts=bool(query.conflicts), attachments=query.attachments, encoding_info=query.att_encoding_info)


def document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: several queries at once, each with totals of its own."""
    return _answer_queries(call, "all")


def design_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for design documents."""
    return _answer_queries(call, "design")


def local_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for local documents."""
    return _answer_queries(call, "local")


def _answer_queries(call: Call, namespace: str) -> Response:
    db = call.db
    values = call.json_object().get("queries", ABSENT)
    if values is ABSENT:
        raise BadRequest("POST body must include `queries` parameter.")
    if type(values) is not list:
        raise BadRequest("`queries` member must be an array.")
    shared = parse_parameters(ViewQuery(), call.params, decoded=False)
    parsed = [_query(shared, value) for value in values]
    for query in parsed:
        validate_listing(query, partitioned=db.partitioned)
    return json_response({"results": [_listed(call, namespace, query) for query in parsed]})


def _query(shared: ViewQuery, value: JSON) -> ViewQuery:
    if type(value) is not dict:
        raise BadRequest("Request body must be a JSON object")
    return parse_parameters(shared, value.items(), decoded=True)
