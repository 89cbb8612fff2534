"""CouchDB's errors as exceptions: one class per error word, with CouchDB's status and reason texts.

CouchError                  any answer with a status >= 400
  BadRequest                400 bad_request, and other errors of invalid requests
    DocValidation           400 doc_validation
    IllegalDocId            400 illegal_docid
    IllegalDatabaseName     400 illegal_database_name
    IllegalPartition        400 illegal_partition
    QueryParseError         400 query_parse_error
  Unauthorized              401 unauthorized
  Forbidden                 403 forbidden
  NotFound                  404 not_found
  MethodNotAllowed          405 method_not_allowed
  Conflict                  409 conflict
  Gone                      410 gone
  PreconditionFailed        412
    FileExists              412 file_exists
    MissingStub             412 missing_stub
  TooLarge                  413 too_large
  BadContentType            415 bad_content_type
  ServerError               500 and above
    NotSupported            501 not_implemented
BackendError                no answer from CouchDB
  NotConfigured             no server or no database is configured
  HostRefused               a host that tests may not reach
  Unreachable               no connection, or one that broke off
    NotConnected            no connection: nothing was sent
      Unavailable           all servers are suspended, or no connection is free
    BrokenOff               a connection that was closed in the middle of an answer
      ConnectionRefused     one that a fault refused, and so NotConnected too
      ConnectionReset       one that a fault reset
  TimedOut                  no answer in time
  NotJSON                   an answer that is not JSON
  MemoryOnly                a feature of the emulator, used on a real server
    ResetRefused            reset() on a real server
"""

# This module does not know requests, backends or documents.

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeVar

from couchdal.failure import Failure

_Error = TypeVar("_Error", bound="CouchError")
NO_DATABASE = "Database does not exist."
_HINT = "; create it with create_database(), CouchDAL(..., create=True) or, in tests, the setting dal_databases"


class CouchError(Failure, Exception):
    """An answer with a status >= 400.

    ``status`` is the HTTP status, ``error`` CouchDB's error word and ``reason`` its reason. ``body`` is the whole JSON
    body, ``headers`` are the answer's headers without its content type, and ``request`` names what was asked.

    >>> try:
    ...     db.get_document("missing")
    ... except CouchError as error:
    ...     print(error.status, error.error, error.reason)
    404 not_found missing
    """

    status: int = 500
    error: str = "unknown_error"
    reason: str = ""
    #: Whether a 500 reports the hash of a stack trace. Errors thrown by design functions have none.
    is_traced = True

    def __init__(
        self,
        reason: str | None = None,
        *,
        status: int | None = None,
        error: str | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if reason is not None:
            self.reason = reason
        if status is not None:
            self.status = status
        if error is not None:
            self.error = error
        self.body: dict[str, object] = dict(body) if body is not None else {"error": self.error, "reason": self.reason}
        self.headers: dict[str, str] = dict(headers or {})
        hint = _HINT if (self.status, self.reason) == (404, NO_DATABASE) else ""
        super().__init__(f"{self.status} {self.error}: {self.reason}{hint}")

    @classmethod
    def of_value(cls: type[_Error], reason: object, *, status: int | None = None, error: str | None = None) -> _Error:
        """Return an error whose reason is any JSON value, as a design function may throw it."""
        text = reason if isinstance(reason, str) else str(reason)
        return cls(text, status=status, error=error, body={"error": error or cls.error, "reason": reason})

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled between processes (pytest-xdist), with their keyword arguments.
        rebuild = partial(type(self), status=self.status, error=self.error, body=self.body, headers=self.headers)
        return rebuild, (self.reason,), self._state


class BadRequest(CouchError):
    """400: the request is invalid."""

    status = 400
    error = "bad_request"


class DocValidation(BadRequest):
    """400: a document has an unknown member that starts with an underscore."""

    error = "doc_validation"


class IllegalDocId(BadRequest):
    """400: no document can have this id."""

    error = "illegal_docid"


class IllegalDatabaseName(BadRequest):
    """400: no database can have this name."""

    error = "illegal_database_name"


class IllegalPartition(BadRequest):
    """400: no partition can have this name."""

    error = "illegal_partition"


class QueryParseError(BadRequest):
    """400: a query parameter is invalid."""

    error = "query_parse_error"


class Unauthorized(CouchError):
    """401: the credentials are missing or wrong, or a validation function rejected the user."""

    status = 401
    error = "unauthorized"


class Forbidden(CouchError):
    """403: the user may not do this, or a validation function rejected the document."""

    status = 403
    error = "forbidden"


class NotFound(CouchError):
    """404: the document, database or path does not exist, or the document is deleted."""

    status = 404
    error = "not_found"
    reason = "missing"


class MethodNotAllowed(CouchError):
    """405: the path does not have this method."""

    status = 405
    error = "method_not_allowed"


class Conflict(CouchError):
    """409: the document has another revision than the one that was given."""

    status = 409
    error = "conflict"
    reason = "Document update conflict."


class Gone(CouchError):
    """410: the resource is no longer available."""

    status = 410
    error = "gone"


class PreconditionFailed(CouchError):
    """412: a precondition does not hold."""

    status = 412
    error = "precondition_failed"


class FileExists(PreconditionFailed):
    """412: the database exists."""

    error = "file_exists"
    reason = "The database could not be created, the file already exists."


class MissingStub(PreconditionFailed):
    """412: an attachment stub names an attachment that the document does not have."""

    error = "missing_stub"


class TooLarge(CouchError):
    """413: the document or the request is too large."""

    status = 413
    error = "too_large"


class BadContentType(CouchError):
    """415: the content type or encoding is not supported."""

    status = 415
    error = "bad_content_type"


class ServerError(CouchError):
    """500 and above: the server failed."""

    status = 500


def thrown(word: str, reason: str) -> ServerError:
    """Return the error for a design function that threw something other than an answer."""
    error = ServerError(reason, error=word)
    error.is_traced = False
    return error


class NotSupported(ServerError):
    """A route or option of CouchDB that the emulator does not implement. It never guesses."""

    status = 501
    error = "not_implemented"


_BY_WORD: dict[tuple[int, str], type[CouchError]] = {
    (cls.status, cls.error): cls for kind in (BadRequest, PreconditionFailed) for cls in kind.__subclasses__()
}
_BY_STATUS: dict[int, type[CouchError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: TooLarge,
    415: BadContentType,
    501: NotSupported,
}


def error_class(status: int, word: str) -> type[CouchError]:
    """Return the exception class for an answer: by status and error word, or else by status."""
    fallback: type[CouchError] = ServerError if status >= 500 else CouchError
    return _BY_WORD.get((status, word)) or _BY_STATUS.get(status, fallback)


def from_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> CouchError:
    """Return the exception for an answer with a status >= 400.

    If the body is not an object (a list of rows, a gateway's page), ``.body`` has it under ``"body"``.
    """
    if isinstance(body, Mapping):
        word, reason = str(body.get("error", "unknown_error")), str(body.get("reason", ""))
        return error_class(status, word)(reason, status=status, error=word, body=body, headers=headers)
    return error_class(status, "")("", status=status, body={"body": body}, headers=headers)


class BackendError(Failure, Exception):
    """No usable answer came. ``server`` is the server's address, without a password; ``request`` names what was asked.

    A proxy answers with ``status`` and ``error`` instead.
    """

    status = 502
    error = "bad_gateway"

    def __init__(self, message: str, server: str = "") -> None:
        self.server = server
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.server), self._state)


class NotConfigured(BackendError):
    """No server, database or password is configured, or a setting is invalid."""


class Unreachable(BackendError):
    """There was no connection, or it broke off."""


class NotConnected(Unreachable):
    """No connection could be made, so nothing was sent."""


class Unavailable(NotConnected):
    """All servers are suspended because their last requests failed, or all connections are in use."""

    status = 503
    error = "service_unavailable"


class BrokenOff(Unreachable):
    """The connection was closed within an answer. ``received`` is an answer of which only half had arrived."""

    def __init__(self, reason: str, server: str, *, received: object = None) -> None:
        super().__init__(reason, server)
        self.received = received


class ConnectionRefused(NotConnected, BrokenOff):
    """An injected fault refused the connection, so nothing was sent."""


class ConnectionReset(BrokenOff):
    """An injected fault reset the connection."""


class HostRefused(BackendError):
    """Under pytest: the server is on another machine, and ``DAL_ALLOWED_HOSTS`` does not list it."""


class TimedOut(BackendError):
    """The server did not answer in time."""

    status = 504
    error = "gateway_timeout"


class NotJSON(BackendError):
    """The answer is not JSON: a gateway's page, for example, or text that was cut short."""


class MemoryOnly(BackendError):
    """Only the emulator has this feature, and the handle uses a real server."""


class ResetRefused(MemoryOnly):
    """``reset()`` empties the emulator only, never a real server."""


# CouchDB's warning in the answer to a query without an index. The emulator sends it, and the index watch looks for it.
NO_INDEX_WARNING = "No matching index found, create an index to optimize query time."
