"""Calls for many documents: bulk reads and writes, ``_all_docs``, and files of documents.

A parameter that is ``None`` is not sent. CouchDB's documentation says what each one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING

from couchdal.operations.operation import Operation, Operations, as_list, id_text, query

if TYPE_CHECKING:
    from couchdal.types import AllDocsResult, BulkGetResult, BulkRow, ChangesResult, MissingRevisions


class BulkOperations(Operations):
    """Reads and writes many documents at once."""

    def bulk_docs(self, docs: Iterable[Mapping[str, object]], *, new_edits: bool | None = None) -> list[BulkRow]:
        """Write many documents. Each has its own outcome: a conflict is a row with ``error``, not an exception.

        ``new_edits=False`` stores the given revisions as they are, as a replication does.

        >>> [row["id"] for row in db.bulk_docs([{"_id": "a"}, {"_id": "b"}])]
        ['a', 'b']
        >>> db.bulk_docs([{"_id": "a"}])[0]["error"]
        'conflict'
        """
        payload: dict[str, object] = {"docs": as_list(docs)}
        if new_edits is not None:
            payload["new_edits"] = new_edits
        return self._run(Operation("POST", "/_bulk_docs", payload))

    def bulk_get(
        self,
        docs: Iterable[str | Mapping[str, object]],
        *,
        revs: bool | None = None,
        attachments: bool | None = None,
        latest: bool | None = None,
    ) -> BulkGetResult:
        """Return many documents. Name each by its id, or by ``{"id": ..., "rev": ...}``.

        >>> rows = db.bulk_docs([{"_id": "a", "n": 1}])
        >>> db.bulk_get(["a"])["results"][0]["docs"][0]["ok"]["n"]
        1
        """
        wanted = [{"id": doc} if isinstance(doc, str) else doc for doc in as_list(docs)]
        path = "/_bulk_get" + query(revs=revs, attachments=attachments, latest=latest)
        return self._run(Operation("POST", path, {"docs": wanted}))

    def revs_diff(self, revisions: Mapping[str, Iterable[str]]) -> dict[str, MissingRevisions]:
        """Return which of the given revisions the database does not have, by document.

        >>> db.revs_diff({"a": ["1-x"]})
        {'a': {'missing': ['1-x']}}
        """
        wanted = {doc_id: as_list(revs) for doc_id, revs in revisions.items()}
        return self._run(Operation("POST", "/_revs_diff", wanted))

    def all_docs(
        self,
        *,
        keys: Iterable[str] | None = None,
        key: str | None = None,
        startkey: str | None = None,
        endkey: str | None = None,
        inclusive_end: bool | None = None,
        descending: bool | None = None,
        limit: int | None = None,
        skip: int | None = None,
        include_docs: bool | None = None,
        conflicts: bool | None = None,
        attachments: bool | None = None,
        update_seq: bool | None = None,
    ) -> AllDocsResult:
        """Return ids and revisions, ordered by id. With ``keys``, there is a row for each key, in that order.

        >>> rows = db.bulk_docs([{"_id": "a"}, {"_id": "b"}, {"_id": "c"}])
        >>> [row["id"] for row in db.all_docs(startkey="b")["rows"]]
        ['b', 'c']
        """
        path = "/_all_docs" + query(
            key=id_text(key),
            startkey=id_text(startkey),
            endkey=id_text(endkey),
            inclusive_end=inclusive_end,
            descending=descending,
            limit=limit,
            skip=skip,
            include_docs=include_docs,
            conflicts=conflicts,
            attachments=attachments,
            update_seq=update_seq,
        )
        if keys is None:
            return self._run(Operation("GET", path))
        return self._run(Operation("POST", path, {"keys": as_list(keys)}))

    def load(self, path: str | PathLike[str]) -> int:
        """Write the documents of a file, and return their number.

        The file is a JSON array, one object per line, a body of ``_bulk_docs``, an answer of ``_all_docs`` with its
        documents, or a backup. Documents with a ``_rev`` keep it, as in a replication. Raise ``ValueError`` for any
        other file before anything is written, and ``CouchError`` for the first document that is refused.

        >>> from pathlib import Path
        >>> size = Path("tasks.json").write_text('[{"_id": "a"}, {"_id": "b"}]')
        >>> db.load("tasks.json")
        2
        """
        # Few programs load or dump files.
        from couchdal.operations.seeding import batches_of, check_written, read_documents

        documents = list(read_documents(path))
        for batch, new_edits in batches_of(documents):
            check_written(self.bulk_docs(batch, new_edits=new_edits))
        return len(documents)

    def dump(self, path: str | PathLike[str]) -> int:
        """Write every leaf of every document to a file, one per line, and return their number.

        Revisions, histories and attachments are kept: ``load`` into an empty database restores the same documents.

        >>> written = db.put_document("a", {"n": 1})
        >>> db.dump("tasks.ndjson")
        1
        """
        from couchdal.operations.seeding import Dump, leaf_batches  # as in load

        changes: ChangesResult = self._run(Operation("GET", "/_changes?style=all_docs"))
        with Dump(path) as dump:
            for batch in leaf_batches(changes):
                dump.write(self.bulk_get(batch, revs=True, attachments=True))
        return dump.count
