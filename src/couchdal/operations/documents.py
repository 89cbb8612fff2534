"""Calls for one document: ordinary, local, and its attachments.

A parameter that is ``None`` is not sent; CouchDB's documentation says what each one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from couchdal.http.json_text import JSON
from couchdal.http.messages import Response
from couchdal.operations.operation import Doc, Operation, attachment_path, document_path, listed, local_path, query

if TYPE_CHECKING:
    from couchdal.types import Document, WriteResult


def get_document(
    doc_id: str,
    *,
    rev: str | None = None,
    revs: bool | None = None,
    revs_info: bool | None = None,
    conflicts: bool | None = None,
    deleted_conflicts: bool | None = None,
    local_seq: bool | None = None,
    latest: bool | None = None,
    attachments: bool | None = None,
) -> Operation[Document]:
    """Return a document: the winner, or the revision ``rev``. Raises ``NotFound``."""
    return Operation(
        "GET",
        document_path(doc_id)
        + query(
            rev=rev,
            revs=revs,
            revs_info=revs_info,
            conflicts=conflicts,
            deleted_conflicts=deleted_conflicts,
            local_seq=local_seq,
            latest=latest,
            attachments=attachments,
        ),
    )


def open_revs(
    doc_id: str, revisions: Literal["all"] | Iterable[str] = "all", *, revs: bool | None = None
) -> Operation[list[dict[str, JSON]]]:
    """Return the leaves of a document, or the revisions named: each is ``{"ok": doc}`` or ``{"missing": rev}``."""
    named = revisions if revisions == "all" else json.dumps(listed(revisions))
    return Operation("GET", document_path(doc_id) + query(open_revs=named, revs=revs))


def put_document(
    doc_id: str, doc: Doc, *, rev: str | None = None, new_edits: bool | None = None, batch: Literal["ok"] | None = None
) -> Operation[WriteResult]:
    """Create or update a document; an update needs ``rev`` or a ``_rev`` in the document. Raises ``Conflict``."""
    return Operation("PUT", document_path(doc_id) + query(rev=rev, new_edits=new_edits, batch=batch), doc)


def post_document(doc: Doc, *, batch: Literal["ok"] | None = None) -> Operation[WriteResult]:
    """Create a document; without ``_id`` the server gives it one."""
    return Operation("POST", "/" + query(batch=batch), doc)


def delete_document(doc_id: str, rev: str) -> Operation[WriteResult]:
    """Delete the revision ``rev`` of a document. Raises ``Conflict``, ``NotFound``."""
    return Operation("DELETE", document_path(doc_id) + query(rev=rev))


def copy_document(
    doc_id: str, destination: str, *, rev: str | None = None, destination_rev: str | None = None
) -> Operation[WriteResult]:
    """Copy a document to the id ``destination``; ``destination_rev`` is the revision that is overwritten there."""
    target = document_path(destination)[1:] + query(rev=destination_rev)
    return Operation("COPY", document_path(doc_id) + query(rev=rev), headers={"destination": target})


def get_local(doc_id: str) -> Operation[Document]:
    """Return a local document, such as a replication checkpoint; the id's ``_local/`` may be left out."""
    return Operation("GET", local_path(doc_id))


def put_local(doc_id: str, doc: Doc) -> Operation[WriteResult]:
    """Store a local document. It is never replicated, and its revision is never in conflict."""
    return Operation("PUT", local_path(doc_id), doc)


def delete_local(doc_id: str, rev: str | None = None) -> Operation[WriteResult]:
    """Delete a local document. Raises ``NotFound``."""
    return Operation("DELETE", local_path(doc_id) + query(rev=rev))


def get_attachment(doc_id: str, name: str, *, rev: str | None = None) -> Operation[bytes]:
    """Return an attachment's bytes. Raises ``NotFound``."""
    path = attachment_path(doc_id, name) + query(rev=rev)
    return Operation("GET", path, headers={"accept": "*/*"}, read=Response.content)


def put_attachment(
    doc_id: str,
    name: str,
    data: bytes,
    *,
    content_type: str = "application/octet-stream",
    rev: str | None = None,
) -> Operation[WriteResult]:
    """Store an attachment as a new revision of its document, which need not exist yet. Raises ``Conflict``."""
    path = attachment_path(doc_id, name) + query(rev=rev)
    return Operation("PUT", path, body=bytes(data), headers={"content-type": content_type})


def delete_attachment(doc_id: str, name: str, rev: str) -> Operation[WriteResult]:
    """Delete an attachment as a new revision of its document. Raises ``Conflict``."""
    return Operation("DELETE", attachment_path(doc_id, name) + query(rev=rev))
