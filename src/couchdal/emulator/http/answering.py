"""Changes that the configuration makes to every answer: JSONP and CORS.

Sources: ``couch_httpd:initialize_jsonp``, ``chttpd_cors``.
"""

from __future__ import annotations

import re

from couchdal.api.versions import NEWEST
from couchdal.emulator.engine.config.settings import Settings
from couchdal.errors import BadRequest, CouchError
from couchdal.http.answers import error_response
from couchdal.http.cors import EXPOSED_HEADERS, HEADERS, METHODS, Cors, cors_headers, preflight, trimmed
from couchdal.http.json_text import encode_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import parse_query

_COMMA = re.compile(r"\s*,\s*", re.ASCII)
_CALLBACK = re.compile(r"[A-Za-z0-9._\[\]]*\Z")


def refuse(settings: Settings, request: Request, error: CouchError) -> Response:
    """Return the answer for an error."""
    return configured_answer(settings, request, error_response(error, request, settings))


def configured_answer(settings: Settings, request: Request, response: Response) -> Response:
    """Return an answer with the changes that the configuration makes."""
    if settings.version is not NEWEST:
        response.headers = {**response.headers, "server": f"CouchDB/{settings.version.number} (couchdal)"}
    if settings.allow_jsonp:
        response = _called_back(request, response, settings)
    return _for_other_origins(request, response, settings) if settings.enable_cors else response


def _for_other_origins(request: Request, response: Response, settings: Settings) -> Response:
    """Return the answer to a preflight, or an answer with the headers that let a page read it."""
    if "origin" not in request.headers:
        return response
    cors = configured_cors(request, settings)
    allowed = preflight(request, cors)
    if allowed is not None:
        response.close()
        return allowed
    # Servers send this header with all answers.
    names = dict.fromkeys(("cache-control", *response.headers))
    response.headers = {**response.headers, **cors_headers(request, names, cors)}
    return response


def configured_cors(request: Request, settings: Settings) -> Cors:
    """Return the settings of CORS for the host of a request. Source: ``chttpd_cors:get_cors_config``."""
    headers, sections = request.headers, settings.cors_sections
    host = headers.get(settings.x_forwarded_host) or headers.get("host") or ""
    values = {**sections.get("cors", {}), **sections.get(f"cors:{host.lstrip(':').partition(':')[0]}", {})}

    def listed(key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        if key not in values:
            return default
        # In Erlang, an empty string has one empty item, which is not trimmed.
        return trimmed(_COMMA.split(values[key])) if values[key] else ("",)

    return Cors(
        origins=listed("origins", ()),
        credentials=values.get("credentials") == "true",
        headers=listed("headers", HEADERS),
        methods=listed("methods", METHODS),
        max_age=values.get("max_age", "600"),
        exposed_headers=listed("exposed_headers", EXPOSED_HEADERS),
    )


def _called_back(request: Request, response: Response, settings: Settings) -> Response:
    """Return an answer with its JSON as the argument of the function that the request names (JSONP)."""
    if response.json is ABSENT or not request.query:
        return response
    try:
        name = next((value for name, value in parse_query(request.query) if name == "callback"), "")
    except BadRequest:
        return response
    if not name:
        return response
    if not _CALLBACK.match(name):
        return error_response(BadRequest("invalid_callback"), request, settings)
    body = b"/* CouchDB */" + name.encode() + b"(" + encode_json(response.json) + b");\n"
    return Response(response.status, {**response.headers, "content-type": "application/javascript"}, body=body)
