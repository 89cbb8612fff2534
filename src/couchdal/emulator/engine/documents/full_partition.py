"""Full partitions: those that have reached the configured size. Their documents may only shrink.

This module does not know requests. Source: ``couch_db_updater:is_overflowed``.
"""

from __future__ import annotations

from collections.abc import Iterable

from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_tree import edit_again
from couchdal.emulator.engine.indexes.sizes import external_size
from couchdal.emulator.engine.revisions.revision_node import RevisionTree
from couchdal.emulator.engine.revisions.tree_editor import TreeEditor
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import CouchError, Forbidden


def full_partitions(db: Database, doc_ids: Iterable[str], most: int) -> frozenset[str]:
    """Return the partitions of these documents whose external size is at least ``most``."""
    sizes = db.indexes.sizes(db)
    partitions = {doc_id.partition(":")[0] for doc_id in doc_ids if not doc_id.startswith("_")}
    return frozenset(name for name in partitions if sizes.of_partition(name)["external"] >= most)


def edited_in_full_partition(
    tree: RevisionTree, document: Document, attachments: tuple[Attachment, ...]
) -> tuple[RevisionTree, str | CouchError]:
    """Return the tree with one more revision, and its text; or the same tree and an error if it would grow."""
    editor = TreeEditor(tree)
    outcome = edit_again(editor, document, attachments)
    edited = editor.tree()
    if isinstance(outcome, str) and external_size(edited) > external_size(tree):
        reason = f"Partition limit exceeded due to update on '{document.doc_id}'"
        return tree, Forbidden(reason, error="partition_overflow")
    return edited, outcome
