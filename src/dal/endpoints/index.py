"""``/{db}/_index`` and ``/{db}/_explain``: their requests are checked, and then refused. Source: ``mango_httpd``."""

from __future__ import annotations

from dal.endpoints.call import Call
from dal.engine.find_options import parse_find_options
from dal.errors import CouchError, NotSupported, ServerError
from dal.wire import Response

_NO_INDEXES = "Mango indexes are not emulated: every _find reads all documents"


def list_indexes(call: Call) -> Response:
    """GET: the indexes of a database."""
    _ = call.db
    raise NotSupported(_NO_INDEXES)


def create(call: Call) -> Response:
    """POST ``{"index": ...}``: a new index, which is a design document and needs the rights for one."""
    call.require_json_type()
    call.json_object()
    refused = call.db_admin_error("unauthorized")
    if isinstance(refused, CouchError):
        reason = f"Unknown error while saving the design document: {refused.error}"
        raise ServerError(reason, error="error_saving_ddoc")
    raise NotSupported(_NO_INDEXES)


def explain(call: Call) -> Response:
    """POST a query: how it would be answered."""
    call.require_json_type()
    parse_find_options(call.json_object())
    raise NotSupported(_NO_INDEXES)
