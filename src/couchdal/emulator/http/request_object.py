"""The request object that functions of design documents get. Source: ``chttpd_external:json_req_obj``."""

from __future__ import annotations

from couchdal.emulator.engine.auth.security import user_object
from couchdal.emulator.http.call import Call
from couchdal.http.headers import CREDENTIALS, PROXY_ROLES, PROXY_TOKEN, PROXY_USER
from couchdal.http.json_text import copy_json, decode_request
from couchdal.http.urls import parse_query, split_path, unquote_form

# These parameters are JSON for views, and so they are decoded here too.
_DECODED = frozenset(("startkey", "endkey", "key", "descending"))
_HIDDEN_HEADERS = CREDENTIALS | {PROXY_USER, PROXY_ROLES, PROXY_TOKEN}
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "COPY"))
_FORM = "application/x-www-form-urlencoded"


def request_object(call: Call, doc_id: str | None = None) -> dict[str, object]:
    """Return the ``req`` argument of a function. It does not hold the credentials."""
    request, db = call.request, call.db
    # CouchDB answers HEAD as GET, without the body.
    method = "GET" if call.method == "HEAD" else call.method
    path, raw_path = split_path(request.path), request.path + (f"?{request.query}" if request.query else "")
    if "partition" in call.args:
        # Functions see the path without the partition, and the query as the client sent it.
        path = [path[0], *path[3:]]
    announced = request.announces_body and (call.method in ("POST", "PUT") or bool(request.body))
    body = request.content() if announced else b"undefined"
    return {
        "info": db.info(),
        "uuid": call.server.next_id(),
        "id": doc_id,
        # Erlang encodes the name of any other method as a list of characters.
        "method": method if method in _METHODS else list(method.encode()),
        "requested_path": [*map(_text, split_path(raw_path))],
        "path": [*map(_text, path)],
        "raw_path": raw_path,
        "query": {_text(name): _value(name, text) for name, text in parse_query(request.query)},
        "headers": {name.title(): text for name, text in request.headers.items() if name not in _HIDDEN_HEADERS},
        "body": body.decode("utf-8", "replace"),
        "peer": request.peer,
        "form": _form(call, body),
        "cookie": {},
        "userCtx": user_object(db.name, call.user),
        "secObj": copy_json(db.security),
    }


def _value(name: str, text: str) -> object:
    return decode_request(text.encode("utf-8", "surrogateescape")) if name in _DECODED else _text(text)


def _text(text: str) -> str:
    """Return a text with replacement characters for bytes that are not UTF-8, as JavaScript gets it from CouchDB."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _form(call: Call, body: bytes) -> dict[str, str]:
    kind = (call.header("content-type") or "").partition(";")[0]
    if kind != _FORM or call.method not in ("POST", "PUT"):
        return {}
    pairs = (part.partition("=") for part in body.decode("utf-8", "replace").replace(";", "&").split("&") if part)
    return {unquote_form(name, "replace"): unquote_form(value, "replace") for name, _, value in pairs}
