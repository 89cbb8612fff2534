"""Partitioned databases: the text before the first colon of a document's id names its partition.

This module does not know requests. Source: ``couch_partition``.
"""

from __future__ import annotations

from couchdal.emulator.engine.documents.document import validate_doc_id
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.errors import IllegalPartition
from couchdal.http.json_text import holds_surrogate


def check_new_id(db: DocumentStore, doc_id: str) -> None:
    """Raise ``IllegalDocId`` or ``IllegalPartition`` if the database cannot have a document with this id."""
    if not db.partitioned or doc_id.startswith(("_design/", "_local/")):
        return
    db.check_located(doc_id)
    partition, _, rest = doc_id.partition(":")
    validate_partition(partition)
    validate_doc_id(rest)


def validate_partition(partition: str) -> None:
    """Raise ``IllegalPartition`` unless ``partition`` is a valid name."""
    if not partition:
        raise IllegalPartition("Partition must not be empty")
    if partition.startswith("_"):
        raise IllegalPartition("Partition must not start with an underscore")
    if holds_surrogate(partition):
        raise IllegalPartition("Partition must be valid UTF-8")
    if ":" in partition:
        raise IllegalPartition("Partition must not contain a colon")
