"""``_rewrite``: answers another request in place of the one that was sent, as a design document describes it.

Source: ``chttpd_rewrite``, ``couch_query_servers:rewrite``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_read import open_winner
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.emulator.engine.server.configured import setting
from couchdal.emulator.http.call import Call, Rewritten
from couchdal.emulator.http.request_object import request_object
from couchdal.emulator.http.rewrite_rules import normalized, target_of
from couchdal.errors import BadRequest, NotFound, ServerError, thrown
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote_like_couchdb, split_path

_DEFAULT_LIMIT = "100"
_HIDDEN = ("info", "form", "uuid", "id")


def answer(call: Call) -> Response:
    """Any method: the answer to the request that the design document's rules or function produce."""
    if call.request.rewrites >= int(setting(call.server, "chttpd", "rewrite_limit") or _DEFAULT_LIMIT):
        raise BadRequest("Exceeded rewrite recursion limit")
    record = open_winner(call.db, f"_design/{call.args['name']}")[0]
    rules = record.body.get("rewrites")
    if isinstance(rules, list):
        # A path within a partition has two more segments. The rules do not see them.
        parts = split_path(call.request.path)[6 if "partition" in call.args else 4 :]
        target = normalized(_prefix(call), target_of(rules, call.method, parts, call.params))
        path, _, query = target.partition("?")
        raise Rewritten(_request(call, call.request.method, path, query, headers=call.request.headers))
    if isinstance(rules, str):
        return _by_function(call, record)
    if rules is None:
        raise NotFound("Invalid path.", error="rewrite_error")
    raise ServerError(pretty_term(rules), error="case_clause")


def _by_function(call: Call, record: DocumentRecord) -> Response:
    """Return the function's own answer, or raise ``Rewritten`` with the request that it returns."""
    described = request_object(call)
    for name in _HIDDEN:
        del described[name]
    result = call.db.indexes.query_server(record).call(("rewrites",), described)
    if result is None:
        raise NotFound("Invalid path.", error="rewrite_error")
    (given,) = cast("list[object]", result)
    if not isinstance(given, dict):
        raise _failed("bad rewrite")
    _check(given)
    headers = cast("dict[str, str]", given.get("headers", {}))
    body = cast("str | None", given.get("body"))
    if "code" in given:
        sent = (call.request.content() if call.request.announces_body else b"") if body is None else body.encode()
        return Response(cast(int, given["code"]), {name.lower(): text for name, text in headers.items()}, body=sent)
    if "path" not in given:
        raise _failed("Rewrite result must produce a new path.")
    pairs = cast("dict[str, str]", given["query"]).items() if "query" in given else call.params
    query = "&".join(f"{quote_like_couchdb(name)}={quote_like_couchdb(text)}" for name, text in pairs)
    path = normalized(_prefix(call), cast(str, given["path"]))
    merged = {**call.request.headers, **{name.lower(): text for name, text in headers.items()}}
    raise Rewritten(_request(call, cast(str, given.get("method", call.method)), path, query, headers=merged, body=body))


def _request(
    call: Call, method: str, path: str, query: str, *, headers: Mapping[str, str], body: str | None = None
) -> Request:
    """Return a request in place of the one that was sent, with the same body unless another is given."""
    sent = call.request
    return Request(
        method,
        path,
        query,
        headers,
        sent.body if body is None else body.encode(),
        json=sent.json if body is None else ABSENT,
        peer=sent.peer,
        announces_body=sent.announces_body or body is not None,
        rewrites=sent.rewrites + 1,
    )


def _prefix(call: Call) -> str:
    return f"/{quote_like_couchdb(call.args['db'])}/_design/{quote_like_couchdb(call.args['name'])}"


def _check(given: Mapping[str, object]) -> None:
    """Raise ``ServerError`` for the first member of an answer that has a wrong type."""
    for member, value in given.items():
        if member in ("method", "path", "body"):
            is_valid = isinstance(value, str)
        elif member in ("headers", "query"):
            is_valid = isinstance(value, dict)
        else:
            is_valid = member != "code" or (type(value) is int and 200 <= value < 600)
        if not is_valid:
            raise _failed(f"bad {member}")
        if member in ("headers", "query"):
            for name, text in cast("dict[str, object]", value).items():
                if not isinstance(text, str):
                    raise _failed(f"object key/value must be strings {pretty_term(name)}={pretty_term(text)}")


def _failed(reason: str) -> ServerError:
    return thrown("rewrite_error", reason)
