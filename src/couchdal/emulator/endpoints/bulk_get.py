"""``/{db}/_bulk_get``: many documents or revisions in one request. Source: ``chttpd_db``'s ``bulk_get_*``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from couchdal.emulator.endpoints.documents import DocumentQuery
from couchdal.emulator.engine.documents.document import DocumentRecord, validate_doc_id
from couchdal.emulator.engine.documents.document_read import Shown, open_leaves, show
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.engine.revisions.revision_tree import Node
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.http.call import JSON_TYPE, Call, accepts, json_response
from couchdal.emulator.http.multipart import write_bulk, write_related
from couchdal.errors import BadRequest, CouchError, ServerError
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import ABSENT, Response

_REFUSED = ("open_revs", "new_edits", "w", "rev", "atts_since")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One member of ``docs``: the document and its revision (None: all leaves), or the error that it gets."""

    doc_id: JSON
    revision: Revision | None = None
    atts_since: tuple[Revision, ...] | None = None
    error: dict[str, object] | None = None


def read(call: Call) -> Response:
    """POST ``{"docs": [{"id", "rev"?, "atts_since"?}]}``: a result for each member, in their order."""
    call.require_json_type()
    db = call.db
    body = call.json_object()
    values = body.get("docs", ABSENT)
    if values is ABSENT:
        raise BadRequest("Missing JSON list of 'docs'.")
    for name, _ in call.params:
        if name in _REFUSED:
            raise BadRequest(f'"{name}" query parameter is not acceptable')
    query = DocumentQuery(call)
    if type(values) is not list:
        raise ServerError("function_clause")
    wanted = [_parse(db, value) for value in values]
    if any(member.error is None for member in wanted):
        query.check_copies()
    shown = replace(query.shown, revs_info=False, conflicts=False, deleted_conflicts=False, local_seq=False)
    if _in_parts(call):
        return _multipart(call, wanted, shown, query.latest)
    results: list[object] = []
    for member in wanted:
        docs = [
            {"error": item} if isinstance(item, dict) else {"ok": show(db, *item)}
            for item in _opened(db, member, shown, query.latest)
        ]
        results.append({"id": member.doc_id, "docs": docs})
    return json_response({"results": results})


def _parse(db: Database, value: JSON) -> _Wanted:
    if type(value) is not dict or not value:
        return _Wanted(None, error=_error(None, None, BadRequest("document must be a JSON object")))
    if "id" not in value:
        return _Wanted(None, error=_error(None, None, BadRequest("document id missed")))
    doc_id = value["id"]
    if type(doc_id) is not str:
        raise ServerError("function_clause", error="unknown_error")
    try:
        check_new_id(db, validate_doc_id(doc_id))
    except BadRequest as error:
        return _Wanted(doc_id, error=_error(doc_id, None, error))
    bad: JSON = value.get("rev")
    try:
        revision = parse_revision(bad) if "rev" in value else None
        since = value.get("atts_since", [])
        bad = since
        if type(since) is not list:
            raise BadRequest("att_since value must be array of revs.")
        revisions = []
        for bad in since:
            revisions.append(parse_revision(bad))
    except BadRequest as error:
        return _Wanted(doc_id, error=_error(doc_id, bad, error))
    return _Wanted(doc_id, revision, tuple(revisions) or None)


def _error(doc_id: JSON, rev: JSON, error: CouchError) -> dict[str, object]:
    return {"id": doc_id, "rev": rev, "error": error.error, "reason": error.reason}


_MISSING = CouchError("missing", status=404, error="not_found")


def _opened(
    db: Database, member: _Wanted, shown: Shown, latest: bool
) -> Iterator[tuple[DocumentRecord, Node, Shown] | dict[str, object]]:
    """Yield what one member asks for: revisions, and errors for those that are missing."""
    if member.error is not None:
        yield member.error
        return
    if member.atts_since is not None:
        shown = replace(shown, attachments=True, atts_since=member.atts_since)
    revisions = None if member.revision is None else [member.revision]
    record, found = open_leaves(db, str(member.doc_id), revisions, latest=latest, in_bulk=True)
    if not found:
        yield _error(member.doc_id, "undefined", _MISSING)
    for item in found:
        if isinstance(item, Node) and record is not None:
            yield record, item, shown
        elif not isinstance(item, Node):
            yield _error(member.doc_id, format_revision(*item), _MISSING)


def _in_parts(call: Call) -> bool:
    request = call.request
    kinds = ("multipart/mixed", "multipart/related")
    return not accepts(request, JSON_TYPE) and any(accepts(request, kind) for kind in kinds)


def _multipart(call: Call, wanted: list[_Wanted], shown: Shown, latest: bool) -> Response:
    boundary = f"--{call.server.ids.next()}"
    parts = []
    for member in wanted:
        inner = f"--{call.server.ids.next()}"
        for item in _opened(call.db, member, shown, latest):
            if isinstance(item, dict):
                if item["rev"] not in (None, "undefined") and member.error is None:
                    del item["id"]
                parts.append((b'Content-Type: application/json; error="true"', encode_json(item)))
            else:
                record, node, chosen = item
                document = show(call.db, record, node, chosen.following())
                content_type, text = write_related(inner, document, node.attachments)
                parts.append((_part_header(content_type, inner, record.doc_id, node.rev), text))
    content_type, text = write_bulk(boundary, parts)
    if not accepts(call.request, "multipart/mixed"):
        content_type = content_type.replace("mixed", "related")
    return Response(200, {"content-type": content_type}, body=text)


def _part_header(content_type: str, boundary: str, doc_id: str, rev: str) -> bytes:
    if content_type == JSON_TYPE:
        return b"Content-Type: application/json"
    lines = (f"X-Doc-Id: {doc_id}", f"X-Rev-Id: {rev}", f"Content-Type: multipart/related; boundary={boundary}")
    return "\r\n".join(lines).encode()
