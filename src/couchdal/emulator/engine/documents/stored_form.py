"""The form in which a data file stores a document: its revision tree as JSON, and its bodies and attachments apart.

A tree is a list of lines, one for each leaf, in the order of the leaves: the position of the leaf, the ids down to the
root or to a line before, that line and the index in it (or None), and for each revision with more than its id, by its
index: flags and attachments. It does not know where the parts are stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, each_node

_DELETED, _HAS_BODY, _IS_WINNER = 1, 2, 4
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)

_Body: TypeAlias = dict[str, object]
#: Bodies and attachments by their addresses within their document.
Parts: TypeAlias = tuple[dict[str, _Body], dict[str, bytes]]


def encode(value: object) -> bytes:
    """Return a JSON value as ASCII text, exactly: also lone surrogates, long integers and the order of members."""
    return _ENCODER.encode(value).encode("ascii")


def decode(data: bytes) -> Any:
    """Return the value that ``encode`` got."""
    return json.loads(data)


def parts_of(record: DocumentRecord) -> Parts:
    """Return the bodies but that of the winner, and the attachments."""
    tree = record.tree
    only = tree[0]
    if len(tree) == 1 and only.parent is None and not only.attachments:
        return {}, {}
    bodies: dict[str, _Body] = {}
    attachments: dict[str, bytes] = {}
    for node, address in _addresses(tree).items():
        if node.body is not None and node is not record.winner:
            bodies[address] = node.body
        for one in node.attachments:
            attachments[_address(one)] = one.data or b""
    return bodies, attachments


def encode_head(record: DocumentRecord) -> bytes:
    """Return the revision tree in its stored form, without bodies and data."""
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


def _mark(node: Node, winner: Node) -> list[object]:
    flags = node.deleted * _DELETED + (node.body is not None) * _HAS_BODY + (node is winner) * _IS_WINNER
    if node.attachments:
        return [flags, [_described(one) for one in node.attachments]]
    return [flags] if flags else []


def _described(one: Attachment) -> list[object]:
    kind = [one.name, one.content_type, one.revpos, one.length]
    return [*kind, one.encoding, one.digest.hex(), one.packed, len(one.data or b"")]


def _address(one: Attachment) -> str:
    return f"{one.digest.hex()}-{len(one.data or b'')}-{one.encoding}"


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


class StoredParts(NamedTuple):
    """The stored bodies and attachments of a document, by their addresses."""

    bodies: Mapping[str, bytes]
    attachments: Mapping[str, bytes]


def decode_record(doc_id: str, seq: int, head: bytes, body: bytes, find: Callable[[], StoredParts]) -> DocumentRecord:
    """Return a record from its stored form. ``find`` returns the parts; most documents have none.

    Raise ``KeyError`` if a part is missing.
    """
    parts: StoredParts | None = None
    lines: list[list[Node]] = []
    seen: dict[Revision, int] = {}
    for position, ids, joint, marks in decode(head):
        line = _line(position, ids.split(","), None if joint is None else lines[joint[0]][joint[1]])
        lines.append(line)
        for index, node in enumerate(line):
            count = seen[node.revision] = seen.get(node.revision, 0) + 1
            flags, *attachments = marks.get(str(index), (0,))
            node.deleted = bool(flags & _DELETED)
            if flags & _IS_WINNER and flags & _HAS_BODY:
                node.body = decode(body)
            elif flags & _HAS_BODY:
                parts = parts or find()
                node.body = decode(parts.bodies[_body_address(node, count)])
            if attachments:
                parts = parts or find()
                node.attachments = tuple(_attachment(described, parts.attachments) for described in attachments[0])
    return DocumentRecord(doc_id, tuple(line[0] for line in lines), seq)


def _line(position: int, ids: Sequence[str], parent: Node | None) -> list[Node]:
    """Return the nodes of a line, newest first."""
    line = []
    for age in range(len(ids) - 1, -1, -1):
        parent = Node(position - age, bytes.fromhex(ids[age]), parent=parent)
        line.append(parent)
    line.reverse()
    return line


def _attachment(described: Sequence[Any], data: Mapping[str, bytes]) -> Attachment:
    name, content_type, revpos, length, encoding, digest, packed, size = described
    found = data[f"{digest}-{size}-{encoding}"]
    return Attachment(
        name, content_type, found, revpos, length, encoding, bytes.fromhex(digest), stored=True, packed=packed
    )
