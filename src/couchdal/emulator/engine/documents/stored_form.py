"""The form in which a data file stores a document: its revision tree, and its bodies and attachments apart.

A tree is stored as JSON: a list with one line for each leaf, in the order of the leaves. A line is a list of

* the position of the leaf
* the ids from the leaf down to the root, or down to a revision that an earlier line has
* the number of that earlier line and the index of the revision in it, or None
* an object with the flags and attachments of revisions, by their index in this line

Most trees have only one live first revision. Such a tree is stored as the bytes of its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.stored_record import (
    Find,
    Read,
    StoredBody,
    StoredData,
    StoredNode,
    StoredRecord,
    attachment_in_file,
)
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, each_node
from couchdal.emulator.storage.sqlite_values import StoredRow, as_text, decode, encode

_DELETED, _HAS_BODY, _IS_WINNER = 1, 2, 4
# The length of usual ids. A tree that is stored as JSON is always longer.
_ID_BYTES = 16

#: The revisions whose bodies are stored separately, and the attachments, by their addresses within their document.
Parts: TypeAlias = tuple[Mapping[str, Node], Mapping[str, Attachment]]
NO_PARTS: Parts = ({}, {})


def parts_of(record: DocumentRecord) -> Parts:
    """Return the revisions with bodies but the winner, and the attachments."""
    tree = record.tree
    only = tree[0]
    if len(tree) == 1 and only.parent is None and not only.attachments:
        return NO_PARTS
    bodies: dict[str, Node] = {}
    attachments: dict[str, Attachment] = {}
    for node, address in _addresses(tree).items():
        if node is not record.winner and node.has_body:
            bodies[address] = node
        for one in node.attachments:
            attachments[_address(one)] = one
    return bodies, attachments


def encode_head(record: DocumentRecord) -> bytes:
    """Return the revision tree in its stored form, without bodies and data."""
    leaf = record.winner
    if leaf.position == 1 and len(record.tree) == 1 and _is_simple(leaf):
        return leaf.id
    places: dict[Node, tuple[int, int]] = {}
    lines: list[object] = []
    for leaf in record.tree:
        ids: list[str] = []
        marks: dict[str, list[object]] = {}
        node: Node | None = leaf
        while node is not None and node not in places:
            places[node] = len(lines), len(ids)
            mark = _mark(node, record.winner)
            if mark:
                marks[str(len(ids))] = mark
            ids.append(node.id.hex())
            node = node.parent
        lines.append([leaf.position, ",".join(ids), places[node] if node is not None else None, marks])
    return encode(lines)


def _is_simple(leaf: Node) -> bool:
    return (
        len(leaf.id) == _ID_BYTES
        and leaf.parent is None
        and not leaf.deleted
        and not leaf.attachments
        and leaf.has_body
    )


def encode_body(node: Node) -> bytes:
    """Return the body of a revision in its stored form, without decoding one that was read from a file."""
    if isinstance(node, StoredNode) and node.stored is not None:
        return node.stored.text()
    return encode(node.body)


def _mark(node: Node, winner: Node) -> list[object]:
    flags = node.deleted * _DELETED + node.has_body * _HAS_BODY + (node is winner) * _IS_WINNER
    if node.attachments:
        return [flags, [_described(one) for one in node.attachments]]
    return [flags] if flags else []


def _described(one: Attachment) -> list[object]:
    kind = [one.name, one.content_type, one.revpos, one.length]
    address = _address(one)
    # Most addresses follow from the other values.
    own = [address] if address.startswith("@") else []
    return [*kind, one.encoding, one.digest.hex(), one.packed, one.stored_size, *own]


def _address(one: Attachment) -> str:
    return one.address or f"{one.digest.hex()}-{one.stored_size}-{one.encoding}"


def _addresses(tree: RevisionTree) -> dict[Node, str]:
    """Return the address of each node's body: the revision, and a number if a tree has it more than once."""
    found: dict[Node, str] = {}
    seen: dict[Revision, int] = {}
    for node in each_node(tree):
        count = seen[node.revision] = seen.get(node.revision, 0) + 1
        found[node] = _body_address(node, count)
    return found


def _body_address(node: Node, count: int) -> str:
    return f"{node.position}-{node.id.hex()}" + (f"-{count}" if count > 1 else "")


def decode_record(row: StoredRow, find_body: Find, read_data: Read) -> DocumentRecord:
    """Return a record from its stored form. ``find_body`` and ``read_data`` read its other parts later."""
    doc_id, seq, head, body = row
    if len(head) == _ID_BYTES:
        only = StoredNode(1, head, parent=None)
        only.stored = StoredBody(body)
        return StoredRecord(as_text(doc_id), (only,), seq)
    lines: list[list[StoredNode]] = []
    seen: dict[Revision, int] = {}
    data: dict[str, StoredData] = {}
    for position, ids, joint, marks in decode(head):
        line = _line(position, ids.split(","), None if joint is None else lines[joint[0]][joint[1]])
        lines.append(line)
        for index, node in enumerate(line):
            count = seen[node.revision] = seen.get(node.revision, 0) + 1
            flags, *attachments = marks.get(str(index), (0,))
            node.deleted = bool(flags & _DELETED)
            if flags & _IS_WINNER and flags & _HAS_BODY:
                node.stored = StoredBody(body)
            elif flags & _HAS_BODY:
                node.stored = StoredBody(None, find_body, _body_address(node, count))
            if attachments:
                node.attachments = tuple(_attachment(described, read_data, data) for described in attachments[0])
    return StoredRecord(as_text(doc_id), tuple(line[0] for line in lines), seq)


def _line(position: int, ids: Sequence[str], parent: Node | None) -> list[StoredNode]:
    """Return the nodes of a line, newest first."""
    line = []
    for age in range(len(ids) - 1, -1, -1):
        parent = StoredNode(position - age, bytes.fromhex(ids[age]), parent=parent)
        line.append(parent)
    line.reverse()
    return line


def _attachment(described: Sequence[Any], read: Read, known: dict[str, StoredData]) -> Attachment:
    name, content_type, revpos, length, encoding, digest, packed, size, *own = described
    address = own[0] if own else f"{digest}-{size}-{encoding}"
    data = known.get(address) or known.setdefault(address, StoredData(read, address, size))
    one = Attachment(name, content_type, None, revpos, length, encoding, bytes.fromhex(digest), packed=packed)
    return attachment_in_file(one, data)
