"""``/{db}/_bulk_get``: read several documents or revisions. Source: ``chttpd_db:bulk_get_*``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from couchdal.emulator.engine.auth.security import is_db_admin
from couchdal.emulator.engine.documents.document import DocumentRecord, validate_doc_id
from couchdal.emulator.engine.documents.document_read import PLAIN, Shown, open_leaves, show
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.engine.revisions.revision_lookup import TreeIndex
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.document_query import document_query, readable
from couchdal.emulator.http.multipart import write_bulk, write_related
from couchdal.errors import BadRequest, CouchError, Forbidden, NotFound, ServerError
from couchdal.http.answers import JSON_TYPE, accepts, json_response
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import ABSENT, Response
from couchdal.pace import paced

_REFUSED = ("open_revs", "new_edits", "w", "rev", "atts_since")


# One member of ``docs``: the id, the revision (None: all leaves), and the revisions whose attachments the reader has.
# It is a plain tuple because a request may have thousands.
_Wanted: TypeAlias = "tuple[str, Revision | None, tuple[Revision, ...] | None]"
_Error: TypeAlias = "dict[str, object]"


def read(call: Call) -> Response:
    """POST ``{"docs": [{"id", "rev"?, "atts_since"?}]}``: a result for each member, in order."""
    call.require_json_type()
    db = call.db
    body = call.json_object()
    values = body.get("docs", ABSENT)
    if values is ABSENT:
        raise BadRequest("Missing JSON list of 'docs'.")
    for name, _ in call.params:
        if name in _REFUSED:
            raise BadRequest(f'"{name}" query parameter is not acceptable')
    query = document_query(call)
    if type(values) is not list:
        raise ServerError("function_clause")
    db.count("couchdb/httpd/bulk_requests")
    db.count("couchdb/database_reads", len(values))
    wanted = [_parse(db, value) for value in paced(values)]
    if not all(isinstance(member, dict) for member in wanted):
        query.check_copies()
    shown = query.shown.of_revision()
    if db.system == "_users" and not is_db_admin(call.user, db.security):
        wanted = _readable(call, wanted, query.latest)
    if _in_parts(call):
        return _multipart(call, wanted, shown, query.latest)
    indexes = _indexes(wanted)
    results: list[object] = []
    for member in paced(wanted):
        if isinstance(member, dict):
            results.append({"id": member["id"], "docs": [{"error": member}]})
            continue
        doc_id, revision, since = member
        details = shown if since is None else _newer_than(since, shown)
        record, found = _open(db, doc_id, revision, query.latest, indexes)
        # A loop, because a comprehension is one more call for each document.
        docs: list[object] = []
        for item in found:
            if not isinstance(item, Node):
                docs.append({"error": _missing(doc_id, item)})
            elif record is not None:
                docs.append({"ok": _shown(call, record, item, details)})
        results.append({"id": doc_id, "docs": docs})
    return json_response({"results": results})


def _shown(call: Call, record: DocumentRecord, leaf: Node, details: Shown) -> Mapping[str, object]:
    """Return the document of a leaf, or the part of it that the user may read."""
    document = show(call.db, record, leaf, details)
    return document if call.db.system != "_users" else readable(call, record.doc_id, document)


def _readable(call: Call, wanted: Sequence[_Wanted | _Error], latest: bool) -> list[_Wanted | _Error]:
    """Return the members of a request to the users database.

    CouchDB reads all documents in one step. If the user may not read one, that step fails for all of them.
    """
    indexes = _indexes(wanted)
    asked = [member for member in wanted if not isinstance(member, dict)]
    try:
        for doc_id, revision, _ in paced(asked):
            record, found = _open(call.db, doc_id, revision, latest, indexes)
            for item in found:
                if isinstance(item, Node) and record is not None:
                    _shown(call, record, item, PLAIN)
    except (NotFound, Forbidden) as error:
        refused = CouchError(error.error, error="internal_fabric_error")
        return [
            member if isinstance(member, dict) else _error(member[0], _shown_rev(member[1]), refused)
            for member in wanted
        ]
    return list(wanted)


def _parse(db: Database, value: JSON) -> _Wanted | _Error:
    if type(value) is not dict or not value:
        return _error(None, None, BadRequest("document must be a JSON object"))
    if "id" not in value:
        return _error(None, None, BadRequest("document id missed"))
    doc_id = value["id"]
    if type(doc_id) is not str:
        raise ServerError("function_clause", error="unknown_error")
    try:
        check_new_id(db, validate_doc_id(doc_id))
    except BadRequest as error:
        return _error(doc_id, None, error)
    bad: JSON = value.get("rev")
    try:
        revision = parse_revision(bad) if "rev" in value else None
        if "atts_since" not in value:
            return doc_id, revision, None
        since = bad = value["atts_since"]
        if type(since) is not list:
            raise BadRequest("att_since value must be array of revs.")
        revisions = []
        for bad in since:
            revisions.append(parse_revision(bad))
    except BadRequest as error:
        return _error(doc_id, bad, error)
    return doc_id, revision, tuple(revisions) or None


def _error(doc_id: JSON, rev: JSON, error: CouchError) -> _Error:
    return {"id": doc_id, "rev": rev, "error": error.error, "reason": error.reason}


_ERROR_PART = b'Content-Type: application/json; error="true"'
_MISSING = CouchError("missing", status=404, error="not_found")


def _missing(doc_id: str, revision: Revision | None) -> _Error:
    return _error(doc_id, _shown_rev(revision), _MISSING)


def _shown_rev(revision: Revision | None) -> str:
    return "undefined" if revision is None else format_revision(*revision)


def _indexes(wanted: Sequence[_Wanted | _Error]) -> dict[str, TreeIndex] | None:
    """Return a place for the indexes of trees, if the request names a document more than once, as replicators do."""
    return {} if len({member[0] for member in wanted if isinstance(member, tuple)}) < len(wanted) else None


def _open(
    db: Database, doc_id: str, revision: Revision | None, latest: bool, indexes: dict[str, TreeIndex] | None
) -> tuple[DocumentRecord | None, Sequence[Node | Revision | None]]:
    """Return the record and the leaves that a member asks for.

    A missing revision stands for itself. A missing document has None as its record.
    """
    revisions = None if revision is None else (revision,)
    record, found = open_leaves(db, doc_id, revisions, latest=latest, in_bulk=True, indexes=indexes)
    return record, found or (None,)


def _newer_than(since: tuple[Revision, ...], shown: Shown) -> Shown:
    """Return the same details, with the data of attachments that are newer than these revisions."""
    return replace(shown, attachments=True, atts_since=since)


def _in_parts(call: Call) -> bool:
    request = call.request
    kinds = ("multipart/mixed", "multipart/related")
    return not accepts(request, JSON_TYPE) and any(accepts(request, kind) for kind in kinds)


def _multipart(call: Call, wanted: Sequence[_Wanted | _Error], shown: Shown, latest: bool) -> Response:
    boundary = f"--{call.server.next_id()}"
    indexes = _indexes(wanted)
    parts = []
    for member in paced(wanted):
        inner = f"--{call.server.next_id()}"
        if isinstance(member, dict):
            parts.append((_ERROR_PART, encode_json(member)))
            continue
        doc_id, revision, since = member
        details = (shown if since is None else _newer_than(since, shown)).following()
        record, found = _open(call.db, doc_id, revision, latest, indexes)
        for item in found:
            if not isinstance(item, Node):
                error = _missing(doc_id, item)
                if item is not None:
                    del error["id"]
                parts.append((_ERROR_PART, encode_json(error)))
            elif record is not None:
                document = _shown(call, record, item, details)
                content_type, text = write_related(inner, document, item.attachments)
                parts.append((_part_header(content_type, inner, record.doc_id, item.rev), text))
    content_type, text = write_bulk(boundary, parts)
    if not accepts(call.request, "multipart/mixed"):
        content_type = content_type.replace("mixed", "related")
    return Response(200, {"content-type": content_type}, body=text)


def _part_header(content_type: str, boundary: str, doc_id: str, rev: str) -> bytes:
    if content_type == JSON_TYPE:
        return b"Content-Type: application/json"
    lines = (f"X-Doc-Id: {doc_id}", f"X-Rev-Id: {rev}", f"Content-Type: multipart/related; boundary={boundary}")
    return "\r\n".join(lines).encode()
