"""The forms in which a data file stores values: JSON text, ids and checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeAlias
from zlib import crc32

#: What SQLite stores, and what it returns.
Row: TypeAlias = "tuple[Any, ...]"
Values: TypeAlias = Sequence[object]

#: The counts, sequences and sizes of a database: columns of ``databases`` that have one checksum.
NUMBERS = "update_seq, doc_count, doc_del_count, design_version, purge_seq, external, trees, old"

_SEALED = re.compile("(.*) #([0-9a-f]{8})")
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class Source(Protocol):
    """A data file, or one state of it."""

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Return the rows of a query."""

    def damaged(self, what: str) -> Exception:
        """Return the error for data that its checksum does not fit."""

    def point(self) -> Source:
        """Return the present state, which stays as it is."""


class StoredRow(NamedTuple):
    """A document as a file stores it. The storage does not parse ``head`` and ``body``."""

    doc_id: bytes
    seq: int
    head: bytes
    body: bytes


def encode(value: object) -> bytes:
    """Return a JSON value as ASCII text, exactly: with lone surrogates, long integers and the order of members."""
    return _ENCODER.encode(value).encode("ascii")


def decode(data: bytes) -> Any:
    """Return the value of a text that ``encode`` returned."""
    return json.loads(data)


def checksum(*data: bytes) -> int:
    """Return the checksum of a row's data."""
    found = 0
    for part in data:
        found = crc32(part, found)
    return found


def sealed(value: object) -> str:
    """Return a JSON value as text with a checksum."""
    text = encode(value)
    return f"{text.decode()} #{checksum(text):08x}"


def unsealed(source: Source, text: str) -> Any:
    """Return the value of a text that ``sealed`` returned. Raise ``ServerError`` if the text was changed since.

    Early files have JSON without a checksum. A single changed character cannot remove a checksum.
    """
    found = _SEALED.fullmatch(text)
    with suppress(ValueError):
        if found is None or f"{checksum(found[1].encode()):08x}" == found[2]:
            return json.loads(text if found is None else found[1])
    raise source.damaged(f"the checksum of {text:.40} is wrong")


def as_bytes(doc_id: str) -> bytes:
    """Return an id as a file stores it. A path can name ids that UTF-8 cannot express."""
    return doc_id.encode("utf-8", "surrogatepass")


def as_text(doc_id: bytes) -> str:
    """Return the id of bytes that ``as_bytes`` returned. Damaged bytes become an id that does not fit the checksum."""
    try:
        return doc_id.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return doc_id.decode("utf-8", "backslashreplace")


def fits(summed: object, *data: object) -> bool:
    """Return whether data fits its checksum. A damaged value may have any type."""
    with suppress(TypeError):
        return checksum(*data) == summed  # type: ignore[arg-type]
    return False


def check(source: Source, summed: int, doc_id: bytes, *data: bytes) -> None:
    """Raise ``ServerError`` if data of a document does not fit its checksum."""
    if not fits(summed, doc_id, *data):
        raise source.damaged(wrong_checksum(doc_id))


def checksum_of_numbers(db: int, numbers: Sequence[object]) -> int:
    """Return the checksum of the numbers of a database."""
    return checksum(encode([db, *numbers]))


def checked_numbers(source: Source, db: int, summed: int | None, *numbers: Any) -> tuple[Any, ...]:
    """Return the numbers of a database. Raise ``ServerError`` if they do not fit their checksum, if they have one."""
    with suppress(TypeError):
        if summed is None or checksum_of_numbers(db, numbers) == summed:
            return numbers
    raise source.damaged(f"the checksum of the counts of database {db} is wrong")


def wrong_checksum(doc_id: object) -> str:
    """Return what is wrong with a document."""
    shown = as_text(doc_id) if isinstance(doc_id, bytes) else str(doc_id)
    return f"the checksum of document {shown!r} is wrong"
