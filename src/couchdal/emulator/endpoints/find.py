"""``/{db}/_find`` and ``/{db}/_explain``: run and explain Mango queries. Source: ``mango_httpd``."""

from __future__ import annotations

from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.explain import explain
from couchdal.emulator.engine.mango.find import find
from couchdal.emulator.engine.mango.find_query import FindQuery, parse_find_query
from couchdal.emulator.http.call import Call
from couchdal.errors import ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response


def query(call: Call) -> Response:
    """POST ``{"selector": ...}``: the matching documents."""
    parsed = _parse_body(call)
    return json_response(find(call.db, parsed))


def explain_query(call: Call) -> Response:
    """POST the same: the index that the query uses, and why."""
    parsed = _parse_body(call)
    return json_response(explain(call.db, parsed))


def _parse_body(call: Call) -> FindQuery:
    call.require_json_type()
    body = call.json_object()
    partition = next((value for name, value in call.params if name == "partition"), None)
    if partition is not None:
        body = {"partition": partition, **body}
        if body["partition"] != partition:
            wrong = print_term(body["partition"])
            raise ServerError(f"Unknown Error: mango_httpd :: {{bad_partition,{wrong}}}", error="unknown_error")
    return parse_find_query(body)
