"""A database as a replicator uses it: the requests that it sends, and the values that it reads from the answers.

Source: ``couch_replicator_api_wrap``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term
from couchdal.emulator.engine.replication.checkpoint import Log
from couchdal.emulator.engine.replication.endpoint import Endpoint, redirected, without_credentials
from couchdal.emulator.engine.replication.failures import Failed, failed, term_failure, text_term
from couchdal.emulator.engine.replication.parts import parts_of
from couchdal.errors import BackendError, HostRefused, TimedOut, Unreachable
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote

#: Answers a request. It raises ``Unreachable`` if no answer came.
Send: TypeAlias = Callable[[Request], Response]
#: Returns the function that answers the requests to an origin.
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
# The system's messages about an unknown host.
_NO_ADDRESS: Final = ("Name or service not known", "nodename nor servname", "name resolution", "getaddrinfo failed")
_REFUSED, _UNKNOWN_HOST = (
    TupleTerm((Atom("conn_failed"), TupleTerm((Atom("error"), Atom(word))))) for word in ("econnrefused", "nxdomain")
)
# In this place, CouchDB 3.5.0 shows the function that reads the answer, not the answer.
_READER: Final = Atom("#Fun<couch_replicator_httpc.0.11803075>")


class RequestFailed(Failed):
    """A server failed at each attempt, or did not answer. ``why`` is the last failure: a status, or a term."""

    url = ""
    method = ""
    why: object = None

    @classmethod
    def of(cls, side: Endpoint, request: Request, why: object) -> RequestFailed:
        """Return the failure of a request."""
        # CouchDB's own requests have no limit, so leave it out of the error.
        query = without_credentials(request.query.partition("&limit=")[0])
        url = f"{side.shown_origin}{request.path}{'?' if query else ''}{query}"
        cause = TupleTerm((Atom("code"), why)) if isinstance(why, int) else TupleTerm((Atom("error"), why))
        named = (Atom("http_request_failed"), text_term(request.method), text_term(url))
        term = TupleTerm((*named, TupleTerm((Atom("error"), cause))))
        error = cls(pretty_term(term), error="error")
        error.url, error.method, error.why = url, request.method, why
        error.term = TupleTerm((Atom("'EXIT'"), term))
        return error

    def at_start(self) -> Failed:
        """Return the failure as CouchDB reports it before a replication has begun."""
        if self.why is _UNKNOWN_HOST:
            return failed("nxdomain", f"could not resolve {self.url}")
        if isinstance(self.why, int):
            return term_failure(Atom("http_error_code"), self.why, f"{self.method} {self.url}")
        return self


class Peer:
    """One side of a replication."""

    def __init__(
        self,
        side: Endpoint,
        send: Send,
        pause: Pause,
        retries: int,
        *,
        connect: Connect,
        is_own: bool = False,
        logs_in: bool = True,
    ) -> None:
        self.side = side
        self._is_own = is_own
        #: Sends one request.
        self.send: Send = send
        self._connect = connect
        self._pause = pause
        self._retries = retries
        self._headers = side.request_headers()
        self._logs_in = logs_in and side.user is not None and not is_own
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
        request = self._request(method, path, query, given, body=body, json=json)
        pause_s = _FIRST_PAUSE_S
        for left in range(self._retries, -1, -1):
            try:
                response = self._follow(request, given)
            except HostRefused as error:
                raise failed("host_refused", error.message) from None
            except (Unreachable, TimedOut) as error:
                if not left or self._logs_in:
                    raise self._unreachable(request, error) from None
            else:
                self._logs_in = False
                if response.status < 500 and response.status not in _REPEATED:
                    return response
                if not left:
                    raise RequestFailed.of(self.side, request, response.status)
            self._pause(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _request(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        json: object = ABSENT,
    ) -> Request:
        query = "&".join(filter(None, (self._query, query)))
        return Request(method, self._path + path, query, {**self._headers, **headers}, body, json=json)

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
        raise RequestFailed.of(self.side, asked, Atom("too_many_redirects"))

    def _unreachable(self, request: Request, error: BackendError) -> Failed:
        is_unknown = any(words in str(error) for words in _NO_ADDRESS)
        why = _UNKNOWN_HOST if is_unknown else _REFUSED
        return self._session_failure("failed", why) if self._logs_in else RequestFailed.of(self.side, request, why)

    def _session_failure(self, word: str, *why: object) -> Failed:
        """Return the failure to log in, which CouchDB tries first if it has credentials."""
        url = text_term(f"{self.side.shown_origin}/_session")
        term = TupleTerm((Atom(f"session_request_{word}"), url, text_term(self.side.user or ""), *why))
        word = "replication_auth_error"
        return failed(word, pretty_term(term), term=TupleTerm((Atom(word), term)))

    # --- the database -------------------------------------------------------------------------------------------------

    def create(self, parameters: Mapping[str, JSON]) -> None:
        """Create the database if it does not exist. Raise ``CouchError``."""
        query = "&".join(f"{quote(name)}={quote(_parameter(value))}" for name, value in parameters.items())
        self._check_access(self.ask("PUT", query=query))

    def open(self) -> JSON:
        """Return when the database was created. Raise ``CouchError`` if it does not exist or may not be read."""
        if self._is_own:
            # This request has the same effect, and does not compute the sizes of the database.
            response = self.ask("POST", "_ensure_full_commit", headers={"content-type": "application/json"})
        else:
            response = self.ask("GET")
        self._check_access(response)
        value = response.value() if response.status in (200, 201) else None
        if not isinstance(value, dict) or "instance_start_time" not in value:
            raise self._not_found()
        if response.status == 200 and "update_seq" not in value:
            raise self._not_found()
        return value["instance_start_time"]

    def _check_access(self, response: Response) -> None:
        term = TupleTerm((Atom("unauthorized" if response.status == 401 else "forbidden"), self.url))
        if response.status == 401 and self.side.user is not None:
            raise self._session_failure("unauthorized")
        if response.status == 401:
            reason = f"unauthorized to access or create database {self.url}"
            raise failed("unauthorized", reason, status=401, term=term)
        if response.status == 403:
            raise failed("forbidden", self.url, status=403, term=term)

    def _not_found(self) -> Failed:
        term = TupleTerm((Atom("db_not_found"), self.url))
        return failed("db_not_found", f"could not open {self.url}", term=term)

    def commit(self) -> JSON:
        """Request a commit of all data to the disk, and return when the database was created. Raise ``CouchError``."""
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
        except RequestFailed as error:
            raise failed(
                "changes_req_failed", str(error.why) if isinstance(error.why, int) else pretty_term(error.why)
            ) from None
        value = response.value()
        rows = value.get("results") if isinstance(value, dict) else None
        if response.status != 200 or not isinstance(rows, list):
            raise term_failure(Atom("changes_req_failed"), response.status, _READER)
        return rows

    def await_changes(self, query: str, body: JSON) -> Response:
        """Return the answer to a request for changes that waits for them. Raise ``BackendError``."""
        if body is None:
            request = self._request("GET", "_changes", query, {})
        else:
            request = self._request("POST", "_changes", query, {"content-type": "application/json"}, json=body)
        return self._follow(request, {})

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

        Attachments that the ``ancestors`` have are returned as stubs.
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


def _document_path(doc_id: str) -> str:
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix):
            return prefix + quote(doc_id.removeprefix(prefix))
    return quote(doc_id)


def _quoted(values: Sequence[str]) -> str:
    return quote(encode_json(list(values)).decode())


def _parameter(value: JSON) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()
