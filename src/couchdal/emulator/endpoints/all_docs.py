"""``_all_docs``, ``_design_docs``, ``_local_docs``, and ``/queries`` below each. Source: ``chttpd_db``."""

from __future__ import annotations

from couchdal.emulator.http.call import Call
from couchdal.emulator.http.listings import list_documents, list_queries
from couchdal.http.answers import json_response
from couchdal.http.messages import Response


def documents(call: Call) -> Response:
    """GET and POST: rows of all documents that are not deleted."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_all_docs_requests")
    return json_response(list_documents(call, "all"))


def design_documents(call: Call) -> Response:
    """GET and POST: rows of design documents."""
    return json_response(list_documents(call, "design"))


def local_documents(call: Call) -> Response:
    """GET and POST: rows of local documents."""
    return json_response(list_documents(call, "local"))


def document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the rows of several queries."""
    return json_response(list_queries(call, "all"))


def design_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for design documents."""
    return json_response(list_queries(call, "design"))


def local_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for local documents."""
    return json_response(list_queries(call, "local"))
