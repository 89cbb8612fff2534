"""Run ``validate_doc_update`` functions: build their arguments, and turn thrown values into errors.

Source: ``couch_query_servers:validate_doc_update``, ``couch_db:validate_doc_update_int``.
"""

from __future__ import annotations

from collections.abc import Mapping

from couchdal.emulator.engine.auth.security import UserContext, user_object
from couchdal.emulator.engine.documents.attachment import to_json
from couchdal.emulator.engine.documents.document import Document, DocumentRecord
from couchdal.emulator.engine.documents.document_read import FOR_FUNCTIONS, show
from couchdal.emulator.engine.documents.document_update import Validate
from couchdal.emulator.engine.erlang.term_text import pretty_term, print_reason
from couchdal.emulator.engine.revisions.revision import format_revision, format_revision_id
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import CouchError, Forbidden, ServerError, Unauthorized, thrown

_PATH = ("validate_doc_update",)
_PASSED = (1, True)


def validation(db: Database, user: UserContext, first: Validate | None) -> Validate:
    """Return a function that validates an update: first by the given check, then by every design document."""
    context, security = user_object(db.name, user), db.security

    def validate(new: Document, old: Node | None) -> CouchError | None:
        error = first(new, old) if first is not None else None
        if error is not None:
            return error
        record = db.storage.get(new.doc_id)
        before = None if old is None or record is None else show(db, record, old, FOR_FUNCTIONS)
        for design in db.indexes.validators(db):
            error = _refusal(db, design, shown(new), before, context, security)
            db.count_prompts(ddoc_vdu=1)
            if error is not None:
                db.count("couchdb/query_server/vdu_rejects")
                return error
        return None

    return validate


def _refusal(db: Database, design: DocumentRecord, *args: object) -> CouchError | None:
    try:
        answer = db.indexes.query_server(design).call(_PATH, *args)
    except CouchError as error:
        return error
    if answer in _PASSED:
        return None
    if isinstance(answer, str):
        return thrown("unknown_error", answer)
    if not isinstance(answer, Mapping) or len(answer) != 1:
        raise ServerError("function_clause", error="unknown_error")
    ((word, reason),) = answer.items()
    kind = {"forbidden": Forbidden, "unauthorized": Unauthorized}.get(word)
    shown = print_reason(reason)
    if kind is not None:
        return kind.of_value(shown)
    if shown is None:
        return thrown("unknown_error", "unknown_error")
    return thrown("unknown_error", shown if isinstance(shown, str) else pretty_term(shown))


def shown(document: Document) -> dict[str, object]:
    """Return the JSON of a document before it is written, including the ``_revisions`` that it extends."""
    value: dict[str, object] = {"_id": document.doc_id}
    if document.ids:
        value["_rev"] = format_revision(document.position, document.ids[0])
    value.update(document.body)
    if document.deleted:
        value["_deleted"] = True
    if document.ids:
        value["_revisions"] = {"start": document.position, "ids": [format_revision_id(one) for one in document.ids]}
    if document.attachments:
        value["_attachments"] = {one.name: to_json(one, data=False) for one in document.attachments}
    return value
