"""Reading documents: the winner, one revision or several leaves, with the details that a reader wants.

This module does not know requests. Source: ``couch_db:open_doc*``, ``fabric_doc_open_revs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from couchdal.emulator.engine.documents.attachment import to_json
from couchdal.emulator.engine.documents.document import DocumentRecord, revisions_member, show_body
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.engine.revisions.revision import Revision, format_revision
from couchdal.emulator.engine.revisions.revision_lookup import (
    TreeIndex,
    find,
    find_all,
    find_missing,
    latest_leaves,
    merge_answers,
)
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.revisions.revision_tree import ranked_leaves
from couchdal.emulator.storage.base import LocalDocument
from couchdal.errors import NotFound
from couchdal.pace import give_way_for


@dataclass(frozen=True, slots=True)
class Shown:
    """The details of a document that a reader wants besides its body."""

    revs: bool = False
    most_revs: int | None = None
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    attachments: bool = False
    encoding_info: bool = False
    follows: bool = False
    atts_since: tuple[Revision, ...] | None = None

    @property
    def with_data(self) -> bool:
        """Whether the reader wants the data of attachments, of all or of the newer ones."""
        return self.attachments or self.atts_since is not None

    def of_revision(self) -> Shown:
        """Return the same without the details of the whole document, for revisions that a reader names."""
        if self is PLAIN:
            return self
        return replace(self, revs_info=False, conflicts=False, deleted_conflicts=False, local_seq=False)

    def following(self) -> Shown:
        """Return the same, with attachment data in the parts that follow the document."""
        return replace(self, attachments=True, encoding_info=True, follows=True)


PLAIN = Shown()
# The details that functions of design documents see.
FOR_FUNCTIONS = Shown(revs=True, most_revs=20)


def open_winner(db: DocumentStore, doc_id: str, *, deleted: bool = False) -> tuple[DocumentRecord, Node]:
    """Return a document and its winner. Raise ``NotFound("missing")``, or ``NotFound("deleted")`` unless allowed."""
    record = db.get(doc_id)
    if record is None:
        raise NotFound("missing")
    if record.deleted and not deleted:
        raise NotFound("deleted")
    if len(record.tree) == 1:
        return record, record.winner
    give_way_for(record.tree)
    # If a revision has two histories, CouchDB shows the winner's body with the history that it finds first.
    found = find(record.tree, record.winner.revision)
    if found is None or found is record.winner:
        return record, record.winner
    return record, record.winner.with_parent(found.parent)


def open_revision(db: DocumentStore, doc_id: str, revision: Revision) -> tuple[DocumentRecord, Node]:
    """Return a document and one of its revisions, leaf or not. Raise ``NotFound("missing")``."""
    record = db.get(doc_id)
    node = find(record.tree, revision) if record is not None else None
    if record is None or node is None or not node.has_body:
        raise NotFound("missing")
    return record, node


def open_local(db: DocumentStore, doc_id: str) -> LocalDocument:
    """Return a local document. Raise ``NotFound("missing")``."""
    local = db.storage.get_local(doc_id)
    if local is None:
        raise NotFound("missing")
    return local


def open_leaves(
    db: DocumentStore,
    doc_id: str,
    revisions: Sequence[Revision] | None,
    *,
    latest: bool = False,
    in_bulk: bool = False,
    indexes: dict[str, TreeIndex] | None = None,
) -> tuple[DocumentRecord | None, list[Node | Revision]]:
    """Return revisions of a document, or all its leaves if ``revisions`` is None. A missing one is a bare revision.

    With ``latest``, return the leaves that descend from the revisions instead. Leaves come in the tree's order.
    ``in_bulk`` means that the request reads other documents too: CouchDB then merges its nodes' answers in another way.
    ``indexes`` keeps the index of a tree between calls, for requests that name many revisions of one document.
    """
    record = db.get(doc_id)
    if record is None:
        return None, list(dict.fromkeys(revisions or ()))
    tree = record.tree
    if revisions is None and len(tree) == 1:
        return record, [record.winner]
    give_way_for(tree)
    if revisions is None:
        return record, merge_answers(tree, (), db.revs_limit, newest_first=not in_bulk)
    if indexes is not None and len(revisions) == 1 and len(tree) > 1:
        index = indexes.get(doc_id) or indexes.setdefault(doc_id, TreeIndex(tree))
        if latest:
            leaves = index.latest_leaves(revisions[0])
            missing = [] if leaves else revisions
            return record, merge_answers(leaves, missing, db.revs_limit, newest_first=not in_bulk)
        node = index.find(revisions[0])
        return record, [node] if node is not None and node.has_body else list(revisions)
    if latest:
        leaves, missing = latest_leaves(tree, revisions)
        return record, merge_answers(leaves, missing, db.revs_limit, newest_first=not in_bulk)
    if len(revisions) == 1:
        node = find(tree, revisions[0])
        return record, [node] if node is not None and node.has_body else list(revisions)
    nodes, missing = find_all(tree, revisions)
    found = [node for node in nodes if node.has_body]
    bare = {*missing, *(node.revision for node in nodes)} - {node.revision for node in found}
    return record, [*found, *bare]


def show(db: DocumentStore, record: DocumentRecord, node: Node, shown: Shown = PLAIN) -> dict[str, object]:
    """Return the JSON object of a revision, in CouchDB's order of members. It shares no container with the store."""
    document = show_body(record.doc_id, node)
    if shown is not PLAIN:
        if shown.revs:
            limit = db.revs_limit if shown.most_revs is None else shown.most_revs
            document["_revisions"] = revisions_member(node, limit)
        _show_meta(document, record, node, shown)
    if node.attachments:
        document["_attachments"] = show_attachments(node, shown)
    return document


def _show_meta(document: dict[str, object], record: DocumentRecord, node: Node, shown: Shown) -> None:
    if shown.revs_info:
        line = (find(record.tree, node.revision) or node).path()
        document["_revs_info"] = [{"rev": ancestor.rev, "status": _status(ancestor)} for ancestor in line]
    others = ranked_leaves(record.tree)[1:] if shown.conflicts or shown.deleted_conflicts else []
    live = [leaf.rev for leaf in others if not leaf.deleted]
    dead = [leaf.rev for leaf in others if leaf.deleted]
    if shown.conflicts and live:
        document["_conflicts"] = live
    if shown.deleted_conflicts and dead:
        document["_deleted_conflicts"] = dead
    if shown.local_seq:
        document["_local_seq"] = record.seq


def _status(node: Node) -> str:
    if not node.has_body:
        return "missing"
    return "deleted" if node.deleted else "available"


def show_attachments(node: Node, shown: Shown) -> dict[str, object]:
    """Return the ``_attachments`` member. With ``atts_since``, attachments that the reader already has are stubs."""
    since = -1
    if shown.atts_since is not None:
        line = {one.revision for one in node.path()}
        since = max((rev[0] for rev in shown.atts_since if rev in line), default=0)
    members: dict[str, object] = {}
    for attachment in node.attachments:
        # The revpos of a replicated attachment may be any value. To Erlang, a value that is not a number is greater.
        newer = not isinstance(attachment.revpos, (int, float)) or attachment.revpos > since
        data = newer if shown.atts_since is not None else shown.attachments
        members[attachment.name] = to_json(
            attachment, data=data, follows=shown.follows, encoding_info=shown.encoding_info
        )
    return members


def missing_revisions(db: DocumentStore, doc_id: str, revisions: Sequence[Revision]) -> tuple[list[str], list[str]]:
    """Return the revisions that a document lacks, and its leaves that could be their ancestors.

    The missing revisions are sorted. An unknown document lacks all of them, in the order of the request.
    """
    record = db.get(doc_id)
    if record is None:
        return [format_revision(*revision) for revision in revisions], []
    missing = find_missing(record.tree, revisions)
    if not missing:
        return [], []
    highest, _ = missing[-1]
    ancestors = [leaf.rev for leaf in ranked_leaves(record.tree) if leaf.position < highest]
    return [format_revision(*revision) for revision in missing], ancestors
