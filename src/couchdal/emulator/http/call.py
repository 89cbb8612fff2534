"""The argument of every endpoint: a request with its path arguments, parameters, body, user and database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from hashlib import md5
from typing import TYPE_CHECKING, cast

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BadContentType, BadRequest, CouchError, Forbidden, Unauthorized
from couchdal.http.answers import JSON_TYPE, absolute_uri, without_body
from couchdal.http.headers import effective_method
from couchdal.http.json_text import JSON, decode_request
from couchdal.http.messages import ABSENT, ANONYMOUS_BODY, INFLATED_BODY, Request, Response, decompress, too_large
from couchdal.http.urls import parse_query
from couchdal.pace import here, unlocked

if TYPE_CHECKING:
    from couchdal.emulator.engine.replication.replicator import Peers


#: An answer with more rows is made while it is sent, if that is possible.
MANY_ROWS = 2000


class Call:
    """A routed request.

    ``args`` are the decoded path segments that the route's pattern names. ``db`` is the database in the path. Only
    calls that create or delete a database have none.
    """

    __slots__ = ("_params", "args", "db", "request", "server", "user", "writes")

    db: Database

    def __init__(
        self,
        request: Request,
        server: Server,
        args: Mapping[str, str],
        user: UserContext,
        db: Database | None = None,
        *,
        params: list[tuple[str, str]] | None = None,
    ) -> None:
        self.request: Request = request
        self.server: Server = server
        self.args: Mapping[str, str] = args
        self.user: UserContext = user
        self._params = params
        #: Whether the request reserved its database.
        self.writes: bool = False
        if db is not None:
            self.db = db

    @property
    def may_send_late(self) -> bool:
        """Whether many rows can be read while they are sent: from one state of a file, and by a server."""
        server = self.server
        if here.pace is None or server.journal.keeper is None or self.method == "HEAD":
            return False
        # These answers are changed as a whole.
        return not self.db.system and not server.settings.allow_jsonp

    def with_params(self, params: list[tuple[str, str]]) -> Call:
        """Return the same call with other query parameters."""
        return Call(self.request, self.server, self.args, self.user, self.db, params=params)

    @property
    def method(self) -> str:
        """The method of the request. A header may override the one in the request line."""
        return effective_method(self.request.method, self.request.headers)

    @property
    def database(self) -> Database | None:
        """The database in the path, or None if it does not have one."""
        return getattr(self, "db", None)

    @property
    def doc_id(self) -> str:
        """The id of the document in the path. The slash of design and local ids may be unescaped there."""
        args = self.args
        if "doc_id" in args:
            return args["doc_id"]
        return "_local/" + args["local"] if "local" in args else "_design/" + args["design"]

    @property
    def params(self) -> list[tuple[str, str]]:
        """The decoded query parameters, in order and with repetitions."""
        if self._params is None:
            self._params = parse_query(self.request.query)
        return self._params

    def param(self, name: str) -> str | None:
        """Return the first value of a parameter, or None."""
        if not self.request.query and self._params is None:
            return None
        return next((value for key, value in self.params if key == name), None)

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    def has_etag(self, tag: str) -> bool:
        """Return whether the client already has the representation with this ETag."""
        header = self.request.headers.get("if-none-match")
        if header is None:
            return False
        return tag in (known.removeprefix("W/") for known in header.replace(",", " ").split())

    def absolute_uri(self, path: str) -> str:
        """Return the absolute address of a path, with the host that the client named."""
        return absolute_uri(self.request, path, self.server.settings)

    def json(self) -> JSON:
        """Return the decoded body. Raise ``BadRequest`` for a missing body, or one that is not JSON."""
        if not self.request.announces_body:
            raise BadRequest("Missing request body")
        return self.decoded_body()

    def decoded_body(self, most: int = INFLATED_BODY) -> JSON:
        """Return the decoded body. Raise ``BadRequest("invalid UTF-8 JSON")`` for other texts and for an empty body.

        Raise ``TooLarge`` for a body that is larger than the configuration allows, or one that inflates to more than
        ``most`` bytes.
        """
        if self.request.json is not ABSENT:
            # Encoding the value to measure it takes time, so do that only for a low limit.
            if self.server.settings.max_http_request_size < INFLATED_BODY:
                self.content()
            return cast(JSON, self.request.json)
        encoding, content = self.header("content-encoding"), self.content()
        if self.user.name is None and self.server.is_closed:
            most = ANONYMOUS_BODY
        # Others may have the server's lock while a large body is decoded.
        with unlocked() if encoding is not None or len(content) > ANONYMOUS_BODY else nullcontext():
            return decode_request(content if encoding is None else decompress(content, encoding, most))

    def content(self) -> bytes:
        """Return the body as bytes. Raise ``TooLarge`` if the configuration allows no body of its length."""
        content = self.request.content()
        if len(content) > self.server.settings.max_http_request_size:
            raise too_large()
        return content

    def json_object(self) -> dict[str, JSON]:
        """Return the decoded body. Raise ``BadRequest`` if it is not an object."""
        value = self.json()
        if type(value) is not dict:
            raise BadRequest("Request body must be a JSON object")
        return value

    def has_empty_body(self) -> bool:
        """Return whether a body was announced and is empty."""
        request = self.request
        return request.announces_body and request.json is ABSENT and not request.body

    def require_json_type(self) -> None:
        """Raise ``BadContentType`` unless the content type is JSON."""
        kind = self.request.headers.get("content-type", "")
        if kind != JSON_TYPE and kind.lstrip(";").partition(";")[0] != JSON_TYPE:
            raise BadContentType("Content-Type must be application/json")

    def require_server_admin(self) -> None:
        if not self.user.is_admin:
            raise Unauthorized("You are not a server admin.")

    def design_error(self) -> CouchError | None:
        """Return the error for a user who may not write design documents, or None."""
        return self.db_admin_error("You are not a db or server admin.")

    def db_admin_error(self, reason: str) -> CouchError | None:
        """Return the error for a user who is neither a server administrator nor one of this database, or None."""
        if is_db_admin(self.user, self.db.security):
            return None
        return Unauthorized(reason) if self.user.name is None else Forbidden(reason)


class WithoutLock(Exception):
    """An endpoint ends with work that must not hold the server's lock, because it sends requests itself.

    ``work`` takes an object that opens databases (``Peers``), and returns the answer.
    """

    def __init__(self, call: Call, work: Callable[[Peers], Response]) -> None:
        super().__init__()
        self._cookie = call.user.renewed_cookie
        self._work = work

    def answer(self, peers: Peers) -> Response:
        """Do the work. The caller does not hold the lock."""
        response = self._work(peers)
        if self._cookie is not None:
            response.headers.setdefault("set-cookie", self._cookie)
        return response


class Rewritten(Exception):
    """A design document replaces a request by another one, which is answered in its place."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request

    def answer(self, send: Callable[[Request], Response]) -> Response:
        """Return the answer to the other request."""
        response = send(self.request)
        return without_body(response) if self.request.method == "HEAD" else response


def document_etag(doc_id: str, rev: str, body: dict[str, object]) -> str:
    """Return the ETag of a document: its revision, or a hash for a local document, whose revisions repeat."""
    if not doc_id.startswith("_local/"):
        return f'"{rev}"'
    return f'"{md5(rev.encode() + encode_term(body), usedforsecurity=False).hexdigest()}"'
