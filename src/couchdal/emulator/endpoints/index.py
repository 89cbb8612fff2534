"""``/{db}/_index``: list, create and delete Mango indexes. Source: ``mango_httpd:handle_index_req``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from couchdal.emulator.engine.documents.document import Document, validate_doc_id
from couchdal.emulator.engine.documents.document_update import Outcome
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.find_query import parse_bulk_delete, parse_index_definition, parse_index_request
from couchdal.emulator.engine.mango.index_definition import (
    EMPTY_BODY,
    IndexDefinition,
    generated_name,
    with_index,
    with_partitioned,
    without_index,
)
from couchdal.emulator.engine.revisions.revision_tree import Node
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import edit
from couchdal.errors import BadRequest, CouchError, NotFound, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response

_UNAVAILABLE = ("text", "nouveau")


def read(call: Call) -> Response:
    """GET: the indexes, with the special one first. ``limit`` and ``skip`` page through them."""
    bounds = {name: _bound(value) for name, value in reversed(call.params) if name in ("limit", "skip")}
    indexes = call.db.indexes.definitions(call.db)
    limit, skip = bounds.get("limit", len(indexes)), bounds.get("skip", 0)
    if limit < 1 or skip < 0:
        raise _bad_bounds()
    shown = [index.to_json() for index in indexes[skip : skip + limit]]
    return json_response({"total_rows": len(indexes), "indexes": shown})


def _bound(text: str) -> int:
    bound = parse_integer(text)
    if bound is None:
        raise _bad_bounds()
    return bound


def _bad_bounds() -> CouchError:
    return ServerError("Index parameter ranges: limit > 1, skip > 0", error="invalid_list_index_params")


def create(call: Call) -> Response:
    """POST ``{"index": ...}``: write the index into its design document, unless it already has it."""
    call.require_json_type()
    try:
        return _create(call, parse_index_request(call.json_object()))
    except OverflowError:
        # CouchDB cannot generate a name for an index with a number that does not fit a double.
        raise ServerError("function_clause", error="unknown_error") from None


def _create(call: Call, request: Mapping[str, object]) -> Response:
    kind = request["type"]
    if kind in _UNAVAILABLE:
        raise CouchError(str(kind), status=503, error="required index service unavailable")
    if kind != "json":
        raise BadRequest(f"Invalid type for index: {kind}", error="invalid_index")
    name = cast("str | None", request["name"]) or generated_name(request)
    ddoc = cast("str | None", request["ddoc"]) or generated_name(request)
    doc_id = ddoc if ddoc.startswith("_design/") else f"_design/{ddoc}"
    definition = parse_index_definition(request["index"])
    node, body = _load(call, doc_id)
    validate_doc_id(doc_id)
    partitioned = cast("bool | None", request["partitioned"])
    changed = with_index(body, name, definition, request["index"])
    changed = with_partitioned(changed, partitioned, doc_id=doc_id, is_new=node is None)
    exists = node is not None and encode_term(changed) == encode_term(dict(body))
    if not exists:
        outcome = _save(call, doc_id, node, changed)
        if isinstance(outcome, CouchError):
            raise _not_saved(outcome)
    return json_response({"result": "exists" if exists else "created", "id": doc_id, "name": name})


def _load(call: Call, doc_id: str) -> tuple[Node | None, Mapping[str, object]]:
    """Return the winner and the body of a design document. For a new one, the body is empty.

    Raise ``BadRequest`` (``invalid_ddoc_lang``) if it does not hold indexes.
    """
    record = call.db.get(doc_id)
    if record is None or record.deleted:
        return None, EMPTY_BODY
    body = record.winner.body or {}
    if body.get("language") != "query":
        entry = f"{{{print_term('language')},{print_term(body.get('language'))}}}"
        found = entry if "language" in body else "false"
        raise BadRequest(f"Existing design doc has an invalid language: {found}", error="invalid_ddoc_lang")
    return record.winner, body


def _save(call: Call, doc_id: str, node: Node | None, body: dict[str, object], deleted: bool = False) -> Outcome:
    position, ids, attachments = (node.position, (node.id,), node.attachments) if node is not None else (0, (), ())
    document = Document(doc_id, body, position=position, ids=ids, deleted=deleted, attachments=attachments)
    (outcome,) = edit(call, [document])
    return outcome


def _not_saved(error: CouchError) -> CouchError:
    if error.error == "conflict":
        reason = "Encountered a conflict while saving the design document."
    else:
        reason = f"Unknown error while saving the design document: {error.error}"
    return ServerError(reason, error="error_saving_ddoc")


def delete(call: Call) -> Response:
    """DELETE ``_index/{ddoc}/{type}/{name}``: remove the index from its design document."""
    doc_id, kind, name = _design_id(call.args["design"]), call.args["type"], call.args["name"]
    for index in call.db.indexes.definitions(call.db):
        if (index.ddoc, index.name) == (doc_id, name) and kind == "json":
            _delete(call, index)
            return json_response({"ok": True})
    raise NotFound("missing")


def _design_id(name: str) -> str:
    return name if name.startswith("_design/") else f"_design/{name}"


def _delete(call: Call, index: IndexDefinition) -> None:
    """Remove an index, and delete the design document with its last one. CouchDB ignores the outcome."""
    doc_id = index.ddoc or ""
    node, body = _load(call, doc_id)
    body = without_index(body, index.name)
    deleted = body == EMPTY_BODY
    _save(call, doc_id, node, {} if deleted else dict(body), deleted)


def bulk_delete(call: Call) -> Response:
    """POST ``_index/_bulk_delete`` with ``{"docids": [...]}``: delete the indexes of several design documents.

    CouchDB deletes them one by one, so a failure leaves the earlier ones deleted. It reads the list of indexes once.
    """
    call.require_json_type()
    db = call.db
    names = parse_bulk_delete(call.json_object())
    indexes = db.indexes.definitions(db)
    success: list[dict[str, object]] = []
    failed: list[dict[str, object]] = []
    for name in names:
        if type(name) is not str:
            raise ServerError("badarg", error="unknown_error")
        doc_id = _design_id(name)
        found = [index for index in indexes if index.ddoc == doc_id]
        if not found:
            failed.insert(0, {"id": doc_id, "error": "not_found"})
            continue
        if len(found) > 1:
            raise ServerError("a design document with several indexes", error="case_clause")
        _delete(call, found[0])
        success.insert(0, {"id": doc_id, "ok": True})
    return json_response({"success": success, "fail": failed})


def not_found(call: Call) -> Response:
    """Any other path below ``_index``."""
    raise NotFound("missing")
