"""What the configuration changes in every answer: a call of the client's JavaScript function around JSON.

Source: ``couch_httpd:initialize_jsonp``.
"""

from __future__ import annotations

import re

from couchdal.emulator.engine.config.settings import Settings
from couchdal.errors import BadRequest, CouchError
from couchdal.http.answers import error_response
from couchdal.http.json_text import encode_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import parse_query

_CALLBACK = re.compile(r"[A-Za-z0-9._\[\]]*\Z")


def refuse(settings: Settings, request: Request, error: CouchError) -> Response:
    """Return the answer for an error."""
    return configured_answer(settings, request, error_response(error, request, settings))


def configured_answer(settings: Settings, request: Request, response: Response) -> Response:
    """Return an answer as the configuration changes it."""
    return _called_back(request, response, settings) if settings.allow_jsonp else response


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
