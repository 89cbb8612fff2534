"""Calls for one document: ordinary documents, local documents and attachments.

A parameter that is ``None`` is not sent. CouchDB's documentation says what each one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from couchdal.http.messages import Response
from couchdal.operations.operation import (
    Operation,
    Operations,
    as_list,
    attachment_path,
    document_path,
    local_path,
    query,
)

if TYPE_CHECKING:
    from couchdal.types import Document, OpenRevision, WriteResult


class DocumentOperations(Operations):
    """Reads and writes single documents, local documents and attachments."""

    def get_document(
        self,
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
    ) -> Document:
        """Return a document: its winning revision, or the revision ``rev``. Raise ``NotFound`` if it does not exist.

        >>> db.put_document("a", {"n": 1})["rev"]
        '1-731bef401491606a3b246ed178e697c1'
        >>> db.get_document("a")["n"]
        1
        """
        parameters = query(
            rev=rev,
            revs=revs,
            revs_info=revs_info,
            conflicts=conflicts,
            deleted_conflicts=deleted_conflicts,
            local_seq=local_seq,
            latest=latest,
            attachments=attachments,
        )
        return self._run(Operation("GET", document_path(doc_id) + parameters))

    def open_revs(
        self, doc_id: str, revisions: Literal["all"] | Iterable[str] = "all", *, revs: bool | None = None
    ) -> list[OpenRevision]:
        """Return all leaves of a document, or the named revisions.

        >>> written = db.put_document("a", {"n": 1})
        >>> db.open_revs("a")[0]["ok"]["n"]
        1
        >>> db.open_revs("a", ["1-x"])
        [{'missing': '1-x'}]
        """
        named = revisions if revisions == "all" else json.dumps(as_list(revisions))
        return self._run(Operation("GET", document_path(doc_id) + query(open_revs=named, revs=revs)))

    def put_document(
        self,
        doc_id: str,
        doc: Mapping[str, object],
        *,
        rev: str | None = None,
        new_edits: bool | None = None,
        batch: Literal["ok"] | None = None,
    ) -> WriteResult:
        """Create or update a document. An update needs the current revision, as ``rev`` or as ``_rev`` in the document.

        Raise ``Conflict`` if the document has another revision.

        >>> first = db.put_document("a", {"n": 1})
        >>> db.put_document("a", {"n": 2}, rev=first["rev"])["ok"]
        True
        """
        path = document_path(doc_id) + query(rev=rev, new_edits=new_edits, batch=batch)
        return self._run(Operation("PUT", path, doc))

    def post_document(self, doc: Mapping[str, object], *, batch: Literal["ok"] | None = None) -> WriteResult:
        """Create a document. The server generates an id if the document has no ``_id``.

        >>> db.post_document({"_id": "a", "n": 1})["id"]
        'a'
        """
        return self._run(Operation("POST", "/" + query(batch=batch), doc))

    def delete_document(self, doc_id: str, rev: str) -> WriteResult:
        """Delete the revision ``rev`` of a document. Raise ``Conflict`` or ``NotFound``.

        >>> rev = db.put_document("a", {})["rev"]
        >>> db.delete_document("a", rev)["ok"]
        True
        """
        return self._run(Operation("DELETE", document_path(doc_id) + query(rev=rev)))

    def copy_document(
        self, doc_id: str, destination: str, *, rev: str | None = None, destination_rev: str | None = None
    ) -> WriteResult:
        """Copy a document to the id ``destination``. To overwrite a document, pass its revision ``destination_rev``.

        >>> written = db.put_document("a", {"n": 1})
        >>> db.copy_document("a", "b")["id"]
        'b'
        """
        target = document_path(destination)[1:] + query(rev=destination_rev)
        path = document_path(doc_id) + query(rev=rev)
        return self._run(Operation("COPY", path, headers={"destination": target}))

    def get_local(self, doc_id: str) -> Document:
        """Return a local document, such as a replication checkpoint. The prefix ``_local/`` of the id is optional.

        >>> db.put_local("checkpoint", {"seq": 7})["id"]
        '_local/checkpoint'
        >>> db.get_local("checkpoint")["seq"]
        7
        """
        return self._run(Operation("GET", local_path(doc_id)))

    def put_local(self, doc_id: str, doc: Mapping[str, object]) -> WriteResult:
        """Write a local document. It is never replicated and needs no revision.

        >>> db.put_local("checkpoint", {"seq": 7})["ok"]
        True
        """
        return self._run(Operation("PUT", local_path(doc_id), doc))

    def delete_local(self, doc_id: str, rev: str | None = None) -> WriteResult:
        """Delete a local document. Raise ``NotFound`` if it does not exist.

        >>> written = db.put_local("checkpoint", {"seq": 7})
        >>> db.delete_local("checkpoint")["ok"]
        True
        """
        return self._run(Operation("DELETE", local_path(doc_id) + query(rev=rev)))

    def get_attachment(self, doc_id: str, name: str, *, rev: str | None = None) -> bytes:
        """Return an attachment's bytes. Raise ``NotFound`` if it does not exist.

        >>> written = db.put_attachment("a", "note.txt", b"hello", content_type="text/plain")
        >>> db.get_attachment("a", "note.txt")
        b'hello'
        """
        path = attachment_path(doc_id, name) + query(rev=rev)
        return self._run(Operation("GET", path, headers={"accept": "*/*"}, read=Response.content))

    def put_attachment(
        self,
        doc_id: str,
        name: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        rev: str | None = None,
    ) -> WriteResult:
        """Write an attachment. This creates a new revision of the document, or the document itself.

        Raise ``Conflict`` if the document has another revision than ``rev``.

        >>> db.put_attachment("a", "note.txt", b"hello", content_type="text/plain")["id"]
        'a'
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"an attachment must be bytes, not {type(data).__name__}")
        path = attachment_path(doc_id, name) + query(rev=rev)
        return self._run(Operation("PUT", path, body=bytes(data), headers={"content-type": content_type}))

    def delete_attachment(self, doc_id: str, name: str, rev: str) -> WriteResult:
        """Delete an attachment. This creates a new revision of the document. Raise ``Conflict``.

        >>> rev = db.put_attachment("a", "note.txt", b"hello")["rev"]
        >>> db.delete_attachment("a", "note.txt", rev)["ok"]
        True
        """
        return self._run(Operation("DELETE", attachment_path(doc_id, name) + query(rev=rev)))
