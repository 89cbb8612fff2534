"""CouchDB's errors as exceptions: one class per error word, with CouchDB's status and reason texts.

    CouchError                          any answer with a status >= 400
      BadRequest                        400 bad_request and its relatives
        DocValidation                   400 doc_validation
        IllegalDocId                    400 illegal_docid
        IllegalDatabaseName             400 illegal_database_name
        IllegalPartition                400 illegal_partition
        QueryParseError                 400 query_parse_error
      Unauthorized                      401 unauthorized
      Forbidden                         403 forbidden
      NotFound                          404 not_found
      MethodNotAllowed                  405 method_not_allowed
      Conflict                          409 conflict
      Gone                              410 gone
      PreconditionFailed                412
        FileExists                      412 file_exists
        MissingStub                     412 missing_stub
      TooLarge                          413 too_large
      BadContentType                    415 bad_content_type
      ServerError                       500 and above
        NotSupported                    501 not_implemented
    BackendError                        no answer of CouchDB's at all
      NotConfigured                     no server or no database is named
      HostRefused                       a host that tests may not reach
      Unreachable                       no connection, or one that broke off
        NotConnected                    no connection: nothing was sent
          Unavailable                   no server is asked for now, or no connection is free
        BrokenOff                       one that a fault closed on purpose
      TimedOut                          no answer in time
      NotJSON                           an answer, but not one of CouchDB's
      MemoryOnly                        what only the emulator can do
        ResetRefused                    ``reset()`` of a real server

It knows nothing of requests, backends or documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Error = TypeVar("_Error", bound="CouchError")


class CouchError(Exception):
    """An answer of CouchDB's with a status >= 400.

    ``status`` is the HTTP status, ``error`` CouchDB's error word, ``reason`` its reason, ``body`` the whole JSON
    body, ``headers`` what the answer carries beside its content type.
    """

    status: int = 500
    error: str = "unknown_error"
    reason: str = ""
    #: Whether a 500 tells the hash of a stack trace; what functions of design documents throw has none.
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
        super().__init__(f"{self.status} {self.error}: {self.reason}")

    @classmethod
    def of_value(cls: type[_Error], reason: object, *, status: int | None = None, error: str | None = None) -> _Error:
        """Return the error whose reason is any JSON value, as functions of design documents give them."""
        text = reason if isinstance(reason, str) else str(reason)
        return cls(text, status=status, error=error, body={"error": error or cls.error, "reason": reason})

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions travel between processes (xdist); the keyword arguments have to travel with them.
        return (_restore, (type(self), self.reason, self.status, self.error, self.body, self.headers))


def _restore(
    cls: type[CouchError], reason: str, status: int, error: str, body: dict[str, object], headers: dict[str, str]
) -> CouchError:
    return cls(reason, status=status, error=error, body=body, headers=headers)


class BadRequest(CouchError):
    status = 400
    error = "bad_request"


class DocValidation(BadRequest):
    error = "doc_validation"


class IllegalDocId(BadRequest):
    error = "illegal_docid"


class IllegalDatabaseName(BadRequest):
    error = "illegal_database_name"


class IllegalPartition(BadRequest):
    error = "illegal_partition"


class QueryParseError(BadRequest):
    error = "query_parse_error"


class Unauthorized(CouchError):
    status = 401
    error = "unauthorized"


class Forbidden(CouchError):
    status = 403
    error = "forbidden"


class NotFound(CouchError):
    status = 404
    error = "not_found"
    reason = "missing"


class MethodNotAllowed(CouchError):
    status = 405
    error = "method_not_allowed"


class Conflict(CouchError):
    status = 409
    error = "conflict"
    reason = "Document update conflict."


class Gone(CouchError):
    status = 410
    error = "gone"


class PreconditionFailed(CouchError):
    status = 412
    error = "precondition_failed"


class FileExists(PreconditionFailed):
    error = "file_exists"
    reason = "The database could not be created, the file already exists."


class MissingStub(PreconditionFailed):
    error = "missing_stub"


class TooLarge(CouchError):
    status = 413
    error = "too_large"


class BadContentType(CouchError):
    status = 415
    error = "bad_content_type"


class ServerError(CouchError):
    status = 500


def thrown(word: str, reason: str) -> ServerError:
    """Return the error of a request for which a function of a design document threw something that is no answer."""
    error = ServerError(reason, error=word)
    error.is_traced = False
    return error


class NotSupported(ServerError):
    """A route or option of CouchDB's that the emulator does not answer. It never guesses."""

    status = 501
    error = "not_implemented"


_BY_WORD: dict[tuple[int, str], type[CouchError]] = {
    (cls.status, cls.error): cls
    for cls in (
        DocValidation,
        IllegalDocId,
        IllegalDatabaseName,
        IllegalPartition,
        QueryParseError,
        FileExists,
        MissingStub,
    )
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
    """Return the class for an answer: by status and error word, else by status, else by its hundred."""
    fallback: type[CouchError] = ServerError if status >= 500 else CouchError
    return _BY_WORD.get((status, word)) or _BY_STATUS.get(status, fallback)


def from_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> CouchError:
    """Return the exception for an answer with a status >= 400, whatever its body is.

    A body that is not CouchDB's ``{"error", "reason"}`` object (a row list, a gateway's page) is kept in ``.body``
    under ``"body"``.
    """
    if isinstance(body, Mapping):
        word, reason = str(body.get("error", "unknown_error")), str(body.get("reason", ""))
        return error_class(status, word)(reason, status=status, error=word, body=body, headers=headers)
    return error_class(status, "")("", status=status, body={"body": body}, headers=headers)


class BackendError(Exception):
    """No usable answer came. ``server`` names who was asked, without a password.

    ``status`` and ``error`` are what a gateway answers in its place.
    """

    status = 502
    error = "bad_gateway"

    def __init__(self, message: str, server: str = "") -> None:
        self.server = server
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.server))


class NotConfigured(BackendError):
    """What is needed to reach a server is not set."""


class Unreachable(BackendError):
    """No connection, or one that broke off."""


class NotConnected(Unreachable):
    """No connection could be made, so nothing was sent."""


class Unavailable(NotConnected):
    """No server is asked for now, because the last requests failed, or all connections are in use."""

    status = 503
    error = "service_unavailable"


class BrokenOff(Unreachable):
    """A connection that was closed on purpose, by a fault. ``received`` is the answer of which a half had come."""

    def __init__(self, reason: str, server: str, *, received: object = None) -> None:
        super().__init__(reason, server)
        self.received = received


class HostRefused(BackendError):
    """Under pytest: the server is on another machine, and nobody has allowed tests to reach it."""


class TimedOut(BackendError):
    """The server did not answer in time."""

    status = 504
    error = "gateway_timeout"


class NotJSON(BackendError):
    """What came is no answer of CouchDB's: a gateway's page, say, or text cut short."""


class MemoryOnly(BackendError):
    """A real server was asked for what only the emulator can do."""


class ResetRefused(MemoryOnly):
    """Only the emulator may be emptied."""


# CouchDB's warning in the answer to a query without an index. The emulator sends it, and the index watch looks for it.
NO_INDEX_WARNING = "No matching index found, create an index to optimize query time."
