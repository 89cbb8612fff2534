"""``_show``, ``_list`` and ``_update``: answers written by functions of design documents.

Sources: ``chttpd_show``, ``chttpd_external:parse_external_response``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import md5
from typing import cast

from couchdal.emulator.engine.documents.document import DocumentRecord, parse_document, validate_doc_id
from couchdal.emulator.engine.documents.document_read import FOR_FUNCTIONS, open_winner, show as show_document
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.emulator.engine.javascript.javascript import find_function
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import acknowledged, edit
from couchdal.emulator.http.function_answers import function_response, list_response, with_headers
from couchdal.emulator.http.listings import list_documents
from couchdal.emulator.http.request_object import request_object
from couchdal.emulator.http.view_rows import view_rows
from couchdal.errors import BadRequest, CouchError, MethodNotAllowed, NotFound, NotSupported, ServerError
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
    answer = _answer_of(call, record, "shows", name, document)
    if not isinstance(answer, Mapping):
        raise ServerError("function_clause", error="unknown_error")
    return function_response(
        with_headers(answer, (("ETag", tag), ("Vary", "Accept"))), call.server.settings.functions_policy
    )


def update(call: Call) -> Response:
    """Any method but GET and HEAD: an update function changes or creates a document, and returns the answer."""
    record = _design(call)
    name, doc_id = call.args["function"], call.args.get("doc")
    find_function(record, "updates", name)
    document = _document(call, doc_id)
    answer = _answer_of(call, record, "updates", name, document)
    if not isinstance(answer, list) or len(answer) != 2:
        raise ServerError("", error="case_clause")
    changed, described = answer
    if not isinstance(described, dict):
        raise ServerError(pretty_term(["up", changed, described]), error="case_clause")
    code = 200
    if isinstance(changed, dict):
        new = parse_document(changed, call.server.settings)
        new.doc_id = validate_doc_id(new.doc_id)
        (outcome,) = edit(call, [new])
        if isinstance(outcome, CouchError):
            raise outcome
        code = acknowledged(call, 201)
        shown_id = quote_like_couchdb(new.doc_id)
        described = with_headers(described, (("X-Couch-Update-NewRev", outcome), ("X-Couch-Id", shown_id)))
    return function_response({"code": code, **described}, call.server.settings.functions_policy)


def list_rows(call: Call) -> Response:
    """GET, POST and OPTIONS: the rows of a view as a list function writes them."""
    _check_list_method(call)
    record = _design(call)
    name = call.args["function"]
    design, _, view = call.args.get("view", "").rpartition("/")
    if not view or "/" in design:
        raise NotFound("Invalid path.", error="list_error")
    if call.method == "POST":
        _check_list_body(call)
    find_function(record, "lists", name)
    if design:
        try:
            open_winner(call.db, f"_design/{design}")
        except NotFound as error:
            raise ServerError(f"{{not_found,{error.reason}}}", error="badmatch") from None
    server = call.db.indexes.query_server(record)
    head = _documents(call) if view == "_all_docs" else _view_answer(call, design or call.args["name"], view)
    rows = head.pop("rows")
    # CouchDB asks for the text of each row, and for that of the end.
    call.db.count_prompts(ddoc_other=1, other=len(cast("Sequence[object]", rows)) + 1)
    answer = cast("Mapping[str, object]", server.call(("lists", name), head, _request_of_list(call), rows))
    return list_response(answer, call.server.settings.functions_policy)


def _check_list_body(call: Call) -> None:
    """Raise ``CouchError`` for a body that is not a JSON object. CouchDB crashes at other JSON values."""
    call.require_json_type()
    body = call.json()
    if not isinstance(body, dict):
        raise ServerError("" if body == [] else pretty_term(body), error="badmatch")


def _documents(call: Call) -> dict[str, object]:
    """Return the rows of ``_all_docs`` as a list function gets them: a row without a document has the id ``error``."""
    found = list_documents(call, "all", for_list=True)
    rows = cast("list[dict[str, object]]", found["rows"])
    found["rows"] = [
        {"id": "error", "key": row["key"], "value": row["error"]} if "error" in row else row for row in rows
    ]
    return found


def _request_of_list(call: Call) -> dict[str, object]:
    """Return the request object, whose body is a JSON value if it was posted.

    Raise ``ServerError`` if it cannot be built: CouchDB has begun to run the function by now.
    """
    try:
        request = request_object(call)
    except BadRequest:
        raise ServerError("", error="{invalid_ejson,{nocatch,{invalid_json,{1,invalid_json}}}}") from None
    return request | {"body": call.json()} if call.method == "POST" else request


def _view_answer(call: Call, design: str, view: str) -> dict[str, object]:
    try:
        return view_rows(call, design, view, for_list=True)
    except NotSupported:
        raise
    except ServerError as error:
        # CouchDB passes the error to the list function in place of rows, and crashes.
        raise ServerError("function_clause", error="unknown_error") from error


def refuse_show(call: Call) -> Response:
    """Any method on ``_show`` without a name."""
    raise NotFound("Invalid path.", error="show_error")


def refuse_update(call: Call) -> Response:
    """Any method on ``_update`` without a name."""
    raise NotFound("Invalid path.", error="update_error")


def refuse_list(call: Call) -> Response:
    """Any method on ``_list`` without a name."""
    _check_list_method(call)
    raise NotFound("Invalid path.", error="list_error")


def _check_list_method(call: Call) -> None:
    if call.method not in ("GET", "HEAD", "POST", "OPTIONS"):
        raise MethodNotAllowed("Only GET,POST,HEAD allowed", headers={"allow": "GET,POST,HEAD"})


def _answer_of(call: Call, design: DocumentRecord, kind: str, name: str, document: object) -> object:
    """Return the result of a show or update function. Raise ``ServerError`` if it sent the head of a list."""
    request = request_object(call, call.args.get("doc"))
    call.db.count_prompts(ddoc_other=1)
    try:
        return call.db.indexes.query_server(design).call((kind, name), document, request)
    except ServerError as error:
        if error.error != "unexpected_answer":
            raise
        raise ServerError(error.reason, error="badmatch" if kind == "shows" else "case_clause") from None


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
