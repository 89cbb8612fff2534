"""``/{db}/{doc_id}``: read, write, delete and copy a document. Source: ``chttpd_db:db_doc_req``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from couchdal.api.versions import CHECKED_COPIES
from couchdal.emulator.engine.documents.all_docs import show_local
from couchdal.emulator.engine.documents.attachment import Attachment, Parts, check_name, fill_followers
from couchdal.emulator.engine.documents.document import Document, parse_document, validate_doc_id
from couchdal.emulator.engine.documents.document_read import (
    PLAIN,
    open_leaves,
    open_local,
    open_revision,
    open_winner,
    show,
)
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.http.call import Call, document_etag
from couchdal.emulator.http.document_query import DocumentQuery, document_query, readable, redirect_to_design_path
from couchdal.emulator.http.edits import (
    acknowledged,
    batched,
    document_from,
    edit,
    header_revision,
    location,
    replicate,
    saved,
    written,
)
from couchdal.emulator.http.forms import FORM_TYPE, Field, parse_form
from couchdal.emulator.http.multipart import parse_related, write_mixed, write_related
from couchdal.errors import BadContentType, BadRequest, CouchError, NotFound, ServerError
from couchdal.http.answers import JSON_TYPE, accepts, host_of, json_response
from couchdal.http.json_text import JSON, decode_request, encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import unquote_form
from couchdal.pace import begin_if_large

# Members that change without a new revision. An answer with one of them has no ETag.
_UNVERSIONED = ("_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq")


def read(call: Call) -> Response:
    """GET and HEAD: the winner, the revision in ``rev``, or several leaves with ``open_revs``."""
    doc_id = call.doc_id
    db = call.db
    if doc_id.startswith("_design/") and "doc_id" in call.args:
        return redirect_to_design_path(call)
    query = document_query(call)
    query.check_copies()
    db.count("couchdb/database_reads")
    if query.open_revs is not False:
        return _read_leaves(call, doc_id, query)
    if doc_id.startswith("_local/"):
        return _read_local(call, doc_id, query)
    shown = query.shown
    if query.rev is not None and not query.latest:
        record, node = open_revision(db, doc_id, query.rev)
        shown = shown.of_revision()
    else:
        record, node = open_winner(db, doc_id, deleted=query.deleted)
    in_parts = bool(node.attachments) and shown.with_data and accepts(call.request, "multipart/related")
    document = readable(call, doc_id, show(db, record, node, shown.following() if in_parts else shown))
    etag: str | None = None
    if shown is PLAIN or document.keys().isdisjoint(_UNVERSIONED):
        etag = f'"{document["_rev"]}"'
        if call.has_etag(etag):
            return Response(304, {"etag": etag})
    if in_parts:
        content_type, text = write_related(call.server.next_id(), document, node.attachments)
        response = Response(200, {"content-type": content_type}, body=text)
    else:
        response = json_response(document)
    if etag is not None:
        response.headers["etag"] = etag
    return response


def _read_local(call: Call, doc_id: str, query: DocumentQuery) -> Response:
    """Answer for a local document. Only the parameter ``revs`` adds members to it."""
    if query.rev is not None and not query.latest:
        # CouchDB looks for revisions in trees, and local documents have none.
        raise NotFound("missing")
    local = open_local(call.db, doc_id)
    document = show_local(doc_id, local)
    if query.shown.revs:
        document["_revisions"] = {"start": 0, "ids": [local.revision]}
    tag = document_etag(doc_id, f"0-{local.revision}", dict(local.body))
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    return json_response(document, headers={"etag": tag})


def _read_leaves(call: Call, doc_id: str, query: DocumentQuery) -> Response:
    """Answer ``open_revs``: the leaves by revision, then the missing revisions, as JSON or as multipart."""
    revisions = list(query.open_revs) if isinstance(query.open_revs, list) else None
    record, opened = open_leaves(call.db, doc_id, revisions, latest=query.latest)
    if revisions is None and not opened:
        raise NotFound("missing")
    leaves = sorted((item for item in opened if isinstance(item, Node)), key=_history)
    missing = [format_revision(*revision) for revision in sorted(item for item in opened if not isinstance(item, Node))]
    in_parts = accepts(call.request, "multipart/mixed")
    if call.request.method == "HEAD":
        return Response(200, {"content-type": write_mixed(call.server.next_id(), ())[0] if in_parts else JSON_TYPE})
    shown = query.shown.of_revision().following() if in_parts else query.shown.of_revision()
    try:
        # CouchDB crashes at a leaf that the user may not read.
        documents = [readable(call, doc_id, show(call.db, record, leaf, shown)) for leaf in leaves if record]
    except NotFound:
        raise ServerError("function_clause", error="unknown_error") from None
    if not in_parts:
        rows: list[object] = [{"ok": document} for document in documents]
        return json_response([*rows, *({"missing": rev} for rev in missing)])
    boundary, inner = call.server.next_id(), call.server.next_id()
    parts = [write_related(inner, document, leaf.attachments) for document, leaf in zip(documents, leaves, strict=True)]
    parts += (('application/json; error="true"', encode_json({"missing": rev})) for rev in missing)
    content_type, text = write_mixed(boundary, parts)
    return Response(200, {"content-type": content_type}, body=text)


def _history(leaf: Node) -> tuple[int, list[bytes]]:
    return leaf.position, [node.id for node in leaf.path()]


def write(call: Call) -> Response:
    """PUT: write a new revision or, with ``new_edits=false``, one made elsewhere."""
    query = document_query(call)
    db = call.db
    doc_id = validate_doc_id(call.doc_id)
    check_new_id(db, doc_id)
    value, parts = _sent(call)
    document = document_from(call, doc_id, parse_document(value, call.server.settings))
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


def _sent(call: Call) -> tuple[JSON, Parts | None]:
    """Return the JSON value of the document and, from a multipart body, the data of its attachments."""
    content_type = call.header("content-type") or ""
    if not content_type.startswith("multipart/related;"):
        return call.json(), None
    text, parts = parse_related(content_type, call.content())
    return decode_request(text), parts


def refuse_local_id(call: Call) -> Response:
    """Any method on ``_local`` without an id."""
    raise BadRequest("Invalid _local document id.")


def refuse_local_attachment(call: Call) -> Response:
    """Any method on an attachment of a local document."""
    raise BadRequest("_local documents do not accept attachments.")


def post_form(call: Call) -> Response:
    """POST: a form with a document in ``_doc``, or a revision in ``_rev``, and files that become attachments."""
    referer = call.header("referer")
    if referer is None:
        raise BadRequest("Referer header required.")
    if referer.partition("://")[2].partition("/")[0] != host_of(call.request, call.server.settings):
        raise BadRequest("Referer header must match host.")
    doc_id = validate_doc_id(call.doc_id)
    content_type = call.header("content-type") or ""
    if content_type.lstrip(";").partition(";")[0] != FORM_TYPE:
        raise BadContentType(f"Content-Type must be {FORM_TYPE}")
    fields = list(parse_form(content_type, call.content()))
    document = _document_of_form(call, doc_id, fields)
    sent = list(_files(fields))
    names = {attachment.name for attachment in sent}
    document.attachments = (*sent, *(one for one in document.attachments if one.name not in names))
    (outcome,) = edit(call, [document])
    status = acknowledged(call, 201)
    if isinstance(outcome, CouchError):
        raise outcome
    return json_response({"ok": True, "id": doc_id, "rev": outcome}, status, {"etag": f'"{outcome}"'})


def _document_of_form(call: Call, doc_id: str, fields: list[Field]) -> Document:
    """Return the document in a form, or the stored revision that the form names."""
    values = {field.name: field.data for field in reversed(fields) if field.filename is None}
    if "_doc" in values:
        return document_from(call, doc_id, parse_document(decode_request(values["_doc"]), call.server.settings))
    if "_rev" not in values:
        raise ServerError("badarg", error="unknown_error")
    revision = parse_revision(values["_rev"].decode("latin-1"))
    record, (found,) = open_leaves(call.db, doc_id, [revision], latest=False)
    if record is None or not isinstance(found, Node):
        missing = TupleTerm((TupleTerm((Atom("not_found"), Atom("missing"))), TupleTerm(revision)))
        raise ServerError(pretty_term(TupleTerm((Atom("ok"), [missing]))), error="case_clause")
    ids = tuple(ancestor.id for ancestor in found.path())
    return Document(
        doc_id, found.body or {}, position=found.position, ids=ids, deleted=found.deleted, attachments=found.attachments
    )


def _files(fields: list[Field]) -> Iterator[Attachment]:
    """Yield the attachments in a form. CouchDB skips a file without a content type."""
    for field, data, filename, content_type in fields:
        if field == "_attachments" and filename is not None and content_type is not None:
            check_name(filename)
            yield Attachment(filename, content_type, data, 0, len(data))


def delete(call: Call) -> Response:
    """DELETE: write a revision that deletes the document."""
    db = call.db
    doc_id = call.doc_id
    if doc_id.startswith("_local/"):
        open_local(db, doc_id)
    else:
        open_winner(db, doc_id)
    document = Document(doc_id, {}, deleted=True)
    return saved(call, document_from(call, doc_id, document))


def copy(call: Call) -> Response:
    """COPY: copy to the id and the optional revision in the Destination header."""
    text = call.param("rev")
    revision = header_revision(call, None if text is None else parse_revision(text))
    target_id, target_revision = _destination(call)
    if call.server.version.has(CHECKED_COPIES):
        validate_doc_id(target_id)
    check_new_id(call.db, target_id)
    doc_id = call.doc_id
    position, ids = (target_revision[0], (target_revision[1],)) if target_revision else (0, ())
    if doc_id.startswith("_local/"):
        if revision is not None:
            raise NotFound("missing")
        document = Document(target_id, dict(open_local(call.db, doc_id).body), position=position, ids=ids)
    else:
        _, node = open_winner(call.db, doc_id) if revision is None else open_revision(call.db, doc_id, revision)
        begin_if_large(node.body)
        document = Document(
            target_id,
            node.body or {},
            position=position,
            ids=ids,
            deleted=node.deleted,
            attachments=node.attachments,
        )
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
        # Headers arrive as Latin-1 text, but hold UTF-8.
        destination = destination.encode("latin-1").decode("utf-8")
    path, *queries = _split(destination, "?")
    # CouchDB ignores the name of the parameter.
    revision = parse_revision(_split(queries[0], "=")[1]) if queries else None
    return unquote_form(path), revision


def _split(text: str, separator: str) -> list[str]:
    """Return the parts of a text. Raise ``ServerError`` for more than two, or for a parameter without a value."""
    parts = text.split(separator)
    if len(parts) > 2 or (separator == "=" and len(parts) < 2):
        raise ServerError("".join(parts), error="badmatch")
    return parts
