"""The parts of a multipart answer, which a replication writes to the target as they came."""

from __future__ import annotations

from collections.abc import Iterator

from couchdal.emulator.engine.replication.failures import failed
from couchdal.http.json_text import JSON, decode_json


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


def json_of(text: bytes) -> dict[str, JSON]:
    """Return a document from its text."""
    value = decode_json(text)
    assert isinstance(value, dict)
    return value
