"""The storage contract: what a place that keeps the documents of one database can do.

Records and bodies that a storage hands out are shared and must never be changed; who shows a body to anyone copies
it first. The caller holds the server's lock, and checks everything before it writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar


class Record(Protocol):
    """What a storage has to know of a document to keep it: its id, its last update sequence, whether it is deleted."""

    @property
    def doc_id(self) -> str: ...

    @property
    def seq(self) -> int: ...

    @property
    def deleted(self) -> bool: ...


R = TypeVar("R", bound=Record)


class LocalDocument(NamedTuple):
    """A local document: the text of its revision id, ``0-N``'s N, and its body. Its number is always 0."""

    revision: str
    body: Mapping[str, object]


class Storage(ABC, Generic[R]):
    """Keeps the documents of one database, by id and by update sequence, and its local documents."""

    @abstractmethod
    def get(self, doc_id: str) -> R | None:
        """Return a document, deleted or not."""

    @abstractmethod
    def write(self, old: R | None, new: R | None) -> None:
        """Put ``new`` in the place of ``old``; without ``new``, forget the document. ``new.seq`` is the highest yet."""

    @abstractmethod
    def replace(self, record: R) -> None:
        """Put a record in the place of the one with the same id and the same update sequence."""

    @abstractmethod
    def live(
        self, start: str | None = None, end: str | None = None, inclusive_end: bool = True, descending: bool = False
    ) -> Iterator[R]:
        """Yield the documents that are not deleted by the raw bytes of their ids, from ``start`` to ``end``."""

    @abstractmethod
    def live_before(self, doc_id: str, inclusive: bool = False) -> int:
        """Return how many ids of live documents sort before ``doc_id`` (or are it, when ``inclusive``)."""

    @abstractmethod
    def changes(self, since: int = 0, until: int | None = None, descending: bool = False) -> Iterator[R]:
        """Yield the documents last changed after ``since`` and not after ``until``, by their update sequence."""

    @abstractmethod
    def changes_after(self, seq: int) -> int:
        """Return how many documents were last changed after ``seq``."""

    @abstractmethod
    def get_local(self, doc_id: str) -> LocalDocument | None:
        """Return a local document; its id begins with ``_local/``."""

    @abstractmethod
    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        """Put or, with None, forget a local document."""

    @abstractmethod
    def locals(self) -> list[tuple[str, LocalDocument]]:
        """Return the local documents by the raw bytes of their ids."""
