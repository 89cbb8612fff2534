"""``/{db}/_local/{id}``: local documents, which have neither trees nor conflicts, and what their paths refuse."""

from __future__ import annotations

from dal.endpoints.call import Call, document_etag, json_response
from dal.engine.all_docs import show_local
from dal.engine.document_read import open_local
from dal.errors import BadRequest
from dal.wire import Response


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
