"""``_show``, ``_list`` and ``_update``: answers written by functions of design documents.

Sources: ``chttpd_show``, ``chttpd_external:parse_external_response``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import md5
from typing import Any, cast

from couchdal.emulator.engine.documents.document import DocumentRecord, parse_document, validate_doc_id
from couchdal.emulator.engine.documents.document_read import FOR_FUNCTIONS, open_winner, show as show_document
from couchdal.emulator.engine.erlang.term_text import iolist, pretty_term
from couchdal.emulator.engine.javascript.javascript import error_of, find_function
from couchdal.emulator.http.authentication import decode_base64
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import acknowledged, edit
from couchdal.emulator.http.listings import list_documents
from couchdal.emulator.http.request_object import request_object
from couchdal.emulator.http.view_rows import view_rows
from couchdal.errors import BadRequest, CouchError, NotFound, NotSupported, ServerError, thrown
from couchdal.http.json_text import encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import quote_like_couchdb

_SHOWN = replace(FOR_FUNCTIONS, conflicts=True)


def show(call: Call) -> Response:
    """Any method: the answer of a show function, with a document or without."""
    record = _design(call)
    name, doc_id = call.args["function"], call.args.get("doc")
    find_function(record, "shows", name)
    document = _document(call, doc_id)
    seen = [record.winner.rev, None if document is None else document["_rev"], call.header("accept"), call.user.roles]
    tag = f'"{md5(encode_json(seen), usedforsecurity=False).hexdigest().upper()}"'
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    answer = call.db.indexes.query_server(record).call(("shows", name), document, request_object(call, doc_id))
    if isinstance(answer, dict) and not isinstance(answer.get("headers", {}), dict):
        # CouchDB crashes when it adds the ETag to these headers.
        raise ServerError("function_clause", error="unknown_error")
    response = _response(answer)
    response.headers |= {"etag": tag, "vary": "Accept"}
    return response


def update(call: Call) -> Response:
    """Any method but GET: an update function changes or creates a document, and returns the answer."""
    record = _design(call)
    name, doc_id = call.args["function"], call.args.get("doc")
    find_function(record, "updates", name)
    document = _document(call, doc_id)
    answer = call.db.indexes.query_server(record).call(("updates", name), document, request_object(call, doc_id))
    if not isinstance(answer, list) or len(answer) != 2:
        raise ServerError("", error="case_clause")
    changed, described = answer
    if not isinstance(described, dict):
        raise ServerError(pretty_term(["up", changed, described]), error="case_clause")
    headers: dict[str, str] = {}
    code = 200
    if isinstance(changed, dict):
        new = parse_document(changed)
        new.doc_id = validate_doc_id(new.doc_id) if new.doc_id else call.server.next_id()
        (outcome,) = edit(call, [new])
        if isinstance(outcome, CouchError):
            raise outcome
        code = acknowledged(call, 201)
        headers = {"x-couch-update-newrev": outcome, "x-couch-id": quote_like_couchdb(new.doc_id)}
    response = _response({"code": code, **described})
    response.headers |= headers
    return response


def list_rows(call: Call) -> Response:
    """GET and POST: the rows of a view as a list function writes them."""
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
    server = call.db.indexes.query_server(record)
    head = list_documents(call, "all") if view == "_all_docs" else _view_answer(call, design or call.args["name"], view)
    rows = head.pop("rows")
    return _list_response(cast("Mapping[str, Any]", server.call(("lists", name), head, request_object(call), rows)))


def _view_answer(call: Call, design: str, view: str) -> dict[str, object]:
    try:
        return view_rows(call, design, view, for_list=True)
    except NotSupported:
        raise
    except ServerError as error:
        # CouchDB passes the error to the list function in place of rows, and crashes.
        raise (ServerError("function_clause", error="unknown_error") if error.is_traced else error) from None


def _list_response(answer: Mapping[str, Any]) -> Response:
    """Return what a list function sent, with the error of a failure at a row. Raise any other error."""
    response = Response(200)
    for head in answer["heads"]:
        response = _response(head)
    if not answer["text"] and "error" not in answer:
        # CouchDB sends the head with the first text.
        return Response(200)
    response.body = answer["text"].encode()
    if "error" in answer:
        error = error_of(answer["error"])
        if answer["turn"] != "row":
            raise error
        if not response.body:
            response.status = error.status
        response.body += b"\n" + encode_json({"code": error.status, **error.body}) + b"\n"
    return response


def _design(call: Call) -> DocumentRecord:
    return open_winner(call.db, f"_design/{call.args['name']}")[0]


def _document(call: Call, doc_id: str | None) -> dict[str, object] | None:
    """Return the document in the path as functions get it, or None if it does not exist."""
    if doc_id is None:
        return None
    try:
        opened = open_winner(call.db, doc_id)
    except NotFound:
        return None
    return show_document(call.db, *opened, _SHOWN)


def _response(answer: object) -> Response:
    """Return the response that a function describes. Raise ``ServerError`` for an invalid description."""
    if not isinstance(answer, Mapping):
        raise ServerError("function_clause", error="unknown_error")
    response = Response(200)
    kind = "application/json"
    data: object = ""
    for name, value in answer.items():
        if name == "code" and type(value) is int:
            response.status = value
        elif name == "json":
            kind = "application/json"
        elif name == "body":
            data, kind = value, "text/html; charset=utf-8"
        elif name == "base64":
            data, kind = _decoded(value), "application/binary"
        elif name == "headers" and isinstance(value, Mapping):
            response.headers = {key.lower(): _header(text) for key, text in value.items()}
        elif name != "stop" or value is not True:
            reason = f"Invalid data from external server: {{{pretty_term(name)},{pretty_term(value)}}}"
            raise thrown("external_response_error", reason)
    response.headers.setdefault("content-type", kind)
    if "json" in answer:
        response.body = encode_json(answer["json"]) + b"\n"
    else:
        response.body = data if isinstance(data, bytes) else _bytes(data)
    return response


def _header(value: object) -> str:
    if isinstance(value, (str, list)):
        return _bytes(value).decode("utf-8", "replace")
    return pretty_term(value)


def _bytes(value: object) -> bytes:
    try:
        return iolist(value)
    except ValueError:
        raise ServerError("badarg", error="unknown_error") from None


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise ServerError("function_clause", error="unknown_error")
    try:
        return decode_base64(value)
    except BadRequest:
        # CouchDB handles this error in credentials, but not in the answers of functions.
        raise ServerError("function_clause", error="unknown_error") from None
