"""``AsyncTypedDocuments``: the documents of a database as objects of a class.

Generated from ``typed.py`` by ``tools/make_async_operations.py``: edit that module instead.

The class decides how an object becomes a document, and which documents fit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from couchdal.operations.async_pages import PAGE_SIZE
from couchdal.operations.async_updates import TRIES, AsyncUpdateOperations
from couchdal.operations.codecs import Codec

if TYPE_CHECKING:
    from couchdal.types import BulkRow, Document, Selector, Sort, WriteResult

T = TypeVar("T")


class AsyncTypedDocuments(Generic[T]):
    """A database whose documents are objects of one class, made by ``AsyncCouchDAL.typed``.

    A document that does not fit the class raises ``InvalidDocument``. Reads ignore members that the class does not
    know.

    >>> from dataclasses import make_dataclass
    >>> Task = make_dataclass("Task", ["title", ("_id", str, ""), ("_rev", str, "")])
    >>> tasks = db.typed(Task)
    >>> (await tasks.put(Task("write tests", "t1")))._rev[:2]
    '1-'
    >>> (await tasks.get("t1")).title
    'write tests'
    """

    def __init__(self, dal: AsyncUpdateOperations, cls: type[T]) -> None:
        self._dal = dal
        self._codec = Codec(cls)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._codec.cls.__name__} in {self._dal!r}>"

    async def get(self, doc_id: str, *, rev: str | None = None) -> T:
        """Return the document with an id. Raise ``NotFound``."""
        doc = await self._dal.get_document(doc_id, rev=rev)
        return self._codec.decode(doc)

    async def put(self, value: T) -> T:
        """Create or update the document of an object, and set its id and revision. Raise ``Conflict``.

        The server generates an id if the object has none. A frozen object does not change: the result is a copy.
        """
        doc = self._codec.encode(value)
        doc_id = doc.get("_id")
        written = await self._dal.post_document(doc) if doc_id is None else await self._dal.put_document(doc_id, doc)
        return self._codec.identified(value, written["id"], written["rev"])

    async def delete(self, value: T) -> WriteResult:
        """Delete the document of an object. Raise ``Conflict`` or ``NotFound``."""
        doc = self._codec.encode(value)
        return await self._dal.delete_document(doc["_id"], doc["_rev"])

    async def bulk(self, values: Iterable[T]) -> list[BulkRow]:
        """Write many objects. Each has its own outcome. Objects that are not frozen get their ids and revisions."""
        given = list(values)
        rows = await self._dal.bulk_docs([self._codec.encode(value) for value in given])
        for value, row in zip(given, rows, strict=True):
            if "rev" in row:
                self._codec.identified(value, row["id"], row["rev"])
        return rows

    async def find(
        self,
        selector: Selector,
        *,
        sort: Sort | None = None,
        limit: int | None = None,
        skip: int | None = None,
        use_index: str | Iterable[str] | None = None,
    ) -> list[T]:
        """Return the documents that match a selector. Without ``limit``, CouchDB returns the first 25."""
        found = await self._dal.find(selector, sort=sort, limit=limit, skip=skip, use_index=use_index)
        return [self._codec.decode(doc) for doc in found["docs"]]

    async def iter_find(
        self,
        selector: Selector,
        *,
        sort: Sort | None = None,
        limit: int | None = None,
        skip: int | None = None,
        use_index: str | Iterable[str] | None = None,
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[T]:
        """Yield all documents that match a selector, as ``AsyncCouchDAL.iter_find`` does."""
        async for doc in self._dal.iter_find(
            selector, sort=sort, limit=limit, skip=skip, use_index=use_index, page_size=page_size
        ):
            yield self._codec.decode(doc)

    async def iter_all(
        self, *, startkey: str | None = None, endkey: str | None = None, page_size: int = PAGE_SIZE
    ) -> AsyncIterator[T]:
        """Yield all documents but design documents, ordered by id."""
        async for row in self._dal.iter_all_docs(
            startkey=startkey, endkey=endkey, include_docs=True, page_size=page_size
        ):
            doc = row.get("doc")
            if doc is not None and not row["id"].startswith("_design/"):
                yield self._codec.decode(doc)

    async def update(
        self, doc_id: str, change: Callable[[T], T | None], *, default: T | None = None, tries: int = TRIES
    ) -> T:
        """Read a document, call ``change`` with its object and write the result. Repeat this after a conflict.

        ``change`` changes its argument or returns another object. Members that the class does not know are kept.
        ``default`` is what ``change`` gets if the document does not exist; without it, raise ``NotFound``.
        """

        def changed(doc: Document) -> Document:
            value = self._codec.decode(doc)
            returned = change(value)
            others = {name: member for name, member in doc.items() if not self._codec.knows(name)}
            encoded = self._codec.encode(value if returned is None else returned)
            encoded.update(others)
            return encoded

        first = None if default is None else self._codec.encode(default)
        stored = await self._dal.update_document(doc_id, changed, default=first, tries=tries)
        return self._codec.decode(stored)
