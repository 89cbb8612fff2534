"""Writing documents: edits, which get a new revision, and replicated revisions, which keep theirs.

This module does not know requests. The caller has parsed every document of a request before the first is stored.
Source: ``couch_db`` (``prep_and_validate_*``) and ``couch_db_updater`` (``merge_rev_tree*``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from couchdal.api.versions import Version
from couchdal.emulator.engine.config.settings import DEFAULTS, Settings
from couchdal.emulator.engine.documents.attachment import Attachment, merge_stubs, stored
from couchdal.emulator.engine.documents.document import Document, DocumentRecord
from couchdal.emulator.engine.documents.document_tree import edit_again, edited, merged_replicas, stored_parents
from couchdal.emulator.engine.erlang.integers import MOST_DIGITS, parse_integer
from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_node import Node, RevisionTree
from couchdal.emulator.engine.revisions.revision_tree import is_same, stem
from couchdal.emulator.engine.revisions.tree_editor import TreeEditor
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.keeper import Write
from couchdal.emulator.engine.views.design_document import check_design_document
from couchdal.emulator.storage.base import LocalDocument
from couchdal.errors import BadRequest, Conflict, CouchError, ServerError
from couchdal.pace import paced, paced_sort

# The result of one edit: the new revision, or the error for its row.
Outcome: TypeAlias = "str | CouchError"
# Returns the error for a user who may not write design documents.
DesignError: TypeAlias = "Callable[[], CouchError | None]"
# Checks a document against the revision that it follows. Returns an error to refuse it.
Validate: TypeAlias = "Callable[[Document, Node | None], CouchError | None]"
# A document of a request with its id and its place in the request, by which edits are sorted.
_Edit: TypeAlias = tuple[str, int, Document]
_Local: TypeAlias = "tuple[str, LocalDocument | None]"
_doc_id = itemgetter(0)
# Up to this many documents are read one by one.
_FEW = 8


def update_documents(
    db: Database,
    documents: Sequence[Document],
    design_error: DesignError = lambda: None,
    validate: Validate | None = None,
    settings: Settings = DEFAULTS,
) -> list[Outcome]:
    """Make the edits of one request, and return their outcomes in the order of the request.

    Several edits of one document are made one after the other. Update sequences follow the order of ids.
    ``design_error`` returns the error for design documents if the user may not write them; ``validate`` checks the
    other documents. ``settings`` are those of the server. Raise ``MissingStub`` or ``BadRequest`` for an error that
    fails the whole request.
    """
    outcomes: list[Outcome] = [""] * len(documents)
    edits, locals_, writes_design = _sorted_edits(documents)
    attached = [edit for edit in edits if edit[2].attachments]
    if writes_design or attached or validate is not None or not db.validation_loaded:
        edits = _checked_edits(db, edits, outcomes, design_error, validate, version=settings.version)
    attachments: dict[int, tuple[Attachment, ...]] = {}
    if attached:
        attachments = {index: _new_attachments(document) for _, index, document in edits if document.attachments}
    full: Collection[str] = ()
    if settings.max_partition_size > 0 and db.partitioned:
        from couchdal.emulator.engine.documents.full_partition import (  # few programs limit partitions
            edited_in_full_partition,
            full_partitions,
        )

        full = full_partitions(db, map(_doc_id, edits), settings.max_partition_size)
    writes: list[Write] = []
    seq = db.update_seq
    get = _getter(db, edits)
    for doc_id, group in groupby(paced(edits), _doc_id):
        own = list(group)
        old = get(doc_id)
        before = tree = old.tree if old is not None else ()
        if full and doc_id.partition(":")[0] in full:
            for _, index, document in own:
                tree, outcomes[index] = edited_in_full_partition(tree, document, attachments.get(index, ()))
        elif len(own) == 1:
            ((_, index, document),) = own
            tree, outcomes[index] = edited(tree, document, attachments.get(index, ()))
        else:
            editor = TreeEditor(tree)
            for _, index, document in own:
                outcomes[index] = edit_again(editor, document, attachments.get(index, ()))
            tree = editor.tree()
        seq = _store(db, writes, old, before, tree, doc_id=doc_id, seq=seq)
    own_locals: list[_Local] = []
    for _, index, document in locals_:
        outcomes[index] = _edit_local(own_locals, document)
    db.commit(writes, seq, own_locals, unload=writes_design and bool(_of_kind(edits, "_design/")))
    return outcomes


def _getter(db: Database, edits: Sequence[_Edit]) -> Callable[[str], DocumentRecord | None]:
    """Return a function that returns the documents of these edits."""
    return db.storage.get if len(edits) < _FEW else db.storage.getter(map(_doc_id, edits))


def _sorted_edits(documents: Sequence[Document]) -> tuple[list[_Edit], Sequence[_Edit], bool]:
    """Return ordinary and local documents, and whether any is a design document.

    Both are sorted by id. Those with the same id stay in their order.
    """
    edits = [(document.doc_id, index, document) for index, document in enumerate(documents)]
    paced_sort(edits)
    # "`" is the character after the underscore.
    first = bisect_left(edits, ("_",))
    if first == len(edits) or edits[first][0] >= "`":
        return edits, (), False
    locals_ = _of_kind(edits, "_local/")
    if locals_:
        edits = [edit for edit in edits if not edit[0].startswith("_local/")]
    return edits, locals_, bool(_of_kind(edits, "_design/"))


def _of_kind(edits: Sequence[_Edit], prefix: str) -> Sequence[_Edit]:
    """Return the sorted edits of documents whose ids begin with ``prefix``."""
    # "0" is the character after the slash.
    first = bisect_left(edits, (prefix,))
    return edits[first : bisect_left(edits, (prefix[:-1] + "0",), first)]


def _checked_edits(
    db: Database,
    edits: Sequence[_Edit],
    outcomes: list[Outcome],
    design_error: DesignError,
    validate: Validate | None,
    *,
    version: Version,
) -> list[_Edit]:
    """Check revisions against the state before the request, as CouchDB does when it runs validation functions."""
    accepted, unwritable = [], False
    old: DocumentRecord | None = None
    leaves: dict[Revision | None, Node] = {}
    get = _getter(db, edits)
    for doc_id, index, document in paced(edits):
        if old is None or old.doc_id != doc_id:
            old = get(doc_id)
            leaves = {leaf.revision: leaf for leaf in reversed(old.tree)} if old is not None else {}
        error: CouchError | None = None
        leaf: Node | None = None
        if old is None:
            if document.attachments:
                merge_stubs(doc_id, document.attachments, ())
            error = Conflict() if document.ids or document.position else None
        elif document.ids:
            leaf = leaves.get(document.revision)
            if leaf is None:
                error = Conflict()
            else:
                merged = merge_stubs(doc_id, document.attachments, leaf.attachments)
                document = _with_attachments(document, merged)
        elif not old.deleted:
            error = Conflict()
        elif any(attachment.is_stub for attachment in document.attachments):
            # A document that is created again has no revision with these attachments. CouchDB notices when it writes.
            unwritable = True
        error = error or _refused(db, document, design_error, validate, leaf, version=version)
        if error is None:
            accepted.append((doc_id, index, document))
        else:
            outcomes[index] = error
    if unwritable:
        raise ServerError("function_clause", error="unknown_error")
    return accepted


def _refused(
    db: Database,
    document: Document,
    design_error: DesignError,
    validate: Validate | None,
    parent: Node | None,
    *,
    version: Version,
) -> CouchError | None:
    if document.doc_id.startswith("_design/"):
        return design_error() or check_design_document(
            document.body,
            partitioned=db.partitioned,
            javascript=db.indexes.javascript,
            version=version,
            compiled=lambda number: db.count_prompts(add_fun=number),
        )
    db.validation_loaded = True
    return validate(document, parent) if validate is not None else None


def _with_attachments(document: Document, attachments: tuple[Attachment, ...]) -> Document:
    return Document(
        document.doc_id,
        document.body,
        position=document.position,
        ids=document.ids,
        deleted=document.deleted,
        attachments=attachments,
        term=document.term,
    )


def _new_attachments(document: Document) -> tuple[Attachment, ...]:
    """Compress and digest new attachments, and set their revpos to the new revision."""
    position = document.position + 1
    return tuple(
        attachment if attachment.stored else attachment.at(position) for attachment in _without_duplicates(document)
    )


def _without_duplicates(document: Document) -> tuple[Attachment, ...]:
    if len({attachment.name for attachment in document.attachments}) < len(document.attachments):
        raise BadRequest("Duplicate attachments")
    return document.attachments


def _store(
    db: Database,
    writes: list[Write],
    old: DocumentRecord | None,
    before: RevisionTree,
    tree: RevisionTree,
    *,
    doc_id: str,
    seq: int,
) -> int:
    """Add the change of a document to the writes, and return the last update sequence."""
    if not tree:
        # The first edit of a document was refused.
        return seq
    # Stem even after a refused edit: a lowered limit takes effect as a change of the document.
    tree = stem(tree, db.revs_limit)
    if tree is before or is_same(tree, before):
        return seq
    writes.append((old, DocumentRecord(doc_id, tree, seq + 1)))
    return seq + 1


def replicate_documents(
    db: Database,
    documents: Sequence[Document],
    design_error: DesignError = lambda: None,
    validate: Validate | None = None,
    settings: Settings = DEFAULTS,
) -> list[tuple[Document, CouchError]]:
    """Merge revisions from elsewhere (``new_edits: false``), and return those that were refused.

    Known revisions are ignored. Conflicts become branches.
    """
    refused: list[tuple[Document, CouchError]] = []
    edits, locals_, writes_design = _sorted_edits(documents)
    attached = [edit for edit in edits if edit[2].attachments]
    if writes_design or attached or validate is not None or not db.validation_loaded:
        edits = _checked_replicas(db, edits, refused, design_error, validate, version=settings.version)
    attachments: dict[int, tuple[Attachment, ...]] = {}
    if attached:
        attachments = {
            index: tuple(map(stored, _without_duplicates(document)))
            for _, index, document in edits
            if document.attachments
        }
    writes: list[Write] = []
    seq = db.update_seq
    get = _getter(db, edits)
    for doc_id, own in groupby(paced(edits), _doc_id):
        old = get(doc_id)
        before = old.tree if old is not None else ()
        tree = merged_replicas(before, [(document, attachments.get(index, ())) for _, index, document in own])
        seq = _store(db, writes, old, before, tree, doc_id=doc_id, seq=seq)
    own_locals: list[_Local] = []
    for _, _, document in locals_:
        _edit_local(own_locals, document)
    db.commit(writes, seq, own_locals, unload=writes_design and bool(_of_kind(edits, "_design/")))
    return refused


def _checked_replicas(
    db: Database,
    edits: Sequence[_Edit],
    refused: list[tuple[Document, CouchError]],
    design_error: DesignError,
    validate: Validate | None,
    *,
    version: Version,
) -> list[_Edit]:
    """Drop edits that add no leaf, and fill stubs from the nearest stored ancestor, as CouchDB does to validate."""
    accepted = []
    get = _getter(db, edits)
    for doc_id, group in groupby(paced(edits), _doc_id):
        own = list(group)
        old = get(doc_id)
        parents = stored_parents(old.tree, [document for _, _, document in own]) if old is not None else {}
        for _, index, document in own:
            parent: Node | None = None
            if old is None:
                merge_stubs(doc_id, document.attachments, ())
            elif document.revision not in parents:
                continue
            else:
                parent = parents[document.revision]
                if any(attachment.is_stub for attachment in document.attachments):
                    found = parent.attachments if parent is not None else ()
                    document = _with_attachments(document, merge_stubs(doc_id, document.attachments, found))
            error = _refused(db, document, design_error, validate, parent, version=version)
            if error is None:
                accepted.append((doc_id, index, document))
            else:
                refused.append((document, error))
    return accepted


def _edit_local(edits: list[_Local], document: Document) -> Outcome:
    """Add the new state of a local document to the edits, and return its revision. Local documents never conflict."""
    number = 0
    if not document.deleted:
        text = document.ids[0] if document.ids else b"0"
        found = parse_integer(text.decode("latin-1"))
        if document.position != 0 or found is None or len(text) > MOST_DIGITS:
            return ServerError("Invalid rev format", error="error")
        number = found + 1
    local = None if document.deleted else LocalDocument(str(number), document.body)
    edits.append((document.doc_id, local))
    return f"0-{number}"
