"""Merging paths of revisions into a tree.

A ``TreeEditor`` makes all merges of one request into one document. It finds revisions by their ids, so the cost of a
merge depends on the path, and not on the number of leaves. It does not change the tree that it was made from.
Source: ``couch_key_tree:merge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, each_node, in_order

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.attachment import Attachment


class Merged(Enum):
    """The effect of a merge on the tree: CouchDB's ``new_leaf``, ``new_branch`` or ``internal_node``."""

    NEW_LEAF = "new_leaf"
    NEW_BRANCH = "new_branch"
    INTERNAL_NODE = "internal_node"


def chain(parent: Node | None, tip: Node, ids: Sequence[bytes]) -> Node:
    """Put a new node on top of ``parent``, and nodes without bodies between them. ``ids`` are newest first."""
    for offset in range(len(ids) - 1, 0, -1):
        parent = Node(tip.position - offset, ids[offset], parent=parent)
    tip.parent = parent
    return tip


class TreeEditor:
    """A tree that is being changed. ``tree()`` returns its current state.

    The nodes of the original tree are shared with other trees. Before the editor changes a node, it replaces the node
    and all nodes above it by copies of its own. Each node is copied at most once.
    """

    def __init__(self, tree: RevisionTree) -> None:
        self._tree: RevisionTree | None = tree
        self._leaves: dict[Node, None] = dict.fromkeys(tree)
        self._own: set[Node] = set()
        # No two roots are the same revision, and no two siblings.
        self._roots: dict[Revision, Node] = {}
        self._children: dict[Node, dict[bytes, Node]] = {}
        self._known: dict[Revision, list[Node]] = {}
        nodes = each_node(tree)
        for node in nodes:
            self._children[node] = {}
        for node in nodes:
            self._link(node)
        self._live: int = sum(not leaf.deleted for leaf in tree)

    def _link(self, node: Node) -> None:
        """Enter a node into the indexes. Its parent is in them already."""
        revision = node.revision
        if node.parent is None:
            self._roots[revision] = node
        else:
            self._children[node.parent][node.id] = node
        known = self._known.get(revision)
        if known is None:
            self._known[revision] = [node]
        else:
            known.append(node)

    def tree(self) -> RevisionTree:
        """Return the current tree: the original one, if nothing has changed it."""
        if self._tree is None:
            self._tree = in_order(self._leaves)
            # The nodes belong to a tree now.
            self._own.clear()
        return self._tree

    def deleted_winner(self) -> Node | None:
        """Return the winner if all leaves are deleted. Return None if one is live, or if the tree is empty."""
        if self._live or not self._leaves:
            return None
        return max(self._leaves, key=lambda leaf: (leaf.position, leaf.id))

    def merge(
        self,
        position: int,
        ids: Sequence[bytes],
        *,
        deleted: bool,
        body: dict[str, object] | None,
        attachments: tuple[Attachment, ...] = (),
    ) -> Merged:
        """Merge a path: revision ``(position, ids[0])`` and its ancestors ``ids[1:]``, newest first.

        Known revisions keep their bodies. A revision of which only the id was known takes the new body. A tree that
        starts above the path gains its older history.
        """
        tip = Node(position, ids[0], deleted, body, attachments)
        found = self._aligned(position, ids)
        if found is None:
            was_empty = not self._leaves
            self._add(None, tip, ids)
            return Merged.NEW_LEAF if was_empty else Merged.NEW_BRANCH
        # The index of the node's id in ``ids``.
        node, index = found
        if node.parent is None and index + 1 < len(ids):
            node = self._extended_down(node, ids[index + 1 :])
        node, index = self._followed(node, index, ids)
        if index == 0:
            self._fill(node, tip)
            return Merged.INTERNAL_NODE
        merged = Merged.NEW_BRANCH if self._children[node] else Merged.NEW_LEAF
        self._add(node, tip, ids[:index])
        return merged

    def adds_leaf(self, position: int, ids: Sequence[bytes]) -> bool:
        """Return whether a merge of this path would return ``NEW_LEAF``."""
        found = self._aligned(position, ids)
        if found is None:
            return not self._leaves
        node, index = self._followed(*found, ids)
        return index > 0 and not self._children[node]

    def merge_line(self, line: Sequence[Node]) -> None:
        """Merge a revision and its ancestors, newest first, with the bodies of all."""
        tip = line[0]
        ids = [node.id for node in line]
        self.merge(tip.position, ids, deleted=tip.deleted, body=tip.body, attachments=tip.attachments)
        found = self._aligned(tip.position, ids)
        assert found is not None
        node, index = found
        while True:
            node = self._fill(node, line[index])
            if index == 0:
                return
            index -= 1
            node = self._children[node][ids[index]]

    def _aligned(self, position: int, ids: Sequence[bytes]) -> tuple[Node, int] | None:
        """Return the first node that a root's tree shares with a path, and the index of its id. The lowest root wins.

        CouchDB looks for it at one position: where the path starts, or where the root does if that is higher.
        """
        last = len(ids) - 1
        start = position - last
        above_roots = [node for node in self._known.get((start, ids[last]), ()) if node.parent is not None]
        if above_roots:
            return (above_roots[0] if len(above_roots) == 1 else min(above_roots, key=_search_place)), last
        for index in range(last, -1, -1):
            root = self._roots.get((position - index, ids[index]))
            if root is not None:
                return root, index
        return None

    def _followed(self, node: Node, index: int, ids: Sequence[bytes]) -> tuple[Node, int]:
        """Return the last node that a path shares with a tree, and the index of its id."""
        while index > 0:
            following = self._children[node].get(ids[index - 1])
            if following is None:
                break
            node, index = following, index - 1
        return node, index

    def _add(self, parent: Node | None, tip: Node, ids: Sequence[bytes]) -> None:
        """Add a leaf with the ancestors that are new."""
        chain(parent, tip, ids)
        self._tree = None
        for node in reversed([node for node, _ in zip(tip.path(), ids, strict=False)]):
            self._children[node] = {}
            self._own.add(node)
            self._link(node)
        if parent is not None and parent in self._leaves:
            del self._leaves[parent]
            self._live -= not parent.deleted
        self._leaves[tip] = None
        self._live += not tip.deleted

    def _extended_down(self, root: Node, older: Sequence[bytes]) -> Node:
        """Give a root older history, newest first. Return the node that replaces the root."""
        del self._roots[root.revision]
        node = self._owned(root)
        self._roots.pop(root.revision, None)
        below: Node | None = None
        for offset in range(len(older), 0, -1):
            below = Node(root.position - offset, older[offset - 1], parent=below)
            self._children[below] = {}
            self._own.add(below)
            self._link(below)
        assert below is not None
        node.parent = below
        self._children[below][node.id] = node
        self._tree = None
        return node

    def _fill(self, node: Node, source: Node) -> Node:
        """Give a node a body if it has none. Return the node that replaces it."""
        if node.has_body or not source.has_body:
            return node
        node = self._owned(node)
        if node in self._leaves:
            self._live += (not source.deleted) - (not node.deleted)
        node.deleted, node.body, node.attachments = source.deleted, source.body, source.attachments
        self._tree = None
        return node

    def _owned(self, node: Node) -> Node:
        """Return the editor's own copy of a node, which may be changed. The nodes above it move onto the copy."""
        if node in self._own:
            return node
        copy = self._copied(node, node.parent)
        pending = [copy]
        while pending:
            parent = pending.pop()
            for child in list(self._children[parent].values()):
                if child in self._own:
                    # Everything above it is the editor's own, too.
                    child.parent = parent
                else:
                    pending.append(self._copied(child, parent))
        return copy

    def _copied(self, node: Node, parent: Node | None) -> Node:
        copy = node.with_parent(parent)
        self._own.add(copy)
        self._children[copy] = self._children.pop(node)
        self._known[node.revision].remove(node)
        self._link(copy)
        if node in self._leaves:
            del self._leaves[node]
            self._leaves[copy] = None
        return copy


def _search_place(node: Node) -> tuple[int, list[bytes]]:
    """Return where a search of the trees finds a node: the lowest root first, then by the ids from the root up."""
    ids = [ancestor.id for ancestor in node.path()]
    ids.reverse()
    return node.position - len(ids), ids
