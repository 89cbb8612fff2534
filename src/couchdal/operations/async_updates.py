"""Calls that change a document while others write: updates that are tried again, and conflicts.

Generated from ``updates.py`` by ``tools/make_async_operations.py``: edit that module instead.

A caller's function decides how the document changes. It may run several times, each time with a newer document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from couchdal.errors import Conflict, NotFound
from couchdal.operations.async_documents import AsyncDocumentOperations
from couchdal.operations.async_pages import PAGE_SIZE, AsyncPageOperations
from couchdal.operations.operation import Operation, query

if TYPE_CHECKING:
    from couchdal.types import ChangesResult, Document

#: How often an update is tried before it fails.
TRIES = 20


class AsyncUpdateOperations(AsyncDocumentOperations, AsyncPageOperations):
    """Updates documents until no conflict is left, finds conflicts and resolves them."""

    async def update_document(
        self,
        doc_id: str,
        change: Callable[[Document], Mapping[str, object] | None],
        *,
        default: Mapping[str, object] | None = None,
        tries: int = TRIES,
    ) -> Document:
        """Read a document, call ``change`` with it and write the result. Repeat this after a conflict.

        ``change`` may change its argument, or return another document. A document with ``_deleted`` is deleted. If
        nothing changed, nothing is written. Return the document as it is stored, with its new ``_rev``.

        ``default`` is what ``change`` gets if the document does not exist; without it, raise ``NotFound``. Raise
        ``Conflict`` after ``tries`` conflicts. What ``change`` raises is not caught.

        >>> (await db.update_document("visits", lambda doc: {"n": doc["n"] + 1}, default={"n": 0}))["n"]
        1
        >>> (await db.update_document("visits", lambda doc: doc.update(n=5)))["n"]
        5
        """
        from couchdal.operations.attempts import changed_document, retries  # most programs use it rarely

        for pause_s in retries(tries):
            stored: Document | None = None
            try:
                stored = await self.get_document(doc_id)
            except NotFound:
                if default is None:
                    raise
            changed = changed_document(change, doc_id, stored, default)
            if changed == stored:
                return changed
            try:
                written = await self.put_document(doc_id, changed)
                changed["_rev"] = written["rev"]
                return changed
            except Conflict:
                if pause_s is None:
                    raise
            await self._pause(pause_s)
        raise ValueError(f"tries must be at least 1, not {tries}")

    async def conflicts(self, doc_id: str) -> list[Document]:
        """Return the conflicting revisions of a document: all live leaves but the winner, in CouchDB's order.

        Raise ``NotFound`` if the document does not exist.

        >>> edits = [{"_id": "a", "_rev": "1-aa", "n": 1}, {"_id": "a", "_rev": "1-bb", "n": 2}]
        >>> rows = await db.bulk_docs(edits, new_edits=False)
        >>> (await db.conflicts("a"))[0]["n"]
        1
        """
        leaves = await self._live_leaves(doc_id)
        return leaves[1:]

    async def resolve(
        self,
        doc_id: str,
        choose: Callable[[list[Document]], Mapping[str, object]],
        *,
        tries: int = TRIES,
    ) -> Document:
        """Resolve the conflicts of a document: keep what ``choose`` returns, and delete all other live leaves.

        ``choose`` gets the live leaves, the winner first. It returns one of them, or a merged document. A merged
        document becomes a new revision of the leaf that its ``_rev`` names, or of the winner. It is written before the
        other leaves are deleted. If somebody else edits the document at the same moment, ``choose`` is called again, so
        no edit is lost. A document with ``_deleted`` is deleted.

        Return the document as it is stored. A document without conflicts does not change. Raise ``NotFound`` if the
        document does not exist, and ``Conflict`` after ``tries`` conflicts.

        >>> edits = [{"_id": "a", "_rev": "1-aa", "n": 1}, {"_id": "a", "_rev": "1-bb", "n": 2}]
        >>> rows = await db.bulk_docs(edits, new_edits=False)
        >>> (await db.resolve("a", lambda leaves: max(leaves, key=lambda leaf: leaf["n"])))["n"]
        2
        >>> await db.conflicts("a")
        []
        """
        from couchdal.operations.attempts import chosen_document, retries  # as in update_document
        from couchdal.operations.seeding import check_written

        for pause_s in retries(tries):
            leaves = await self._live_leaves(doc_id)
            if len(leaves) == 1:
                return leaves[0]
            kept, base = chosen_document(choose, doc_id, leaves)
            try:
                if kept != base:
                    written = await self.put_document(doc_id, kept)
                    kept["_rev"] = written["rev"]
                others = [leaf["_rev"] for leaf in leaves if leaf is not base]
                check_written(await self.bulk_docs({"_id": doc_id, "_rev": rev, "_deleted": True} for rev in others))
                return kept
            except Conflict:
                if pause_s is None:
                    raise
            await self._pause(pause_s)
        raise ValueError(f"tries must be at least 1, not {tries}")

    async def find_conflicted(self, *, page_size: int = PAGE_SIZE) -> AsyncIterator[str]:
        """Yield the ids of all documents that have conflicts. The loop may resolve each of them.

        This reads the changes feed, and then only the documents that have several leaves.

        >>> edits = [{"_id": "a", "_rev": "1-aa"}, {"_id": "a", "_rev": "1-bb"}, {"_id": "b", "_rev": "1-cc"}]
        >>> rows = await db.bulk_docs(edits, new_edits=False)
        >>> [doc_id async for doc_id in db.find_conflicted()]
        ['a']
        """
        since = "0"
        while True:
            path = "/_changes" + query(style="all_docs", since=since, limit=page_size)
            page: ChangesResult = await self._run(Operation("GET", path))
            forked = [change["id"] for change in page["results"] if len(change["changes"]) > 1]
            async for row in self.iter_all_docs(keys=forked, include_docs=True, conflicts=True, page_size=page_size):
                doc = row.get("doc")
                if doc is not None and "_conflicts" in doc:
                    yield row["id"]
            since = page["last_seq"]
            if len(page["results"]) < page_size:
                return

    async def _live_leaves(self, doc_id: str) -> list[Document]:
        """Return the live leaves of a document, the winner first."""
        winner = await self.get_document(doc_id, conflicts=True)
        revs: list[str] = winner.pop("_conflicts", [])
        if not revs:
            return [winner]
        found = await self.bulk_get([{"id": doc_id, "rev": rev} for rev in revs])
        docs = [doc["ok"] for item in found["results"] for doc in item["docs"] if "ok" in doc]
        # Others may have deleted a leaf since.
        return [winner, *(doc for doc in docs if not doc.get("_deleted"))]
