"""The sizes of a database and of its partitions.

``external`` is what CouchDB counts: the JSON text of all leaves, and their stored attachments. Sources:
``couch_ejson_size``, ``couch_db_updater:flush_trees``.

The emulator has no files of CouchDB's form, so the other sizes follow a rule. ``active`` is the external size plus the
size of CouchDB's trees for each document and revision. ``file`` is the active size plus the bodies of old revisions,
and a fixed size for each write since the last compaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log10
from typing import Final, NamedTuple

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.indexes.following_index import FollowingIndex
from couchdal.emulator.engine.revisions.revision_node import Node, each_node
from couchdal.pace import give_way_for

# Measured on CouchDB: the size of a new database, of a document, of each further revision, and of a write.
_EMPTY_FILE: Final = 8_349
_OF_DOCUMENT: Final = 140
_OF_REVISION: Final = 57
_OF_WRITE: Final = 200
# Floats from these sizes on have shorter texts than others, as in ``couch_ejson_size``.
_SMALL_FLOATS: Final = ((1.0e-300, 3), (1.0e-100, 6), (1.0e-10, 5), (0.01, 4))


class Size(NamedTuple):
    """The sizes of one document, or of several: of its leaves, of its trees, and of the bodies of its old revisions."""

    external: int
    trees: int
    old: int


class DocumentSizes(FollowingIndex[Size]):
    """The sizes of all documents, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, Size] = {}
        self._total = Size(0, 0, 0)

    def __repr__(self) -> str:
        return "sizes of documents"

    def read(self, db: DocumentStore, record: DocumentRecord) -> Size:
        leaves = record.tree
        revisions, old = 0, 0
        for node in each_node(leaves):
            revisions += 1
            if node.has_body and not _is_leaf(node, leaves):
                old += encoded_size(node.body or {})
        return Size(external_size(leaves), size_of_tree(revisions), old)

    def _replace(self, changed: Sequence[tuple[str, Size | None]], seq: int, prepared: object) -> None:
        external, trees, old = self._total
        for doc_id, size in changed:
            known = self._sizes.pop(doc_id, None)
            if known is not None:
                external, trees, old = external - known.external, trees - known.trees, old - known.old
            if size is not None:
                self._sizes[doc_id] = size
                external, trees, old = external + size.external, trees + size.trees, old + size.old
        self._total = Size(external, trees, old)

    def removals(self, db: DocumentStore, known: Iterable[str]) -> list[tuple[str, Size | None]]:
        # A document that kept some revisions has a new update sequence.
        return [(doc_id, None) for doc_id in known if db.storage.get(doc_id) is None]

    @property
    def total(self) -> Size:
        """The sum of all sizes."""
        return self._total

    def of_partition(self, partition: str) -> dict[str, int]:
        """Return the sizes of the documents in a partition."""
        sizes = [size for doc_id, size in self._sizes.items() if doc_id.startswith(partition + ":")]
        external = sum(size.external for size in sizes)
        return {"active": external + sum(size.trees for size in sizes), "external": external}

    def _doc_ids(self) -> Iterable[str]:
        return self._sizes

    def contents(self) -> Mapping[str, object]:
        return self._sizes

    def is_sorted(self) -> bool:
        return self._total == tuple(map(sum, zip(*self._sizes.values(), strict=True))) or not self._sizes

    def emptied(self) -> DocumentSizes:
        return DocumentSizes()

    def _take_copies(self) -> None:
        self._sizes = dict(self._sizes)


def size_of_tree(revisions: int) -> int:
    """Return the size of CouchDB's trees for a document with this many revisions."""
    return _OF_DOCUMENT + _OF_REVISION * (revisions - 1)


def sizes_of_database(total: Size, writes: int) -> dict[str, int]:
    """Return the sizes of a database after a number of writes since its last compaction."""
    external, trees, old = total
    active = external + trees
    return {"file": _EMPTY_FILE + active + old + _OF_WRITE * writes, "external": external, "active": active}


def external_size(leaves: Sequence[Node]) -> int:
    """Return the external size of a document with these leaves."""
    # Leaves share attachments that they inherited from one revision.
    files = {one.stored_id: one.stored_size for leaf in leaves for one in leaf.attachments}
    return sum(encoded_size(leaf.body or {}) for leaf in leaves) + sum(files.values())


def _is_leaf(node: Node, leaves: Sequence[Node]) -> bool:
    return any(node is leaf for leaf in leaves)


def encoded_size(value: object) -> int:
    """Return the size of a JSON value as ``couch_ejson_size`` estimates it: that of its text without spaces.

    >>> encoded_size({"a": [1, 2.5, None], "b": "é"})
    25
    """
    total, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if type(one) is str:
            total += _text_size(one)
        elif type(one) is dict:
            # Two for the braces of an empty object. Each member has two quotes, a colon and, except the last, a comma.
            total += 4 * len(one) - 1 + _text_size("".join(one)) if one else 2
            give_way_for(one)
            waiting.extend(one.values())
        elif type(one) is list:
            total += 1 + len(one) if one else 2
            give_way_for(one)
            waiting.extend(one)
        elif one is None or one is True:
            total += 4
        elif one is False:
            total += 5
        elif type(one) is int:
            total += _integer_size(one)
        elif type(one) is float:
            total += _float_size(one)
    return total


def _text_size(text: str) -> int:
    return 2 + (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))


def _integer_size(number: int) -> int:
    sign, number = (1, -number) if number < 0 else (0, number)
    if number < 10_000:
        return sign + len(str(number))
    try:
        return sign + int(log10(float(number))) + 1
    except OverflowError:
        return sign + int(log10(number)) + 1


def _float_size(number: float) -> int:
    if number < 0:
        return 1 + _float_size(-number)
    if number in (0.0, 1.0):
        return 3
    if number < 1.0:
        return next((size for limit, size in _SMALL_FLOATS if number <= limit), 3)
    return 5 if number >= 1.0e100 else 4 if number >= 1.0e10 else 3
