"""Turn the results of show, update and list functions into responses.

Sources: ``chttpd_external:parse_external_response``, ``couch_mrview_show:list_cb``, ``mochiweb_headers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from couchdal.emulator.engine.erlang.term_text import iolist, pretty_term
from couchdal.emulator.engine.javascript.javascript import error_of
from couchdal.emulator.http.authentication import decoded_base64
from couchdal.errors import BadRequest, BrokenOff, CouchError, ServerError, thrown
from couchdal.http.json_text import encode_json
from couchdal.http.messages import ABSENT, Response

Headers: TypeAlias = "list[tuple[str, object]]"

_WITHOUT_BODY = (204, 304)


def with_headers(answer: Mapping[str, object], new: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Return an answer with these headers in place of its own headers of the same spelling.

    Raise ``ServerError`` if its headers are not an object, as CouchDB crashes there.
    """
    given = answer.get("headers")
    if "headers" not in answer:
        return {"headers": dict(new), **answer}
    if not isinstance(given, Mapping):
        raise ServerError("function_clause", error="unknown_error")
    pairs: Headers = list(given.items())
    for name, value in new:
        pairs = [(name, value), *reversed([pair for pair in pairs if pair[0] != name])]
    return {**answer, "headers": dict(pairs)}


def function_response(answer: object, policy: str | None) -> Response:
    """Return the response that a show or an update describes. Raise ``ServerError`` for an invalid description.

    ``policy`` is the content policy of pages that functions write.
    """
    if not isinstance(answer, Mapping):
        raise ServerError("function_clause", error="unknown_error")
    head = _Head(answer)
    if head.json is not ABSENT:
        headers = head.headers
        if "Content-Type" not in dict(headers):
            # Only this spelling replaces the header that CouchDB adds to JSON.
            headers = [("Content-Type", "application/json"), *headers]
        return Response(head.status(), merged(headers), body=encode_json(head.json) + b"\n")
    body = head.data if isinstance(head.data, bytes) else _bytes(head.data)
    status = head.status()
    return Response(status, merged(_with_policy(head.headers, policy)), body=b"" if status in _WITHOUT_BODY else body)


class _Head:
    """The description of an answer, parsed in its own order: the last member that sets a content type decides."""

    __slots__ = ("code", "data", "headers", "json")

    def __init__(self, answer: Mapping[str, object]) -> None:
        self.code: object = 200
        self.data: object = ""
        self.json: object = ABSENT
        self.headers: list[tuple[str, str]] = []
        kind = "application/json"
        for member, value in answer.items():
            if member == "code":
                self.code = value
            elif member == "json":
                self.json, kind = value, "application/json"
            elif member == "body":
                self.data, kind = value, "text/html; charset=utf-8"
            elif member == "base64":
                self.data, kind = _decoded(value), "application/binary"
            elif member == "headers" and isinstance(value, Mapping):
                self.headers = [(key, _header(text)) for key, text in value.items()]
            elif member != "stop" or value is not True:
                reason = f"Invalid data from external server: {{{pretty_term(member)},{pretty_term(value)}}}"
                raise thrown("external_response_error", reason)
        if all(name.lower() != "content-type" for name, _ in self.headers):
            self.headers.insert(0, ("Content-Type", kind))

    def status(self) -> int:
        """Return the status. Raise ``BrokenOff`` for one that no client can read, ``ServerError`` for other values."""
        code = self.code
        if type(code) is int:
            return code
        if isinstance(code, (str, list)):
            text = _bytes(code).decode("latin-1")
            if len(text) == 3 and text.isdecimal() and text.isascii() and text[0] != "0":
                return int(text)
            raise BrokenOff(f"a function answered with the status {text!r}, which clients cannot read", "the emulator")
        raise ServerError("function_clause", error="unknown_error")


def merged(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their name in lower case. The values of one name are joined, as CouchDB's web server does."""
    result: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        result[key] = f"{result[key]}, {value}" if key in result else value
    return result


def _with_policy(headers: list[tuple[str, str]], policy: str | None) -> list[tuple[str, str]]:
    return headers if policy is None else [("content-security-policy", policy), *headers]


def list_response(answer: Mapping[str, object], policy: str | None) -> Response:
    """Return the response that a list function sent, turn by turn. Raise its error if it fails before it sends."""
    sending = _Sending(policy)
    try:
        for chunks, head in cast("Sequence[tuple[object, object]]", answer["turns"]):
            sending.take(chunks, head)
        if answer["error"] is None:
            return sending.ended()
        error = error_of(cast("Sequence[object]", answer["error"]))
        if answer["turn"] != "row":
            raise error
    except (CouchError, BrokenOff) as problem:
        if sending.status is None:
            raise
        return sending.broken_off(problem)
    return sending.failed_at_row(error)


class _Sending:
    """An answer that is being sent: CouchDB sends the head with the first chunks, and cannot change it afterwards."""

    def __init__(self, policy: str | None) -> None:
        self.status: int | None = None
        self._policy = policy
        self._head: _Head | None = None
        self._sent: list[bytes] = []

    def take(self, chunks: object, head: object) -> None:
        if head is not None:
            if not isinstance(head, Mapping):
                raise ServerError("function_clause", error="unknown_error")
            self._head = _Head(head)
        if chunks == []:
            return
        if self.status is None:
            assert self._head is not None
            self.status = self._head.status()
        self._sent.append(_bytes(chunks))

    def _headers(self) -> dict[str, str]:
        return merged(_with_policy(self._head.headers if self._head else [], self._policy))

    def ended(self) -> Response:
        if self.status is None:
            return Response(200)
        return Response(self.status, self._headers(), body=b"".join(self._sent))

    def broken_off(self, problem: Exception) -> Response:
        """Return a response that breaks off after the chunks that were sent."""
        return Response(self.status or 200, self._headers(), stream=cut_off(b"".join(self._sent), str(problem)))

    def failed_at_row(self, error: CouchError) -> Response:
        told = b"\n" + encode_json({"code": error.status, **error.body}) + b"\n"
        return Response(self.status or error.status, self._headers(), body=b"".join(self._sent) + told)


def cut_off(sent: bytes, reason: str) -> Iterator[bytes]:
    """Yield the part of an answer that CouchDB sends before it fails, and then raise ``BrokenOff``."""
    if sent:
        yield sent
    raise BrokenOff(f"the answer broke off: {reason}", "the emulator")


def _header(value: object) -> str:
    if isinstance(value, (str, list)):
        return _bytes(value).decode("utf-8", "replace")
    return pretty_term(value)


def _bytes(value: object) -> bytes:
    try:
        return iolist(value)
    except ValueError:
        raise ServerError("badarg", error="unknown_error") from None


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise ServerError("function_clause", error="unknown_error")
    try:
        return decoded_base64(value)
    except BadRequest:
        # CouchDB handles this error in credentials, but not in the answers of functions.
        raise ServerError("function_clause", error="unknown_error") from None
