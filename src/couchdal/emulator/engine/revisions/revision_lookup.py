"""Lookup of revisions in the revision tree of one document.

A tree holds a revision twice if replicas sent two histories of it. Then lookups choose as CouchDB's ``couch_key_tree``
does. This module does not know documents, sequences or storage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter
from sys import maxsize

from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, children_of, each_node, nodes
from couchdal.emulator.engine.revisions.tree_editor import TreeEditor


def find(tree: RevisionTree, revision: Revision) -> Node | None:
    """Return the node of a revision, leaf or not. If there are two, return the first one above the lowest root."""
    if len(tree) == 1:
        return _on_path(tree[0], revision)
    found: Node | None = None
    position, rev_id = revision
    passed: set[Node] = set()
    for leaf in tree:
        node: Node | None = leaf
        while node is not None and node.position > position and node not in passed:
            passed.add(node)
            node = node.parent
        if node is None or node is found or node.position != position or node.id != rev_id:
            continue
        # Leaves come root by root, from the highest root down.
        if found is None or _root(node) is not _root(found):
            found = node
    return found


def first_nodes(tree: RevisionTree) -> dict[Revision, Node]:
    """Return the result of ``find`` for every revision of a tree. For many revisions, this is faster than ``find``."""
    first: dict[Revision, Node] = {}
    # A node of a lower root, or one that comes earlier below the same root, replaces the others.
    for node in reversed(list(nodes(tree))):
        first[node.revision] = node
    return first


class TreeIndex:
    """The revisions of one tree, for many lookups of one revision each."""

    __slots__ = ("_children", "_first")

    def __init__(self, tree: RevisionTree) -> None:
        self._first = first_nodes(tree)
        self._children = children_of(tree)

    def find(self, revision: Revision) -> Node | None:
        """Return the result of ``find`` for a revision."""
        return self._first.get(revision)

    def latest_leaves(self, revision: Revision) -> list[Node]:
        """Return the leaves at or above a revision, in the tree's order."""
        node = self._first.get(revision)
        pending = [] if node is None else [node]
        leaves = []
        while pending:
            node = pending.pop()
            above = self._children[node]
            pending.extend(reversed(above))
            if not above:
                leaves.append(node)
        return leaves


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


def find_all(tree: RevisionTree, revisions: Iterable[Revision]) -> tuple[list[Node], list[Revision]]:
    """Return the nodes of revisions, leaves or not, and the revisions that are not in the tree.

    Naming a revision twice searches for it twice.
    """
    wanted = Counter(revisions)
    found = []
    for node in nodes(tree):
        if wanted[node.revision]:
            wanted[node.revision] -= 1
            found.append(node)
    return found, list(wanted.elements())


def find_missing(tree: RevisionTree, revisions: Sequence[Revision]) -> list[Revision]:
    """Return the revisions that are not in the tree, sorted. Each node cancels one mention of its revision."""
    if len(revisions) == 1:
        return [] if find(tree, revisions[0]) is not None else [revisions[0]]
    known = Counter(node.revision for node in each_node(tree))
    return sorted((Counter(revisions) - known).elements())


def latest_leaves(tree: RevisionTree, revisions: Sequence[Revision]) -> tuple[list[Node], list[Revision]]:
    """Return the leaves at or above the given revisions, each once, and the revisions that are not in the tree.

    A second mention of a revision finds its second history.
    """
    if len(tree) == len(revisions) == 1:
        return (list(tree), []) if find(tree, revisions[0]) is not None else ([], list(revisions))
    wanted = Counter(revisions)
    above: set[Node] = set()
    for node in nodes(tree):
        count, below = wanted[node.revision], node.parent in above
        if count or below:
            above.add(node)
            # The node where CouchDB starts to collect leaves cancels two mentions.
            wanted[node.revision] = max(0, count - (1 if below else 2))
    return [leaf for leaf in tree if leaf in above], list(wanted.elements())


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
    if _need_no_order(found, missing, limit):
        editor = TreeEditor(tuple(found))
        for position, rev_id in missing:
            editor.merge(position, (rev_id,), deleted=False, body=None)
        leaves = set(found)
        return [leaf if leaf in leaves else leaf.revision for leaf in editor.tree()]
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
    editor = TreeEditor(())
    for position, ids, body in answers:
        editor.merge(position, ids, deleted=False, body=body)
    shown: list[Node | Revision] = []
    for leaf in editor.tree():
        original = leaf.body["leaf"] if leaf.body is not None else None
        shown.append(original if isinstance(original, Node) else leaf.revision)
    return shown


def _need_no_order(leaves: Sequence[Node], missing: Sequence[Revision], limit: int) -> bool:
    """Return whether the order of merges does not matter: no history is cut, and no revision comes from two places."""
    known = each_node(leaves)
    revisions = {node.revision for node in known}
    if len(revisions) < len(known) or not revisions.isdisjoint(missing):
        return False
    lengths: dict[Node | None, int] = {None: 0}
    for node in sorted(known, key=attrgetter("position")):
        lengths[node] = lengths[node.parent] + 1
    return all(lengths[leaf] <= limit for leaf in leaves)
