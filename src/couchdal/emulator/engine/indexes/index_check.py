"""Check that indexes have the rows that new ones would have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import Any, TypeVar

from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.indexes.following_index import FollowingIndex
from couchdal.emulator.engine.indexes.row_blocks import RowBlocks
from couchdal.emulator.engine.indexes.row_index import RowIndex
from couchdal.emulator.storage.base import DamagedIndex
from couchdal.errors import CouchError

_T = TypeVar("_T")
_AT_ONCE = 500


def wrong_indexes(indexes: Iterable[FollowingIndex[Any]], db: DocumentStore) -> list[str]:
    """Return the indexes that differ from newly built ones, up to the last document that they contain."""
    wrong = []
    for index in indexes:
        try:
            check = partial(_is_right, index) if isinstance(index, RowIndex) and index.is_on_disk else index.is_right
            if index.is_intact and not check(db):
                wrong.append(f"the {index} differs from a newly built one")
        except DamagedIndex as error:
            wrong.append(error.reason or str(error))
    return wrong


def _is_right(index: RowIndex[Any, Any, Any], db: DocumentStore) -> bool:
    """Do the same as ``FollowingIndex.is_right`` for an index on a disk, with few documents at once."""
    ignored = {purge.doc_id for purge in db.purges}
    counts = [0] * len(index.trees)
    left = 0
    for rows in _batched(index.documents):
        for row in rows:
            left += row.doc_id not in ignored
            own = index.rows_of(index.of_keys(row.doc_id, row.keys))
            counts = [count + len(some) for count, some in zip(counts, own, strict=True)]
    trees: list[RowBlocks[Any]] = [*index.trees, index.documents]
    if counts != list(map(len, index.trees)) or not all(map(_is_ascending, trees)):
        return False
    if db.purge_seq > len(db.purges):
        # A compaction forgot which documents purges named.
        return True
    for records in _batched(record for record in db.storage.changes() if record.doc_id not in ignored):
        known = index.known([record.doc_id for record in records])
        left -= len(known)
        try:
            found = index.read_all(db, [record for record in records if record.seq <= index.seq])
        except CouchError:
            return True
        if any(known.get(doc_id) != (None if one is None else index.kept_of(doc_id, one)) for doc_id, one in found):
            return False
    return left == 0


def _batched(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while some := list(islice(iterator, _AT_ONCE)):
        yield some


def _is_ascending(tree: RowBlocks[Any]) -> bool:
    return all(before[0] < after[0] for before, after in pairwise(tree)) and len(tree) == sum(1 for _ in tree)
