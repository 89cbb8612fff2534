"""``/{db}/{doc_id}/{name}``: read, write and delete an attachment. Source: ``chttpd_db:db_attachment_req``."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from couchdal.emulator.engine.documents.attachment import DEFAULT_CONTENT_TYPE, Attachment, check_name
from couchdal.emulator.engine.documents.document import Document, check_sizes, validate_doc_id
from couchdal.emulator.engine.documents.document_read import open_leaves, open_local, open_revision, open_winner
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.document_query import document_query, readable, redirect_to_design_path
from couchdal.emulator.http.edits import acknowledged, edit_one, header_revision
from couchdal.emulator.http.function_answers import cut_off
from couchdal.emulator.http.multipart import write_ranges
from couchdal.errors import BadContentType, BadRequest, Conflict, CouchError, NotFound, ServerError
from couchdal.http.answers import json_response
from couchdal.http.json_text import holds_surrogate
from couchdal.http.messages import Response
from couchdal.http.urls import quote_like_couchdb
from couchdal.pace import here

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.upload import Upload
    from couchdal.emulator.engine.server.keeper import Keeper

_ENCODINGS = frozenset(("gzip", "identity"))
_QUALITY = re.compile(r"(0|1)(\.[0-9]{1,3})?\Z")
# CouchDB answers a request for more ranges with the whole attachment.
_MAX_RANGES = 9
# Longer attachments are inflated while they are sent.
_WHOLE = 1_048_576


def _find(attachments: tuple[Attachment, ...], name: str) -> Attachment:
    for attachment in attachments:
        if attachment.name == name:
            return attachment
    raise NotFound("Document is missing attachment")


# --- reading ---------------------------------------------------------------------------------------------------------


def read(call: Call) -> Response:
    """GET and HEAD: the bytes, or ranges of them. Gzipped ones stay gzipped if the client accepts that."""
    if call.args.get("doc_id", "").startswith("_design/"):
        return redirect_to_design_path(call)
    call.db.count("couchdb/database_reads")
    attachment = _find(_opened(call), call.args["name"])
    headers = {
        "etag": f'"{b64encode(attachment.digest).decode()}"',
        "cache-control": "must-revalidate",
        "content-type": attachment.content_type,
        "accept-ranges": "bytes" if attachment.encoding == "identity" else "none",
    }
    if call.server.settings.attachments_csp_enable:
        headers["content-security-policy"] = call.server.settings.attachments_csp
    accepted = _accepted_encodings(call)
    if isinstance(accepted, Response):
        return accepted
    size = length = attachment.stored_size
    inflates, length_known = attachment.encoding not in ("identity", *accepted), True
    if inflates:
        length, length_known = attachment.length, attachment.length != size
    elif attachment.encoding != "identity":
        headers["content-encoding"] = attachment.encoding
    if call.has_etag(headers["etag"]):
        return Response(304, {"etag": headers["etag"]})
    ranges = _ranges(call.header("range"), length) if length_known else None
    if inflates:
        data, pieces = _inflated(attachment)
        if pieces is None:
            return Response(200, headers, body=data)
        if length_known:
            headers["content-length"] = str(length)
        return Response(200, headers, stream=chain((data,), pieces))
    if ranges is None or attachment.encoding != "identity" or len(ranges) > _MAX_RANGES:
        return _part(attachment, 200, headers, 0, size)
    if len(ranges) != 1:
        content_type, pieces = write_ranges(call.server.next_id(), attachment, ranges)
        size = sum(last + 1 - first for first, last in ranges)
        if _is_sent_late(attachment, size):
            return Response(206, {"content-type": content_type}, stream=pieces)
        return Response(206, {"content-type": content_type}, body=b"".join(pieces))
    first, last = ranges[0]
    headers["content-range"] = f"bytes {first}-{last}/{size}"
    return _part(attachment, 206, headers, first, last + 1)


def _part(attachment: Attachment, status: int, headers: dict[str, str], first: int, end: int) -> Response:
    """Return the answer with some stored bytes. A server reads many bytes from a file while they are sent."""
    if attachment.address is None:
        return Response(status, headers, body=(attachment.data or b"")[first:end])
    if not _is_sent_late(attachment, end - first):
        return Response(status, headers, body=b"".join(attachment.stored_parts(first, end)))
    headers["content-length"] = str(len(range(attachment.stored_size)[first:end]))
    return Response(status, headers, stream=attachment.stored_parts(first, end))


def _is_sent_late(attachment: Attachment, size: int) -> bool:
    """Return whether so many bytes are read while they are sent: by a server, and from a file."""
    return here.pace is not None and attachment.address is not None and size > _WHOLE


def _inflated(attachment: Attachment) -> tuple[bytes, Iterator[bytes] | None]:
    """Return the original bytes. For a long attachment, return the first ones, and an iterator over the others.

    A small attachment may inflate to a thousand times its size. The pieces of one that is not gzip break off.
    """
    pieces, begun, size = attachment.pieces(), list[bytes](), 0
    try:
        for piece in pieces:
            begun.append(piece)
            size += len(piece)
            if size > _WHOLE:
                return b"".join(begun), _inflating(pieces)
    except ServerError as error:
        return b"", cut_off(b"".join(begun), error.reason)
    return b"".join(begun), None


def _inflating(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except ServerError as error:
        yield from cut_off(b"", error.reason)


def _opened(call: Call) -> tuple[Attachment, ...]:
    """Return the attachments of the requested revision. Raise ``NotFound``."""
    query = document_query(call)
    db, doc_id = call.db, call.doc_id
    query.check_copies()
    if call.doc_id.startswith("_local/"):
        open_local(db, doc_id)
        return ()
    node: Node | None
    if query.rev is None:
        node = open_winner(db, doc_id, deleted=query.deleted)[1]
    elif not query.latest:
        node = open_revision(db, doc_id, query.rev)[1]
    else:
        _, found = open_leaves(db, doc_id, [query.rev], latest=True)
        node = next((one for one in found if isinstance(one, Node)), None)
    if node is None:
        raise NotFound("missing")
    readable(call, doc_id, node.body or {})
    return node.attachments


def _accepted_encodings(call: Call) -> set[str] | Response:
    """Return the encodings that the client accepts, or the answer if it accepts none."""
    qualities: list[tuple[str, float]] = []
    for part in (call.header("accept-encoding") or "").lower().split(","):
        name, *parameters = part.split(";")
        quality = _quality(parameters)
        if quality is None:
            return _unacceptable("bad_accept_encoding_value")
        if name.strip():
            qualities.append((name.strip(), quality))
    accepted = {name for name, quality in qualities if quality > 0}
    refused = {name for name, quality in qualities if quality == 0}
    if "*" in refused:
        refused |= _ENCODINGS - accepted
    if "*" in accepted:
        accepted |= _ENCODINGS - refused
    accepted = ((accepted | {"identity"}) & _ENCODINGS) - refused
    return accepted or _unacceptable("unacceptable_encoding")


def _quality(parameters: list[str]) -> float | None:
    for parameter in parameters:
        name, equals, value = "".join(parameter.split()).partition("=")
        if not equals:
            return None
        if name == "q":
            return float(value) if _QUALITY.match(value) and float(value) <= 1 else None
    return 1.0


def _unacceptable(reason: str) -> Response:
    # CouchDB throws this instead of raising an error, so the answer has no reference to a stack trace.
    return json_response({"error": "unknown_error", "reason": reason}, 500)


def _ranges(header: str | None, length: int) -> list[tuple[int, int]] | None:
    """Return the first and last byte of each range, or None for the whole attachment. Raise ``CouchError`` 416.

    A malformed range makes CouchDB ignore the header.
    """
    if header is None or not header.startswith("bytes="):
        return None
    ranges = []
    for text in header.removeprefix("bytes=").split(","):
        if not text.strip(" "):
            continue
        parsed = _range(text.strip(" "))
        if parsed is None:
            return None
        first, last = parsed
        if first == 0 and last is None:
            return None
        if last is not None and (first is None or last >= first) and last >= length:
            last = length - 1
        if first is None:
            first, last = length - (last or 0), length - 1
        elif last is None:
            last = length - 1
        if last is None or last < first:
            raise CouchError("Requested range not satisfiable", status=416, error="requested_range_not_satisfiable")
        ranges.append((first, last))
    return ranges


def _range(text: str) -> tuple[int | None, int | None] | None:
    """Return the first and last byte of a range, with None for an open end. Return None for a malformed range."""
    if text.startswith("-"):
        last = parse_integer(text[1:])
        return None if last is None else (None, last)
    ends = [parse_integer(end) for end in text.split("-") if end]
    if len(ends) > 2 or None in ends:
        return None
    return ends[0], ends[1] if len(ends) == 2 else None


# --- writing ---------------------------------------------------------------------------------------------------------


def write(call: Call) -> Response:
    """PUT: a new revision with the attachment, which replaces one of the same name."""
    return write_uploaded(call, None)


def write_uploaded(call: Call, upload: Upload | None) -> Response:
    """Write an attachment that was stored while it arrived. Without ``upload``, it is the body of the request."""
    doc_id, name = call.doc_id, _checked_name(call)
    sent = _sent(call, name)
    document, others = _document(call, doc_id)
    if upload is None:
        check_sizes([sent], call.server.settings.max_attachment_size, writes=True)
    else:
        sent = upload.finish(call.db.origin())
    document.attachments = (sent, *(one for one in others if one.name != name))
    # CouchDB does not encode the name of the database here.
    path = f"/{call.args['db']}/{quote_like_couchdb(doc_id)}/{quote_like_couchdb(name)}"
    return _saved(call, document, 201, {"location": call.absolute_uri(path)})


def begin_upload(call: Call, keeper: Keeper) -> Upload:
    """Return what stores the attachment while it arrives. Raise the errors that do not depend on its bytes."""
    from couchdal.emulator.engine.documents.upload import Upload  # few requests are so long

    doc_id, name = call.doc_id, _checked_name(call)
    sent = replace(_sent(call, name), length=int(call.header("content-length") or 0))
    _document(call, doc_id)
    return Upload(call.db.origin(), keeper, doc_id, sent, call.server.settings.max_attachment_size)


def delete(call: Call) -> Response:
    """DELETE: a new revision without the attachment."""
    doc_id, name = call.doc_id, _checked_name(call)
    document, attachments = _document(call, doc_id)
    if not document.ids:
        attachments = open_winner(call.db, doc_id)[1].attachments
    _find(attachments, name)
    document.attachments = tuple(one for one in attachments if one.name != name) if document.ids else ()
    answer = _saved(call, document, 200, {})
    # CouchDB's status is the same when fewer copies were written than asked for.
    answer.status = 200
    return answer


def _checked_name(call: Call) -> str:
    """Return the attachment's name. Raise ``BadRequest`` for a name that CouchDB does not allow."""
    name = call.args["name"]
    if name.startswith("_") and "design" in call.args:
        # CouchDB looks for a function of the design document first.
        open_winner(call.db, call.doc_id)
    check_name(name)
    if holds_surrogate(name):
        raise BadRequest("Attachment name is not UTF-8 encoded")
    return name


def _sent(call: Call, name: str) -> Attachment:
    """Return the attachment in a request. Raise ``BadContentType`` for an encoding other than gzip."""
    encoding = call.request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise BadContentType("Only gzip and identity content-encodings are supported")
    content_type = call.header("content-type")
    data = call.request.content()
    return Attachment(
        name,
        DEFAULT_CONTENT_TYPE if content_type is None else content_type,
        data,
        0,
        len(data),
        encoding,
        measured=False,
    )


def _document(call: Call, doc_id: str) -> tuple[Document, tuple[Attachment, ...]]:
    """Return the edit of the named revision or of a new document, and the attachments of that revision."""
    text = call.param("rev")
    revision = header_revision(call, None if text is None else parse_revision(text))
    if revision is None:
        if call.method != "DELETE":
            validate_doc_id(doc_id)
            check_new_id(call.db, doc_id)
        return Document(doc_id, {}), ()
    try:
        _, node = open_revision(call.db, doc_id, revision)
    except NotFound:
        raise Conflict("missing_rev", error="not_found") from None
    # Validation functions see the whole ancestry, not only the revision that the request names.
    ids = tuple(ancestor.id for ancestor in node.path())
    document = Document(doc_id, node.body or {}, position=node.position, ids=ids, deleted=node.deleted)
    return document, node.attachments


def _saved(call: Call, document: Document, status: int, headers: dict[str, str]) -> Response:
    outcome = edit_one(call, document)
    status = acknowledged(call, status)
    if isinstance(outcome, CouchError):
        raise outcome
    return json_response({"ok": True, "id": document.doc_id, "rev": outcome}, status, headers)
