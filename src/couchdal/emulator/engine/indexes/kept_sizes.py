"""The sizes of a database in a data file. Each write updates them, so that a request need not read all documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.stored_record import body_id
from couchdal.emulator.engine.indexes.sizes import Size, encoded_size, size_of_tree
from couchdal.emulator.engine.revisions.revision_node import Node, each_node
from couchdal.emulator.storage.base import Storage
from couchdal.pace import paced


def total_size(storage: Storage[DocumentRecord], disk: Storage[DocumentRecord], changed: Iterable[str]) -> Size:
    """Return the sizes of all documents. ``changed`` are those that differ from the storage on the disk below."""
    kept = disk.kept_sizes()
    if kept is None:
        return summed(storage.changes())
    return _sum([Size(*kept), *(growth(disk.get(doc_id), storage.get(doc_id)) for doc_id in changed)])


def summed(records: Iterable[DocumentRecord]) -> Size:
    """Return the sizes of some documents."""
    return _sum(growth(None, record) for record in paced(records))


def _sum(sizes: Iterable[Size]) -> Size:
    external = trees = old = 0
    for one in sizes:
        external, trees, old = external + one.external, trees + one.trees, old + one.old
    return Size(external, trees, old)


def growth(old: DocumentRecord | None, new: DocumentRecord | None) -> Size:
    """Return how much the sizes of a document grow. This reads no bodies of revisions that both states have."""
    if old is None and new is not None and len(new.tree) == 1 and new.winner.parent is None:
        # Most writes are of new documents.
        return Size(encoded_size(new.body) + _attached(new.tree), size_of_tree(1), 0)
    leaves, inner, trees = _parts(old)
    new_leaves, new_inner, new_trees = _parts(new)
    external = _grown(leaves, new_leaves) + _attached(new_leaves) - _attached(leaves)
    return Size(external, new_trees - trees, _grown(inner, new_inner))


def _parts(record: DocumentRecord | None) -> tuple[list[Node], list[Node], int]:
    """Return the leaves, the older revisions with bodies, and the size of the tree."""
    if record is None:
        return [], [], 0
    leaves = dict.fromkeys(record.tree)
    known = each_node(leaves)
    return list(leaves), [node for node in known if node.has_body and node not in leaves], size_of_tree(len(known))


def _grown(before: Iterable[Node], after: Iterable[Node]) -> int:
    bodies: dict[int, Node] = {}
    numbers: Counter[int] = Counter()
    for nodes, number in ((before, -1), (after, 1)):
        for node in nodes:
            bodies[body_id(node)] = node
            numbers[body_id(node)] += number
    return sum(number * encoded_size(bodies[name].body or {}) for name, number in numbers.items() if number)


def _attached(leaves: Iterable[Node]) -> int:
    """Return the size of attachments. A file stores equal attachments of one document once."""
    files = {(one.digest, one.encoding): one.stored_size for leaf in leaves for one in leaf.attachments}
    return sum(files.values())
