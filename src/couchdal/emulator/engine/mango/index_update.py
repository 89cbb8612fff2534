"""Create and delete Mango indexes, which are views in design documents. Source: ``mango_idx:add``, ``mango_crud``.

``save`` writes a design document with the rights of the user and returns the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeAlias

from couchdal.emulator.engine.documents.document import Document, validate_doc_id
from couchdal.emulator.engine.documents.document_update import Outcome
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.find_query import IndexRequest, parse_index_definition
from couchdal.emulator.engine.mango.index_definition import (
    EMPTY_BODY,
    IndexDefinition,
    generated_name,
    with_index,
    with_partitioned,
    without_index,
)
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import BadRequest, CouchError, NotFound, ServerError

Save: TypeAlias = Callable[[Document], Outcome]

_UNAVAILABLE = ("text", "nouveau")


def create_index(db: Database, request: IndexRequest, save: Save) -> dict[str, object]:
    """Write an index into its design document, unless it is there already. Return CouchDB's answer."""
    kind = request.type
    if kind in _UNAVAILABLE:
        raise CouchError(kind, status=503, error="required index service unavailable")
    if kind != "json":
        raise BadRequest(f"Invalid type for index: {kind}", error="invalid_index")
    name = request.name or generated_name(asdict(request))
    doc_id = _design_id(request.ddoc or generated_name(asdict(request)))
    definition = parse_index_definition(request.index)
    node, body = _load(db, doc_id)
    validate_doc_id(doc_id)
    changed = with_index(body, name, definition, request.index)
    changed = with_partitioned(changed, request.partitioned, doc_id=doc_id, is_new=node is None)
    exists = node is not None and encode_term(changed) == encode_term(dict(body))
    if not exists:
        outcome = save(_edit(doc_id, node, changed))
        if isinstance(outcome, CouchError):
            raise _not_saved(outcome)
    return {"result": "exists" if exists else "created", "id": doc_id, "name": name}


def delete_index(db: Database, design: str, kind: str, name: str, save: Save) -> None:
    """Remove an index from its design document. Raise ``NotFound``."""
    doc_id = _design_id(design)
    for index in db.indexes.definitions(db):
        if (index.ddoc, index.name) == (doc_id, name) and kind == "json":
            _delete(db, index, save)
            return
    raise NotFound("missing")


def delete_indexes(db: Database, designs: Sequence[object], save: Save) -> dict[str, object]:
    """Delete the indexes of several design documents, and return CouchDB's answer.

    CouchDB deletes them one by one, so a failure leaves the earlier ones deleted. It reads the list of indexes once.
    """
    indexes = db.indexes.definitions(db)
    success: list[dict[str, object]] = []
    failed: list[dict[str, object]] = []
    for name in designs:
        if not isinstance(name, str):
            raise ServerError("badarg", error="unknown_error")
        doc_id = _design_id(name)
        found = [index for index in indexes if index.ddoc == doc_id]
        if not found:
            failed.insert(0, {"id": doc_id, "error": "not_found"})
            continue
        if len(found) > 1:
            raise ServerError("a design document with several indexes", error="case_clause")
        _delete(db, found[0], save)
        success.insert(0, {"id": doc_id, "ok": True})
    return {"success": success, "fail": failed}


def _design_id(name: str) -> str:
    return name if name.startswith("_design/") else f"_design/{name}"


def _load(db: Database, doc_id: str) -> tuple[Node | None, Mapping[str, object]]:
    """Return the winner and the body of a design document. For a new one, the body is empty.

    Raise ``BadRequest`` (``invalid_ddoc_lang``) if it does not hold indexes.
    """
    record = db.get(doc_id)
    if record is None or record.deleted:
        return None, EMPTY_BODY
    body = record.winner.body or {}
    if body.get("language") != "query":
        entry = f"{{{print_term('language')},{print_term(body.get('language'))}}}"
        found = entry if "language" in body else "false"
        raise BadRequest(f"Existing design doc has an invalid language: {found}", error="invalid_ddoc_lang")
    return record.winner, body


def _edit(doc_id: str, node: Node | None, body: dict[str, object], *, deleted: bool = False) -> Document:
    if node is None:
        return Document(doc_id, body, deleted=deleted)
    return Document(doc_id, body, position=node.position, ids=(node.id,), deleted=deleted, attachments=node.attachments)


def _delete(db: Database, index: IndexDefinition, save: Save) -> None:
    """Remove an index, and delete the design document with its last one. CouchDB ignores the outcome."""
    doc_id = index.ddoc or ""
    node, body = _load(db, doc_id)
    body = without_index(body, index.name)
    deleted = body == EMPTY_BODY
    save(_edit(doc_id, node, {} if deleted else dict(body), deleted=deleted))


def _not_saved(error: CouchError) -> CouchError:
    if error.error == "conflict":
        reason = "Encountered a conflict while saving the design document."
    else:
        reason = f"Unknown error while saving the design document: {error.error}"
    return ServerError(reason, error="error_saving_ddoc")
