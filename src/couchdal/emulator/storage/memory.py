"""Storage of one database in the memory of this process.

Documents are in a dictionary, live ids in a sorted list of chunks, and update sequences in an array that grows at its
end. So reading or writing one document costs the same in a small database and in a large one.

Readers sort lists for the next reader. They do so under a lock of their own, because readers of a pinned storage do not
hold the server's.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from threading import RLock
from typing import TYPE_CHECKING, Generic

from couchdal.emulator.storage.base import LocalDocument, R, Storage

if TYPE_CHECKING:
    from sortedcontainers import SortedList


class Sorting:
    """The lock of all sorted lists, and of their positions, which ``sortedcontainers`` computes on demand."""

    def __init__(self) -> None:
        self.lock: RLock = RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        """Replace the lock: the thread that held it may not exist in the forked process."""
        self.lock = RLock()


sorting: Sorting = Sorting()


class MemoryStorage(Storage[R]):
    """See ``Storage``. Records are immutable, so it can return them without a copy."""

    __slots__ = ("_ids_torn", "_live_ids", "_locals", "_log", "_ordered", "_unsorted", "records")

    def __init__(self) -> None:
        self.pins = 0
        #: The documents by id, deleted or not. An overlay reads them without a call.
        self.records: dict[str, R] = {}
        self._live_ids: SortedList[str] | None = None
        # True while the live ids change. If that is interrupted, they are collected again.
        self._ids_torn = False
        # Ids that are new since the last ordered read. Sorting them at once makes bulk loading fast.
        self._unsorted: list[str] = []
        # All live documents by id, until the next write.
        self._ordered: list[R] | None = None
        self._log: _SequenceLog[R] = _SequenceLog()
        self._locals: dict[str, LocalDocument] = {}

    def get(self, doc_id: str) -> R | None:
        return self.records.get(doc_id)

    def write(self, old: R | None, new: R | None) -> None:
        self._ordered = None
        if new is not None:
            self.records[new.doc_id] = new
            self._log.append(new)
            if old is None or old.deleted:
                if not new.deleted:
                    self._unsorted.append(new.doc_id)
            elif new.deleted:
                self._discard_live(new.doc_id)
        elif old is not None:
            del self.records[old.doc_id]
            if not old.deleted:
                self._discard_live(old.doc_id)
        if old is not None:
            self._log.discard(old.seq)

    def replace(self, record: R) -> None:
        self._ordered = None
        self.records[record.doc_id] = record
        self._log.replace(record)

    def _discard_live(self, doc_id: str) -> None:
        self._sorted().remove(doc_id)

    def _sorted(self) -> SortedList[str]:
        ids = self._live_ids
        if ids is not None and not self._unsorted and not self._ids_torn:
            return ids
        with sorting.lock:
            return self._sort()

    def _sort(self) -> SortedList[str]:
        from sortedcontainers import SortedList

        ids = self._live_ids
        if self._ids_torn:
            ids, self._unsorted = None, self._live()
        self._ids_torn = True
        if ids is None:
            ids = self._live_ids = SortedList(self._unsorted)
        else:
            ids.update(self._unsorted)
        self._unsorted = []
        self._ids_torn = False
        return ids

    def _live(self) -> list[str]:
        return [doc_id for doc_id, record in self.records.items() if not record.deleted]

    def recover(self, writes: Sequence[tuple[R | None, R | None]]) -> None:
        self._ordered = None
        for old, new in writes:
            if new is not None:
                self.records[new.doc_id] = new
            elif old is not None:
                self.records.pop(old.doc_id, None)
        # All else follows from the records.
        log = _SequenceLog[R]()
        for record in sorted(self.records.values(), key=attrgetter("seq")):
            log.append(record)
        self._log = log
        self._live_ids, self._unsorted = None, self._live()
        self._ids_torn = False

    def check(self) -> list[str]:
        by_seq = sorted(self.records.values(), key=attrgetter("seq"))
        wrong = self._log.check()
        if list(self._log.read(0, None, False)) != by_seq:
            wrong.append("the log of update sequences differs from the documents")
        if not self._ids_torn and sorted([*(self._live_ids or ()), *self._unsorted]) != sorted(self._live()):
            wrong.append("the list of live ids differs from the documents")
        if self._ordered is not None and self._ordered != [self.records[doc_id] for doc_id in sorted(self._live())]:
            wrong.append("the ordered list of live documents differs from the documents")
        return wrong

    def live(
        self, start: str | None = None, end: str | None = None, inclusive_end: bool = True, descending: bool = False
    ) -> Iterator[R]:
        if start is None and end is None:
            ordered = self._ordered
            if ordered is None:
                ordered = self._order()
            return reversed(ordered) if descending else iter(ordered)
        low, high = (end, start) if descending else (start, end)
        bounds = (inclusive_end, True) if descending else (True, inclusive_end)
        return map(self.records.__getitem__, self._sorted().irange(low, high, bounds, reverse=descending))

    def _order(self) -> list[R]:
        with sorting.lock:
            if self._live_ids is None and not self._ids_torn:
                # A list is enough until a request needs a range.
                self._unsorted.sort()
                ids: Iterable[str] = self._unsorted
            else:
                ids = self._sorted()
            ordered = self._ordered = list(map(self.records.__getitem__, ids))
        return ordered

    def live_before(self, doc_id: str, inclusive: bool = False) -> int:
        with sorting.lock:
            ids = self._sorted()
            return ids.bisect_right(doc_id) if inclusive else ids.bisect_left(doc_id)

    def changes(self, since: int = 0, until: int | None = None, descending: bool = False) -> Iterator[R]:
        return self._log.read(since, until, descending)

    def changes_after(self, seq: int) -> int:
        return self._log.count_after(seq)

    def get_local(self, doc_id: str) -> LocalDocument | None:
        return self._locals.get(doc_id)

    def write_local(self, doc_id: str, document: LocalDocument | None) -> None:
        if document is None:
            self._locals.pop(doc_id, None)
        else:
            self._locals[doc_id] = document

    def locals(self) -> list[tuple[str, LocalDocument]]:
        return sorted(self._locals.items())


class _SequenceLog(Generic[R]):
    """The records by update sequence. A superseded one leaves a blank; blanks are removed when they are half of it."""

    __slots__ = ("_blanks", "_records", "_seqs")

    def __init__(self) -> None:
        self._seqs: list[int] = []
        self._records: list[R | None] = []
        self._blanks = 0

    def check(self) -> list[str]:
        """Return the contradictions between the lists."""
        pairs = zip(self._seqs, self._records, strict=False)
        if len(self._seqs) != len(self._records) or any(one is not None and one.seq != seq for seq, one in pairs):
            return ["the log of update sequences has a document at a wrong place"]
        if self._blanks != self._records.count(None) or self._seqs != sorted(set(self._seqs)):
            return ["the log of update sequences is out of order, or miscounts its blanks"]
        return []

    def append(self, record: R) -> None:
        self._seqs.append(record.seq)
        self._records.append(record)

    def discard(self, seq: int) -> None:
        self._records[bisect_left(self._seqs, seq)] = None
        self._blanks += 1
        if self._blanks > 64 and self._blanks * 2 > len(self._records):
            records = [record for record in self._records if record is not None]
            # Make new lists, because readers may be in the middle of the old ones.
            self._records, self._seqs, self._blanks = list(records), [record.seq for record in records], 0

    def replace(self, record: R) -> None:
        self._records[bisect_left(self._seqs, record.seq)] = record

    def read(self, since: int, until: int | None, descending: bool) -> Iterator[R]:
        records = self._records
        first = bisect_right(self._seqs, since)
        end = len(records) if until is None else bisect_right(self._seqs, until)
        indexes = range(end - 1, first - 1, -1) if descending else range(first, end)
        for index in indexes:
            record = records[index]
            if record is not None:
                yield record

    def count_after(self, seq: int) -> int:
        records = self._records
        first = bisect_right(self._seqs, seq)
        later = len(records) - first
        if not self._blanks or not later:
            return later
        # Count blanks on the shorter side: readers start near one end or near the other.
        if first < later:
            return later - self._blanks + records[:first].count(None)
        return later - records[first:].count(None)
