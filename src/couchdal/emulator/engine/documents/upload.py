"""An attachment that is stored while it arrives, so that it is never in memory as a whole."""

from __future__ import annotations

from dataclasses import replace
from hashlib import md5

from couchdal.emulator.engine.documents.attachment import Attachment, packer_of
from couchdal.emulator.engine.documents.document import check_sizes
from couchdal.emulator.engine.documents.stored_record import StoredData, attachment_in_file
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.keeper import Keeper
from couchdal.errors import ServerError

# How many bytes are stored in one step.
_STEP = 1 << 20


class Upload:
    """Takes the bytes of one attachment of a document, and stores what CouchDB stores of them.

    ``sent`` describes the attachment. Its ``length`` is the one that the client announced, or 0. Raise ``TooLarge``
    for more than ``most`` bytes.
    """

    def __init__(self, database: Database, keeper: Keeper, doc_id: str, sent: Attachment, most: float) -> None:
        check_sizes([sent], most, writes=True)
        self._database = database
        self._keeper = keeper
        self._sent = sent
        self._most = most
        self._length = self._size = 0
        self._packer = packer_of(sent)
        self._digest = md5(usedforsecurity=False)
        self._waiting = bytearray()
        self._arrival = keeper.receive(database.name, doc_id)

    def add(self, data: bytes) -> None:
        """Store the next bytes. Raise ``TooLarge``."""
        self._length += len(data)
        check_sizes([replace(self._sent, length=self._length)], self._most, writes=True)
        self._store(data if self._packer is None else self._packer.compress(data))

    def finish(self, database: Database) -> Attachment:
        """Return the whole attachment, for a write to the database.

        Raise ``ServerError`` if the database was replaced meanwhile, or its later writes stay in memory.
        """
        if database is not self._database or database.deleted or database.journal.keeper is not self._keeper:
            raise ServerError("the database was replaced while the attachment arrived", error="conflict")
        encoding = self._sent.encoding
        if self._packer is not None:
            self._store(self._packer.flush())
            encoding = "gzip"
        if self._waiting or not self._size:
            self._add(len(self._waiting))
        sent = replace(self._sent, length=self._length)
        digest = self._digest.digest()
        described = replace(sent, encoding=encoding, digest=digest, packed=self._packer is not None)
        return _Received(described, sent, self._arrival.data(self._size))

    def end(self) -> None:
        """Remove what was stored, unless a document has it."""
        self._arrival.end()

    def _store(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= _STEP:
            self._add(_STEP)

    def _add(self, size: int) -> None:
        part = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._digest.update(part)
        self._arrival.add(part)
        self._size += size


class _Received(Attachment):
    """An attachment that was stored, for a document that is still to be written. Until then, CouchDB shows less."""

    __slots__ = ("_data", "_described")

    _data: StoredData
    _described: Attachment

    def __init__(self, described: Attachment, sent: Attachment, data: StoredData) -> None:
        super().__init__(
            sent.name, sent.content_type, None, sent.revpos, sent.length, sent.encoding, measured=sent.measured
        )
        object.__setattr__(self, "_described", described)
        object.__setattr__(self, "_data", data)

    @property
    def is_stub(self) -> bool:
        return False

    def at(self, revpos: int) -> Attachment:
        return attachment_in_file(replace(self._described, revpos=revpos), self._data)
