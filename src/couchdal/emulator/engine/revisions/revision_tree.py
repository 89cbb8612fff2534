"""The revision tree of one document: merging, winners, stemming and removing leaves.

Replicas edit the same document independently, which creates branches. Each replica may receive the branches of the
others in any order, and all must arrive at the same tree and the same winner. A document is really a forest: branches
share the revisions from before they parted, and stemming cuts off old history, which leaves trees that start above
position 1.

A tree is the tuple of its leaves. Each leaf links to its ancestors. Nodes never change; an edit makes a new tuple that
shares the old nodes. The leaves are in the order of CouchDB's ``couch_key_tree``: roots from the highest start down,
siblings by id, depth first. ``revision_lookup`` finds revisions in a tree. The module knows nothing of documents,
sequences or storage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from sys import maxsize
from typing import TYPE_CHECKING, Any, TypeAlias

from couchdal.emulator.engine.revisions.revision import Revision, format_revision

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.attachment import Attachment


#: Copies a JSON value of one kind.
Copier: TypeAlias = Callable[[Any], object]


class Node:
    """One revision in a tree. ``body`` is None if only the id is known. Immutable once it is in a tree.

    ``copiers`` are the members of the body that readers must copy, each with the function that copies it. The first
    reader sets them.
    """

    __slots__ = ("_rev", "attachments", "body", "copiers", "deleted", "id", "parent", "position")

    def __init__(
        self,
        position: int,
        id: bytes,
        deleted: bool = False,
        body: dict[str, object] | None = None,
        attachments: tuple[Attachment, ...] = (),
        *,
        parent: Node | None = None,
    ) -> None:
        self.position: int = position
        self.id: bytes = id
        self.parent: Node | None = parent
        self.deleted: bool = deleted
        self.body: dict[str, object] | None = body
        self.attachments: tuple[Attachment, ...] = attachments
        self.copiers: tuple[tuple[str, Copier], ...] | None = None
        self._rev: str | None = None

    @property
    def revision(self) -> Revision:
        return self.position, self.id

    @property
    def rev(self) -> str:
        """The revision's text, such as ``2-abc``."""
        if self._rev is None:
            self._rev = format_revision(self.position, self.id)
        return self._rev

    def path(self) -> Iterator[Node]:
        """Yield this node and its ancestors, newest first."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def with_parent(self, parent: Node | None) -> Node:
        return Node(self.position, self.id, self.deleted, self.body, self.attachments, parent=parent)

    def __repr__(self) -> str:
        return f"Node({self.rev!r}{', deleted' if self.deleted else ''})"


RevisionTree: TypeAlias = tuple[Node, ...]
Children: TypeAlias = dict["Node | None", list[Node]]


class Merged(Enum):
    """The effect of a merge on the tree: CouchDB's ``new_leaf``, ``new_branch`` or ``internal_node``."""

    NEW_LEAF = "new_leaf"
    NEW_BRANCH = "new_branch"
    INTERNAL_NODE = "internal_node"


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
    """Merge a path into a tree: revision ``(position, ids[0])`` and its ancestors ``ids[1:]``, newest first.

    Known revisions keep their bodies. A revision of which only the id was known takes the new body. A tree that starts
    above the path gains its older history.
    """
    tip = Node(position, ids[0], deleted, body, attachments)
    if not tree:
        return (_chain(None, tip, ids),), Merged.NEW_LEAF
    if len(ids) == 2 and len(tree) == 1:
        # The usual edit: one more revision on top of the only leaf.
        leaf = tree[0]
        if leaf.position == position - 1 and leaf.id == ids[1]:
            tip.parent = leaf
            return (tip,), Merged.NEW_LEAF
    children = _children(tree)
    oldest_first = list(reversed(ids))
    start = position - len(ids) + 1
    for root in children[None]:
        found = _align(children, root, start, oldest_first)
        if found is not None:
            return _merge_into(tree, children, found, tip, oldest_first)
    return _ordered((*tree, _chain(None, tip, ids))), Merged.NEW_BRANCH


def _chain(parent: Node | None, tip: Node, ids: Sequence[bytes]) -> Node:
    """Put a new node on top of ``parent``, and nodes without bodies between them. ``ids`` are newest first."""
    for offset in range(len(ids) - 1, 0, -1):
        parent = Node(tip.position - offset, ids[offset], parent=parent)
    tip.parent = parent
    return tip


def _children(tree: Iterable[Node]) -> Children:
    """Return the children of each node by id. The children of None are the roots, lowest start first."""
    children: Children = {None: []}
    for leaf in tree:
        for node in leaf.path():
            if node in children:
                break
            children[node] = []
    for child in children:
        if child is not None:
            children[child.parent].append(child)
    for siblings in children.values():
        siblings.sort(key=lambda sibling: (sibling.position, sibling.id))
    return children


def _align(children: Children, root: Node, start: int, ids: list[bytes]) -> tuple[Node, int] | None:
    """Return the first node that a tree shares with the path, and its index in the path. Return None without one."""
    if start <= root.position:
        index = root.position - start
        return (root, index) if index < len(ids) and ids[index] == root.id else None
    level = [root]
    position = root.position
    while level and position < start:
        level = [child for node in level for child in children[node]]
        position += 1
    return next(((node, 0) for node in level if node.id == ids[0]), None)


def _merge_into(
    tree: RevisionTree, children: Children, found: tuple[Node, int], tip: Node, ids: list[bytes]
) -> tuple[RevisionTree, Merged]:
    """Merge a path into the tree with which it shares a node. ``found`` is that node and its index in the path."""
    node, index = found
    replaced: dict[Node, Node] = {}
    below: Node | None = None
    if index > 0:
        # The path contains the history before this tree's root.
        oldest = node.position - index
        for offset, rev_id in enumerate(ids[:index]):
            below = Node(oldest + offset, rev_id, parent=below)
        replaced[node] = node.with_parent(below)
    while index + 1 < len(ids):
        following = next((child for child in children[node] if child.id == ids[index + 1]), None)
        if following is None:
            break
        node, index = following, index + 1
    if index + 1 == len(ids):
        if node.body is None and tip.body is not None:
            tip.parent = _rebuilt(node.parent, replaced) if node.parent is not None else below
            replaced[node] = tip
        rebuilt = _rebuild(tree, replaced)
        return (_ordered(rebuilt) if below is not None else rebuilt), Merged.INTERNAL_NODE
    leaves = _rebuild((*tree, node), replaced)
    tip = _chain(leaves[-1], tip, ids[:index:-1])
    if children[node]:
        return _ordered((*leaves[:-1], tip)), Merged.NEW_BRANCH
    kept = tuple(leaf for leaf in leaves[:-1] if leaf is not leaves[-1])
    return _ordered((*kept, tip)), Merged.NEW_LEAF


def _rebuild(leaves: RevisionTree, replaced: dict[Node, Node]) -> RevisionTree:
    """Return the leaves on top of replaced nodes. All descendants of a replaced node are made again."""
    if not replaced:
        return leaves
    return tuple(_rebuilt(leaf, replaced) for leaf in leaves)


def _rebuilt(leaf: Node, replaced: dict[Node, Node]) -> Node:
    line: list[Node] = []
    below: Node | None = None
    for node in leaf.path():
        below = replaced.get(node)
        if below is not None:
            break
        line.append(node)
    if below is None:
        return leaf
    for node in reversed(line):
        below = replaced[node] = node.with_parent(below)
    return below


def _ordered(leaves: Iterable[Node]) -> RevisionTree:
    """Return leaves in CouchDB's order. Branches of one root compare by the id where they part."""
    keyed = []
    for leaf in leaves:
        line = [node.id for node in leaf.path()]
        line.reverse()
        keyed.append((-(leaf.position - len(line) + 1), line, leaf))
    # Roots from high to low, of the same start too; then depth first, children ascending.
    keyed.sort(key=lambda entry: entry[1])
    keyed.sort(key=lambda entry: entry[1][0], reverse=True)
    keyed.sort(key=lambda entry: entry[0])
    return tuple(entry[2] for entry in keyed)


def stem(tree: RevisionTree, limit: int) -> RevisionTree:
    """Keep the ``limit`` newest revisions of each leaf's history. No leaf is lost.

    A path that bridges two trees leaves the same revisions in both. CouchDB joins them when it stems.
    """
    if len(tree) == 1:
        if tree[0].position <= limit:
            return tree
    elif _holds_twice(tree):
        return _joined(tree, limit)
    kept: dict[Node, None] = {}
    cut = False
    for leaf in tree:
        for depth, node in enumerate(leaf.path()):
            if depth >= limit:
                cut = True
                break
            kept[node] = None
    if not cut:
        return tree
    replaced = {node: node.with_parent(None) for node in kept if node.parent is not None and node.parent not in kept}
    return _ordered(_rebuild(tree, replaced))


def _holds_twice(tree: RevisionTree) -> bool:
    # CouchDB compares only ids, so the same id at two positions counts too.
    known = {node for leaf in tree for node in leaf.path()}
    return len({node.id for node in known}) < len(known)


def is_same(tree: RevisionTree, other: RevisionTree) -> bool:
    """Return whether two trees contain the same revisions, with bodies for the same ones."""
    if len(tree) != len(other):
        return False
    for leaf, known in zip(tree, other, strict=True):
        if leaf.id != known.id or leaf.position != known.position:
            return False
    return tree == other or _outline(tree) == _outline(other)


def _outline(tree: RevisionTree) -> list[list[tuple[int, bytes, bool]]]:
    return [[(node.position, node.id, node.body is None) for node in leaf.path()] for leaf in tree]


def _joined(tree: RevisionTree, limit: int) -> RevisionTree:
    """Merge the paths of all leaves again, from the lowest start up, with the bodies of their revisions."""
    # If two stemmed histories are equal, the full ones decide the order.
    leaves = sorted(tree, key=lambda leaf: [node.id for node in leaf.path()])
    lines = [list(islice(leaf.path(), min(limit, maxsize))) for leaf in leaves]
    lines.sort(key=lambda line: (line[-1].position, [node.id for node in line]))
    joined: RevisionTree = ()
    for line in lines:
        for index in range(len(line) - 1, -1, -1):
            node = line[index]
            if node.body is not None or index == 0:
                ids = [ancestor.id for ancestor in line[index:]]
                joined, _ = merge(
                    joined, node.position, ids, deleted=node.deleted, body=node.body, attachments=node.attachments
                )
    return joined


def nodes(tree: RevisionTree) -> Iterator[Node]:
    """Yield every node once: roots from the lowest start up, parents before children, children by id."""
    children = _children(tree)
    pending = list(reversed(children[None]))
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(children[node]))


def remove_leaves(tree: RevisionTree, revisions: Collection[Revision]) -> tuple[RevisionTree, list[Revision]]:
    """Remove the branches that end in the given leaves. Return the rest, and the revisions that were leaves."""
    removed = [leaf.revision for leaf in tree if leaf.revision in revisions]
    return tuple(leaf for leaf in tree if leaf.revision not in revisions), removed
