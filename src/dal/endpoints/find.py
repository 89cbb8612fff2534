"""``/{db}/_find``: queries by selector. Source: ``mango_httpd``."""

from __future__ import annotations

from dal.endpoints.call import Call, json_response
from dal.engine.find import find
from dal.engine.find_options import parse_find_options
from dal.wire import Response


def query(call: Call) -> Response:
    """POST ``{"selector": ...}``: the documents that match."""
    call.require_json_type()
    db = call.db
    return json_response(find(db, parse_find_options(call.json_object())))
