"""Calls that search: Mango queries and their indexes, and views.

Generated from ``queries.py`` by ``tools/make_async_operations.py``: edit that module instead.

A parameter that is ``None`` is not sent. CouchDB's documentation says what each one does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from couchdal.http.messages import ABSENT
from couchdal.http.urls import quote
from couchdal.operations.operation import AsyncOperations, Operation, as_list, index_name, key_text, query, without_none

if TYPE_CHECKING:
    from couchdal.types import CreatedIndex, Explanation, FindResult, IndexList, Ok, Selector, Sort, ViewResult


class AsyncQueryOperations(AsyncOperations):
    """Runs Mango queries, manages their indexes, and reads views."""

    async def find(
        self,
        selector: Selector,
        *,
        fields: Iterable[str] | None = None,
        sort: Sort | None = None,
        limit: int | None = None,
        skip: int | None = None,
        bookmark: str | None = None,
        use_index: str | Iterable[str] | None = None,
        conflicts: bool | None = None,
        execution_stats: bool | None = None,
        update: bool | None = None,
    ) -> FindResult:
        """Return the documents that match a selector. Without ``limit``, CouchDB returns the first 25.

        >>> rows = await db.bulk_docs([{"_id": "a", "type": "task"}, {"_id": "b", "type": "note"}])
        >>> [doc["_id"] for doc in (await db.find({"type": "task"}))["docs"]]
        ['a']
        """
        payload = without_none(
            selector=selector,
            fields=None if fields is None else as_list(fields),
            sort=None if sort is None else as_list(sort),
            limit=limit,
            skip=skip,
            bookmark=bookmark,
            use_index=index_name(use_index),
            conflicts=conflicts,
            execution_stats=execution_stats,
            update=update,
        )
        return await self._run(Operation("POST", "/_find", payload))

    async def explain(
        self,
        selector: Selector,
        *,
        fields: Iterable[str] | None = None,
        sort: Sort | None = None,
        limit: int | None = None,
        skip: int | None = None,
        use_index: str | Iterable[str] | None = None,
    ) -> Explanation:
        """Return how CouchDB would run a query: the index, its range, and the indexes that it considered.

        >>> (await db.explain({"type": "task"}))["index"]["name"]
        '_all_docs'
        """
        payload = without_none(
            selector=selector,
            fields=None if fields is None else as_list(fields),
            sort=None if sort is None else as_list(sort),
            limit=limit,
            skip=skip,
            use_index=index_name(use_index),
        )
        return await self._run(Operation("POST", "/_explain", payload))

    async def create_index(
        self,
        fields: Sort,
        *,
        name: str | None = None,
        ddoc: str | None = None,
        partial_filter_selector: Selector | None = None,
        partitioned: bool | None = None,
    ) -> CreatedIndex:
        """Create a Mango index on fields. If it exists, ``result`` is ``"exists"``.

        >>> (await db.create_index(["type", "due"], name="by-due"))["result"]
        'created'
        """
        index = without_none(fields=as_list(fields), partial_filter_selector=partial_filter_selector)
        payload = without_none(index=index, type="json", name=name, ddoc=ddoc, partitioned=partitioned)
        return await self._run(Operation("POST", "/_index", payload))

    async def get_indexes(self) -> IndexList:
        """Return the Mango indexes of the database.

        >>> [index["name"] for index in (await db.get_indexes())["indexes"]]
        ['_all_docs']
        """
        return await self._run(Operation("GET", "/_index"))

    async def delete_index(self, ddoc: str, name: str) -> Ok:
        """Delete a Mango index. Raise ``NotFound`` if it does not exist.

        >>> created = await db.create_index(["due"], ddoc="tasks", name="by-due")
        >>> await db.delete_index("tasks", "by-due")
        {'ok': True}
        """
        return await self._run(
            Operation("DELETE", f"/_index/{quote(ddoc.removeprefix('_design/'))}/json/{quote(name)}")
        )

    async def view(
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
        update_seq: bool | None = None,
    ) -> ViewResult:
        """Return the rows of a view in a design document, or the results of its reduce function.

        A key is any JSON value, ``None`` included. With ``keys``, the rows come in the order of the keys.

        >>> views = {"by-type": {"map": "function (doc) { emit(doc.type, 1); }", "reduce": "_count"}}
        >>> rows = await db.bulk_docs([{"_id": "_design/tasks", "views": views}, {"_id": "a", "type": "task"}])
        >>> (await db.view("tasks", "by-type", group=True))["rows"]
        [{'key': 'task', 'value': 1}]
        """
        path = f"/_design/{quote(design)}/_view/{quote(name)}" + query(
            key=key_text(key),
            startkey=key_text(startkey),
            endkey=key_text(endkey),
            startkey_docid=startkey_docid,
            endkey_docid=endkey_docid,
            inclusive_end=inclusive_end,
            descending=descending,
            limit=limit,
            skip=skip,
            reduce=reduce,
            group=group,
            group_level=group_level,
            include_docs=include_docs,
            conflicts=conflicts,
            update_seq=update_seq,
        )
        if keys is None:
            return await self._run(Operation("GET", path))
        return await self._run(Operation("POST", path, {"keys": as_list(keys)}))
