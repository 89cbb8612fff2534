"""Multipart bodies: a document with its attachments, several such documents, or ranges of an attachment.

Sources: ``couch_httpd_multipart``, ``couch_doc:doc_to_multi_part_stream``, ``couch_httpd:parse_multipart_request``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from couchdal.emulator.engine.documents.attachment import Attachment, Parts
from couchdal.errors import BadContentType, BadRequest, ServerError
from couchdal.http.json_text import encode_json

_JSON_PART = b"\r\nContent-Type: application/json\r\n\r\n"


def parse_related(content_type: str, body: bytes) -> tuple[bytes, Parts]:
    """Return the first part of a body and the data of the other parts. The last part may lack its end.

    Raise ``ServerError`` without a boundary or if the first part has no end, ``BadContentType`` if the first part is
    not JSON, and ``BadRequest`` for a line without a colon in its header.
    """
    boundary = b"--" + _boundary(content_type)
    at = body.find(boundary)
    if at < 0:
        raise ServerError("expected more data", error="error")
    parts: list[tuple[bytes, bytes]] = []
    at += len(boundary)
    unended = b""
    while body[at : at + 2] != b"--":
        header_end = body.find(b"\r\n\r\n", at)
        end = body.find(b"\r\n" + boundary, header_end + 4)
        if header_end < 0:
            break
        if end < 0:
            unended = _without_beginning(body[header_end + 4 :], b"\r\n" + boundary)
            break
        parts.append((body[at:header_end], body[header_end + 4 : end]))
        at = end + 2 + len(boundary)
    if not parts:
        raise ServerError("expected more data", error="error")
    header, document = parts[0]
    if _header_value(header, "content-type").partition(";")[0].strip().lower() != "application/json":
        raise BadContentType("Content-Type must be application/json")
    data = [data for _, data in parts[1:]]
    return document, Parts([*data, unended] if unended else data, body[at : at + 2] == b"--")


def _without_beginning(data: bytes, delimiter: bytes) -> bytes:
    """Return data without the beginning of a delimiter at its end, which CouchDB does not pass on."""
    held = next((size for size in range(len(delimiter) - 1, 0, -1) if data.endswith(delimiter[:size])), 0)
    return data[: len(data) - held]


def _boundary(content_type: str) -> bytes:
    for parameter in content_type.split(";")[1:]:
        name, equals, value = parameter.partition("=")
        if equals and name.strip().lower() == "boundary":
            return value.strip().strip('"').encode("utf-8", "surrogateescape")
    raise ServerError("no boundary", error="error")


def _header_value(header: bytes, wanted: str) -> str:
    found = ""
    for line in header.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if line and not colon:
            raise BadRequest("bad part header")
        if name.strip().lower() == wanted:
            found = value.strip()
    return found


def write_related(
    boundary: str, document: Mapping[str, object], attachments: Iterable[Attachment]
) -> tuple[str, bytes]:
    """Return the content type and the text of a document with the attachments that it says follow.

    Without such an attachment, return the document alone, as JSON.
    """
    members = cast("Mapping[str, Mapping[str, object]]", document.get("_attachments", {}))
    delimiter = b"\r\n--" + boundary.encode()
    pieces = [delimiter[2:], _JSON_PART, encode_json(document)]
    for attachment in attachments:
        if "follows" not in members[attachment.name]:
            continue
        data = attachment.data or b""
        pieces.append(
            b'%b\r\nContent-Disposition: attachment; filename="%b"\r\nContent-Type: %b\r\nContent-Length: %d'
            % (delimiter, attachment.name.encode(), attachment.content_type.encode(), len(data))
        )
        if attachment.encoding != "identity":
            pieces.append(b"\r\nContent-Encoding: " + attachment.encoding.encode())
        pieces += (b"\r\n\r\n", data)
    if len(pieces) == 3:
        return "application/json", pieces[2]
    pieces.append(delimiter + b"--")
    return f'multipart/related; boundary="{boundary}"', b"".join(pieces)


def write_mixed(boundary: str, parts: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the content type and the text of several parts. Each part is a content type and its text."""
    delimiter = b"--" + boundary.encode()
    pieces = [delimiter]
    for content_type, text in parts:
        pieces.append(b"\r\nContent-Type: %b\r\n\r\n%b\r\n%b" % (content_type.encode(), text, delimiter))
    pieces.append(b"--")
    return f'multipart/mixed; boundary="{boundary}"', b"".join(pieces)


def write_bulk(boundary: str, parts: Sequence[tuple[bytes, bytes]]) -> tuple[str, bytes]:
    """Return the content type and the text of the parts of ``_bulk_get``. Each part is its header and its text."""
    delimiter = b"\r\n--" + boundary.encode()
    pieces = [b"%b\r\n%b\r\n\r\n%b" % (delimiter, header, text) for header, text in parts]
    if pieces:
        pieces.append(delimiter + b"--\r\n")
    return f'multipart/mixed; boundary="{boundary}"', b"".join(pieces)


def write_ranges(
    boundary: str, attachment: Attachment, ranges: Sequence[tuple[int, int]]
) -> tuple[str, Iterator[bytes]]:
    """Return the content type and the text, in pieces, of several ranges of bytes: their first and last ones."""
    delimiter, kind, size = b"--" + boundary.encode(), attachment.content_type.encode(), attachment.stored_size
    # All of them are read from the present state.
    parts = [attachment.stored_parts(first, last + 1) for first, last in ranges]

    def pieces() -> Iterator[bytes]:
        yield delimiter
        for (first, last), part in zip(ranges, parts, strict=True):
            yield b"\r\nContent-Type: %b\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (kind, first, last, size)
            yield from part
            yield b"\r\n" + delimiter
        yield b"--"

    return f'multipart/byteranges; boundary="{boundary}"', pieces()
