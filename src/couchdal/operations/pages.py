"""Calls that read all pages of a result, one bounded page at a time.

Each iteration is made of ordinary requests, so it sees what others write meanwhile. A document or row that does not
change is returned exactly once. One whose place changes may be returned twice or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from couchdal.http.messages import ABSENT
from couchdal.http.urls import quote
from couchdal.operations.bulk import BulkOperations
from couchdal.operations.operation import Operation, as_list, id_text, index_name, key_text, query, without_none
from couchdal.operations.queries import QueryOperations

if TYPE_CHECKING:
    from couchdal.types import AllDocsResult, Document, FindResult, Row, Selector, Sort, ViewResult, ViewRow

#: The most results of one page.
PAGE_SIZE = 500


class PageOperations(BulkOperations, QueryOperations):
    """Iterates over all pages of queries, views and ``_all_docs``, and counts documents."""

    def iter_find(
        self,
        selector: Selector,
        *,
        fields: Iterable[str] | None = None,
        sort: Sort | None = None,
        limit: int | None = None,
        skip: int | None = None,
        use_index: str | Iterable[str] | None = None,
        conflicts: bool | None = None,
        update: bool | None = None,
        page_size: int = PAGE_SIZE,
    ) -> Iterator[Document]:
        """Yield all documents that match a selector, in pages of ``page_size``. The loop may delete each document.

        >>> rows = db.bulk_docs({"_id": f"t{n}", "type": "task"} for n in range(30))
        >>> len([doc for doc in db.iter_find({"type": "task"})])
        30
        """
        from couchdal.operations.paging import FindPages  # most programs use it rarely

        payload = without_none(
            selector=selector,
            fields=None if fields is None else as_list(fields),
            sort=None if sort is None else as_list(sort),
            skip=skip,
            use_index=index_name(use_index),
            conflicts=conflicts,
            update=update,
        )
        pages = FindPages(payload, limit, page_size)
        while (asked := pages.next_payload()) is not None:
            page: FindResult = self._run(Operation("POST", "/_find", asked))
            yield from pages.new_documents(page["docs"], page["bookmark"])

    def count(self, selector: Selector, *, use_index: str | Iterable[str] | None = None) -> int:
        """Return how many documents match a selector. Design documents do not count.

        The query requests only ids. So CouchDB reads no document if an index has all fields of the selector.

        >>> rows = db.bulk_docs([{"_id": "a", "type": "task"}, {"_id": "b", "type": "note"}])
        >>> db.count({"type": "task"})
        1
        """
        from couchdal.operations.paging import FindPages  # most programs use it rarely

        counted = 0
        pages = FindPages(
            without_none(selector=selector, fields=["_id"], use_index=index_name(use_index)), None, 10 * PAGE_SIZE
        )
        while (asked := pages.next_payload()) is not None:
            page: FindResult = self._run(Operation("POST", "/_find", asked))
            counted += len(pages.new_documents(page["docs"], page["bookmark"]))
        return counted

    def iter_all_docs(
        self,
        *,
        keys: Iterable[str] | None = None,
        startkey: str | None = None,
        endkey: str | None = None,
        inclusive_end: bool | None = None,
        descending: bool | None = None,
        limit: int | None = None,
        skip: int | None = None,
        include_docs: bool | None = None,
        conflicts: bool | None = None,
        attachments: bool | None = None,
        page_size: int = PAGE_SIZE,
    ) -> Iterator[Row]:
        """Yield the rows of ``_all_docs``, in pages of ``page_size``.

        >>> rows = db.bulk_docs([{"_id": "a"}, {"_id": "b"}, {"_id": "c"}])
        >>> [row["id"] for row in db.iter_all_docs(startkey="b", page_size=1)]
        ['b', 'c']
        """
        from couchdal.operations.paging import KeyPages, RowPages  # most programs use it rarely

        options = {"include_docs": include_docs, "conflicts": conflicts, "attachments": attachments}
        if keys is not None:
            path = "/_all_docs" + query(**options, descending=descending)
            listed: KeyPages[Row] = KeyPages(as_list(keys), skip, limit, page_size, descending=descending)
            while asked_keys := listed.next_keys():
                found: AllDocsResult = self._run(Operation("POST", path, {"keys": asked_keys}))
                yield from listed.new_rows(found["rows"])
                listed.advance()
            return
        span = {"startkey": id_text(startkey), "endkey": id_text(endkey), "inclusive_end": inclusive_end}
        pages: RowPages[Row] = RowPages(
            {**options, **span, "descending": descending}, skip, limit, page_size, unique_keys=True
        )
        while (asked := pages.next_parameters()) is not None:
            page: AllDocsResult = self._run(Operation("GET", "/_all_docs" + query(**asked)))
            yield from pages.new_rows(page["rows"])

    def iter_view(
        self,
        design: str,
        name: str,
        *,
        keys: Iterable[object] | None = None,
        key: object = ABSENT,
        startkey: object = ABSENT,
        endkey: object = ABSENT,
        startkey_docid: str | None = None,
        endkey_docid: str | None = None,
        inclusive_end: bool | None = None,
        descending: bool | None = None,
        limit: int | None = None,
        skip: int | None = None,
        reduce: bool | None = None,
        group: bool | None = None,
        group_level: int | None = None,
        include_docs: bool | None = None,
        conflicts: bool | None = None,
        page_size: int = PAGE_SIZE,
    ) -> Iterator[ViewRow]:
        """Yield the rows of a view, or the groups of its reduce function, in pages of ``page_size``.

        >>> views = {"by-type": {"map": "function (doc) { emit(doc.type, 1); }"}}
        >>> rows = db.bulk_docs([{"_id": "_design/tasks", "views": views}, {"_id": "a", "type": "task"}])
        >>> [row["id"] for row in db.iter_view("tasks", "by-type")]
        ['a']
        """
        path = f"/_design/{quote(design)}/_view/{quote(name)}"
        options = {
            "descending": descending,
            "reduce": reduce,
            "group": group,
            "group_level": group_level,
            "include_docs": include_docs,
            "conflicts": conflicts,
        }
        span = {
            "key": key_text(key),
            "startkey": key_text(startkey),
            "endkey": key_text(endkey),
            "startkey_docid": startkey_docid,
            "endkey_docid": endkey_docid,
            "inclusive_end": inclusive_end,
        }
        if keys is None:
            yield from self._view_rows(path, {**options, **span}, skip, limit, page_size)
        else:
            yield from self._view_rows_of_keys(path, options, as_list(keys), skip, limit, page_size=page_size)

    def _view_rows_of_keys(
        self,
        path: str,
        options: Mapping[str, object],
        keys: list[object],
        skip: int | None,
        limit: int | None,
        *,
        page_size: int,
    ) -> Iterator[ViewRow]:
        from couchdal.operations.paging import KeyPages  # most programs use it rarely

        descending = bool(options["descending"])
        pages: KeyPages[ViewRow] = KeyPages(keys, skip, limit, page_size, descending=descending)
        while asked := pages.next_keys():
            operation: Operation[ViewResult] = Operation(
                "POST", path + query(**options, limit=page_size + 1), {"keys": asked}
            )
            page = self._run(operation)
            if pages.fits(page["rows"]):
                yield from pages.new_rows(page["rows"])
                pages.advance()
            elif len(asked) == 1:
                for row in self._view_rows(path, {**options, "key": key_text(asked[0])}, None, None, page_size):
                    yield from pages.new_rows((row,))
                    if not pages.next_keys():
                        return
                pages.advance()

    def _view_rows(
        self, path: str, parameters: Mapping[str, object], skip: int | None, limit: int | None, page_size: int
    ) -> Iterator[ViewRow]:
        from couchdal.operations.paging import RowPages  # most programs use it rarely

        grouped = bool(parameters.get("group") or parameters.get("group_level"))
        pages: RowPages[ViewRow] = RowPages(parameters, skip, limit, page_size, unique_keys=grouped)
        while (asked := pages.next_parameters()) is not None:
            page: ViewResult = self._run(Operation("GET", path + query(**asked)))
            yield from pages.new_rows(page["rows"], reduced="total_rows" not in page)
