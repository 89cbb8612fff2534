"""Check that all parts of a server's state agree with one another. The caller holds the server's lock.

It does not check that trees are stemmed: a branch may be longer than the limit until its document changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision_node import each_node
from couchdal.emulator.engine.revisions.revision_tree import winner
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server


def check_server(server: Server) -> list[str]:
    """Return the contradictions that were found, each with the name of its database."""
    wrong = [f"{name}: {found}" for name, database in server.databases.items() for found in check_database(database)]
    for name, database in server.databases.items():
        if database.name != name or database.deleted or database.journal is not server.journal:
            wrong.append(f"{name}: this database belongs elsewhere, or was deleted")
    return wrong


def check_database(database: Database) -> list[str]:
    """Return the contradictions within a database."""
    return [
        *database.storage.check(),
        *_wrong_log(database),
        *_wrong_counts(database),
        *_wrong_live_ids(database),
        *_wrong_sizes(database),
        *(found for record in database.storage.changes() for found in _wrong_tree(record)),
        *_wrong_locals(database),
        *database.indexes.check(database),
    ]


def _wrong_log(database: Database) -> Iterator[str]:
    storage = database.storage
    seqs: list[int] = []
    ids: set[str] = set()
    for record in storage.changes():
        seqs.append(record.seq)
        ids.add(record.doc_id)
        stored = storage.get(record.doc_id)
        if stored is None or stored.seq != record.seq:
            yield f"the log of changes has a state of {record.doc_id!r} that is not the stored one"
    if seqs != sorted(set(seqs)):
        yield f"the update sequences do not ascend: {seqs}"
    if seqs and seqs[-1] > database.update_seq:
        yield f"update_seq is {database.update_seq}, but the last document has {seqs[-1]}"
    if len(ids) < len(seqs):
        yield "the log of changes has a document twice"
    for count in {0, len(seqs) // 2, len(seqs)}:
        seq = seqs[count - 1] if count else 0
        if storage.changes_after(seq) != len(seqs) - count:
            yield f"{len(seqs) - count} documents changed after {seq}, but {storage.changes_after(seq)} are counted"


def _wrong_counts(database: Database) -> Iterator[str]:
    deleted = [record.deleted for record in database.storage.changes()]
    if database.doc_count != deleted.count(False):
        yield f"doc_count is {database.doc_count}, but there are {deleted.count(False)} documents"
    if database.doc_del_count != deleted.count(True):
        yield f"doc_del_count is {database.doc_del_count}, but there are {deleted.count(True)} deleted documents"
    purge_seqs = [purge.purge_seq for purge in database.purges]
    if purge_seqs != sorted(set(purge_seqs)) or (purge_seqs and purge_seqs[-1] != database.purge_seq):
        yield f"purge_seq is {database.purge_seq}, but the purges are {purge_seqs}"
    if database.design_version == 0 and any(
        record.doc_id.startswith("_design/") for record in database.storage.changes()
    ):
        yield "the indexes do not know that there are design documents"


def _wrong_live_ids(database: Database) -> Iterator[str]:
    storage = database.storage
    wanted = sorted(record.doc_id for record in storage.changes() if not record.deleted)
    if [record.doc_id for record in storage.live()] != wanted:
        yield "the list of all documents differs from the log of changes"
    for place in {0, len(wanted) // 2, len(wanted) - 1} if wanted else ():
        if storage.live_before(wanted[place]) != place:
            yield f"{place} documents come before {wanted[place]!r}, not {storage.live_before(wanted[place])}"


def _wrong_sizes(database: Database) -> Iterator[str]:
    found = database.storage.on_disk()
    if found is not None:
        from couchdal.emulator.engine.indexes.kept_sizes import summed, total_size  # only files keep sizes

        kept, known = total_size(database.storage, *found), summed(database.storage.changes())
        if kept != known:
            yield f"the kept sizes are {kept}, but the documents have {known}"


def _wrong_tree(record: DocumentRecord) -> Iterator[str]:
    tree = record.tree
    if not tree:
        yield f"{record.doc_id!r} has no revision"
        return
    inner = set()
    for node in each_node(tree):
        if node.parent is not None:
            inner.add(node.parent)
            if node.parent.position != node.position - 1:
                yield f"{record.doc_id!r}: {node.rev} follows {node.parent.rev}"
    if not inner.isdisjoint(tree) or len(set(tree)) < len(tree):
        yield f"{record.doc_id!r} has a leaf that is not one, or has it twice"
    best = winner(tree)
    if record.winner is not best or record.deleted is not best.deleted or record.body != (best.body or {}):
        yield f"{record.doc_id!r} shows {record.winner.rev}, but the winner is {best.rev}"


def _wrong_locals(database: Database) -> Iterator[str]:
    for doc_id, document in database.storage.locals():
        if not doc_id.startswith("_local/") or not document.revision.isdigit():
            yield f"{doc_id!r} with revision {document.revision!r} is not a local document"
        if database.storage.get_local(doc_id) != document:
            yield f"the list of local documents has a state of {doc_id!r} that is not the stored one"
