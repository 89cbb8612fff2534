"""One attachment: parsing it from JSON, compressing it, and writing it as JSON.

This module does not know documents, HTTP or storage. Source: ``couch_att`` and the compression settings of
``default.ini``.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from typing import Final, NamedTuple, cast

from couchdal.emulator.engine.erlang.base64_text import decode_base64
from couchdal.errors import BadRequest, CouchError, MissingStub, ServerError, TooLarge
from couchdal.http.messages import ABSENT, INFLATED_BODY
from couchdal.pace import begin_long

_COMPRESSIBLE = ("application/javascript", "application/json", "application/xml")  # and text of every kind
_COMPRESSION_LEVEL = 8
# Makes zlib write and read the header of gzip.
_GZIP = zlib.MAX_WBITS | 16
_PIECE = 16384
_PART = 1048576
# A multiple of three, so that the texts of the pieces are the text of the whole.
_ENCODED_PIECE = 196608
_INFLATED_PIECE = 262144
# The revpos of a stub that names none.
UNCLAIMED: Final = object()
DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment. ``data`` are the stored bytes, gzipped if ``encoding`` is ``"gzip"``.

    ``length`` counts the original bytes. If a client sent gzipped bytes and did not name their length, it counts those.
    A stub from a client has no data. Its ``revpos`` is the client's claim, or ``UNCLAIMED``; ``merge_stubs`` replaces
    it by the stored attachment. With ``follows``, the data comes in later parts of a multipart body: ``size`` bytes by
    the client's claim.
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
    size: object = None
    # Whether the server compressed it, so that its length is known.
    packed: bool = False
    # False for an attachment that was sent alone. CouchDB measures it when it stores it, after the validation.
    measured: bool = True
    #: Why the data that follows cannot be read. CouchDB reads it when it stores it, after the check for conflicts.
    failure: CouchError | None = None

    @property
    def stored_size(self) -> int:
        """The number of stored bytes. This reads nothing from a file."""
        return len(self.data or b"")

    @property
    def stored_id(self) -> int:
        """A number that identifies the stored data. Attachments that share the data have the same number."""
        return id(self.data)

    @property
    def address(self) -> str | None:
        """Where a file has the data; None if it is in memory."""
        return None

    @property
    def is_stub(self) -> bool:
        return self.data is None and not self.follows

    def at(self, revpos: int) -> Attachment:
        """Return the attachment as it is stored by a new revision with this position."""
        return stored(replace(self, revpos=revpos))

    def stored_parts(self, first: int, end: int) -> Iterator[bytes]:
        """Yield some stored bytes in parts: at least one."""
        data = (self.data or b"")[first:end]
        return (data[start : start + _PART] for start in range(0, len(data) or 1, _PART))

    def content(self) -> bytes:
        """Return the original bytes.

        Raise ``ServerError`` if a client sent data as gzip that is not, and ``TooLarge`` if it has more than
        ``INFLATED_BODY`` bytes.
        """
        pieces, size = [], 0
        for piece in self.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > INFLATED_BODY and not self.packed:
                raise TooLarge(f"the attachment {self.name} is too large to be inflated")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self) -> Iterator[bytes]:
        """Yield the original bytes, inflated piece by piece. Raise ``ServerError`` if they are not gzip."""
        if self.encoding != "gzip":
            yield from (self.data or b"",) if self.address is None else self.stored_parts(0, self.stored_size)
            return
        member = zlib.decompressobj(_GZIP)
        try:
            for part in self.stored_parts(0, self.stored_size):
                for start in range(0, len(part), _PIECE):
                    rest = part[start : start + _PIECE]
                    while rest and not member.eof:
                        yield member.decompress(rest, _INFLATED_PIECE)
                        rest = member.unconsumed_tail
            yield member.flush()
        except zlib.error:
            raise ServerError("data_error") from None
        if not member.eof:
            raise ServerError("data_error")


class Parts(NamedTuple):
    """The data of the attachments in a multipart body, and whether the body has an end."""

    data: Sequence[bytes]
    are_ended: bool


def check_names(attachments: Iterable[Attachment]) -> None:
    """Raise ``BadRequest`` for an attachment whose name starts with an underscore."""
    for attachment in attachments:
        check_name(attachment.name)


def check_name(name: str) -> None:
    """Raise ``BadRequest`` for a name that starts with an underscore."""
    if name.startswith("_"):
        raise BadRequest(f"Attachment name '{name}' starts with prohibited character '_'")


def from_json(name: str, members: Mapping[str, object]) -> Attachment:
    """Return the attachment that one member of ``_attachments`` describes: a stub, a follower, or inline data.

    Raise ``BadRequest("Invalid attachment data for NAME")``, or ``ServerError`` for an unknown encoding.
    """
    content_type = cast(str, members.get("content_type", DEFAULT_CONTENT_TYPE))
    if members.get("stub") is True:
        _declared_encoding(members)
        _declared_digest(members)
        return Attachment(name, content_type, None, members.get("revpos", UNCLAIMED))
    if members.get("follows") is True:
        return _follower(name, content_type, members)
    try:
        data = decode_base64(cast(str, members.get("data")))
    except (AttributeError, ValueError):
        raise BadRequest(f"Invalid attachment data for {name}") from None
    return Attachment(name, content_type, data, members.get("revpos", 0), len(data))


def _follower(name: str, content_type: str, members: Mapping[str, object]) -> Attachment:
    length = members.get("length", ABSENT)
    encoding = _declared_encoding(members)
    size = members.get("encoded_length", length) if "encoding" in members else length
    return Attachment(
        name,
        content_type,
        None,
        members.get("revpos", 0),
        length if type(length) is int else 0,
        encoding,
        _declared_digest(members),
        follows=True,
        size=size,
    )


def _declared_encoding(members: Mapping[str, object]) -> str:
    encoding = members.get("encoding", "identity")
    # Erlang knows the empty word. It says nothing.
    if encoding not in ("identity", "gzip", ""):
        raise ServerError("badarg")
    return str(encoding)


def _declared_digest(members: Mapping[str, object]) -> bytes:
    digest = members.get("digest")
    if type(digest) is not str or not digest.startswith("md5-"):
        return b""
    try:
        return decode_base64(digest[4:])
    except ValueError:
        raise ServerError("function_clause") from None


def fill_followers(attachments: Iterable[Attachment], parts: Parts) -> tuple[Attachment, ...]:
    """Fill attachments that follow a document with the data of the parts, in order.

    Each attachment takes whole parts until its size is reached. Names and headers of the parts are ignored, and
    parts may be left over. If the parts do not fit an attachment, ``failure`` is its error: ``BadRequest`` for another
    length, ``ServerError`` for a wrong digest or a missing size.
    """
    rest = iter(parts.data)
    return tuple(_filled(one, rest, parts) if one.follows else one for one in attachments)


def _filled(attachment: Attachment, rest: Iterator[bytes], parts: Parts) -> Attachment:
    try:
        return _read(attachment, rest, parts)
    except CouchError as error:
        return replace(attachment, failure=error)


def _read(attachment: Attachment, rest: Iterator[bytes], parts: Parts) -> Attachment:
    size = attachment.size
    if size is ABSENT:
        raise ServerError("function_clause")
    data = b""
    while not isinstance(size, (int, float)) or len(data) < size:
        part = next(rest, None)
        if part is None:
            raise BadRequest("attachment shorter than expected") if parts.are_ended else ServerError("function_clause")
        data += part
        if data and not isinstance(size, (int, float)):
            raise ServerError("function_clause")
    if len(data) > size:
        raise BadRequest("attachment longer than expected")
    if attachment.digest and attachment.digest != md5(data, usedforsecurity=False).digest():
        raise ServerError("function_clause")
    return replace(attachment, data=data, follows=False, digest=b"")


def stored(attachment: Attachment) -> Attachment:
    """Return the attachment as it is stored: with its digest, and compressed if its type is compressible.

    The digest, and so the revision id, depend on the stored bytes. Raise ``ServerError`` if the content type is not a
    string, or if data is missing. Raise the failure of an attachment that could not be read.
    """
    if attachment.stored or attachment.is_stub:
        return attachment
    data, encoding = attachment.data, attachment.encoding
    if attachment.failure is not None:
        raise attachment.failure
    if data is None or type(attachment.content_type) is not str:
        raise ServerError("function_clause")
    packer = packer_of(attachment)
    packed = packer is not None
    if packer is not None:
        data, encoding = packer.compress(data) + packer.flush(), "gzip"
    digest = md5(data, usedforsecurity=False).digest()
    return replace(attachment, data=data, encoding=encoding, digest=digest, stored=True, packed=packed, measured=True)


def packer_of(attachment: Attachment) -> zlib._Compress | None:
    """Return what compresses an attachment, if it is stored so."""
    if attachment.encoding == "identity" and is_compressible(attachment.content_type):
        return zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _GZIP)
    return None


def is_compressible(content_type: str) -> bool:
    """Return whether CouchDB's default settings gzip attachments of this type."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _COMPRESSIBLE or kind.startswith("text/")


def merge_stubs(doc_id: str, attachments: Iterable[Attachment], known: Iterable[Attachment]) -> tuple[Attachment, ...]:
    """Replace stubs by stored attachments. Raise ``MissingStub`` if one is unknown or has another revpos."""
    by_name = {attachment.name: attachment for attachment in known}
    merged = []
    for attachment in attachments:
        if attachment.is_stub:
            found = by_name.get(attachment.name)
            if found is None or not _fits(attachment.revpos, found.revpos):
                raise MissingStub(f"Invalid attachment stub in {doc_id} for {attachment.name}")
            attachment = found
        merged.append(attachment)
    return tuple(merged)


def _fits(claimed: object, revpos: object) -> bool:
    return claimed is UNCLAIMED or (claimed == revpos and type(claimed) is not bool)


def _encoded(data: bytes) -> str:
    """Return data in base64. A large attachment is encoded in pieces, so that other requests run in between."""
    if len(data) <= _ENCODED_PIECE:
        return b64encode(data).decode()
    begin_long()
    parts = (data[start : start + _ENCODED_PIECE] for start in range(0, len(data), _ENCODED_PIECE))
    return "".join(b64encode(part).decode() for part in parts)


def to_json(
    attachment: Attachment, *, data: bool = False, follows: bool = False, encoding_info: bool = False
) -> dict[str, object]:
    """Return a member of ``_attachments``: a stub, or with ``data`` inline, or with data that ``follows``."""
    shown: dict[str, object] = {"content_type": attachment.content_type, "revpos": attachment.revpos}
    if attachment.digest:
        shown["digest"] = "md5-" + b64encode(attachment.digest).decode()
    if not data or attachment.is_stub:
        shown |= {"length": attachment.length if attachment.measured else "undefined", "stub": True}
    elif follows:
        shown |= {"length": attachment.length, "follows": True}
    else:
        shown["data"] = _encoded(attachment.content())
    if encoding_info and attachment.encoding != "identity":
        shown |= {"encoding": attachment.encoding, "encoded_length": attachment.stored_size}
    return shown
