"""Documents that were read from a data file. Their bodies and attachments are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree
from couchdal.emulator.engine.revisions.revision_tree import winner
from couchdal.emulator.storage.sqlite_values import decode

#: Returns the stored body at an address.
Find = Callable[[str], bytes]
#: Yields some bytes of the stored data at an address.
Read = Callable[[str, range], Iterator[bytes]]


class StoredBody:
    """The JSON text of a body: the text that was read, or the address to read it from."""

    __slots__ = ("_address", "_find", "_text")

    def __init__(self, text: bytes | None, find: Find | None = None, address: str = "") -> None:
        self._text = text
        self._find = find
        self._address = address

    def text(self) -> bytes:
        """Return the text. It is not kept if it was not read with the document."""
        if self._text is not None:
            return self._text
        assert self._find is not None
        return self._find(self._address)


class StoredNode(Node):
    """A revision whose body is decoded when it is needed."""

    __slots__ = ("_body", "stored")

    _body: dict[str, object] | None

    def __init__(self, position: int, id: bytes, *, parent: Node | None) -> None:
        #: Where the body is, if the file has it.
        self.stored: StoredBody | None = None
        super().__init__(position, id, parent=parent)

    @property
    def body(self) -> dict[str, object] | None:
        if self._body is None and self.stored is not None:
            self._body = decode(self.stored.text())
        return self._body

    @body.setter
    def body(self, body: dict[str, object] | None) -> None:
        self._body = body
        self.stored = None

    @property
    def has_body(self) -> bool:
        return self.stored is not None or self._body is not None

    def with_parent(self, parent: Node | None) -> Node:
        node = StoredNode(self.position, self.id, parent=parent)
        node.deleted, node.attachments = self.deleted, self.attachments
        node._body, node.stored = self._body, self.stored
        return node


def body_id(node: Node) -> int:
    """Return a number that identifies the body of a node. Nodes that share a body share it. This reads no body."""
    return id(node.stored if isinstance(node, StoredNode) and node.stored is not None else node.body)


class StoredData:
    """The data of an attachment in a file."""

    __slots__ = ("_read", "address", "size")

    def __init__(self, read: Read, address: str, size: int) -> None:
        self.size: int = size
        self.address: str = address
        self._read = read

    def parts(self, first: int, end: int) -> Iterator[bytes]:
        # The first one is negative if a client asks for more of the last bytes than there are.
        return self._read(self.address, range(self.size)[first:end])


class StoredAttachment(Attachment):
    """An attachment whose data is read when it is needed."""

    __slots__ = ("_data",)

    _data: bytes | StoredData | None

    @property
    def data(self) -> bytes | None:
        data = self._data
        return b"".join(data.parts(0, data.size)) if isinstance(data, StoredData) else data

    @data.setter
    def data(self, data: bytes | StoredData | None) -> None:
        object.__setattr__(self, "_data", data)

    @property
    def address(self) -> str | None:
        return self._data.address if isinstance(self._data, StoredData) else None

    def stored_parts(self, first: int, end: int) -> Iterator[bytes]:
        return self._data.parts(first, end) if isinstance(self._data, StoredData) else super().stored_parts(first, end)

    @property
    def stored_size(self) -> int:
        return self._data.size if isinstance(self._data, StoredData) else len(self._data or b"")

    @property
    def stored_id(self) -> int:
        return id(self._data)

    @property
    def is_stub(self) -> bool:
        return False


def attachment_in_file(described: Attachment, data: StoredData) -> StoredAttachment:
    """Return an attachment whose data is in a file. ``described`` has the other values."""
    one = described
    found = StoredAttachment(
        one.name,
        one.content_type,
        None,
        one.revpos,
        one.length,
        one.encoding,
        one.digest,
        stored=True,
        packed=one.packed,
    )
    object.__setattr__(found, "data", data)
    return found


class StoredRecord(DocumentRecord):
    """A document that was read from a file."""

    __slots__ = ()

    def __init__(self, doc_id: str, tree: RevisionTree, seq: int) -> None:
        self.doc_id = doc_id
        self.tree = tree
        self.seq = seq
        self.winner: Node = winner(tree)
        self.deleted: bool = self.winner.deleted

    @property
    def body(self) -> dict[str, object]:  # type: ignore[override]
        return self.winner.body or {}
