"""The sorted rows of an index, in blocks that keep the reductions of their rows.

The blocks form a tree, as in CouchDB's B-tree. A block never changes: an update makes new blocks on the way from the
root to the rows, and shares all others. So a copy of an index is a reference to its root, and a reduction that was
computed for a block stays valid. This module does not know keys or documents. A row is a tuple that begins with its
place in the order. A row may have the place of the row that it replaces, but not that of another one. The rest of a row
may be of any type, so rows are never compared as a whole: a search uses a tuple that has only the place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

Row = TypeVar("Row", bound="tuple[Any, ...]")
#: Writes blocks to the disk, and returns blocks that take their place.
Store: TypeAlias = "Callable[[Sequence[Block[Row]]], list[Block[Row]]]"

# The number of rows, or of blocks, in a block. CouchDB's blocks have about 1,300 bytes.
MOST = 64
FEWEST = MOST // 4


class Block(Generic[Row]):
    """Rows in their order, or the blocks that contain them."""

    __slots__ = ("blocks", "count", "first", "firsts", "level", "offsets", "reductions", "rows", "size")

    def __init__(self, rows: Sequence[Row], blocks: Sequence[Block[Row]] = ()) -> None:
        self.rows: Sequence[Row] = rows
        self.blocks: Sequence[Block[Row]] = blocks
        #: The reductions of the block by reduce function, computed when they are needed.
        self.reductions: dict[object, Any] = {}
        #: The number of rows or blocks in this very block.
        self.size: int = len(blocks) or len(rows)
        #: How many levels of blocks there are below this one.
        self.level: int = 0
        if blocks:
            self.level = blocks[0].level + 1
            self.offsets: list[int] = [0, *accumulate(map(_count_of, blocks))]
            self.count: int = self.offsets[-1]
            self.firsts: Sequence[tuple[Any, ...]] = list(map(_first_of, blocks))
            #: The place of the first row, alone in a tuple.
            self.first: tuple[Any, ...] = blocks[0].first
        else:
            self.count = len(rows)
            self.firsts = ()
            self.first = rows[0][:1] if rows else ()

    def place_of(self, row: tuple[Any, ...]) -> int:
        """Return how many rows come before a row, whether the block has it or not."""
        if not self.blocks:
            return bisect_left(self.rows, row)
        at = max(bisect_right(self.firsts, row) - 1, 0)
        return self.offsets[at] + self.blocks[at].place_of(row)

    def slices(self, low: int, high: int, reverse: bool) -> Iterator[tuple[Sequence[Row], int, int]]:
        """Yield the rows from one place to another: lists of rows, each with the start and end of the wanted part."""
        if not self.blocks:
            yield self.rows, max(low, 0), min(high, self.count)
            return
        first, last = (
            max(bisect_right(self.offsets, low) - 1, 0),
            min(bisect_left(self.offsets, high), len(self.blocks)),
        )
        for at in range(last - 1, first - 1, -1) if reverse else range(first, last):
            before = self.offsets[at]
            yield from self.blocks[at].slices(low - before, high - before, reverse)

    def find(self, places: Sequence[Any], found: list[Row]) -> None:
        """Collect the rows at some places, which are sorted."""
        at = 0
        while at < len(places):
            if not self.blocks:
                row = bisect_left(self.rows, (places[at],))
                if row < self.size and self.rows[row][0] == places[at]:
                    found.append(self.rows[row])
                at += 1
                continue
            child = max(bisect_right(self.firsts, (places[at],)) - 1, 0)
            end = bisect_left(places, self.firsts[child + 1][0], at) if child + 1 < self.size else len(places)
            self.blocks[child].find(places[at:end], found)
            at = end

    def parts(self, low: int, high: int, rows: list[Row], blocks: list[Block[Row]]) -> None:
        """Collect the greatest blocks between two places, and the rows that are not in one of them."""
        if low <= 0 and high >= self.count:
            blocks.append(self)
        elif not self.blocks:
            rows += self.rows[max(low, 0) : high]
        else:
            first, last = max(bisect_right(self.offsets, low) - 1, 0), bisect_left(self.offsets, high)
            for at in range(first, min(last, len(self.blocks))):
                before = self.offsets[at]
                self.blocks[at].parts(low - before, high - before, rows, blocks)

    def updated(
        self, removed: Sequence[Row], added: Sequence[Row], store: Store[Row] | None = None
    ) -> list[Block[Row]]:
        """Return the blocks that replace this one. Both lists are sorted, and the removed rows are there.

        ``store`` writes the new blocks of rows to the disk, so that they do not stay in memory.
        """
        if not removed and not added:
            return [self]
        if not self.blocks:
            return _split([], _updated_rows(self.rows, removed, added))
        blocks: list[Block[Row]] = []
        at = gone = new = 0
        while gone < len(removed) or new < len(added):
            row = removed[gone][:1] if gone < len(removed) else added[new][:1]
            if new < len(added) and added[new] < row:
                row = added[new][:1]
            # Visit only the blocks that have changes.
            changed = max(bisect_right(self.firsts, row) - 1, 0)
            _extend(blocks, self.blocks[at:changed])
            at = changed + 1
            if at < len(self.blocks):
                next_gone, next_new = (bisect_left(rows, self.firsts[at]) for rows in (removed, added))
            else:
                next_gone, next_new = len(removed), len(added)
            made = self.blocks[changed].updated(removed[gone:next_gone], added[new:next_new], store)
            is_only = next_gone - gone == len(removed) and next_new - new == len(added)
            if is_only and len(made) == 1 and made[0].size >= FEWEST:
                # Most updates change one block.
                return [Block((), [*self.blocks[:changed], made[0], *self.blocks[changed + 1 :]])]
            for block in made:
                _extend(blocks, [block])
            gone, new = next_gone, next_new
        _extend(blocks, self.blocks[at:])
        if store is not None and self.level == 1:
            blocks = store(blocks)
        return _split(blocks, [])


_count_of = attrgetter("count")
_first_of = attrgetter("first")


def _updated_rows(rows: Sequence[Row], removed: Sequence[Row], added: Sequence[Row]) -> list[Row]:
    left = list(rows)
    if len(removed) * 4 < len(left):
        for row in removed:
            del left[bisect_left(left, row[:1])]
    else:
        # Both lists are sorted, so the first row that is not before the removed one is that row.
        gone = iter(removed)
        one = next(gone, None)
        left = []
        for row in rows:
            if one is not None and not row < one[:1]:
                one = next(gone, None)
            else:
                left.append(row)
    if len(added) * 4 < len(left):
        for row in added:
            insort(left, row)
    else:
        left += added
        left.sort()
    return left


def _extend(blocks: list[Block[Row]], more: Sequence[Block[Row]]) -> None:
    """Append blocks. Join the first of them with the preceding block if one of the two is small."""
    if not more or not more[0].count:
        return
    before, block = blocks[-1] if blocks else None, more[0]
    if before is None or min(before.size, block.size) >= FEWEST:
        blocks += more
        return
    if block.blocks:
        blocks[-1:] = _split([*before.blocks, *block.blocks], [])
    else:
        blocks[-1:] = _split([], [*before.rows, *block.rows])
    blocks += more[1:]


def _split(blocks: Sequence[Block[Row]], rows: Sequence[Row]) -> list[Block[Row]]:
    """Return blocks of about the same size that contain these blocks or rows."""
    size = len(blocks) or len(rows)
    pieces = -(-size // MOST)
    bounds = [size * piece // pieces for piece in range(pieces + 1)] if pieces else []
    if blocks:
        return [Block((), blocks[low:high]) for low, high in pairwise(bounds)]
    return [Block(rows[low:high]) for low, high in pairwise(bounds)]


class RowBlocks(Generic[Row]):
    """The rows of an index. It never changes: ``updated`` returns another one."""

    __slots__ = ("root",)

    def __init__(self, root: Block[Row] | None = None) -> None:
        self.root: Block[Row] = root or Block(())

    def __len__(self) -> int:
        return self.root.count

    def __iter__(self) -> Iterator[Row]:
        return self.islice(0, self.root.count)

    def bisect_left(self, row: tuple[Any, ...]) -> int:
        """Return how many rows come before a row. It may be a tuple with only a place, or a part of one."""
        return self.root.place_of(row)

    def leaf_at(self, place: int) -> tuple[Sequence[Row], int]:
        """Return the rows of the block that has the row at a place, and the place of the first of them."""
        block, before = self.root, 0
        while block.blocks:
            at = bisect_right(block.offsets, place - before) - 1
            before += block.offsets[at]
            block = block.blocks[at]
        return block.rows, before

    def islice(self, low: int, high: int, reverse: bool = False) -> Iterator[Row]:
        """Return the rows from place ``low`` to before ``high``. Earlier rows are not read."""
        found = self.root.slices(low, high, reverse)
        if reverse:
            return chain.from_iterable(reversed(rows[first:last]) for rows, first, last in found)
        return chain.from_iterable(rows[first:last] for rows, first, last in found)

    def find(self, places: Sequence[Any]) -> list[Row]:
        """Return the rows at some places, which are sorted. Each block is searched once."""
        found: list[Row] = []
        self.root.find(places, found)
        return found

    def updated(self, removed: Sequence[Row], added: Sequence[Row], store: Store[Row] | None = None) -> RowBlocks[Row]:
        """Return the rows without those of ``removed``, which must be there, and with those of ``added``.

        ``store`` writes blocks to the disk.
        """
        if not removed and not added:
            return self
        blocks = self.root.updated(sorted(removed), sorted(added), store)
        while len(blocks) > 1:
            blocks = _split(blocks, ())
        root = blocks[0] if blocks else None
        while root is not None and len(root.blocks) == 1:
            root = root.blocks[0]
        return RowBlocks(root)
