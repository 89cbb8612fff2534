"""``_show``, ``_list`` and ``_update``: answers that functions of design documents write.

Source: ``chttpd_show``, ``chttpd_external:parse_external_response``.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from hashlib import md5
from typing import cast

from dal.endpoints.all_docs import documents_answer
from dal.endpoints.call import Call, url_encode
from dal.endpoints.edits import acknowledged, edit
from dal.endpoints.request_object import request_object
from dal.endpoints.views import view_answer
from dal.engine.document import DocumentRecord, parse_document, validate_doc_id
from dal.engine.document_read import FOR_FUNCTIONS, open_winner
from dal.engine.document_read import show as show_document
from dal.engine.javascript import find_function, query_server
from dal.engine.term_text import pretty_term
from dal.errors import CouchError, NotFound, ServerError
from dal.json_text import encode_json
from dal.wire import Response

_SHOWN = replace(FOR_FUNCTIONS, conflicts=True)


def show(call: Call) -> Response:
    """Any method: what a show function makes of a document, or of none."""
    record = _design(call)
    name, doc_id = call.args["function"], call.args.get("doc")
    find_function(record, "shows", name)
    document = _document(call, doc_id)
    seen = [record.winner.rev, None if document is None else document["_rev"], call.header("accept"), call.user.roles]
    tag = f'"{md5(encode_json(seen), usedforsecurity=False).hexdigest().upper()}"'
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    answer = query_server(call.db, record).call(("shows", name), document, request_object(call, doc_id))
    response = _response(answer)
    response.headers |= {"etag": tag, "vary": "Accept"}
    return response


def update(call: Call) -> Response:
    """Any method but GET: a function changes a document, or makes one, and says what to answer."""
    record = _design(call)
    name, doc_id = call.args["function"], call.args.get("doc")
    find_function(record, "updates", name)
    document = _document(call, doc_id)
    answer = query_server(call.db, record).call(("updates", name), document, request_object(call, doc_id))
    if not isinstance(answer, list) or len(answer) != 2:
        raise ServerError("", error="case_clause")
    changed, described = answer
    headers: dict[str, str] = {}
    code = 200
    if isinstance(changed, dict):
        new = parse_document(changed)
        new.doc_id = validate_doc_id(new.doc_id) if new.doc_id else call.server.ids.next()
        (outcome,) = edit(call, [new])
        if isinstance(outcome, CouchError):
            raise outcome
        code = acknowledged(call, 201)
        headers = {"x-couch-update-newrev": outcome, "x-couch-id": url_encode(new.doc_id)}
    response = _response({"code": code, **described} if isinstance(described, dict) else described)
    response.headers |= headers
    return response


def list_rows(call: Call) -> Response:
    """GET or POST: what a list function makes of a view's rows."""
    record = _design(call)
    name = call.args["function"]
    design, _, view = call.args.get("view", "").rpartition("/")
    if not view or "/" in design:
        raise NotFound("Invalid path.", error="list_error")
    find_function(record, "lists", name)
    if design:
        try:
            open_winner(call.db, f"_design/{design}")
        except NotFound as error:
            raise ServerError(f"{{not_found,{error.reason}}}", error="badmatch") from None
    server = query_server(call.db, record)
    head = documents_answer(call) if view == "_all_docs" else view_answer(call, design or call.args["name"], view)
    rows = head.pop("rows")
    text, described = cast("list[object]", server.call(("lists", name), head, request_object(call), rows))
    response = _response(described)
    response.body = str(text).encode()
    return response


def _design(call: Call) -> DocumentRecord:
    return open_winner(call.db, f"_design/{call.args['name']}")[0]


def _document(call: Call, doc_id: str | None) -> dict[str, object] | None:
    """Return the document that a path names, as functions see it; None for one that is not there."""
    if doc_id is None:
        return None
    try:
        opened = open_winner(call.db, doc_id)
    except NotFound:
        return None
    return show_document(call.db, *opened, _SHOWN)


def _response(answer: object) -> Response:
    """Return the response that a function describes; raises ``ServerError`` for a description of anything else."""
    if not isinstance(answer, Mapping):
        raise ServerError("function_clause", error="unknown_error")
    status, body, kind, headers = 200, b"", "application/json", {}
    for name, value in answer.items():
        if name == "code" and type(value) is int:
            status = value
        elif name == "json":
            body, kind = encode_json(value) + b"\n", "application/json"
        elif name == "body":
            body, kind = str(value).encode(), "text/html; charset=utf-8"
        elif name == "base64":
            body, kind = b64decode(str(value)), "application/binary"
        elif name == "headers" and isinstance(value, Mapping):
            headers = {key.lower(): str(text) for key, text in value.items()}
        elif name != "stop":
            reason = f"Invalid data from external server: {{{pretty_term(name)},{pretty_term(value)}}}"
            raise ServerError(reason, error="external_response_error")
    return Response(status, {"content-type": kind, **headers}, body=body)
