"""``/{db}/_revs_diff`` and ``/{db}/_missing_revs``: the revisions that a replicator must still send."""

from __future__ import annotations

from couchdal.emulator.engine.documents.document_read import missing_revisions
from couchdal.emulator.engine.revisions.revision import Revision, parse_revision
from couchdal.emulator.http.call import Call
from couchdal.errors import ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response
from couchdal.pace import paced


def revs_diff(call: Call) -> Response:
    """POST ``{id: [rev]}``: the missing revisions of each document, with their possible ancestors."""
    answer: dict[str, object] = {}
    for doc_id, (missing, ancestors) in _lacking(call).items():
        answer[doc_id] = {"missing": missing, "possible_ancestors": ancestors} if ancestors else {"missing": missing}
    return json_response(answer)


def missing_revs(call: Call) -> Response:
    """POST ``{id: [rev]}``: the missing revisions of each document."""
    return json_response({"missing_revs": {doc_id: missing for doc_id, (missing, _) in _lacking(call).items()}})


def _lacking(call: Call) -> dict[str, tuple[list[str], list[str]]]:
    call.require_json_type()
    db = call.db
    asked = [(doc_id, _revisions(revs)) for doc_id, revs in call.json_object().items()]
    lacking = {}
    for doc_id, revisions in paced(asked):
        missing, ancestors = missing_revisions(db, doc_id, revisions)
        if missing:
            lacking[doc_id] = missing, ancestors
    return lacking


def _revisions(value: object) -> list[Revision]:
    if type(value) is not list:
        raise ServerError("function_clause")
    return [parse_revision(rev) if type(rev) is str else _revision(rev) for rev in value]


def _revision(rev: object) -> Revision:
    # CouchDB takes an array of bytes for a string, and crashes on any other value.
    if type(rev) is not list:
        raise ServerError("function_clause")
    return parse_revision(rev)
