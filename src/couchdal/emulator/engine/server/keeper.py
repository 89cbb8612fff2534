"""The contract between a server and a keeper, which stores the server's data on a disk.

A keeper writes each commit in one transaction before the server applies it in memory. It does not decide anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.storage.base import LocalDocument, Storage
from couchdal.errors import ServerError
from couchdal.pace import give_way

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.stored_record import StoredData

#: The old and the new state of a document. One of them is not None.
Write: TypeAlias = "tuple[DocumentRecord | None, DocumentRecord | None]"


class DocumentWrites(NamedTuple):
    """The changes of one write to a database. ``purges`` is the new list of purges, or None if it does not change."""

    documents: Sequence[Write]
    locals: Sequence[tuple[str, LocalDocument | None]] = ()
    purges: Sequence[PurgeInfo] | None = None


class Numbers(NamedTuple):
    """The counts and sequences of a database, which change with most writes."""

    update_seq: int
    doc_count: int
    doc_del_count: int
    design_version: int
    purge_seq: int


class Arrival(ABC):
    """Stores the data of an attachment in parts. Until a document has it, a new start of the server removes it."""

    @abstractmethod
    def add(self, part: bytes) -> None:
        """Store the next part. All but the last one have the same length."""

    @abstractmethod
    def data(self, size: int) -> StoredData:
        """Return the data, which has so many bytes."""

    @abstractmethod
    def end(self) -> None:
        """Remove the parts, unless a document has them."""


class Keeper(ABC):
    """Keeps the data of one server. The methods that write are called within a transaction."""

    #: How many transactions the server has applied.
    applied: int

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Store all changes of a ``with`` block, or none. Raise ``ServerError`` if they cannot be stored."""

    @abstractmethod
    def holds_next(self) -> bool:
        """Return whether the keeper holds one transaction that the server has not applied yet."""

    @abstractmethod
    def catch_up(self) -> None:
        """Note that the server has applied all stored transactions."""

    @abstractmethod
    def remove_leftovers(self) -> bool:
        """Remove something that was deleted and still takes space. Return whether there may be more."""

    def tidy(self) -> None:
        """Remove what was deleted, in short steps. What fails is left to the next time."""
        with suppress(ServerError):
            while self.remove_leftovers():
                give_way()

    @abstractmethod
    def shrink(self) -> bool:
        """Give some unused space back to the file system. Return whether more may be left."""

    @abstractmethod
    def write(self, name: str, writes: DocumentWrites) -> None:
        """Keep documents, local documents and purges of a database. Afterwards ``set_numbers`` is called."""

    @abstractmethod
    def receive(self, name: str, doc_id: str) -> Arrival:
        """Return what stores an attachment of a document while it arrives. This needs no transaction."""

    @abstractmethod
    def set_numbers(self, name: str, numbers: Numbers) -> None:
        """Keep the counts and sequences of a database."""

    @abstractmethod
    def set_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """Keep the settings of a database."""

    @abstractmethod
    def new_storage(self) -> Storage[DocumentRecord]:
        """Return the storage of a new database. Nothing is written yet."""

    @abstractmethod
    def create(self, name: str, settings: Mapping[str, object], storage: Storage[DocumentRecord]) -> None:
        """Store a new database, whose storage ``new_storage`` returned. It replaces one of the same name."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a database."""

    @abstractmethod
    def set_value(self, name: str, value: object) -> None:
        """Keep a value of the server, which JSON can express."""
