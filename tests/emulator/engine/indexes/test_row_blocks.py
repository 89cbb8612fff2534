"""Blocks of sorted rows behave as a sorted list does, and an update shares what it does not touch."""

from __future__ import annotations

import random

import pytest

from couchdal.emulator.engine.indexes.row_blocks import MOST, Block, RowBlocks

Row = tuple[int]


def blocks_of(block: Block[Row]) -> list[Block[Row]]:
    return [block, *(found for child in block.blocks for found in blocks_of(child))]


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_those_of_a_sorted_list_after_every_update(seed: int) -> None:
    chance = random.Random(seed)
    known: set[Row] = set()
    rows: RowBlocks[Row] = RowBlocks()
    for size in [chance.choice((1, 3, 50, 1000, 5000)) for _ in range(20)]:
        removed = chance.sample(sorted(known), min(len(known), chance.choice((0, 1, size))))
        added = {(chance.randrange(100_000),) for _ in range(size)} - known.difference(removed)
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
        probe = (chance.randrange(100_000),)
        assert rows.bisect_left(probe) == len([one for one in wanted if one < probe])
        outside: list[Row] = []
        inside: list[Block[Row]] = []
        rows.root.parts(low, min(high, len(wanted)), outside, inside)
        found = sorted([*outside, *(row for block in inside for row in RowBlocks(block))])
        assert found == wanted[low:high]
        assert len(outside) <= 2 * MOST
        assert all(block.size <= MOST for block in blocks_of(rows.root))


def test_all_rows_can_be_removed() -> None:
    some = [(n,) for n in range(1000)]
    rows = RowBlocks[Row]().updated([], some).updated(some, [])
    assert list(rows) == []
    assert len(rows) == 0
    assert list(rows.updated([], [(3,)])) == [(3,)]


def test_update_of_one_row_makes_few_blocks() -> None:
    before = RowBlocks[Row]().updated([], [(n,) for n in range(0, 200_000, 2)])
    after = before.updated([(1000,)], [(1001,)])
    shared = {id(block) for block in blocks_of(before.root)}
    assert len([block for block in blocks_of(after.root) if id(block) not in shared]) <= 6
    assert len(blocks_of(after.root)) > 1500


def test_rows_are_compared_by_their_places_alone() -> None:
    """The rest of a row and of the one that replaces it need not be comparable."""
    before = [(n, n, 5) for n in range(1000)]
    after = [(n, n, {"x": n}) for n in range(1000)]
    rows = RowBlocks[tuple[int, int, object]]().updated([], before)
    assert list(rows.updated(before, after)) == after
    assert list(rows.updated(before[::100], after[::100]))[::100] == after[::100]


@pytest.mark.parametrize("count", [0, 1, 70, 9000])
def test_rows_are_found_by_sorted_places(count: int) -> None:
    rows = RowBlocks[tuple[int, str]]().updated([], [(n, str(n)) for n in range(0, 2 * count, 2)])
    assert rows.find(range(-3, 2 * count + 3)) == list(rows)
    assert rows.find([-1, count * 2, count * 2 + 1]) == []
    assert rows.find([]) == []
