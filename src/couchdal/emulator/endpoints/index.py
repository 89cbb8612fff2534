"""``/{db}/_index``: list, create and delete Mango indexes. Source: ``mango_httpd:handle_index_req``."""

from __future__ import annotations

from couchdal.api.versions import NEWEST
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_update import Outcome
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.mango.find_query import parse_bulk_delete, parse_index_request
from couchdal.emulator.engine.mango.index_update import Save, create_index, delete_index, delete_indexes
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import edit
from couchdal.errors import CouchError, NotFound, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response


def read(call: Call) -> Response:
    """GET: the indexes, with the special one first. ``limit`` and ``skip`` page through them."""
    bounds = {name: _bound(value) for name, value in reversed(call.params) if name in ("limit", "skip")}
    indexes = call.db.indexes.definitions(call.db)
    limit, skip = bounds.get("limit", len(indexes)), bounds.get("skip", 0)
    if limit < 1 or skip < 0:
        raise _bad_bounds()
    shown = [index.to_json() for index in indexes[skip : skip + limit]]
    return json_response({"total_rows": len(indexes), "indexes": shown})


def _bound(text: str) -> int:
    bound = parse_integer(text)
    if bound is None:
        raise _bad_bounds()
    return bound


def _bad_bounds() -> CouchError:
    return ServerError("Index parameter ranges: limit > 1, skip > 0", error="invalid_list_index_params")


def create(call: Call) -> Response:
    """POST ``{"index": ...}``: write the index into its design document, unless it is there already."""
    call.require_json_type()
    if call.server.version is not NEWEST:
        from couchdal.emulator.http.older_versions import check_selector  # few servers are older

        check_selector(call.server.version, call.json_object().get("index"))
    try:
        return json_response(create_index(call.db, parse_index_request(call.json_object()), _save(call)))
    except OverflowError:
        # CouchDB cannot generate a name for an index with a number that does not fit a double.
        raise ServerError("function_clause", error="unknown_error") from None


def delete(call: Call) -> Response:
    """DELETE ``_index/{ddoc}/{type}/{name}``: remove the index from its design document."""
    delete_index(call.db, call.args["design"], call.args["type"], call.args["name"], _save(call))
    return json_response({"ok": True})


def bulk_delete(call: Call) -> Response:
    """POST ``_index/_bulk_delete`` with ``{"docids": [...]}``: delete the indexes of several design documents."""
    call.require_json_type()
    return json_response(delete_indexes(call.db, parse_bulk_delete(call.json_object()), _save(call)))


def _save(call: Call) -> Save:
    def save(document: Document) -> Outcome:
        (outcome,) = edit(call, [document])
        return outcome

    return save


def not_found(call: Call) -> Response:
    """Any other path below ``_index``."""
    raise NotFound("missing")
