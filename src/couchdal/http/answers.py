"""Answers as CouchDB builds them: JSON, errors, absolute addresses, and the choice of a media type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from couchdal.errors import CouchError
from couchdal.http.json_lines import Layout
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote_like_couchdb, unquote

JSON_TYPE = "application/json"


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer. It holds the value itself, not a copy: do not change the value afterwards."""
    return Response(status, {"content-type": JSON_TYPE, **headers} if headers else {"content-type": JSON_TYPE}, value)


def laid_out(value: object, layout: Layout, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer whose text has a row on each line."""
    return Response(200, {"content-type": JSON_TYPE, **(headers or {})}, value, layout=layout)


#: The content policy of pages of CouchDB's interface.
_INTERFACE_POLICY: Final = (
    "child-src 'self' data: blob:; default-src 'self'; img-src 'self' data:; font-src 'self'; "
    "script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; frame-src https://blog.couchdb.org;"
)


class AnswerSettings:
    """The settings of CouchDB that concern answers. The attributes of the class are the defaults."""

    #: The headers in which a proxy names the host and the scheme that its client used.
    x_forwarded_host: str = "x-forwarded-host"
    x_forwarded_proto: str = "x-forwarded-proto"
    x_forwarded_ssl: str = "x-forwarded-ssl"
    #: The path of the login page for browsers.
    authentication_redirect: str = "/_utils/session.html"
    #: Whether anonymous requests are refused. Browsers then ask for a password.
    require_valid_user: bool = False
    #: The header ``Content-Security-Policy`` of the interface below ``/_utils``, and the settings of older versions,
    #: which apply if it is not enabled.
    utils_csp_enable: bool = True
    utils_csp: str = _INTERFACE_POLICY
    older_utils_csp_enable: bool = True
    older_utils_csp: str = _INTERFACE_POLICY

    @property
    def interface_policy(self) -> str | None:
        """The content policy of the interface, or None. Source: ``chttpd_util:maybe_add_csp_header``."""
        if self.utils_csp_enable:
            return self.utils_csp
        return self.older_utils_csp if self.older_utils_csp_enable else None


_DEFAULT: Final = AnswerSettings()


def absolute_uri(request: Request, path: str, settings: AnswerSettings = _DEFAULT) -> str:
    """Return the absolute address of a path, with the host that the client or the proxy named."""
    headers, host = request.headers, host_of(request, settings)
    secure = headers.get(settings.x_forwarded_ssl) == "on" or headers.get(settings.x_forwarded_proto) == "https"
    return f"{'https' if secure else 'http'}://{host}{path}"


def host_of(request: Request, settings: AnswerSettings = _DEFAULT) -> str:
    """Return the host that the client or the proxy named."""
    headers = request.headers
    return headers.get(settings.x_forwarded_host) or headers.get("host") or "127.0.0.1"


def error_response(error: CouchError, request: Request, settings: AnswerSettings = _DEFAULT) -> Response:
    """Return the answer for an error."""
    # A reason may quote bytes that are not UTF-8. CouchDB shows a replacement character for each.
    body = {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
        for name, value in error.body.items()
    }
    if error.status == 500 and error.error != "error" and error.is_traced:
        # CouchDB adds the hash of the stack trace.
        body["ref"] = 0
    response = json_response(body, error.status, error.headers)
    if error.status == 401:
        _ask_for_credentials(response, error, request, settings)
    return response


def _ask_for_credentials(response: Response, error: CouchError, request: Request, settings: AnswerSettings) -> None:
    """Redirect a browser to the login page, or send the challenge that the request asks for."""
    challenge = request.headers.get("x-couchdb-www-authenticate")
    if challenge is not None:
        response.headers["www-authenticate"] = challenge
    elif settings.require_valid_user and error.error == "unauthorized":
        response.headers["www-authenticate"] = 'Basic realm="server"'
    elif error.error == "unauthorized" and not accepts(request, JSON_TYPE) and accepts(request, "text/html"):
        response.status = 302
        page = settings.authentication_redirect
        back, reason = quote_like_couchdb(unquote(request.path)), quote_like_couchdb(error.reason)
        response.headers["location"] = absolute_uri(request, f"{page}?return={back}&reason={reason}", settings)


def accepts(request: Request, kind: str) -> bool:
    """Return whether the Accept header allows a media type. A missing or malformed header allows everything."""
    header = request.headers.get("accept")
    if header is None:
        return True
    qualities: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            qualities[name] = float(quality)
        except ValueError:
            return True
    family = kind.partition("/")[0] + "/*"
    if 0.0 in (qualities.get(kind), qualities.get(family)):
        return False
    return any(qualities.get(name, 0.0) > 0.0 for name in (kind, family, "*/*"))


def without_body(response: Response) -> Response:
    """Return the answer to HEAD: the headers that GET would get, including the body's length.

    CouchDB sends rows in chunks, and gives their length as 0.
    """
    response.close()
    headers = response.headers
    if response.stream is None:
        headers = {**headers, "content-length": "0" if response.layout else str(len(response.content()))}
    return Response(response.status, headers)
