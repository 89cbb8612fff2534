"""Blocks of sorted rows behave as a sorted list does, and an update shares what it does not touch."""

from __future__ import annotations

import random

import pytest

from couchdal.emulator.engine.indexes.row_blocks import MOST, Block, RowBlocks


def blocks_of(block: Block[int]) -> list[Block[int]]:
    return [block, *(found for child in block.blocks for found in blocks_of(child))]


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_those_of_a_sorted_list_after_every_update(seed: int) -> None:
    chance = random.Random(seed)
    known: set[int] = set()
    rows: RowBlocks[int] = RowBlocks()
    for size in [chance.choice((1, 3, 50, 1000, 5000)) for _ in range(20)]:
        removed = chance.sample(sorted(known), min(len(known), chance.choice((0, 1, size))))
        added = {chance.randrange(100_000) for _ in range(size)} - known.difference(removed)
        before, old = rows, list(rows)
        rows = rows.updated(removed, list(added))
        known = known.difference(removed) | added
        wanted = sorted(known)
        assert list(rows) == wanted
        assert len(rows) == len(wanted)
        assert list(before) == old
        low, high = sorted((chance.randrange(len(wanted) + 2), chance.randrange(len(wanted) + 2)))
        assert list(rows.islice(low, high)) == wanted[low:high]
        assert list(rows.islice(low, high, reverse=True)) == wanted[low:high][::-1]
        probe = chance.randrange(100_000)
        assert rows.bisect_left(probe) == len([one for one in wanted if one < probe])
        outside: list[int] = []
        inside: list[Block[int]] = []
        rows.root.parts(low, min(high, len(wanted)), outside, inside)
        found = sorted([*outside, *(row for block in inside for row in RowBlocks(block))])
        assert found == wanted[low:high]
        assert len(outside) <= 2 * MOST
        assert all(len(block.items()) <= MOST for block in blocks_of(rows.root))


def test_all_rows_can_be_removed() -> None:
    rows = RowBlocks[int]().updated([], range(1000)).updated(range(1000), [])
    assert list(rows) == []
    assert len(rows) == 0
    assert list(rows.updated([], [3])) == [3]


def test_update_of_one_row_makes_few_blocks() -> None:
    before = RowBlocks[int]().updated([], range(0, 200_000, 2))
    after = before.updated([1000], [1001])
    shared = {id(block) for block in blocks_of(before.root)}
    assert len([block for block in blocks_of(after.root) if id(block) not in shared]) <= 6
    assert len(blocks_of(after.root)) > 1500
