"""A database as a replicator sees it: the requests that it sends, and what it reads from the answers.

Source: ``couch_replicator_api_wrap``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term
from couchdal.emulator.engine.replication.checkpoint import Log
from couchdal.emulator.engine.replication.endpoint import Endpoint, redirected, without_credentials
from couchdal.emulator.engine.replication.replication import failed, term_failure
from couchdal.errors import BackendError, CouchError, HostRefused, ServerError, TimedOut, Unreachable
from couchdal.http.json_text import JSON, decode_json, encode_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote

#: Answers a request. It raises ``Unreachable`` if no answer came.
Send: TypeAlias = Callable[[Request], Response]
#: Returns what answers the requests to an origin.
Connect: TypeAlias = Callable[[str], Send]
#: Waits for some seconds before a request is repeated.
Pause: TypeAlias = Callable[[float], None]

_FIRST_PAUSE_S = 0.25
_REPEATED: Final = frozenset((408, 429))
# CouchDB takes 307 and 308 for answers that it does not expect.
_REDIRECTS: Final = frozenset((301, 302, 303))
_SEE_OTHER: Final = 303
# CouchDB follows redirects without a limit.
_MOST_REDIRECTS: Final = 10
# What the system says of a host that nobody knows.
_NO_ADDRESS: Final = ("Name or service not known", "nodename nor servname", "name resolution", "getaddrinfo failed")
_REFUSED: Final = TupleTerm((Atom("conn_failed"), TupleTerm((Atom("error"), Atom("econnrefused")))))
# CouchDB 3.5.0 shows its function for reading the answer, and not the answer.
_READER: Final = Atom("#Fun<couch_replicator_httpc.0.11803075>")


class _RequestFailed(ServerError):
    """A server failed at each attempt, or did not answer. ``why`` is the last failure."""

    error = "error"

    def __init__(self, side: Endpoint, request: Request, why: tuple[object, ...]) -> None:
        self.why = TupleTerm(why)
        # CouchDB asks for the whole feed.
        query = without_credentials(request.query.partition("&limit=")[0])
        self._asked = f"{side.origin}{request.path}{'?' if query else ''}{query}"
        self._method = request.method
        super().__init__(self.text(TupleTerm((Atom("error"), self.why))))

    def text(self, why: TupleTerm) -> str:
        """Return the failure as an Erlang term."""
        asked = Atom(f'"{self._method}"'), Atom(f'"{self._asked}"')
        return pretty_term(TupleTerm((Atom("http_request_failed"), *asked, why)))


class Peer:
    """One side of a replication."""

    def __init__(
        self, side: Endpoint, send: Send, pause: Pause, retries: int, *, connect: Connect, is_own: bool = False
    ) -> None:
        self.side = side
        self._is_own = is_own
        #: Sends one request.
        self.send: Send = send
        self._connect = connect
        self._pause = pause
        self._retries = retries
        self._headers = side.request_headers()
        # Without a query, parts of the path are appended to it. With one, they come before it, as in CouchDB.
        self._path, _, self._query = side.path.partition("?")

    @property
    def url(self) -> str:
        """The address, without credentials."""
        return self.side.url

    def ask(
        self,
        method: str,
        path: str = "",
        query: str = "",
        *,
        json: object = ABSENT,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return an answer. Repeat the request if none comes, or if the server fails.

        Raise ``CouchError`` in the end.
        """
        given = {**(headers or {}), **({} if json is ABSENT else {"content-type": "application/json"})}
        query = "&".join(filter(None, (self._query, query)))
        request = Request(method, self._path + path, query, {**self._headers, **given}, body, json=json)
        pause_s = _FIRST_PAUSE_S
        for left in range(self._retries, -1, -1):
            try:
                response = self._follow(request, given)
            except HostRefused as error:
                raise failed("host_refused", error.message) from None
            except (Unreachable, TimedOut) as error:
                if not left:
                    raise self._unreachable(request, error) from None
            else:
                if response.status < 500 and response.status not in _REPEATED:
                    return response
                if not left:
                    raise _RequestFailed(self.side, request, (Atom("code"), response.status))
            self._pause(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _follow(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the answer to a request, after redirects. ``headers`` are those that go to any server."""
        send, there, asked = self.send, self.side, request
        for _ in range(_MOST_REDIRECTS):
            response = send(request)
            if response.status not in _REDIRECTS:
                return response
            found = redirected(there, response.headers.get("location", ""))
            if found is None:
                raise failed("badmatch", "{error,invalid_uri}")
            if found.origin != there.origin:
                send = self._connect(found.origin)
            there = found
            path, _, query = there.path.partition("?")
            request = request.with_head(request.method, path, query, {**there.request_headers(), **headers})
            if response.status == _SEE_OTHER:
                request = Request("GET", path, query, request.headers)
        raise _RequestFailed(self.side, asked, (Atom("error"), Atom("too_many_redirects")))

    def _unreachable(self, request: Request, error: BackendError) -> CouchError:
        if any(words in str(error) for words in _NO_ADDRESS):
            return failed("nxdomain", f"could not resolve {self.url}")
        return _RequestFailed(self.side, request, (Atom("error"), _REFUSED))

    # --- the database -------------------------------------------------------------------------------------------------

    def create(self, parameters: Mapping[str, JSON]) -> None:
        """Create the database if it does not exist. Raise ``CouchError``."""
        query = "&".join(f"{quote(name)}={quote(_parameter(value))}" for name, value in parameters.items())
        self._check_access(self.ask("PUT", query=query))

    def open(self) -> JSON:
        """Return when the database was created. Raise ``CouchError`` if it does not exist or may not be read."""
        if self._is_own:
            # The same, without the sizes of the database.
            response = self.ask("POST", "_ensure_full_commit", headers={"content-type": "application/json"})
        else:
            response = self.ask("GET")
        self._check_access(response)
        value = response.value() if response.status in (200, 201) else None
        if not isinstance(value, dict) or "instance_start_time" not in value:
            raise failed("db_not_found", f"could not open {self.url}")
        if response.status == 200 and "update_seq" not in value:
            raise failed("db_not_found", f"could not open {self.url}")
        return value["instance_start_time"]

    def _check_access(self, response: Response) -> None:
        if response.status == 401 and self.side.user is not None:
            reason = f'{{session_request_unauthorized,"{self.side.origin}/_session","{self.side.user}"}}'
            raise failed("replication_auth_error", reason)
        if response.status == 401:
            raise failed("unauthorized", f"unauthorized to access or create database {self.url}", status=401)
        if response.status == 403:
            raise failed("forbidden", self.url, status=403)

    def commit(self) -> JSON:
        """Ask for everything to be on disk, and return when the database was created. Raise ``CouchError``."""
        response = self.ask("POST", "_ensure_full_commit", headers={"content-type": "application/json"})
        value = response.value()
        if response.status != 201 or not isinstance(value, dict):
            word = value.get("error") if isinstance(value, dict) else response.status
            raise failed("checkpoint_commit_failure", f"Failure on commit: {{error,{word}}}")
        return value.get("instance_start_time")

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def read_log(self, log_id: str) -> tuple[Log, JSON] | None:
        """Return a checkpoint and its revision, or None."""
        response = self.ask("GET", f"_local/{log_id}")
        value = response.value()
        if response.status != 200 or not isinstance(value, dict):
            return None
        return {name: item for name, item in value.items() if name not in ("_id", "_rev")}, value.get("_rev")

    def write_log(self, log_id: str, log: Log, rev: JSON) -> JSON:
        """Write a checkpoint, and return its revision. Raise ``CouchError``."""
        named: Log = {"_id": f"_local/{log_id}", **log}
        if rev is not None:
            named["_rev"] = rev
        response = self.ask("PUT", f"_local/{log_id}", json=named)
        value = response.value()
        if response.status in (200, 201, 202) and isinstance(value, dict):
            return value.get("rev")
        if response.status == 409:
            # An earlier attempt may have succeeded although its answer did not arrive.
            found = self.read_log(log_id)
            if found is not None and found[0] == log:
                return found[1]
        word = value.get("error") if isinstance(value, dict) else response.status
        raise failed("checkpoint_commit_failure", f"Error updating the checkpoint document: {word}")

    # --- documents ----------------------------------------------------------------------------------------------------

    def changes(self, query: str, body: JSON) -> list[JSON]:
        """Return rows of the changes feed. Raise ``CouchError``."""
        try:
            if body is None:
                response = self.ask("GET", "_changes", query)
            else:
                response = self.ask("POST", "_changes", query, json=body)
        except _RequestFailed as error:
            raise failed("changes_reader_died", error.text(error.why)) from None
        value = response.value()
        rows = value.get("results") if isinstance(value, dict) else None
        if response.status != 200 or not isinstance(rows, list):
            raise term_failure(Atom("changes_req_failed"), response.status, _READER)
        return rows

    def missing_revisions(self, revisions: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Return, by document, the revisions that the database lacks, and possible ancestors. Raise ``CouchError``."""
        response = self.ask("POST", "_revs_diff", json=revisions)
        value = response.value()
        if response.status != 200 or not isinstance(value, dict):
            raise term_failure(Atom("revs_diff_failed"), response.status, value)
        return value

    def read_many(self, docs: Sequence[JSON]) -> list[JSON]:
        """Return the rows of ``_bulk_get``; an empty list if it failed."""
        query = "revs=true&attachments=false&latest=true"
        asked = {"docs": list(docs), "latest": True, "revs": True, "attachments": False}
        response = self.ask("POST", "_bulk_get", query, json=asked)
        value = response.value()
        rows = value.get("results") if isinstance(value, dict) else None
        return rows if response.status == 200 and isinstance(rows, list) and len(rows) == len(docs) else []

    def read_revision(self, doc_id: str, rev: str, ancestors: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return a revision as parts: each has a content type and a text. Raise ``CouchError``.

        Attachments that the ``ancestors`` have come as stubs.
        """
        query = f"revs=true&open_revs={_quoted([rev])}&latest=true"
        if ancestors:
            query += f"&atts_since={_quoted(ancestors)}"
        response = self.ask("GET", _document_path(doc_id), query, headers={"accept": "multipart/mixed"})
        if response.status != 200:
            raise failed("error", "open_doc_revs_failed")
        return list(parts_of(response.headers.get("content-type", ""), response.content()))

    def write_revision(self, doc_id: str, content_type: str, text: bytes) -> Response:
        """Write a revision as it was read, and return the answer."""
        path, headers = _document_path(doc_id), {"content-type": content_type}
        return self.ask("PUT", path, "new_edits=false", body=text, headers=headers)

    def write_many(self, docs: Sequence[JSON]) -> Response:
        """Write revisions, and return the answer."""
        return self.ask("POST", "_bulk_docs", json={"new_edits": False, "docs": list(docs)})


def parts_of(content_type: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the content type and the text of each part of a multipart body."""
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip().strip('"')
    delimiter = b"--" + boundary.encode("latin-1")
    at = body.find(delimiter)
    while boundary and at >= 0 and body[at + len(delimiter) : at + len(delimiter) + 2] != b"--":
        begin = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + delimiter, begin + 4)
        if begin < 0 or end < 0:
            raise failed("error", "open_doc_revs_failed")
        header = body[at + len(delimiter) : begin].decode("latin-1")
        kind = next(
            (line[13:].strip() for line in header.split("\r\n") if line.lower().startswith("content-type:")), ""
        )
        yield kind, body[begin + 4 : end]
        at = end + 2


def _document_path(doc_id: str) -> str:
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix):
            return prefix + quote(doc_id.removeprefix(prefix))
    return quote(doc_id)


def _quoted(values: Sequence[str]) -> str:
    return quote(encode_json(list(values)).decode())


def _parameter(value: JSON) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def json_of(text: bytes) -> dict[str, JSON]:
    """Return a document from its text."""
    value = decode_json(text)
    assert isinstance(value, dict)
    return value
