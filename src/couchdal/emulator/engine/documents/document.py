"""One document: parsing the JSON that a client sends, and writing the JSON that it gets.

This module does not know databases or requests. Source: ``couch_doc``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.json_size import encoded_size
from couchdal.emulator.engine.revisions.revision import Revision, format_revision_id, parse_revision, parse_revision_id
from couchdal.emulator.engine.revisions.revision_node import Copier, Node, RevisionTree
from couchdal.emulator.engine.revisions.revision_tree import winner
from couchdal.errors import BadRequest, DocValidation, IllegalDocId, ServerError, TooLarge
from couchdal.http.json_text import holds_surrogate
from couchdal.pace import MOST_VALUES, begin_large, give_way_for, size_of

if TYPE_CHECKING:
    from couchdal.emulator.engine.config.settings import Settings
    from couchdal.emulator.engine.documents.attachment import Attachment

# Values of these types never change and are shown as they are stored.
_SHARED = frozenset((str, int, bool, type(None)))

# Members that CouchDB accepts and drops, because it computes them. Below, those that replicator documents keep.
_DROPPED = frozenset(("_revs_info", "_local_seq", "_conflicts", "_deleted_conflicts"))
_KEPT = frozenset(
    (
        "_access",
        "_replication_state",
        "_replication_state_time",
        "_replication_state_reason",
        "_replication_id",
        "_replication_stats",
    )
)


class DocumentRecord:
    """One document in a database: its revision tree and the update sequence of its last change. Immutable."""

    __slots__ = ("body", "deleted", "doc_id", "seq", "tree", "winner")

    def __init__(self, doc_id: str, tree: RevisionTree, seq: int) -> None:
        self.doc_id: str = doc_id
        self.tree: RevisionTree = tree
        self.seq: int = seq
        self.winner: Node = winner(tree)
        self.body: dict[str, object] = self.winner.body or {}
        # If the winner is deleted, no leaf is live.
        self.deleted: bool = self.winner.deleted


class Document:
    """A document that a client sent. ``position`` and ``ids`` name the revision that it is or edits, newest id first.

    ``term`` is the body's external term, from which revision ids are computed.
    """

    __slots__ = ("attachments", "body", "deleted", "doc_id", "ids", "position", "term")

    def __init__(
        self,
        doc_id: str,
        body: dict[str, object],
        *,
        position: int = 0,
        ids: Sequence[bytes] = (),
        deleted: bool = False,
        attachments: tuple[Attachment, ...] = (),
        term: bytes | None = None,
    ) -> None:
        self.doc_id: str = doc_id
        self.body: dict[str, object] = body
        self.position: int = position
        self.ids: Sequence[bytes] = ids
        self.deleted: bool = deleted
        self.attachments: tuple[Attachment, ...] = attachments
        self.term: bytes = encode_term(body) if term is None else term

    @property
    def revision(self) -> Revision | None:
        return (self.position, self.ids[0]) if self.ids else None

    @property
    def named(self) -> tuple[int, bytes | int] | None:
        """The revision that an edit names. A position without an id counts, too, with 0 in place of the id."""
        return (self.position, self.ids[0]) if self.ids else (self.position, 0) if self.position else None

    @property
    def is_local(self) -> bool:
        return self.doc_id.startswith("_local/")


def validate_doc_id(doc_id: object) -> str:
    """Return a document id if CouchDB accepts it, else raise ``IllegalDocId``."""
    if type(doc_id) is not str:
        raise IllegalDocId("Document id must be a string")
    if doc_id[:1] != "_" and doc_id and doc_id.isascii():
        return doc_id
    if doc_id == "":
        raise IllegalDocId("Document id must not be empty")
    if doc_id in ("_design/", "_local/"):
        raise IllegalDocId(f"Illegal document id `{doc_id}`")
    if holds_surrogate(doc_id):
        raise IllegalDocId("Document id must be valid UTF-8")
    if doc_id.startswith("_") and not doc_id.startswith(("_design/", "_local/")):
        raise IllegalDocId("Only reserved document ids may start with underscore.")
    return doc_id


# Names of members that do not begin with an underscore. Bounded, because names need not repeat.
_plain_names: set[str] = set()
_PLAIN_NAMES_LIMIT = 4096
_LONGEST_KEPT = 256


def parse_document(value: object, settings: Settings) -> Document:
    """Return the document of a JSON value, as ``couch_doc:from_json_obj`` does. Its id is ``""`` if it names none.

    The value becomes the document's body, so the caller must not use it again. Raise ``BadRequest`` (not an object, or
    a bad ``_rev``), ``IllegalDocId``, ``DocValidation`` (an unknown underscore member), ``TooLarge``, or
    ``ServerError`` (an integer beyond the range of a double).
    """
    if type(value) is not dict:
        raise BadRequest("Document must be a JSON object")
    # CouchDB checks members in their order. If the id is not the first, the error of another may come before its own.
    doc_id = validate_doc_id(value.pop("_id")) if next(iter(value), None) == "_id" else ""
    try:
        document = Document(doc_id, value) if value.keys() <= _plain_names else _parse_members(doc_id, value)
    except OverflowError:
        raise ServerError("badarith") from None
    most = settings.max_document_size
    # If the external term is shorter than this, the JSON text is below the limit: numbers shrink most, by half.
    if len(document.term) > most // 4 and encoded_size(document.body) > most:
        raise TooLarge(document.doc_id, error="document_too_large")
    if document.attachments:
        check_sizes(document.attachments, settings.max_attachment_size)
    return document


def check_sizes(attachments: Sequence[Attachment], most: float, *, writes: bool = False) -> None:
    """Raise ``TooLarge`` for an attachment that is larger than CouchDB's settings allow.

    Raise ``ServerError`` if the limit ``most`` is not a number. ``writes`` is true for an attachment that is sent
    alone, for which CouchDB's error word differs.
    """
    if most != most:
        error = ServerError("internal_server_error", error="error" if writes else "unknown_error")
        error.is_traced = False
        raise error
    for attachment in attachments:
        size = attachment.size if attachment.follows else attachment.length
        if type(size) is int and size > most:
            raise TooLarge(attachment.name, error="attachment_too_large")


def _parse_members(doc_id: str, value: dict[str, object]) -> Document:
    special = [name for name in value if name[:1] == "_"]
    if len(_plain_names) < _PLAIN_NAMES_LIMIT:
        _plain_names.update(name for name in value.keys() - set(special) if len(name) <= _LONGEST_KEPT)
    position, deleted = 0, False
    ids: tuple[bytes, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    for name in special:
        member = value[name] if name in _KEPT else value.pop(name)
        if name == "_id":
            doc_id = validate_doc_id(member)
        elif name == "_rev":
            if (position, ids) == (0, ()):
                position, rev_id = parse_revision(member)
                ids = (rev_id,)
        elif name == "_revisions" and type(member) is dict:
            position, ids = parse_revisions(member)
        elif name == "_deleted" and type(member) is bool:
            deleted = member
        elif name == "_attachments" and type(member) is dict:
            attachments = _parse_attachments(member)
        elif name not in _DROPPED and name not in _KEPT:
            raise DocValidation(f"Bad special document member: {name}")
    return Document(doc_id, value, position=position, ids=ids, deleted=deleted, attachments=attachments)


def parse_revisions(member: Mapping[str, object]) -> tuple[int, tuple[bytes, ...]]:
    """Return the position and the ids, newest first, of a ``_revisions`` member. Raise ``DocValidation``."""
    start, ids = member.get("start"), member.get("ids")
    if type(start) is not int:
        raise DocValidation("_revisions.start isn't an integer.")
    if type(ids) is not list:
        raise DocValidation("_revisions.ids isn't a array.")
    return start, tuple(parse_revision_id(rev_id) for rev_id in ids)


def _parse_attachments(member: Mapping[str, object]) -> tuple[Attachment, ...]:
    from couchdal.emulator.engine.documents.attachment import from_json

    return tuple(from_json(name, described) for name, described in member.items() if type(described) is dict)


def revisions_member(node: Node, limit: int) -> dict[str, object]:
    """Return the ``_revisions`` member of a revision, with at most ``limit`` ids, newest first."""
    ids = [format_revision_id(ancestor.id) for ancestor, _ in zip(node.path(), range(limit), strict=False)]
    return {"start": node.position, "ids": ids}


# Copying a value with more than ``_FEW`` members may need pauses for other requests. With more than ``_MANY`` it takes
# long.
_FEW, _MANY = 16, 5000


def show_body(doc_id: str, node: Node) -> dict[str, object]:
    """Return ``_id``, ``_rev``, a copy of the body and ``_deleted``: the beginning of every document in an answer."""
    body = node.body
    if body and len(body) > _MANY:
        begin_large()
    if not body:
        shown: dict[str, object] = {"_id": doc_id, "_rev": node.rev}
        return {**shown, "_deleted": True} if node.deleted else shown
    if node.deleted:
        shown = {"_id": doc_id, "_rev": node.rev, **body, "_deleted": True}
    else:
        shown = {"_id": doc_id, "_rev": node.rev, **body}
    copiers = node.copiers
    if copiers is None:
        copiers = node.copiers = _copiers(body)
    for name, copy in copiers:
        shown[name] = copy()
    return shown


def _copiers(body: Mapping[str, object]) -> tuple[tuple[str, Copier], ...]:
    """Return the members that an answer must not share with the store, each with the function that copies it."""
    found = ((name, _copier(member)) for name, member in body.items())
    return tuple((name, copier) for name, copier in found if copier is not None)


def _copier(member: object) -> Copier | None:
    """Return the function that copies this value for an answer; None if the value can be shared."""
    if size_of(member, MOST_VALUES) > MOST_VALUES:
        return partial(_copy_large, member)
    if type(member) is dict and _SHARED.issuperset(map(type, member.values())):
        return member.copy
    if type(member) is list and _SHARED.issuperset(map(type, member)):
        return member.copy
    if type(member) is float and shown_float(member) is member:
        return None
    return None if type(member) in _SHARED else partial(copy_value, member)


def _copy_large(value: object) -> object:
    begin_large()
    return copy_value(value)


def copy_members(members: Mapping[str, object]) -> dict[str, object]:
    """Return a deep copy of a JSON object, so that nobody changes the store by changing an answer."""
    copied = dict(members)
    for name, member in members.items():
        if type(member) not in _SHARED:
            copied[name] = copy_value(member)
    return copied


def copy_value(value: object) -> object:
    """Return a deep copy of a JSON value, with floats as CouchDB shows them."""
    if type(value) is dict:
        if len(value) > _FEW:
            give_way_for(value)
        return copy_members(value)
    if type(value) is list:
        if len(value) > _FEW:
            give_way_for(value)
        return [item if type(item) in _SHARED else copy_value(item) for item in value]
    return shown_float(value) if type(value) is float else value


def shown_float(value: float) -> float:
    """Return a float as CouchDB writes it: without the sign of zero."""
    return value or 0.0
