"""Purge and compaction: removing revisions without a trace, and removing the bodies of old ones.

It knows nothing of requests. Sources: ``couch_db_updater:purge_docs``, ``couch_bt_engine_compactor``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_tree import Node, RevisionTree, remove_leaves
from couchdal.emulator.engine.server.database import Database


def purge(db: Database, requests: Mapping[str, Collection[Revision]]) -> dict[str, list[Revision]]:
    """Remove leaves from documents, and return the ones that existed, sorted.

    A document that loses all its leaves is removed; one that keeps some gets a new update sequence. If no document got
    one, the purge itself takes one, so that readers of the feed notice it.
    """
    purged: dict[str, list[Revision]] = {}
    seq = last_seq = db.update_seq
    for doc_id, revisions in requests.items():
        db.purge_seq += 1
        db.purges.append(PurgeInfo(db.purge_seq, doc_id, tuple(sorted(set(revisions)))))
        old = db.storage.get(doc_id)
        tree, removed = remove_leaves(old.tree, revisions) if old is not None else ((), [])
        purged[doc_id] = sorted(removed)
        if old is None or not removed:
            continue
        if tree:
            # CouchDB takes a sequence for every leaf that is left.
            last_seq += len(tree)
            db.put(old, DocumentRecord(doc_id, tree, last_seq))
        else:
            db.forget(old)
    if requests:
        db.update_seq = last_seq if last_seq > seq else seq + 1
        db.changed()
    return purged


def compact(db: Database) -> None:
    """Remove the bodies of all revisions that are not leaves, and the oldest purges beyond the limit."""
    for record in list(db.storage.changes()):
        if any(node.body is not None for leaf in record.tree for node in leaf.path() if node is not leaf):
            db.storage.replace(DocumentRecord(record.doc_id, _without_old_bodies(record.tree), record.seq))
    del db.purges[: -db.purged_infos_limit]


def _without_old_bodies(tree: RevisionTree) -> RevisionTree:
    bare: dict[Node | None, Node | None] = {None: None}
    for leaf in tree:
        line = []
        node = leaf.parent
        while node not in bare:
            line.append(node)
            node = node.parent if node is not None else None
        parent = bare[node]
        for above in reversed(line):
            if above is not None:
                parent = bare[above] = Node(above.position, above.id, parent)
    return tuple(leaf.with_parent(bare[leaf.parent]) for leaf in tree)
