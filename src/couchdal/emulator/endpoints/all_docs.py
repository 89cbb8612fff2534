"""``_all_docs``, ``_design_docs``, ``_local_docs``, and ``/queries`` below each. Source: ``chttpd_db``."""

from __future__ import annotations

from couchdal.emulator.http.call import Call
from couchdal.emulator.http.listings import list_documents, list_queries
from couchdal.http.answers import JSON_TYPE, laid_out
from couchdal.http.json_lines import lay_out_queries, lay_out_rows, rows_in_pieces
from couchdal.http.messages import Response


def documents(call: Call) -> Response:
    """GET and POST: rows of all documents that are not deleted."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_all_docs_requests")
    answer = list_documents(call, "all", late=call.may_send_late)
    if isinstance(answer["rows"], list):
        return laid_out(answer, lay_out_rows)
    return Response(200, {"content-type": JSON_TYPE}, stream=rows_in_pieces(answer))


def design_documents(call: Call) -> Response:
    """GET and POST: rows of design documents."""
    return laid_out(list_documents(call, "design"), lay_out_rows)


def local_documents(call: Call) -> Response:
    """GET and POST: rows of local documents."""
    return laid_out(list_documents(call, "local"), lay_out_rows)


def document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the rows of several queries."""
    return laid_out(list_queries(call, "all"), lay_out_queries)


def design_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for design documents."""
    return laid_out(list_queries(call, "design"), lay_out_queries)


def local_document_queries(call: Call) -> Response:
    """POST ``{"queries": [...]}``: the same for local documents."""
    return laid_out(list_queries(call, "local"), lay_out_queries)
