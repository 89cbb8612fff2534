"""The form of a view's rows and reductions on a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from couchdal.emulator.engine.collation.collation import Key
from couchdal.emulator.engine.indexes.row_blocks import Block
from couchdal.emulator.engine.indexes.stored_blocks import RowForm, packed, unpacked
from couchdal.emulator.engine.views.block_reduction import (
    EXTERNAL,
    GLOBAL,
    STORED,
    Overflow,
    ViewRow,
    external_size,
    key_of_partition,
)
from couchdal.emulator.engine.views.reduction import rereduce, result_of


class ViewForm(RowForm[ViewRow]):
    """The form of the rows of one view. The results of the functions with these sources are kept with the rows.

    ``reduce`` returns whether a function is limited, and its result for a block.
    """

    def __init__(
        self,
        key_of: Callable[[object], Key],
        sources: Sequence[str],
        reduce: Callable[[str, Block[ViewRow]], tuple[bool, object]],
        *,
        partitioned: bool,
    ) -> None:
        self._key_of = key_of
        self._sources = sources
        self._reduce = reduce
        self._partitioned = partitioned

    def encode(self, row: ViewRow) -> object:
        return [row.key, row.doc_id, row.place[3], row.value]

    def decode(self, value: Any) -> ViewRow:
        key, doc_id, number, emitted = value
        within = key_of_partition(doc_id, self._key_of) if self._partitioned else GLOBAL
        return ViewRow((within, self._key_of(key), doc_id.encode(), number), doc_id, key, emitted)

    def encode_reductions(self, block: Block[ViewRow]) -> object:
        found: list[object] = [external_size(block)]
        for source in self._sources:
            is_limited, value = self._reduce(source, block)
            if isinstance(value, Overflow):
                found.append([is_limited, None, value.reason])
            else:
                found.append([is_limited, _encode(source, value)])
        return found

    def decode_reductions(self, value: Any) -> dict[object, Any]:
        external, *reductions = value
        found: dict[object, Any] = {EXTERNAL: external}
        for source, (is_limited, stored, *overflow) in zip(self._sources, reductions, strict=True):
            found[source, is_limited, STORED] = Overflow(*overflow) if overflow else _decode(source, stored)
        return found


def _encode(source: str, value: Any) -> object:
    """Return a reduction of a block in a form of JSON."""
    if source.startswith("_stats"):
        return result_of(source, value)
    if source.startswith("_approx"):
        return list(value.items())
    if source.startswith(("_first", "_last")):
        place, found = value
        return [packed(place), found]
    return value


def _decode(source: str, value: Any) -> object:
    """Return the reduction that ``_encode`` got."""
    if source.startswith("_stats"):
        return rereduce(source, [value])
    if source.startswith("_approx"):
        return dict(value)
    if source.startswith(("_first", "_last")):
        place, found = value
        return unpacked(place), found
    return value
