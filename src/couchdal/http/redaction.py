"""Requests without their secrets, for logs and errors."""

from __future__ import annotations

import re

from couchdal.errors import CouchError
from couchdal.failure import FailedRequest, Failure
from couchdal.http.messages import Request
from couchdal.http.urls import unquote_form

HIDDEN = "***"
_SECRETS = ("password", "derived_key", "salt", "secret", "token", "totp", "cookie", "authorization")
# Strings, which Python compiles on first use: only logs and errors need them.
_SEPARATOR = "([&;])"
# Credentials in an address, as replications have them; in a path or a query, the address may be percent-encoded.
_USERINFO = r"(?i:(?:(?<=://)|(?<=%3A%2F%2F))(?:(?!%2F)[^/\s])*(?=@|%40))"
_SYSTEM_DATABASES = ("_global_changes", "_replicator", "_users")
_OWN_NAME_STATUSES = (400, 404, 405)


def redacted_addresses(text: str) -> str:
    """Return a text with ``***`` for the user and the password of each address."""
    return re.sub(_USERINFO, HIDDEN, text)


def redacted_query(query: str) -> str:
    """Return a query string with ``***`` for the values of parameters that may be secrets.

    CouchDB separates parameters by ``;`` too.
    """
    return redacted_addresses("".join(_redacted_parameter(part) for part in re.split(_SEPARATOR, query)))


def _redacted_parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={HIDDEN}" if equals and is_secret(name) else part


def is_secret(name: str) -> bool:
    """Return whether the value of a parameter or a member with this name may be a secret."""
    plain = unquote_form(name, errors="replace").lower()
    return any(word in plain for word in _SECRETS)


def name_request(error: Failure, request: Request, *, is_path_written: bool = False) -> None:
    """Name the failed request in an error. ``is_path_written`` means that the caller wrote the path by hand."""
    segments = [unquote_form(segment.replace("+", "%2B"), errors="replace") for segment in request.path.split("/")[1:]]
    database = segments[0] if segments[0] and (segments[0][0] != "_" or segments[0] in _SYSTEM_DATABASES) else None
    hint = ""
    if isinstance(error, CouchError):
        own_name = is_path_written and error.status in _OWN_NAME_STATUSES and database in segments[1:2]
        hint = _own_name_hint(request.path) if own_name else _method_hint(error, request.method)
    error.request = FailedRequest(
        request.method, redacted_addresses(request.path), redacted_query(request.query), database, hint
    )


def _own_name_hint(path: str) -> str:
    _, _, _, *rest = path.split("/")
    return f"paths are relative to the database, so leave out its name: {redacted_addresses('/' + '/'.join(rest))!r}"


def _method_hint(error: CouchError, method: str) -> str:
    if error.status == 405 and (allowed := error.headers.get("allow")):
        *most, last = [name.strip() for name in allowed.split(",")]
        names = f"{', '.join(most)} or {last}" if most else last
        return f"use {names} instead of {method}"
    # CouchDB expects an HTML form here, for which browsers send the address of the page.
    if error.status == 400 and method == "POST" and error.reason == "Referer header required.":
        return "use PUT instead of POST, or send POST to the database"
    return ""
