"""``/{db}/_find`` and ``/{db}/_explain``: run and explain Mango queries. Source: ``mango_httpd``."""

from __future__ import annotations

from functools import partial
from typing import cast

from couchdal.api.versions import FIND_CHECKS_PARTITION, NEWEST
from couchdal.emulator.engine.auth.security import is_db_admin
from couchdal.emulator.engine.erlang.term_text import print_term
from couchdal.emulator.engine.mango.explain import explain
from couchdal.emulator.engine.mango.find import find, prepare
from couchdal.emulator.engine.mango.find_query import parse_find_query
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.document_query import readable
from couchdal.errors import BadRequest, ServerError
from couchdal.http.answers import json_response, laid_out
from couchdal.http.json_lines import lay_out_documents
from couchdal.http.json_text import JSON
from couchdal.http.messages import Response


def query(call: Call) -> Response:
    """POST ``{"selector": ...}``: the matching documents."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_find_requests")
    if call.db.system == "_users" and not is_db_admin(call.user, call.db.security):
        from couchdal.emulator.engine.mango.find_readable import find_readable  # few programs manage users

        part_of = partial(readable, call)
        found = find_readable(call.db, prepare(_body(call)), call.server.settings.query_limit, part_of)
        return laid_out(found, lay_out_documents)
    body, version = _body(call), call.server.version
    prepared = prepare(body)
    if version is NEWEST:
        return laid_out(find(call.db, prepared, call.server.settings.query_limit), lay_out_documents)
    from couchdal.emulator.http.older_versions import check_query, counted  # few servers are older

    check_query(version, body)
    if body.get("partition") and not call.db.partitioned and not version.has(FIND_CHECKS_PARTITION):
        raise BadRequest("partition specified on non-partitioned db")
    return laid_out(counted(version, find(call.db, prepared, call.server.settings.query_limit)), lay_out_documents)


def explain_query(call: Call) -> Response:
    """POST the same: the index that the query uses, and why."""
    if "partition" in call.args:
        call.db.count("couchdb/httpd/partition_explain_requests")
    body, version = _body(call), call.server.version
    query = parse_find_query(body)
    if version is NEWEST:
        return json_response(explain(call.db, query))
    from couchdal.emulator.http.older_versions import check_query, explained  # few servers are older

    check_query(version, body)
    return json_response(explained(version, cast("dict[str, JSON]", explain(call.db, query))))


def _body(call: Call) -> dict[str, JSON]:
    """Return the body of the request. A partition in the path is a member of it."""
    call.require_json_type()
    body = call.json_object()
    partition = call.param("partition")
    if partition is not None:
        if "partition" in body:
            # CouchDB compares two types of text, and refuses even the same partition.
            wrong = print_term(body["partition"])
            raise ServerError(f"Unknown Error: mango_httpd :: {{bad_partition,{wrong}}}", error="unknown_error")
        body = {"partition": partition, **body}
    return body
