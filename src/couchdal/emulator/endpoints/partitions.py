"""``/{db}/_partition/{partition}``: one partition of a database. Source: ``chttpd_db:handle_partition_req``.

Paths below a partition have routes to the endpoints of the whole database.
"""

from __future__ import annotations

from couchdal.emulator.endpoints import attachments
from couchdal.emulator.engine.documents.document import validate_doc_id
from couchdal.emulator.engine.documents.partition import validate_partition
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, MethodNotAllowed, NotFound
from couchdal.http.answers import json_response
from couchdal.http.messages import Response


def refuse_nameless(call: Call) -> Response:
    """Any method on ``_partition`` without a name."""
    raise BadRequest("invalid_partition_req")


def read(call: Call) -> Response:
    """GET: the number of documents in the partition."""
    db, partition = call.db, call.args["partition"]
    validate_partition(partition)
    if not db.partitioned:
        raise BadRequest("database is not partitioned")
    return json_response(db.partition_info(partition))


def post(call: Call) -> Response:
    """POST: never allowed, but CouchDB checks for an underscore in front of the name first."""
    if call.args["partition"].startswith("_"):
        validate_partition(call.args["partition"])
    raise MethodNotAllowed("Only GET allowed", headers={"allow": "GET"})


def attachment(call: Call) -> Response:
    """Any method below ``_all_docs``. CouchDB looks for an attachment of a document with that id, and finds none."""
    _check_method(call)
    if call.method == "PUT":
        validate_doc_id("_all_docs")
    raise NotFound("missing")


def not_found(call: Call) -> Response:
    """Any other path below a partition. Below a design document, CouchDB takes some paths for attachments."""
    below = call.args["rest"].split("/", 2)
    if below[0] != "_design" or len(below) < 3 or not below[2].startswith("_"):
        raise NotFound("missing")
    _check_method(call)
    args = {"db": call.args["db"], "design": below[1], "name": below[2]}
    return _ATTACHMENT[call.method](Call(call.request, call.server, args, call.user, call.db))


_ATTACHMENT = {
    "GET": attachments.read,
    "HEAD": attachments.read,
    "PUT": attachments.write,
    "DELETE": attachments.delete,
}


def _check_method(call: Call) -> None:
    if call.method not in _ATTACHMENT:
        raise MethodNotAllowed("Only DELETE,GET,HEAD,PUT allowed", headers={"allow": "DELETE,GET,HEAD,PUT"})
