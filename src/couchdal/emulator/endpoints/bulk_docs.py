"""``/{db}/_bulk_docs``: write several documents. Sources: ``chttpd_db``, ``fabric_doc_update``."""

from __future__ import annotations

from couchdal.emulator.engine.documents.attachment import check_names
from couchdal.emulator.engine.documents.document import Document, parse_document
from couchdal.emulator.engine.documents.document_update import Outcome
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.revisions.revision import format_revision
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import acknowledged, edit, replicate
from couchdal.errors import BadRequest, CouchError, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response
from couchdal.pace import paced


def write(call: Call) -> Response:
    """POST ``{"docs": [...]}``: a row for each edit, or, with ``new_edits: false``, for each refused revision."""
    call.db.count("couchdb/httpd/bulk_requests")
    call.require_json_type()
    body = call.json_object()
    if "docs" not in body:
        raise BadRequest("POST body must include `docs` parameter.")
    values = body["docs"]
    if type(values) is not list:
        raise BadRequest("`docs` parameter must be an array.")
    new_edits = body.get("new_edits", True)
    documents = [_parse(call, value, new_edits) for value in paced(values)]
    if type(new_edits) is not bool:
        raise BadRequest("`new_edits` parameter must be a boolean.")
    if not new_edits:
        if not all(document.ids for document in documents):
            # CouchDB's database crashes at a history without ids, and is opened anew. Nothing is written.
            call.db.validation_loaded = False
            return json_response([{"error": "error", "reason": "internal_server_error"}] * len(documents), 500)
        refused = replicate(call, documents)
        if documents:
            acknowledged(call, 201, body.get("w"))
        return json_response([_refused_row(document, error) for document, error in refused], 201)
    if body.get("all_or_nothing") is True:
        return json_response([_aborted_row(document) for document in documents], 417)
    outcomes = edit(call, documents)
    status = acknowledged(call, 201, body.get("w")) if documents else 201
    rows = [_row(document.doc_id, outcome) for document, outcome in zip(documents, outcomes, strict=True)]
    made = [row for row in rows if "ok" in row]
    if status == 201 or not made:
        return json_response(rows, 201)
    for row in made:
        row["accepted"] = True
    return json_response(rows, status)


def _parse(call: Call, value: object, new_edits: object) -> Document:
    document = parse_document(value, call.server.settings)
    if document.doc_id:
        check_new_id(call.db, document.doc_id)
    if type(new_edits) is not bool:
        # CouchDB checks for a boolean after it has parsed the documents. With documents, it has crashed by then.
        raise ServerError("function_clause", error="unknown_error")
    if not new_edits and not document.ids and not document.position:
        raise BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
    check_names(document.attachments)
    if document.doc_id == "":
        document.doc_id = call.server.next_id()
    return document


def _row(doc_id: str, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, CouchError):
        return {"id": doc_id, **outcome.body}
    return {"ok": True, "id": doc_id, "rev": outcome}


def _refused_row(document: Document, error: CouchError) -> dict[str, object]:
    rev = format_revision(document.position, document.ids[0])
    return {"id": document.doc_id, "rev": rev, **error.body}


def _aborted_row(document: Document) -> dict[str, object]:
    rev = format_revision(document.position, document.ids[0]) if document.ids else "0-"
    reason = "all_or_nothing is not supported"
    return {"id": document.doc_id, "rev": rev, "error": "not_implemented", "reason": reason}
