"""Parse the fields of a form (``multipart/form-data``) as CouchDB does. Source: ``mochiweb_multipart``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.errors import CouchError, ServerError

FORM_TYPE = "multipart/form-data"
_LINE = b"\r\n"
# CouchDB reads a body in chunks of this size. If the first chunk does not begin with the boundary, the error shows it.
_CHUNK = 4096

_Header = tuple[str, dict[str, str]]


class Field(NamedTuple):
    """One field. Only a file has a ``filename``, and ``content_type`` is None if its part names none."""

    name: str | None
    data: bytes
    filename: str | None = None
    content_type: str | None = None


def parse_form(content_type: str, body: bytes) -> Iterator[Field]:
    """Yield the fields of a form in their order.

    Raise ``ServerError`` for a body that is malformed or ends too early.
    """
    boundary = _parameters(content_type)[1].get("boundary")
    if boundary is None:
        raise ServerError("undefined", error="case_clause")
    delimiter = _LINE + b"--" + boundary.encode("latin-1", "replace")
    if not body:
        raise _incomplete()
    if not body.startswith(delimiter[2:] + _LINE):
        raise _mismatch(body[:_CHUNK].decode("utf-8", "replace"))
    if body.endswith(delimiter + b"--"):
        body += _LINE
    at = len(delimiter)
    while True:
        head_end = body.find(_LINE * 2, at)
        if head_end < 0:
            raise _incomplete()
        headers = dict(map(_header, body[at:head_end].split(_LINE)))
        end, is_last = _end_of_part(body, delimiter, head_end + 4)
        yield _field(headers, body[head_end + 4 : end])
        if is_last:
            return
        at = end + len(delimiter) + 2


def _end_of_part(body: bytes, delimiter: bytes, start: int) -> tuple[int, bool]:
    """Return where the data of a part ends, and whether it is the last part."""
    end = body.find(delimiter, start)
    while end >= 0:
        after = body[end + len(delimiter) :]
        if after.startswith(_LINE):
            return end, False
        if after.startswith(b"--" + _LINE):
            return end, True
        end = body.find(delimiter, end + 1)
    raise _incomplete()


def _field(headers: dict[str, _Header], data: bytes) -> Field:
    if "content-disposition" not in headers:
        raise _mismatch("undefined")
    kind, parameters = headers["content-disposition"]
    if kind != "form-data":
        members = ",".join(f'{{"{name}","{value}"}}' for name, value in parameters.items())
        raise _mismatch(f'{{"{kind}",[{members}]}}')
    filename, content_type = parameters.get("filename"), headers.get("content-type")
    if filename is None:
        return Field(parameters.get("name"), data)
    return Field(
        parameters.get("name"), data, _text(filename), None if content_type is None else _text(content_type[0])
    )


def _header(line: bytes) -> tuple[str, _Header]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon:
        raise _mismatch(f"{{{pretty_term(list(name.encode('latin-1')))},[]}}")
    return name.strip(" ").lower(), _parameters(value)


def _parameters(value: str) -> _Header:
    """Return the value of a header in lower case, and its parameters. Quoted semicolons separate them, too."""
    kind, *parts = (part.strip(" ") for part in value.split(";") if part)
    parameters: dict[str, str] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        if name and equals:
            parameters.setdefault(name.strip(" ").lower(), _unquoted(text.strip(" ")))
    return _lower(kind), parameters


def _lower(text: str) -> str:
    # Erlang treats each byte as a character of Latin-1.
    return "".join(one.lower() if len(one.lower().encode("latin-1", "ignore")) == 1 else one for one in text)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    pieces, at = [], 1
    while at < len(text) and text[at:] != '"':
        at += text[at] == "\\" and at + 1 < len(text)
        pieces.append(text[at])
        at += 1
    return "".join(pieces)


def _text(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")


def _mismatch(reason: str) -> CouchError:
    return ServerError(reason, error="badmatch")


def _incomplete() -> CouchError:
    return ServerError("function_clause", error="unknown_error")
