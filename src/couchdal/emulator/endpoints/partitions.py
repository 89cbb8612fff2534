"""``/{db}/_partition/{partition}``: one partition of a database. Source: ``chttpd_db:handle_partition_req``.

Paths below a partition have routes to the endpoints of the whole database.
"""

from __future__ import annotations

from couchdal.emulator.engine.documents.partition import validate_partition
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, MethodNotAllowed, NotFound, NotSupported
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


def not_found(call: Call) -> Response:
    """Any other path below a partition."""
    below = call.args["rest"].split("/")
    if below[0] == "_design" and len(below) > 2 and below[2].startswith("_"):
        raise NotSupported("attachments of design documents are not read within a partition")
    raise NotFound("missing")
