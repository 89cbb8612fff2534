"""A plain implementation of revision trees, to compare the fast one with.

Each merge looks at the whole tree, as CouchDB's does, and each answer follows from the paths of the leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from sys import maxsize

from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Children, Node, RevisionTree
from couchdal.emulator.engine.revisions.tree_editor import Merged


def merge(
    tree: RevisionTree,
    position: int,
    ids: Sequence[bytes],
    *,
    deleted: bool,
    body: dict[str, object] | None,
) -> tuple[RevisionTree, Merged]:
    """Merge a path into a tree: revision ``(position, ids[0])`` and its ancestors ``ids[1:]``, newest first.

    Known revisions keep their bodies. A revision of which only the id was known takes the new body. A tree that starts
    above the path gains its older history.
    """
    tip = Node(position, ids[0], deleted, body)
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
                joined, _ = merge(joined, node.position, ids, deleted=node.deleted, body=node.body)
    return joined


def find(tree: RevisionTree, revision: Revision) -> Node | None:
    """Return the node of a revision, leaf or not. If there are two, return the first one above the lowest root."""
    if len(tree) == 1:
        return _on_path(tree[0], revision)
    found: Node | None = None
    for leaf in tree:
        node = _on_path(leaf, revision)
        # Leaves come root by root, from the highest root down.
        if node is not None and node is not found and (found is None or _root(node) is not _root(found)):
            found = node
    return found


def _on_path(leaf: Node, revision: Revision) -> Node | None:
    position, rev_id = revision
    node: Node | None = leaf
    while node is not None and node.position > position:
        node = node.parent
    return node if node is not None and node.position == position and node.id == rev_id else None


def _root(node: Node) -> Node:
    while node.parent is not None:
        node = node.parent
    return node


def merge_answers(
    found: Sequence[Node], missing: Sequence[Revision], limit: int, *, newest_first: bool = False
) -> list[Node | Revision]:
    """Return the found leaves and the missing revisions as CouchDB shows them, in a tree's order.

    CouchDB merges its nodes' answers into one tree, each history cut to the ``limit`` newest revisions, and shows the
    leaves of that tree. If a lowered limit cuts off the point where two branches part, one may hide the other.
    """
    if len(found) + len(missing) < 2:
        return [*found, *missing]
    limit = min(limit, maxsize)
    answers: list[tuple[int, list[bytes], dict[str, object] | None]] = []
    for leaf in found:
        answers.append((leaf.position, [node.id for node in islice(leaf.path(), limit)], {"leaf": leaf}))
    answers += ((position, [rev_id], None) for position, rev_id in missing)
    if newest_first:
        # If a revision was both found and missing, the found one comes later.
        answers.sort(key=lambda answer: (answer[0], answer[1][0]))
        answers.reverse()
    else:
        answers.sort(key=lambda answer: (answer[0] - len(answer[1]), answer[1][::-1]))
    tree: RevisionTree = ()
    for position, ids, body in answers:
        tree, _ = merge(tree, position, ids, deleted=False, body=body)
    shown: list[Node | Revision] = []
    for leaf in tree:
        original = leaf.body["leaf"] if leaf.body is not None else None
        shown.append(original if isinstance(original, Node) else leaf.revision)
    return shown
