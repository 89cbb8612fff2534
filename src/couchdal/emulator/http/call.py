"""One request on its way through an endpoint: path arguments, parameters, body, user, database.

It knows the wire and the engine's state, and no endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5
from typing import cast

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BadContentType, BadRequest, CouchError, Forbidden, Unauthorized
from couchdal.http.json_text import JSON, decode_request
from couchdal.http.messages import ABSENT, Request, Response, decompress
from couchdal.http.urls import parse_query, quote_like_couchdb, unquote

JSON_TYPE = "application/json"


class Call:
    """A routed request: ``args`` are the decoded path segments that the route's pattern names.

    ``method`` is the one that counts, which a header may have put in the place of the request's.
    """

    __slots__ = ("_db", "_params", "args", "method", "request", "server", "user")

    def __init__(
        self,
        request: Request,
        method: str,
        server: Server,
        args: Mapping[str, str],
        user: UserContext,
        params: list[tuple[str, str]] | None = None,
    ) -> None:
        self.request = request
        self.method = method
        self.server = server
        self.args = args
        self.user = user
        self._params = params
        self._db: Database | None = None

    def with_params(self, params: list[tuple[str, str]], args: Mapping[str, str] | None = None) -> Call:
        """Return the same call with other query parameters, and of another path where its arguments are given."""
        return Call(self.request, self.method, self.server, args or self.args, self.user, params)

    @property
    def db(self) -> Database:
        """The database that the path names; raises ``NotFound``."""
        if self._db is None:
            self._db = self.server.database(self.args["db"])
        return self._db

    @property
    def doc_id(self) -> str:
        """The id of the document that the path names; in paths, the slash of two kinds of ids may stand bare."""
        args = self.args
        if "doc_id" in args:
            return args["doc_id"]
        return "_local/" + args["local"] if "local" in args else "_design/" + args["design"]

    @property
    def params(self) -> list[tuple[str, str]]:
        """The decoded query parameters, in order, repeated ones too."""
        if self._params is None:
            self._params = parse_query(self.request.query)
        return self._params

    def param(self, name: str) -> str | None:
        """Return the first value of a parameter: CouchDB looks them up from the front."""
        if not self.request.query:
            return None
        return next((value for key, value in self.params if key == name), None)

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    def has_etag(self, tag: str) -> bool:
        """Whether the client has the representation with this ETag already."""
        header = self.header("if-none-match")
        if header is None:
            return False
        return tag in (known.removeprefix("W/") for known in header.replace(",", " ").split())

    def absolute_uri(self, path: str) -> str:
        """Return the address of a path, as the client names this server."""
        return absolute_uri(self.request, path)

    def json(self) -> JSON:
        """Return the decoded body; raises ``BadRequest``: "Missing request body" where none was announced."""
        if not self.request.announces_body:
            raise BadRequest("Missing request body")
        return self.decoded_body()

    def decoded_body(self) -> JSON:
        """Return the decoded body; raises ``BadRequest("invalid UTF-8 JSON")``, for an empty one too."""
        if self.request.json is not ABSENT:
            return cast(JSON, self.request.json)
        encoding = self.header("content-encoding")
        return decode_request(self.request.body if encoding is None else decompress(self.request.body, encoding))

    def json_object(self) -> dict[str, JSON]:
        """Return the body where it must be an object; raises ``BadRequest``."""
        value = self.json()
        if type(value) is not dict:
            raise BadRequest("Request body must be a JSON object")
        return value

    def has_empty_body(self) -> bool:
        """Whether a body was announced and has nothing in it."""
        request = self.request
        return request.announces_body and request.json is ABSENT and not request.body

    def require_json_type(self) -> None:
        """Raise ``BadContentType`` unless the body is said to be JSON."""
        kind = self.header("content-type") or ""
        if kind.lstrip(";").partition(";")[0] != JSON_TYPE:
            raise BadContentType("Content-Type must be application/json")

    def require_server_admin(self) -> None:
        if not self.user.is_admin:
            raise Unauthorized("You are not a server admin.")

    def require_db_admin(self, reason: str) -> None:
        error = self.db_admin_error(reason)
        if error is not None:
            raise error

    def db_admin_error(self, reason: str) -> CouchError | None:
        """Return the error for a user who administers neither the server nor this database."""
        if is_db_admin(self.user, self.db.security):
            return None
        return Unauthorized(reason) if self.user.name is None else Forbidden(reason)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer. The value must be owned by the caller: it is handed on as it is."""
    return Response(status, {"content-type": JSON_TYPE, **(headers or {})}, json=value)


def absolute_uri(request: Request, path: str) -> str:
    """Return the address of a path: with the host of the request, or that of the proxy which handed it on."""
    headers = request.headers
    host = headers.get("x-forwarded-host") or headers.get("host") or "127.0.0.1"
    secure = headers.get("x-forwarded-ssl") == "on" or headers.get("x-forwarded-proto") == "https"
    return f"{'https' if secure else 'http'}://{host}{path}"


def error_response(error: CouchError, request: Request) -> Response:
    """Return the answer that an error gives."""
    # A reason may quote what no UTF-8 is; CouchDB shows a replacement character for each such byte.
    body = {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
        for name, value in error.body.items()
    }
    if error.status == 500 and error.error != "error" and error.is_traced:
        # CouchDB adds the hash of the stack trace.
        body["ref"] = 0
    response = json_response(body, error.status, error.headers)
    if error.status == 401:
        _ask_for_credentials(response, error, request)
    return response


def _ask_for_credentials(response: Response, error: CouchError, request: Request) -> None:
    """Send a browser to the login page, or have it ask for a password where the request wants that."""
    challenge = request.headers.get("x-couchdb-www-authenticate")
    if challenge is not None:
        response.headers["www-authenticate"] = challenge
    elif error.error == "unauthorized" and not accepts(request, JSON_TYPE) and accepts(request, "text/html"):
        response.status = 302
        back, reason = quote_like_couchdb(unquote(request.path)), quote_like_couchdb(error.reason)
        response.headers["location"] = absolute_uri(request, f"/_utils/session.html?return={back}&reason={reason}")


def accepts(request: Request, kind: str) -> bool:
    """Whether the Accept header allows a media type; one that cannot be read, or none, allows everything."""
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


def document_etag(doc_id: str, rev: str, body: dict[str, object]) -> str:
    """Return the ETag of a revision: its text; of a local document, whose revisions repeat, a hash of all of it."""
    if not doc_id.startswith("_local/"):
        return f'"{rev}"'
    return f'"{md5(rev.encode() + encode_term(body), usedforsecurity=False).hexdigest()}"'
