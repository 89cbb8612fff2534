"""Purge and compaction: removing revisions without a trace, and removing the bodies of old ones.

This module does not know requests. Sources: ``couch_db_updater:purge_docs``, ``couch_bt_engine_compactor``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import islice

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.documents.document_store import PurgeInfo
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree, each_node
from couchdal.emulator.engine.revisions.revision_tree import remove_leaves
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.keeper import Write
from couchdal.errors import ServerError
from couchdal.pace import give_way, paced

# How many documents of a file one step compacts.
_AT_ONCE = 200


def purge(db: Database, requests: Mapping[str, Collection[Revision]]) -> dict[str, list[Revision]]:
    """Remove leaves from documents, and return the ones that existed, sorted.

    A document that loses all its leaves is removed; one that keeps some gets a new update sequence. If no document got
    one, the purge itself takes one, so that readers of the feed notice it.
    """
    purged: dict[str, list[Revision]] = {}
    writes: list[Write] = []
    purges = list(db.purges)
    purge_seq, seq, last_seq = db.purge_seq, db.update_seq, db.update_seq
    for doc_id, revisions in requests.items():
        purge_seq += 1
        purges.append(PurgeInfo(purge_seq, doc_id, tuple(sorted(set(revisions)))))
        old = db.storage.get(doc_id)
        tree, removed = remove_leaves(old.tree, revisions) if old is not None else ((), [])
        purged[doc_id] = sorted(removed)
        if old is None or not removed:
            continue
        if tree:
            # CouchDB takes a sequence for every leaf that is left.
            last_seq += len(tree)
            writes.append((old, DocumentRecord(doc_id, tree, last_seq)))
        else:
            writes.append((old, None))
    if requests:
        db.commit(writes, last_seq if last_seq > seq else seq + 1, purges=purges)
    return purged


def compact(db: Database) -> None:
    """Remove the bodies of all revisions that are not leaves, and the oldest purges beyond the limit.

    In a data file, this works in steps, and the file gets smaller.
    """
    bare = (
        DocumentRecord(record.doc_id, _without_old_bodies(record.tree), record.seq)
        for record in paced(db.storage.changes())
        if _has_old_bodies(record.tree)
    )
    keeper = db.journal.keeper
    some = list(bare if keeper is None else islice(bare, _AT_ONCE))
    while keeper is not None and len(some) == _AT_ONCE:
        db.replace_records(some, db.purges)
        some = list(islice(bare, _AT_ONCE))
    db.replace_records(some, db.purges[-db.purged_infos_limit :])
    if keeper is not None:
        db.indexes.clean_up(db)
        keeper.tidy()
        # If this fails, the file only keeps its size.
        with suppress(ServerError):
            while keeper.shrink():
                give_way()


def _has_old_bodies(tree: RevisionTree) -> bool:
    leaves = set(tree)
    return any(node.has_body and node not in leaves for node in each_node(tree))


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
                parent = bare[above] = Node(above.position, above.id, parent=parent)
    return tuple(leaf.with_parent(bare[leaf.parent]) for leaf in tree)
