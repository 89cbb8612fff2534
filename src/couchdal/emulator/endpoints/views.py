"""``_design/{name}/_view/{view}``, ``/queries`` below it, and ``_info``: the views of design documents.

Source: ``chttpd_view``.
"""

from __future__ import annotations

from couchdal.emulator.http.call import Call
from couchdal.emulator.http.view_rows import view_info, view_queries, view_rows
from couchdal.errors import MethodNotAllowed
from couchdal.http.answers import json_response, laid_out
from couchdal.http.json_lines import lay_out_queries, lay_out_rows
from couchdal.http.messages import Response


def read(call: Call) -> Response:
    """GET and POST: the rows of a view, reduced if it has a reduce function."""
    call.db.count("couchdb/httpd/view_reads")
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_view_requests")
    return laid_out(view_rows(call, call.args["name"], call.args["view"]), lay_out_rows)


def queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the rows of several queries of one view."""
    return laid_out({"results": view_queries(call, call.args["name"], call.args["view"])}, lay_out_queries)


def refuse(call: Call) -> Response:
    """Any method on a path below ``_view`` that names no view."""
    raise MethodNotAllowed("Only GET,POST,HEAD allowed", headers={"allow": "GET,POST,HEAD"})


def info(call: Call) -> Response:
    """GET: the state of the index of a design document's views."""
    name = call.args["name"]
    return json_response({"name": name, "view_index": view_info(call, name)})
