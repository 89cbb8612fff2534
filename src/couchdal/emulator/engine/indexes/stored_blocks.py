"""Blocks of rows on a disk: reading them when somebody asks for their rows, and writing those that are new.

A stored block takes the place of the block that was written. It knows how many rows there are, where they begin, and
their reductions, so only what a query really reads is read from the disk. A cache keeps the blocks that were read last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic

from couchdal.emulator.engine.indexes.row_blocks import Block, Row, Store
from couchdal.emulator.storage.base import Shelf

# How many blocks are written in one transaction.
_AT_ONCE = 64


class RowForm(ABC, Generic[Row]):
    """The form of an index's rows on a disk: values that JSON can express."""

    @abstractmethod
    def encode(self, row: Row) -> object:
        """Return a row in its stored form."""

    @abstractmethod
    def decode(self, value: Any) -> Row:
        """Return the row that ``encode`` got."""

    def encode_reductions(self, block: Block[Row]) -> object:
        """Return all reductions of a block in their stored form. Raise ``CouchError`` if one fails."""
        return 0

    def decode_reductions(self, value: Any) -> dict[object, Any]:
        """Return the reductions that ``encode_reductions`` returned."""
        return {}


class Shelved(Generic[Row]):
    """The blocks of one tree of rows on a shelf."""

    def __init__(self, shelf: Shelf, form: RowForm[Row]) -> None:
        self.shelf: Shelf = shelf
        self._form = form

    def read(self, stored: StoredBlock[Row], *, once: bool = False) -> Block[Row]:
        """Return a block with its rows, or with the blocks that contain them. Raise ``DamagedIndex``.

        With ``once``, the block is about to be replaced, and the cache need not keep it.
        """
        key = self.shelf, stored.number
        block: Block[Row] | None = self.shelf.cache.get(key)
        if block is None:
            block, size = self._read(stored)
            if not once:
                self.shelf.cache.put(key, block, size)
        return block

    def _read(self, stored: StoredBlock[Row]) -> tuple[Block[Row], int]:
        values, size = self.shelf.get(stored.number)
        if stored.level:
            block = Block[Row]((), [self.known(value, stored.level - 1) for value in values])
        else:
            block = Block[Row]([self._form.decode(value) for value in values])
        if (block.size, block.count) != (stored.size, stored.count):
            raise self.shelf.damaged(f"block {stored.number} has another number of rows")
        return block, size

    def known(self, value: Any, level: int) -> StoredBlock[Row]:
        """Return a block as the block above it describes it."""
        number, count, size, first, reductions = value
        known = self._form.decode_reductions(reductions)
        return StoredBlock(self, number, level=level, count=count, size=size, first=unpacked(first), reductions=known)

    def described(self, block: StoredBlock[Row]) -> list[object]:
        """Return what the block above a block keeps of it."""
        return [block.number, block.count, block.size, packed(block.first), self._form.encode_reductions(block)]

    def described_root(self, root: Block[Row]) -> object:
        """Return what a state keeps of the root of a tree, whose blocks are all on the shelf."""
        return [root.level, *self.described(root)] if isinstance(root, StoredBlock) else None

    def root_of(self, value: Any) -> Block[Row] | None:
        """Return the root that ``described_root`` got."""
        return None if value is None else self.known(value[1:], value[0])

    def stored(self, blocks: Sequence[Block[Row]]) -> list[Block[Row]]:
        """Write blocks that are not on the shelf, and return all of them as stored blocks."""
        new: list[tuple[int, Block[Row], object, object]] = []
        found = list(blocks)
        for at, block in enumerate(blocks):
            if not isinstance(block, StoredBlock) and block.count:
                children = self.stored(block.blocks)
                reductions = self._form.encode_reductions(block)
                if children:
                    data: object = [self.described(child) for child in children if isinstance(child, StoredBlock)]
                else:
                    data = [self._form.encode(row) for row in block.rows]
                new.append((at, block, data, reductions))
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            first = self.shelf.next
            self.shelf.put([data for _, _, data, _ in some])
            for number, (at, block, _, reductions) in enumerate(some, first):
                found[at] = StoredBlock(
                    self,
                    number,
                    level=block.level,
                    count=block.count,
                    size=block.size,
                    first=block.first,
                    reductions=self._form.decode_reductions(reductions),
                )
        return found


class StoredBlock(Block[Row]):
    """A block on a shelf. It reads its rows or blocks when somebody asks for them."""

    __slots__ = ("_shelved", "number")

    def __init__(
        self,
        shelved: Shelved[Row],
        number: int,
        *,
        level: int,
        count: int,
        size: int,
        first: tuple[Any, ...],
        reductions: dict[object, Any],
    ) -> None:
        self._shelved = shelved
        self.number: int = number
        self.level: int = level
        self.count: int = count
        self.size: int = size
        self.first: tuple[Any, ...] = first
        self.reductions: dict[object, Any] = reductions

    def __getattr__(self, name: str) -> Any:
        # The slots of a block that was not read are empty.
        if name in ("rows", "blocks", "offsets", "firsts"):
            return getattr(self._shelved.read(self), name)
        raise AttributeError(name)

    def place_of(self, row: tuple[Any, ...]) -> int:
        return self._shelved.read(self).place_of(row)

    def slices(self, low: int, high: int, reverse: bool) -> Iterator[tuple[Sequence[Row], int, int]]:
        return self._shelved.read(self).slices(low, high, reverse)

    def find(self, places: Sequence[Any], found: list[Row]) -> None:
        self._shelved.read(self).find(places, found)

    def parts(self, low: int, high: int, rows: list[Row], blocks: list[Block[Row]]) -> None:
        if low <= 0 and high >= self.count:
            blocks.append(self)
        else:
            self._shelved.read(self).parts(low, high, rows, blocks)

    def updated(
        self, removed: Sequence[Row], added: Sequence[Row], store: Store[Row] | None = None
    ) -> list[Block[Row]]:
        if not removed and not added:
            return [self]
        return self._shelved.read(self, once=store is not None and not self.level).updated(removed, added, store)


def packed(value: Any) -> Any:
    """Return tuples and bytes as JSON: tuples as arrays, and others as objects."""
    if type(value) is tuple:
        return [packed(item) for item in value]
    if type(value) is list:
        return {"list": [packed(item) for item in value]}
    return {"bytes": value.decode("latin-1")} if type(value) is bytes else value


def unpacked(value: Any) -> Any:
    """Return what ``packed`` got."""
    if type(value) is list:
        return tuple([unpacked(item) for item in value])
    if type(value) is dict:
        if "list" in value:
            return [unpacked(item) for item in value["list"]]
        return value["bytes"].encode("latin-1")
    return value


def numbers_gone(before: Iterable[Block[Any]], after: Iterable[Block[Any]], shelf: Shelf, saved_next: int) -> list[int]:
    """Return the numbers of blocks on a shelf that no state needs any more.

    ``before`` are the roots of the last state, before which the next block had the number ``saved_next``. ``after`` are
    the roots of the next one. Blocks that both have cost nothing.
    """
    kept: set[int] = set()
    blocks = list(after)
    while blocks:
        block = blocks.pop()
        if isinstance(block, StoredBlock):
            kept.add(block.number)
            if block.level and block.number >= saved_next:
                blocks += block.blocks
    gone = [number for number in range(saved_next, shelf.next) if number not in kept]
    blocks = list(before)
    while blocks:
        block = blocks.pop()
        if isinstance(block, StoredBlock) and block.number not in kept:
            gone.append(block.number)
            if block.level:
                blocks += block.blocks
    return gone
