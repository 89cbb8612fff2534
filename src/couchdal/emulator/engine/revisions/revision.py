"""Revisions: parsing and writing their text, and computing the id of a new one.

A revision is ``(position, id)``. As in CouchDB, the id is 16 raw bytes for 32 hex digits, and otherwise the bytes of
the text. Ids compare as these bytes. This module does not know revision trees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import md5
from typing import TypeAlias

from couchdal.emulator.engine.erlang.external_term import binary, integer
from couchdal.emulator.engine.erlang.integers import MOST_DIGITS
from couchdal.errors import BadRequest, DocValidation

Revision: TypeAlias = tuple[int, bytes]

# The form of almost every revision that a client sends.
_match_usual = re.compile("([0-9]{1,9})-([0-9a-fA-F]{32})").fullmatch
# A string, which Python compiles on first use: hardly any revision needs it.
_POSITION = rb"\+?[0-9]+\Z"
_HEX_NUMBER = re.compile(rb"[+-]?[0-9a-fA-F]+\Z")
_UNDEFINED = b"d\x00\x09undefined" * 3
_ATOM = {True: b"d\x00\x04true", False: b"d\x00\x05false"}
_FIRST = {deleted: b"\x83l\x00\x00\x00\x05" + atom + b"a\x00a\x00" for deleted, atom in _ATOM.items()}


def parse_revision(value: object) -> Revision:
    """Return the revision that a JSON value names, as ``couch_doc:parse_rev`` does.

    Leading zeros, a ``+`` and upper-case hex are normalized. Raise ``BadRequest("Invalid rev format")``.
    """
    usual = _match_usual(value) if type(value) is str else None
    if usual is not None:
        position, rev_id = usual.groups()
        return int(position), bytes.fromhex(rev_id)
    text = _as_bytes(value)
    if text is not None:
        number, dash, digits = text.partition(b"-")
        if dash and re.match(_POSITION, number) and len(number) <= MOST_DIGITS:
            parsed = _parse_id(digits)
            if parsed is not None:
                return int(number), parsed
    raise BadRequest("Invalid rev format")


def parse_revision_id(value: object) -> bytes:
    """Return one id of a ``_revisions.ids`` array. Raise ``DocValidation``."""
    text = _as_bytes(value)
    if text is None and not isinstance(value, list):
        raise DocValidation("RevId isn't a string")
    parsed = None if text is None else _parse_id(text)
    if parsed is None:
        raise DocValidation("RevId isn't a valid hexadecimal")
    return parsed


def _as_bytes(value: object) -> bytes | None:
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    # For Erlang, an array of bytes is a string, so CouchDB accepts it.
    if type(value) is list and all(type(item) is int and 0 <= item <= 255 for item in value):
        return bytes(value)
    return None


def _parse_id(text: bytes) -> bytes | None:
    if len(text) != 32:
        return text
    if not _HEX_NUMBER.match(text):
        return None
    return (int(text, 16) % (1 << 128)).to_bytes(16, "big")


def format_revision_id(rev_id: bytes) -> str:
    """Return the text of an id: hex for 16 bytes, otherwise the bytes as UTF-8."""
    return rev_id.hex() if len(rev_id) == 16 else rev_id.decode("utf-8", "replace")


def format_revision(position: int, rev_id: bytes) -> str:
    """Return ``"2-0123..."``."""
    return f"{position}-{rev_id.hex()}" if len(rev_id) == 16 else f"{position}-{format_revision_id(rev_id)}"


def new_revision_id(
    deleted: bool,
    parent: tuple[int, bytes | int] | None,
    term: bytes,
    attachments: Sequence[tuple[str, str, bytes] | None] = (),
) -> bytes:
    """Return the id of the revision that an edit makes, as ``couch_db:new_revid`` does.

    ``parent`` is the revision that the edit names, and ``term`` the body's external term. ``attachments`` are names,
    content types and MD5 digests in the document's order; None if CouchDB sees only that there is one. The same edit of
    the same parent gets the same id on every server.

    >>> from couchdal.emulator.engine.erlang.external_term import encode_term
    >>> new_revision_id(False, None, encode_term({"q": 1})).hex()
    '43c2bbff1656570ec5ebb361b5b89091'
    """
    head = _FIRST[deleted]
    if parent is not None:
        position, rev_id = parent
        head = head[:-4] + integer(position) + (integer(rev_id) if isinstance(rev_id, int) else binary(rev_id))
    tail = b"jj"
    if attachments:
        # CouchDB collects them by prepending, so the last one comes first.
        entries = [b"h\x03" + (_UNDEFINED if one is None else _described(*one)) for one in reversed(attachments)]
        tail = b"l" + len(entries).to_bytes(4, "big") + b"".join(entries) + tail
    return md5(head + term + tail, usedforsecurity=False).digest()


def _described(name: str, content_type: str, digest: bytes) -> bytes:
    return binary(name.encode()) + binary(content_type.encode()) + binary(digest)
