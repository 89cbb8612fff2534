"""The effect of documents on a revision tree: edits, which get a new revision, and replicated revisions.

This module does not know databases or requests. Source: ``couch_db_updater`` (``merge_rev_tree*``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, new_revision_id
from couchdal.emulator.engine.revisions.revision_lookup import find, first_nodes
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree
from couchdal.emulator.engine.revisions.revision_tree import merge, winner
from couchdal.emulator.engine.revisions.tree_editor import Merged, TreeEditor
from couchdal.errors import Conflict, CouchError


def edited(
    tree: RevisionTree, document: Document, attachments: tuple[Attachment, ...]
) -> tuple[RevisionTree, str | CouchError]:
    """Return the tree with one more revision, and its text; or the same tree and a conflict."""
    last = winner(tree) if tree else None
    revision = _new_revision(document, attachments, last if last is not None and last.deleted else None)
    if revision is None:
        return tree, Conflict()
    position, ids = revision
    merged, result = merge(tree, position, ids, deleted=document.deleted, body=document.body, attachments=attachments)
    if result is not Merged.NEW_LEAF:
        return tree, Conflict()
    return merged, format_revision(position, ids[0])


def edit_again(editor: TreeEditor, document: Document, attachments: tuple[Attachment, ...]) -> str | CouchError:
    """Make one of several edits of a document. Return its revision, or a conflict."""
    revision = _new_revision(document, attachments, editor.deleted_winner())
    if revision is None or not editor.adds_leaf(*revision):
        return Conflict()
    position, ids = revision
    editor.merge(position, ids, deleted=document.deleted, body=document.body, attachments=attachments)
    return format_revision(position, ids[0])


def _new_revision(
    document: Document, attachments: tuple[Attachment, ...], last: Node | None
) -> tuple[int, tuple[bytes, ...]] | None:
    """Return the position and the ids of the revision that an edit makes, newest id first. Return None for a conflict.

    ``last`` is the winner if the document is deleted.
    """
    position = document.position + 1
    if last is None:
        described = [(one.name, one.content_type, one.digest) for one in attachments] if attachments else ()
        revision_id = new_revision_id(document.deleted, document.named, document.term, described)
        return position, (revision_id, *document.ids)
    # Only a new document may follow a deletion. It continues the deleted winner, so the tree gets no second root.
    if position != 1 or document.deleted:
        return None
    # CouchDB has the attachments in their form on disk here, so only their number enters the revision id.
    unknown: list[tuple[str, str, bytes] | None] = [None] * len(attachments)
    return last.position + 1, (new_revision_id(document.deleted, last.revision, document.term, unknown), last.id)


def merged_replicas(tree: RevisionTree, edits: Sequence[tuple[Document, tuple[Attachment, ...]]]) -> RevisionTree:
    """Return a tree with replicated revisions merged into it."""
    if len(edits) == 1:
        ((one, attachments),) = edits
        tree, _ = merge(tree, one.position, one.ids, deleted=one.deleted, body=one.body, attachments=attachments)
        return tree
    editor = TreeEditor(tree)
    for one, attachments in edits:
        editor.merge(one.position, one.ids, deleted=one.deleted, body=one.body, attachments=attachments)
    return editor.tree()


def stored_parents(tree: RevisionTree, documents: Sequence[Document]) -> dict[Revision | None, Node | None]:
    """Return the new leaves that replicated revisions add, each with its nearest ancestor that has a stored body."""
    stored_node = first_nodes(tree).get if len(documents) > 1 else partial(find, tree)
    added = {document.revision for document in documents}.difference(leaf.revision for leaf in tree)
    parents: dict[Revision | None, Node | None] = {}
    for leaf in merged_replicas(tree, [(document, document.attachments) for document in documents]):
        if leaf.revision in added and leaf.revision not in parents:
            on_disk = (stored_node(node.revision) for node in leaf.path() if node is not leaf)
            parents[leaf.revision] = next((node for node in on_disk if node is not None and node.has_body), None)
    return parents
