"""The forms in which a data file stores values: JSON text, ids and checksums."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias
from zlib import crc32

#: What SQLite stores, and what it returns.
Row: TypeAlias = "tuple[Any, ...]"
Values: TypeAlias = Sequence[object]

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class Source(Protocol):
    """A data file, or one state of it."""

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Return the rows of a query."""

    def damaged(self, what: str) -> Exception:
        """Return the error for data that its checksum does not fit."""


class StoredRow(NamedTuple):
    """A document as a file has it. The storage does not look into ``head`` and ``body``."""

    doc_id: bytes
    seq: int
    head: bytes
    body: bytes


def encode(value: object) -> bytes:
    """Return a JSON value as ASCII text, exactly: also lone surrogates, long integers and the order of members."""
    return _ENCODER.encode(value).encode("ascii")


def decode(data: bytes) -> Any:
    """Return the value that ``encode`` got."""
    return json.loads(data)


def checksum(*data: bytes) -> int:
    """Return the checksum of a row's data."""
    found = 0
    for part in data:
        found = crc32(part, found)
    return found


def as_bytes(doc_id: str) -> bytes:
    """Return an id as a file has it. A path can name ids that UTF-8 cannot express."""
    return doc_id.encode("utf-8", "surrogatepass")


def as_text(doc_id: bytes) -> str:
    """Return the id that ``as_bytes`` got."""
    return doc_id.decode("utf-8", "surrogatepass")


def check(source: Source, summed: int, doc_id: bytes, *data: bytes) -> None:
    """Raise ``ServerError`` if data of a document does not fit its checksum."""
    if checksum(doc_id, *data) != summed:
        raise source.damaged(f"the checksum of document {as_text(doc_id)!r} is wrong")
