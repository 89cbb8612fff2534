"""One revision of a document, and the order of the revisions in a tree.

A node links to its parent. A tree is the tuple of its leaves, in the order of CouchDB's ``couch_key_tree``: roots from
the highest start down, siblings by id, depth first. Nodes never change once they are in a tree. The module knows
nothing of merging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from couchdal.emulator.engine.revisions.revision import Revision, format_revision

if TYPE_CHECKING:
    from couchdal.emulator.engine.documents.attachment import Attachment


#: Returns a copy of one member of a body.
Copier: TypeAlias = Callable[[], object]


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
    def has_body(self) -> bool:
        """Whether more than the id is known. This reads no body from a file."""
        return self.body is not None

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
#: The children of each node; those of None are the roots.
Children: TypeAlias = dict["Node | None", list[Node]]


def each_node(tree: Iterable[Node]) -> dict[Node, None]:
    """Return every node of a tree once, as the keys of a dict, in no useful order."""
    known: dict[Node, None] = {}
    for leaf in tree:
        node: Node | None = leaf
        while node is not None and node not in known:
            known[node] = None
            node = node.parent
    return known


def children_of(tree: Iterable[Node]) -> Children:
    """Return the children of each node by id, and the roots from the lowest start up."""
    children: Children = {None: []}
    known = each_node(tree)
    for node in known:
        children[node] = []
    for node in known:
        children[node.parent].append(node)
    for siblings in children.values():
        if len(siblings) > 1:
            siblings.sort(key=_by_revision)
    return children


def _by_revision(node: Node) -> Revision:
    return node.position, node.id


def nodes(tree: RevisionTree) -> Iterator[Node]:
    """Yield every node once: roots from the lowest start up, parents before children, children by id."""
    children = children_of(tree)
    pending = list(reversed(children[None]))
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(children[node]))


def in_order(tree: Iterable[Node]) -> RevisionTree:
    """Return leaves in CouchDB's order. Branches of one root compare by the id where they part."""
    children = children_of(tree)
    roots = children[None]
    # The stack is read from its end: roots from high to low, and those of the same start from the greatest id down.
    pending = roots
    leaves = []
    while pending:
        node = pending.pop()
        above = children[node]
        if above:
            pending.extend(reversed(above))
        else:
            leaves.append(node)
    return tuple(leaves)
