"""The revision tree of one document: merging, winners, stemming and removing leaves.

Replicas edit the same document independently, which creates branches. Each replica may receive the branches of the
others in any order, and all must arrive at the same tree and the same winner. A document is really a forest: branches
share the revisions from before they parted, and stemming cuts off old history, which leaves trees that start above
position 1.

A tree is the tuple of its leaves (``revision_node``). An edit makes a new tuple that shares the old nodes.
``tree_editor`` makes many merges at once, and ``revision_lookup`` finds revisions in a tree. This module does not know
documents, sequences or storage.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from sys import maxsize
from typing import TYPE_CHECKING

from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, each_node, in_order, nodes
from couchdal.emulator.engine.revisions.tree_editor import Merged, TreeEditor, chain

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.attachment import Attachment


def _rank(leaf: Node) -> tuple[bool, int, bytes]:
    return (not leaf.deleted, leaf.position, leaf.id)


def winner(tree: RevisionTree) -> Node:
    """Return the leaf that CouchDB serves when a request names no ``rev``.

    Live leaves beat deleted ones, then the longer history, then the greater id. Replicas must agree from the tree
    alone, so neither arrival order nor a clock may enter here.

    >>> ancient, recent = Node(9, b"f"), Node(10, b"a")
    >>> winner((ancient, recent)).rev
    '10-a'
    """
    return tree[0] if len(tree) == 1 else max(reversed(tree), key=_rank)


def ranked_leaves(tree: RevisionTree) -> list[Node]:
    """Return the leaves, winner first. Each leaf would win among those after it.

    If one revision is the leaf of two histories, the last one in the tree comes first.
    """
    if len(tree) == 1:
        return [*tree]
    ranked = sorted(tree, key=_rank)
    ranked.reverse()
    return ranked


def merge(
    tree: RevisionTree,
    position: int,
    ids: Sequence[bytes],
    *,
    deleted: bool,
    body: dict[str, object] | None,
    attachments: tuple[Attachment, ...] = (),
) -> tuple[RevisionTree, Merged]:
    """Merge one path into a tree. See ``TreeEditor.merge``, which is faster for several paths."""
    if not tree or (len(tree) == 1 and _extends(tree[0], position, ids)):
        # The usual edit or replication: a first revision, or more of them on top of the only leaf.
        tip = Node(position, ids[0], deleted, body, attachments)
        if not tree:
            return (chain(None, tip, ids),), Merged.NEW_LEAF
        return (chain(tree[0], tip, ids[: position - tree[0].position]),), Merged.NEW_LEAF
    editor = TreeEditor(tree)
    merged = editor.merge(position, ids, deleted=deleted, body=body, attachments=attachments)
    return editor.tree(), merged


def _extends(leaf: Node, position: int, ids: Sequence[bytes]) -> bool:
    """Return whether a path continues the history of a leaf and contains nothing older than that history."""
    index = position - leaf.position
    if index < 1:
        return False
    node: Node | None = leaf
    for rev_id in ids[index:] or (None,):
        if node is None or node.id != rev_id:
            return False
        node = node.parent
    return True


def stem(tree: RevisionTree, limit: int) -> RevisionTree:
    """Keep the ``limit`` newest revisions of each leaf's history. No leaf is lost.

    A path that bridges two trees leaves the same revisions in both. CouchDB joins them when it stems.
    """
    if len(tree) == 1:
        if tree[0].position <= limit:
            return tree
        return _stemmed(tree, list(tree[0].path()), limit)
    known = each_node(tree)
    # CouchDB compares only ids, so the same id at two positions counts too.
    if len({node.id for node in known}) < len(known):
        return _joined(tree, limit)
    if max(leaf.position for leaf in tree) <= limit and min(node.position for node in known) > 0:
        # No history can be longer than its position.
        return tree
    parents_last = list(nodes(tree))
    parents_last.reverse()
    return _stemmed(tree, parents_last, limit)


def _stemmed(tree: RevisionTree, known: Sequence[Node], limit: int) -> RevisionTree:
    # The number of revisions above each node, up to the nearest leaf.
    above = dict.fromkeys(tree, 0)
    for node in known:
        parent = node.parent
        if parent is not None:
            above[parent] = min(above.get(parent, maxsize), above[node] + 1)
    if all(count < limit for count in above.values()):
        return tree
    kept: dict[Node | None, Node | None] = {}
    for node in reversed(known):
        if above[node] < limit:
            parent = node.parent
            cut = parent is not None and above[parent] >= limit
            new_parent = None if cut else kept.get(parent)
            kept[node] = node if new_parent is parent else node.with_parent(new_parent)
    return in_order([leaf for leaf in map(kept.get, tree) if leaf is not None])


def is_same(tree: RevisionTree, other: RevisionTree) -> bool:
    """Return whether two trees contain the same revisions, with bodies for the same ones."""
    if len(tree) != len(other):
        return False
    for leaf, known in zip(tree, other, strict=True):
        if leaf.id != known.id or leaf.position != known.position:
            return False
    return tree == other or _outline(tree) == _outline(other)


def _outline(tree: RevisionTree) -> list[tuple[int, bytes, bool, bool]]:
    return [(node.position, node.id, node.parent is None, node.has_body) for node in nodes(tree)]


def _joined(tree: RevisionTree, limit: int) -> RevisionTree:
    """Merge the paths of all leaves again, from the lowest start up, with the bodies of their revisions."""
    # If two stemmed histories are equal, the full ones decide the order.
    leaves = sorted(tree, key=lambda leaf: [node.id for node in leaf.path()])
    lines = [list(islice(leaf.path(), min(limit, maxsize))) for leaf in leaves]
    lines.sort(key=lambda line: (line[-1].position, [node.id for node in line]))
    editor = TreeEditor(())
    for line in lines:
        editor.merge_line(line)
    return editor.tree()


def remove_leaves(tree: RevisionTree, revisions: Collection[Revision]) -> tuple[RevisionTree, list[Revision]]:
    """Remove the branches that end in the given leaves. Return the rest, and the revisions that were leaves."""
    named = frozenset(revisions)
    removed = [leaf.revision for leaf in tree if leaf.revision in named]
    return tuple(leaf for leaf in tree if leaf.revision not in named), removed
