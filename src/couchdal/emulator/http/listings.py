"""Listings of documents: the parameters of ``_all_docs`` and similar endpoints, and the rows that they choose.

Sources: ``chttpd_db:multi_all_docs_view``, ``couch_mrview_http:parse_body_and_query``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

from couchdal.api.versions import DESIGN_KEYS
from couchdal.emulator.engine.auth.security import is_db_admin
from couchdal.emulator.engine.config.settings import MAX_LIMIT
from couchdal.emulator.engine.documents.all_docs import Listing, list_keys, list_local, list_range
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown
from couchdal.emulator.http.call import MANY_ROWS, Call
from couchdal.emulator.http.view_query import (
    INCOMPATIBLE_KEYS,
    ViewQuery,
    parse_parameters,
    parse_queries,
    validate_listing,
)
from couchdal.errors import BadRequest, QueryParseError
from couchdal.http.json_text import decode_request
from couchdal.http.messages import ABSENT

Namespace: TypeAlias = Literal["all", "design", "local"]


def list_documents(
    call: Call, namespace: Namespace, *, for_list: bool = False, late: bool = False
) -> dict[str, object]:
    """Return the rows that a request asks for. A list function gets them with ``for_list``.

    With ``late``, many rows are an iterator, which reads them when they are sent.
    """
    db = call.db
    if call.method == "POST":
        call.require_json_type()
        body = call.json_object()
        given = body.get("keys", ABSENT)
        keys = given if for_list else _keys(given, "body member")
        query = parse_parameters(ViewQuery(keys=keys), body.items(), decoded=True)
    else:
        text = call.param("keys")
        keys = ABSENT
        if text is not None:
            given = decode_request(text.encode("utf-8", "surrogateescape"))
            keys = given if for_list else _keys(given, "parameter")
        query = ViewQuery(keys=keys)
    query = parse_parameters(query, call.params, decoded=False)
    query = validate_listing(query, call.server.settings, partitioned=db.partitioned)
    return _rows(call, namespace, query, late=late)


def list_queries(call: Call, namespace: Namespace) -> dict[str, object]:
    """Return the rows of each query in the body of a request."""
    db = call.db
    values = call.json_object().get("queries", ABSENT)
    if values is ABSENT:
        raise BadRequest("POST body must include `queries` parameter.")
    if not isinstance(values, list):
        raise BadRequest("`queries` member must be an array.")
    shared = parse_parameters(ViewQuery(), call.params, decoded=False)
    settings = call.server.settings
    parsed = parse_queries(shared, values)
    queries = [_in_one_range(validate_listing(query, settings, partitioned=db.partitioned)) for query in parsed]
    return {"results": [_rows(call, namespace, query) for query in queries]}


def _in_one_range(query: ViewQuery) -> ViewQuery:
    """Return a query. Raise ``QueryParseError`` for several keys in a partition, which is a range of keys itself."""
    if query.partition is not None and query.keys is not ABSENT and query.keys != []:
        raise QueryParseError(INCOMPATIBLE_KEYS)
    return query


def _keys(value: object, where: str) -> object:
    if value is ABSENT or type(value) is list:
        return value
    raise BadRequest(f"`keys` {where} must be an array.")


def _rows(call: Call, namespace: Namespace, query: ViewQuery, *, late: bool = False) -> dict[str, object]:
    db, listing = call.db, to_listing(query, design=namespace == "design")
    keys = query.keys if isinstance(query.keys, list) else None
    if namespace == "local":
        answer = list_local(db, keys, listing)
    else:
        others = not call.server.version.has(DESIGN_KEYS)
        late = late and min(db.doc_count, db.doc_count if listing.limit is None else listing.limit) > MANY_ROWS
        answer = list_range(db, listing, late=late) if keys is None else list_keys(db, keys, listing, others=others)
    if listing.shown is not None:
        rows = answer["rows"]
        db.count("couchdb/database_reads", len(rows) if isinstance(rows, list) else 0)
        if db.system == "_users" and namespace == "design" and not is_db_admin(call.user, db.security):
            # Nobody else may read them. Others cannot list all documents at all.
            answer["rows"] = [
                {**row, "doc": None} if "doc" in row else row for row in cast("list[dict[str, object]]", rows)
            ]
    if query.update_seq:
        answer["update_seq"] = None if keys is not None or namespace == "local" else db.seq(db.update_seq)
    return answer


def to_listing(query: ViewQuery, *, design: bool = False) -> Listing:
    """Return the range of ids for a query's range of keys."""
    start = query.start_key if query.start_key is not ABSENT else query.start_key_docid
    end = query.end_key if query.end_key is not ABSENT else query.end_key_docid
    # A key that is not a string sorts before every id. A lower bound of this kind excludes nothing, an upper one all.
    upper, key = (start, query.start_key) if query.descending else (end, query.end_key)
    empty = type(upper) is not str and key is not ABSENT
    start, end = (start if type(start) is str else None), (end if type(end) is str else None)
    if query.partition is not None:
        start, end = _in_partition(query)
    return Listing(
        start=start,
        end=end,
        empty=empty,
        inclusive_end=query.inclusive_end,
        descending=query.descending,
        skip=query.skip,
        limit=None if query.limit == MAX_LIMIT or query.limit < 0 else query.limit,
        shown=shown_documents(query),
        design=design,
        in_partition=query.partition is not None,
    )


def _in_partition(query: ViewQuery) -> tuple[str, str]:
    """Return the bounds of a listing in a partition, where ids of documents are not bounds."""
    start, end = (key if isinstance(key, str) else None for key in (query.start_key, query.end_key))
    low, high = f"{query.partition}:", f"{query.partition};"
    if query.descending:
        return min(start or high, high), max(end or low, low)
    return max(start or low, low), min(end or high, high)


def shown_documents(query: ViewQuery) -> Shown | None:
    """Return which parts of documents a query shows, or None without ``include_docs``."""
    if not query.include_docs:
        return None
    if not (query.conflicts or query.attachments or query.att_encoding_info):
        return PLAIN
    return Shown(conflicts=bool(query.conflicts), attachments=query.attachments, encoding_info=query.att_encoding_info)
