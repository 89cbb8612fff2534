"""The storage contract: the methods with which the engine keeps the documents of one database.

A storage returns its own records and bodies, so nobody may change them. Code that answers a client copies the body
first. The caller holds the server's lock or has pinned the storage, and checks everything before it writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from couchdal.emulator.storage.block_cache import BlockCache
from couchdal.errors import ServerError


class Record(Protocol):
    """The parts of a document that a storage reads: its id, its last update sequence, and whether it is deleted."""

    @property
    def doc_id(self) -> str: ...

    @property
    def seq(self) -> int: ...

    @property
    def deleted(self) -> bool: ...


R = TypeVar("R", bound=Record)


class LocalDocument(NamedTuple):
    """A local document. Its revision is ``0-N``; ``revision`` is the text of N."""

    revision: str
    body: Mapping[str, object]


class DamagedIndex(ServerError):
    """A part of an index on a disk is damaged, or gone. The index is built anew, and the request begins again."""

    error = "file_corruption"


class Shelf(ABC):
    """The place of one index on a disk: numbered blocks that never change, and a state that says which of them count.

    All of it is JSON. A number is used once. Blocks are put there before a state names them, so whatever interrupts
    that leaves the state before.
    """

    #: The last state that was read or saved; None before the first.
    state: Any
    #: Whether a block or the state cannot be read. Then the index is built anew.
    is_damaged: bool
    #: Whether somebody else saved a state. Then the index goes on from there.
    is_stale: bool
    #: The number of the next block.
    next: int
    #: The blocks that were read last. All indexes in one file share it.
    cache: BlockCache

    @abstractmethod
    def get(self, number: int) -> tuple[Any, int]:
        """Return a block and its size. Raise ``DamagedIndex`` if it is damaged or gone."""

    @abstractmethod
    def put(self, blocks: Sequence[object]) -> None:
        """Write the next blocks, and no state."""

    @abstractmethod
    def save(self, state: object, gone: Sequence[int]) -> bool:
        """Replace the state, and remove blocks. Do nothing and return False if somebody else replaced it before."""

    @abstractmethod
    def damaged(self, what: str) -> DamagedIndex:
        """Return the error for a block that does not hold what it should, and note that the index is damaged."""


class Storage(ABC, Generic[R]):
    """The documents of one database, by id and by update sequence, and its local documents."""

    __slots__ = ("pins",)

    #: Whether indexes are kept on a disk together with the documents.
    keeps_indexes: bool = False

    #: How many readers work on this storage without the server's lock. Until they end, it is not written to.
    pins: int

    def pin(self) -> Storage[R]:
        """Return this state for a reader that works without the server's lock. The reader calls its ``unpin``."""
        self.pins += 1
        return self

    def unpin(self) -> None:
        """Release what ``pin`` returned. The caller holds the server's lock."""
        self.pins -= 1

    def forget_pins(self) -> None:
        """Forget all readers, because their threads do not exist in this process."""
        self.pins = 0

    def steady(self) -> Storage[R]:
        """Return this state for an overlay. It is not written to any more, or it is a separate storage."""
        return self

    def resumed(self) -> Storage[R] | None:
        """Return the storage whose state is on the disk, to write to it again; None if it is in memory."""
        return None

    @abstractmethod
    def get(self, doc_id: str) -> R | None:
        """Return a document, deleted or not; None if it never existed."""

    def on_disk(self) -> tuple[Storage[R], set[str]] | None:
        """Return the storage on disk that this one builds on, and the ids that may differ; None if all is in memory."""
        return None

    def shelf(self, name: str) -> Shelf | None:
        """Return the place of an index on the disk, as this state has it; None if all is in memory."""
        return None

    def remove_shelves(self, kept: Collection[str]) -> None:
        """Remove all indexes from the disk but those with the names. Their space is free later."""

    def remove_shelf(self, name: str) -> None:
        """Remove one index from the disk. Its space is free later."""

    def kept_sizes(self) -> tuple[int, int, int] | None:
        """Return the sizes of all documents, if the storage is on a disk and keeps them."""
        return None

    def getter(self, doc_ids: Iterable[str]) -> Callable[[str], R | None]:
        """Return a function that returns these documents as ``get`` does, but reads them in batches."""
        return self.get

    @abstractmethod
    def write(self, old: R | None, new: R | None) -> None:
        """Replace ``old`` by ``new``, or remove it if ``new`` is None. ``new.seq`` must be the highest so far."""

    @abstractmethod
    def replace(self, record: R) -> None:
        """Replace the record that has the same id and the same update sequence."""

    @abstractmethod
    def recover(self, writes: Sequence[tuple[R | None, R | None]]) -> None:
        """Finish a series of calls of ``write`` or ``replace`` that an exception ended at any point.

        ``writes`` are the arguments of all calls of ``write``, each id once. This method can itself be repeated.
        """

    @abstractmethod
    def check(self) -> list[str]:
        """Return the contradictions between the parts of the storage. There are none unless it is broken."""

    @abstractmethod
    def live(
        self, start: str | None = None, end: str | None = None, inclusive_end: bool = True, descending: bool = False
    ) -> Iterator[R]:
        """Yield the live documents from ``start`` to ``end``, by the raw bytes of their ids."""

    @abstractmethod
    def live_before(self, doc_id: str, inclusive: bool = False) -> int:
        """Return how many live documents have ids before ``doc_id``. With ``inclusive``, count its own document too."""

    @abstractmethod
    def changes(self, since: int = 0, until: int | None = None, descending: bool = False) -> Iterator[R]:
        """Yield the documents that last changed after ``since``, up to ``until``, by update sequence."""

    @abstractmethod
    def changes_after(self, seq: int) -> int:
        """Return how many documents last changed after ``seq``."""

    @abstractmethod
    def get_local(self, doc_id: str) -> LocalDocument | None:
        """Return a local document. Its id begins with ``_local/``."""

    @abstractmethod
    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        """Store a local document, or remove it if ``document`` is None."""

    @abstractmethod
    def locals(self) -> list[tuple[str, LocalDocument]]:
        """Return the local documents by the raw bytes of their ids."""
