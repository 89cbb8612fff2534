"""``/{db}/_find`` and ``/{db}/_explain``: run and explain Mango queries. Source: ``mango_httpd``."""

from __future__ import annotations

from couchdal.emulator.engine.auth.security import is_db_admin
from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.explain import explain
from couchdal.emulator.engine.mango.find import find, prepare
from couchdal.emulator.engine.mango.find_query import parse_find_query
from couchdal.emulator.http.call import Call
from couchdal.errors import NotSupported, ServerError
from couchdal.http.answers import json_response, laid_out
from couchdal.http.json_lines import lay_out_documents
from couchdal.http.json_text import JSON
from couchdal.http.messages import Response


def query(call: Call) -> Response:
    """POST ``{"selector": ...}``: the matching documents."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_find_requests")
    if call.db.system == "_users" and not is_db_admin(call.user, call.db.security):
        raise NotSupported("_find in the users database is for administrators")
    prepared = prepare(_body(call))
    return laid_out(find(call.db, prepared, call.server.settings.query_limit), lay_out_documents)


def explain_query(call: Call) -> Response:
    """POST the same: the index that the query uses, and why."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_explain_requests")
    return json_response(explain(call.db, parse_find_query(_body(call))))


def _body(call: Call) -> dict[str, JSON]:
    """Return the body of the request. A partition in the path is a member of it."""
    call.require_json_type()
    body = call.json_object()
    partition = call.param("partition")
    if partition is not None:
        body = {"partition": partition, **body}
        if body["partition"] != partition:
            wrong = print_term(body["partition"])
            raise ServerError(f"Unknown Error: mango_httpd :: {{bad_partition,{wrong}}}", error="unknown_error")
    return body
