"""``/{db}/_local/{id}``: local documents, which have neither trees nor conflicts, and what their paths refuse."""

from __future__ import annotations

from couchdal.emulator.engine.documents.all_docs import show_local
from couchdal.emulator.engine.documents.document_read import open_local
from couchdal.emulator.http.call import Call, document_etag
from couchdal.errors import BadRequest
from couchdal.http.answers import json_response
from couchdal.http.messages import Response


def read(call: Call, doc_id: str, *, revs: bool) -> Response:
    """GET and HEAD: the document; of the options of documents only ``revs`` adds to it."""
    local = open_local(call.db, doc_id)
    document = show_local(doc_id, local)
    if revs:
        document["_revisions"] = {"start": 0, "ids": [local.revision]}
    tag = document_etag(doc_id, f"0-{local.revision}", dict(local.body))
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    return json_response(document, headers={"etag": tag})


def refuse_nameless(call: Call) -> Response:
    raise BadRequest("Invalid _local document id.")


def refuse_attachments(call: Call) -> Response:
    raise BadRequest("_local documents do not accept attachments.")
