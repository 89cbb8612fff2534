"""The request as functions of design documents see it. Source: ``chttpd_external:json_req_obj``."""

from __future__ import annotations

from couchdal.emulator.engine.auth.security import user_object
from couchdal.emulator.http.call import Call
from couchdal.http.headers import CREDENTIALS, PROXY_ROLES, PROXY_TOKEN, PROXY_USER
from couchdal.http.json_text import copy_json, decode_request
from couchdal.http.urls import split_path, unquote_form

# Parameters that views take as JSON are JSON here, too.
_DECODED = frozenset(("startkey", "endkey", "key", "descending"))
_HIDDEN_HEADERS = CREDENTIALS | {PROXY_USER, PROXY_ROLES, PROXY_TOKEN}
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "COPY"))
_FORM = "application/x-www-form-urlencoded"


def request_object(call: Call, doc_id: str | None = None) -> dict[str, object]:
    """Return the ``req`` of a function; without the credentials, which no function is told."""
    request, db = call.request, call.db
    path, raw_path = split_path(request.path), request.path + (f"?{request.query}" if request.query else "")
    announced = request.announces_body and (call.method in ("POST", "PUT") or bool(request.body))
    body = request.content() if announced else b"undefined"
    return {
        "info": db.info(),
        "uuid": call.server.ids.next(),
        "id": doc_id,
        # To Erlang, the name of any other method is a list.
        "method": call.method if call.method in _METHODS else list(call.method.encode()),
        "requested_path": split_path(raw_path),
        "path": path,
        "raw_path": raw_path,
        "query": {name: _value(name, text) for name, text in call.params},
        "headers": {name.title(): text for name, text in request.headers.items() if name not in _HIDDEN_HEADERS},
        "body": body.decode("utf-8", "replace"),
        "peer": request.peer,
        "form": _form(call, body),
        "cookie": {},
        "userCtx": user_object(db.name, call.user),
        "secObj": copy_json(db.security),
    }


def _value(name: str, text: str) -> object:
    return decode_request(text.encode("utf-8", "surrogateescape")) if name in _DECODED else text


def _form(call: Call, body: bytes) -> dict[str, str]:
    kind = (call.header("content-type") or "").partition(";")[0]
    if kind != _FORM or call.method not in ("POST", "PUT"):
        return {}
    pairs = (part.partition("=") for part in body.decode("utf-8", "replace").replace(";", "&").split("&") if part)
    return {unquote_form(name, "replace"): unquote_form(value, "replace") for name, _, value in pairs}
