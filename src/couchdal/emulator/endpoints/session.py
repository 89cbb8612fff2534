"""``/_session``: the current user, login and logout. Source: ``couch_httpd_auth:handle_session_req``."""

from __future__ import annotations

from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.emulator.http.authentication import (
    WRONG_PASSWORD,
    authenticate,
    roles_of,
    user_properties,
)
from couchdal.emulator.http.call import Call
from couchdal.errors import BadContentType, BadRequest, NotSupported, ServerError, Unauthorized
from couchdal.http.answers import JSON_TYPE, json_response
from couchdal.http.json_text import JSON, decode_request
from couchdal.http.messages import ANONYMOUS_BODY, Response, decompress, too_large
from couchdal.http.urls import unquote_form
from couchdal.pace import begin_if_large

_FORM_TYPE = "application/x-www-form-urlencoded"


def read(call: Call) -> Response:
    """GET: the current user. With ``basic=true``, 401 for an anonymous one."""
    user = call.user
    if user.name is None and call.param("basic") == "true":
        raise Unauthorized("Please login.")
    settings = call.server.settings
    info: dict[str, object] = {"authentication_handlers": list(settings.authentication_handlers)}
    if user.handler is not None:
        info["authenticated"] = user.handler
    if settings.authentication_db:
        info["authentication_db"] = settings.authentication_db
    roles = list(user.roles)
    begin_if_large(roles)
    return json_response({"ok": True, "userCtx": {"name": user.name, "roles": roles}, "info": info})


def log_in(call: Call) -> Response:
    """POST: log in with a name and a password, as a form or as JSON. The answer sets a cookie."""
    from couchdal.emulator.engine.auth.sessions import make_cookie, set_cookie  # few requests bring credentials

    form = _form(call)
    name, password = _name(form), form.get("password", "")
    server, settings, now = call.server, call.server.settings, int(call.server.clock.now())
    properties = user_properties(server, name) or {}
    if not authenticate(server, call.request.peer, name, password, properties):
        refused = {"error": "unauthorized", "reason": WRONG_PASSWORD}
        return _redirected(call, "fail", json_response(refused, 401, {"set-cookie": set_cookie("", settings, now)}))
    if "totp" in properties:
        raise NotSupported("time-based one-time passwords are not emulated")
    begin_if_large(properties)
    cookie = make_cookie(name, settings, str(properties.get("salt", "")), now)
    answer = {"ok": True, "name": name, "roles": list(roles_of(properties))}
    return _redirected(call, "next", json_response(answer, headers={"set-cookie": set_cookie(cookie, settings, now)}))


def log_out(call: Call) -> Response:
    """DELETE: clear the client's cookie. The server keeps no sessions, so the cookie itself stays valid."""
    from couchdal.emulator.engine.auth.sessions import set_cookie  # as above

    cookie = set_cookie("", call.server.settings, int(call.server.clock.now()))
    return _redirected(call, "next", json_response({"ok": True}, headers={"set-cookie": cookie}))


def _redirected(call: Call, parameter: str, response: Response) -> Response:
    target = call.param(parameter)
    if target is not None:
        if not target.startswith("/"):
            raise BadRequest("path must begin with a /.")
        response.status = 302
        response.headers["location"] = call.absolute_uri(target)
    return response


def _form(call: Call) -> dict[str, str]:
    """Return the fields of a login. The first of a repeated field counts."""
    if len(call.request.body) > ANONYMOUS_BODY:
        raise too_large()
    kind = call.header("content-type") or ""
    if kind.startswith(_FORM_TYPE):
        return _fields(call.request.content().decode("utf-8", "surrogateescape"))
    if not kind.startswith(JSON_TYPE):
        raise BadContentType(f"Content-Type must be '{_FORM_TYPE}' or '{JSON_TYPE}'")
    # None of the configured size limits applies here.
    value = decode_request(
        decompress(call.request.content(), call.header("content-encoding") or "identity", ANONYMOUS_BODY)
    )
    if value is None:
        raise ServerError("badmatch")
    if type(value) is not dict:
        raise ServerError(_erlang_text(value), error="badmatch")
    fields = {field: text for field, text in value.items() if isinstance(text, str)}
    if len(fields) < len(value):
        raise ServerError("badarg")
    return fields


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.replace(";", "&").split("&"):
        name, _, value = part.partition("=")
        fields.setdefault(unquote_form(name), unquote_form(value))
    return fields


def _erlang_text(value: JSON) -> str:
    """Return a JSON value as CouchDB shows it in a reason. Strings, and lists of strings and bytes, do not change."""
    text = _flattened(value) if isinstance(value, (list, str)) else None
    return pretty_term(value) if text is None else text.decode("utf-8", "replace")


def _flattened(value: JSON) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    if type(value) is int and 0 <= value < 256:
        return bytes((value,))
    if not isinstance(value, list):
        return None
    parts = [_flattened(item) for item in value]
    return None if None in parts else b"".join(part for part in parts if part is not None)


def _name(form: dict[str, str]) -> str:
    names = {form[field] for field in ("name", "username") if field in form}
    if not names:
        raise BadRequest("request body must contain a username")
    if len(names) > 1:
        raise BadRequest("request body contains different usernames")
    return names.pop()
