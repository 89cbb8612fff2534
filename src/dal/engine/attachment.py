"""One attachment: what a document says of it, how it is stored, and how it is shown.

It knows nothing of documents, HTTP or storage. Source: ``couch_att`` and the compression settings of ``default.ini``.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import md5
from typing import cast

from dal.errors import BadRequest, MissingStub

_COMPRESSIBLE = ("text/*", "application/javascript", "application/json", "application/xml")
_COMPRESSION_LEVEL = 8


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment as it is stored: ``data`` are the stored bytes, gzipped where ``encoding`` is ``"gzip"``.

    ``length`` counts the original bytes. A stub that a client sent has no data yet; its ``revpos`` is what the client
    claims (None: nothing), and ``merge_stubs`` puts the stored attachment in its place. ``follows`` marks one whose
    data comes in a later part of a multipart body.
    """

    name: str
    content_type: str
    data: bytes | None
    revpos: object
    length: int = 0
    encoding: str = "identity"
    digest: bytes = b""
    stored: bool = False
    follows: bool = False

    @property
    def is_stub(self) -> bool:
        return self.data is None and not self.follows

    def content(self) -> bytes:
        """Return the original bytes."""
        data = self.data or b""
        return zlib.decompress(data, wbits=31) if self.encoding == "gzip" else data


def from_json(name: str, members: Mapping[str, object]) -> Attachment:
    """Return the attachment that one member of ``_attachments`` describes: a stub, a follower, or inline data.

    Raises ``BadRequest("Invalid attachment data for NAME")``.
    """
    content_type = cast(str, members.get("content_type", "application/octet-stream"))
    if members.get("stub") is True:
        return Attachment(name, content_type, None, members.get("revpos"))
    if members.get("follows") is True:
        length = members.get("length")
        encoding = str(members.get("encoding", "identity"))
        size = length if isinstance(length, int) else 0
        return Attachment(name, content_type, None, members.get("revpos", 0), size, encoding, follows=True)
    try:
        data = _decode_base64(members.get("data"))
    except (Base64Error, ValueError, TypeError):
        raise BadRequest(f"Invalid attachment data for {name}") from None
    return Attachment(name, content_type, data, members.get("revpos", 0), len(data))


def _decode_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("attachment data must be text")
    # Erlang's decoder passes over white space and refuses everything else.
    return b64decode("".join(text.split()).encode("ascii"), validate=True)


def stored(attachment: Attachment) -> Attachment:
    """Return the attachment as it lies in the store: compressed where its type says so, and with its digest.

    The digest, and so the revision id, are those of the stored bytes.
    """
    if attachment.stored or attachment.data is None:
        return attachment
    data, encoding = attachment.data, attachment.encoding
    if encoding == "identity" and is_compressible(attachment.content_type):
        packer = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, 31)
        data, encoding = packer.compress(data) + packer.flush(), "gzip"
    digest = md5(data, usedforsecurity=False).digest()
    return replace(attachment, data=data, encoding=encoding, digest=digest, stored=True)


def is_compressible(content_type: str) -> bool:
    """Whether CouchDB's default settings gzip attachments of this type."""
    kind = content_type.partition(";")[0].strip().lower()
    return any(fnmatchcase(kind, pattern) for pattern in _COMPRESSIBLE)


def merge_stubs(
    doc_id: str, attachments: Iterable[Attachment], known: Iterable[Attachment]
) -> tuple[Attachment, ...]:
    """Put stored attachments in the place of stubs; raises ``MissingStub`` for one that is not known, or otherwise."""
    by_name = {attachment.name: attachment for attachment in known}
    merged = []
    for attachment in attachments:
        if attachment.is_stub:
            found = by_name.get(attachment.name)
            if found is None or attachment.revpos not in (None, found.revpos):
                raise MissingStub(f"Invalid attachment stub in {doc_id} for {attachment.name}")
            attachment = found
        merged.append(attachment)
    return tuple(merged)


def to_json(
    attachment: Attachment, *, data: bool = False, follows: bool = False, encoding_info: bool = False
) -> dict[str, object]:
    """Return a member of ``_attachments``: a stub, or with its data, or announcing that its data follows."""
    shown: dict[str, object] = {"content_type": attachment.content_type, "revpos": attachment.revpos}
    if attachment.digest:
        shown["digest"] = "md5-" + b64encode(attachment.digest).decode()
    if not data or attachment.is_stub:
        shown |= {"length": attachment.length, "stub": True}
    elif follows:
        shown |= {"length": attachment.length, "follows": True}
    else:
        shown["data"] = b64encode(attachment.content()).decode()
    if encoding_info and attachment.encoding != "identity":
        shown |= {"encoding": attachment.encoding, "encoded_length": len(attachment.data or b"")}
    return shown
