"""``/{db}/{doc_id}``: one document, read, written, deleted, copied. Source: ``chttpd_db:db_doc_req``."""

from __future__ import annotations

import re
from contextlib import suppress

from couchdal.emulator.endpoints import local_documents
from couchdal.emulator.engine.documents.attachment import fill_followers
from couchdal.emulator.engine.documents.document import Document, parse_document, validate_doc_id
from couchdal.emulator.engine.documents.document_read import (
    PLAIN,
    Shown,
    open_leaves,
    open_local,
    open_revision,
    open_winner,
    show,
)
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.engine.revisions.revision_tree import Node
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import (
    acknowledged,
    batched,
    document_from,
    edit,
    header_revision,
    location,
    parse_count,
    replicate,
    saved,
    written,
)
from couchdal.emulator.http.multipart import parse_related, write_mixed, write_related
from couchdal.errors import BadContentType, BadRequest, CouchError, NotFound, NotSupported, ServerError
from couchdal.http.answers import accepts, json_response
from couchdal.http.json_text import JSON, decode_request, encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import unquote_form

_FLAGS = {
    "revs": {"revs": True},
    "revs_info": {"revs_info": True},
    "conflicts": {"conflicts": True},
    "deleted_conflicts": {"deleted_conflicts": True},
    "local_seq": {"local_seq": True},
    "attachments": {"attachments": True},
    "att_encoding_info": {"encoding_info": True},
    "meta": {"revs_info": True, "conflicts": True, "deleted_conflicts": True},
}


class DocumentQuery:
    """The query parameters of a document request, read in order as CouchDB reads them."""

    __slots__ = ("atts_since", "copies", "deleted", "latest", "new_edits", "open_revs", "rev", "shown")

    def __init__(self, call: Call) -> None:
        self.rev: Revision | None = None
        self.open_revs: list[Revision] | None | bool = False
        self.latest: bool = False
        self.deleted: bool = False
        self.new_edits: bool = True
        self.atts_since: tuple[Revision, ...] | None = None
        self.copies: str = "1"
        flags: dict[str, bool] = {}
        for name, value in call.params if call.request.query else ():
            if name in _FLAGS and value == "true":
                flags |= _FLAGS[name]
            elif name == "latest" and value == "true":
                self.latest = True
            elif name == "deleted" and value == "true":
                self.deleted = True
            elif name == "new_edits" and value in ("true", "false"):
                self.new_edits = value == "true"
            elif name == "rev":
                self.rev = parse_revision(value)
            elif name == "open_revs":
                self.open_revs = None if value == "all" else parse_revisions(value) or False
            elif name == "atts_since":
                self.atts_since = tuple(parse_revisions(value))
            elif name == "r":
                self.copies = value
        self.shown: Shown = (
            Shown(**flags, atts_since=self.atts_since) if flags or self.atts_since is not None else PLAIN
        )

    def check_copies(self) -> None:
        """Raise ``ServerError`` where it is no number from how many copies (``r``) a document is to be read."""
        parse_count(self.copies)


def parse_revisions(text: str) -> list[Revision]:
    """Return the revisions of a JSON array of texts; raises ``BadRequest``."""
    value = decode_request(text.encode("utf-8", "surrogateescape"))
    if type(value) is not list:
        raise BadRequest("Invalid list of revisions")
    return [parse_revision(item) for item in value]


def read(call: Call) -> Response:
    """GET and HEAD: the winner, or ``rev``, or several leaves with ``open_revs``."""
    doc_id = call.doc_id
    db = call.db
    if call.args.get("doc_id", "").startswith("_design/"):
        return redirect(call)
    query = DocumentQuery(call)
    check_readable(call, doc_id)
    query.check_copies()
    if query.open_revs is not False:
        return _read_leaves(call, doc_id, query)
    if doc_id.startswith("_local/"):
        if query.rev is not None and not query.latest:
            # Revisions are looked up in trees, which local documents don't have.
            raise NotFound("missing")
        return local_documents.read(call, doc_id, revs=query.shown.revs)
    shown = query.shown
    if query.rev is not None and not query.latest:
        record, node = open_revision(db, doc_id, query.rev)
        shown = shown.of_revision()
    else:
        record, node = open_winner(db, doc_id, deleted=query.deleted)
    in_parts = bool(node.attachments) and shown.with_data and accepts(call.request, "multipart/related")
    document = show(db, record, node, shown.following() if in_parts else shown)
    headers: dict[str, str] = {}
    if document.keys().isdisjoint(("_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq")):
        headers["etag"] = f'"{node.rev}"'
        if call.has_etag(headers["etag"]):
            return Response(304, headers)
    if in_parts:
        headers["content-type"], text = write_related(call.server.ids.next(), document, node.attachments)
        return Response(200, headers, body=text)
    return json_response(document, headers=headers)


def redirect(call: Call) -> Response:
    """Send a reader of a design document to the path in which the slash of its id stands bare."""
    head, *tail = re.split("_design%2F", call.request.path, flags=re.IGNORECASE)
    query = f"?{call.request.query}" if call.request.query else ""
    return Response(301, {"location": call.absolute_uri(head + "_design/" + "".join(tail) + query)})


def _read_leaves(call: Call, doc_id: str, query: DocumentQuery) -> Response:
    """Answer ``open_revs``: what is found by revision, then what is missing, as JSON or as parts."""
    revisions = list(query.open_revs) if isinstance(query.open_revs, list) else None
    record, opened = open_leaves(call.db, doc_id, revisions, latest=query.latest)
    if revisions is None and not opened:
        raise NotFound("missing")
    leaves = sorted((item for item in opened if isinstance(item, Node)), key=_history)
    missing = [format_revision(*revision) for revision in sorted(item for item in opened if not isinstance(item, Node))]
    shown = query.shown.of_revision()
    if not accepts(call.request, "multipart/mixed"):
        rows: list[object] = [{"ok": show(call.db, record, leaf, shown)} for leaf in leaves if record]
        return json_response([*rows, *({"missing": rev} for rev in missing)])
    boundary, inner = call.server.ids.next(), call.server.ids.next()
    shown = shown.following()
    parts = [write_related(inner, show(call.db, record, leaf, shown), leaf.attachments) for leaf in leaves if record]
    parts += (('application/json; error="true"', encode_json({"missing": rev})) for rev in missing)
    content_type, text = write_mixed(boundary, parts)
    return Response(200, {"content-type": content_type}, body=text)


def _history(leaf: Node) -> tuple[int, list[bytes]]:
    return leaf.position, [node.id for node in leaf.path()]


def write(call: Call) -> Response:
    """PUT: a new document or revision, or with ``new_edits=false`` one that was made elsewhere."""
    query = DocumentQuery(call)
    db = call.db
    doc_id = validate_doc_id(call.doc_id)
    check_new_id(db, doc_id)
    value, parts = _sent(call)
    document = document_from(call, doc_id, parse_document(value))
    if parts is not None:
        document.attachments = fill_followers(document.attachments, parts)
    if query.new_edits:
        if call.param("batch") == "ok":
            return batched(call, document)
        return saved(call, document, located=True)
    if not document.ids:
        raise BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
    refused = replicate(call, [document])
    if call.param("batch") == "ok":
        return json_response({"ok": True, "id": doc_id}, 202)
    status = 200 if document.deleted else 201
    acknowledged(call, status)
    if refused:
        raise refused[0][1]
    return written(call, document, format_revision(document.position, document.ids[0]), status, located=True)


def _sent(call: Call) -> tuple[JSON, list[bytes] | None]:
    """Return the document's JSON value and, where the body has parts, the data that follows it."""
    content_type = call.header("content-type") or ""
    if not content_type.startswith("multipart/related;"):
        return call.json(), None
    text, parts = parse_related(content_type, call.request.content())
    return decode_request(text), parts


def check_readable(call: Call, doc_id: str) -> None:
    """Raise ``NotFound`` or ``Forbidden`` for a document that its database shows to few."""
    if call.db.name.endswith("/_users") and not call.user.is_admin:
        from couchdal.emulator.engine.auth.users import check_readable  # few programs manage users

        check_readable(doc_id, call.user, call.db.security)


def post_form(call: Call) -> Response:
    """POST: a form with attachments from a page of this server's, which the emulator has none of."""
    referer = call.header("referer")
    if referer is None:
        raise BadRequest("Referer header required.")
    if referer.partition("://")[2].partition("/")[0] != call.header("host"):
        raise BadRequest("Referer header must match host.")
    validate_doc_id(call.doc_id)
    if (call.header("content-type") or "").partition(";")[0] != "multipart/form-data":
        raise BadContentType("Content-Type must be multipart/form-data")
    raise NotSupported("forms with attachments are not taken")


def delete(call: Call) -> Response:
    """DELETE: one more revision, with nothing in it but the deletion."""
    db = call.db
    doc_id = call.doc_id
    if doc_id.startswith("_local/"):
        open_local(db, doc_id)
    else:
        open_winner(db, doc_id)
    document = Document(doc_id, {}, deleted=True)
    return saved(call, document_from(call, doc_id, document))


def copy(call: Call) -> Response:
    """COPY to the id, and optionally onto the revision, that the Destination header names."""
    text = call.param("rev")
    revision = header_revision(call, None if text is None else parse_revision(text))
    target_id, target_revision = _destination(call)
    validate_doc_id(target_id)
    check_new_id(call.db, target_id)
    doc_id = call.doc_id
    position, ids = (target_revision[0], (target_revision[1],)) if target_revision else (0, ())
    if doc_id.startswith("_local/"):
        if revision is not None:
            raise NotFound("missing")
        document = Document(target_id, dict(open_local(call.db, doc_id).body), position, ids)
    else:
        _, node = open_winner(call.db, doc_id) if revision is None else open_revision(call.db, doc_id, revision)
        document = Document(target_id, node.body or {}, position, ids, node.deleted, node.attachments)
    (outcome,) = edit(call, [document])
    if isinstance(outcome, CouchError):
        raise outcome
    headers = {"etag": f'"{outcome}"', "location": location(call, target_id)}
    return json_response({"ok": True, "id": target_id, "rev": outcome}, 201, headers)


def _destination(call: Call) -> tuple[str, Revision | None]:
    destination = call.header("destination")
    if destination is None:
        raise BadRequest("Destination header is mandatory for COPY.")
    if destination.startswith(("http://", "https://")):
        raise BadRequest("Destination URL must be relative.")
    with suppress(UnicodeError):
        # What a socket brings is Latin-1 by name, and UTF-8 in fact.
        destination = destination.encode("latin-1").decode("utf-8")
    path, *queries = _split(destination, "?")
    # Whatever the parameter is called, it is the revision.
    revision = parse_revision(_split(queries[0], "=")[1]) if queries else None
    return unquote_form(path), revision


def _split(text: str, separator: str) -> list[str]:
    """Return the one or two parts of a text; raises ``ServerError`` where there are more, or not two of a parameter."""
    parts = text.split(separator)
    if len(parts) > 2 or (separator == "=" and len(parts) < 2):
        raise ServerError("".join(parts), error="badmatch")
    return parts
