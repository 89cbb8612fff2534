"""Iterators over all pages, and ``count``, on both clients and every backend."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from couchdal import AsyncCouchDAL, BadRequest, CouchDAL, NotFound, QueryParseError
from couchdal.middleware.chain import installed

VIEWS = {
    # Keys repeat between documents and within one; "a\u0001" sorts as "a" does.
    "many": {"map": 'function (doc) { emit(doc.k, 1); emit(doc.k, 2); emit("a", 3); emit("a\\u0001", 4); }'},
    "total": {"map": "function (doc) { emit([doc.k, doc.n % 3, doc.n], doc.n); }", "reduce": "_sum"},
}


@pytest.fixture(params=["blocking", "async"])
def read(request: pytest.FixtureRequest, dal: CouchDAL) -> Callable[..., list[Any]]:
    """A function that reads an iterator of either client to its end."""
    if request.param == "blocking":
        return lambda method, *args, **kwargs: list(getattr(dal, method)(*args, **kwargs))

    async def collect(method: str, *args: Any, **kwargs: Any) -> list[Any]:
        handle = AsyncCouchDAL(dal.backend)
        try:
            found: AsyncIterator[Any] = getattr(handle, method)(*args, **kwargs)
            return [item async for item in found]
        finally:
            await handle.aclose()

    return lambda *args, **kwargs: asyncio.run(collect(*args, **kwargs))


@pytest.fixture
def filled(dal: CouchDAL) -> CouchDAL:
    dal.bulk_docs({"_id": f"d{n:02}", "n": n, "k": n // 5, "type": "task" if n % 2 else "note"} for n in range(23))
    dal.put_document("_design/d", {"views": VIEWS})
    return dal


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page_size", [1, 5, 500])
@pytest.mark.parametrize("sort", [None, ["k"], [{"k": "desc"}]])
def test_pages_of_a_query_are_the_whole_result(
    dal: CouchDAL, read: Callable[..., list[Any]], page_size: int, sort: list[Any] | None
) -> None:
    if sort:
        dal.create_index(["k"])
    options: dict[str, Any] = {"sort": sort, "fields": ["_id"]}
    whole = dal.find({"k": {"$gte": 1}}, limit=100, **options)["docs"]
    assert len(whole) == 18
    assert read("iter_find", {"k": {"$gte": 1}}, page_size=page_size, **options) == whole
    assert read("iter_find", {"k": {"$gte": 1}}, page_size=page_size, skip=3, limit=6, **options) == whole[3:9]
    assert read("iter_find", {"k": {"$gte": 1}}, page_size=page_size, skip=20, **options) == []
    assert read("iter_find", {"k": {"$gte": 1}}, page_size=page_size, limit=0, **options) == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page_size", [1, 3, 500])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"descending": True},
        {"startkey": "d03", "endkey": "d09"},
        {"startkey": "d03", "endkey": "d09", "inclusive_end": False},
        {"startkey": "d20", "descending": True, "skip": 2},
        {"limit": 4, "skip": 2},
        {"limit": 0},
        {"keys": ["d03", "d01", "d03", "nowhere", "d09"]},
        {"keys": ["d03", "d01", "d03", "nowhere", "d09"], "descending": True},
        {"keys": ["d03", "d01", "d03", "nowhere", "d09"], "skip": 1, "limit": 3},
        {"keys": ["d03", "d01", "d02"], "skip": 1, "limit": 1, "descending": True},
        {"keys": []},
        {"include_docs": True, "limit": 3, "conflicts": True},
    ],
    ids=str,
)
def test_pages_of_all_docs_are_the_whole_result(
    dal: CouchDAL, read: Callable[..., list[Any]], page_size: int, options: dict[str, Any]
) -> None:
    whole = dal.all_docs(**options)["rows"]
    assert read("iter_all_docs", page_size=page_size, **options) == whole


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page_size", [1, 3, 500])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"descending": True},
        {"key": "a"},
        {"key": 2},
        {"key": "a", "descending": True, "skip": 5, "limit": 11},
        {"startkey": 1, "endkey": "a"},
        {"startkey": 1, "startkey_docid": "d07", "endkey": 2, "endkey_docid": "d12"},
        {"startkey": "a", "endkey": 3, "descending": True, "inclusive_end": False},
        {"skip": 3, "limit": 13},
        {"keys": [2, 0, 2, "none", 1]},
        {"keys": [2, 0, 2, "none", 1], "descending": True},
        {"keys": [2, 0, 2, "none", 1], "skip": 7, "limit": 9},
        {"keys": ["a"], "limit": 5},
        {"include_docs": True, "limit": 5},
    ],
    ids=str,
)
def test_pages_of_a_view_are_the_whole_result(
    dal: CouchDAL, read: Callable[..., list[Any]], page_size: int, options: dict[str, Any]
) -> None:
    whole = dal.view("d", "many", **options)["rows"]
    assert read("iter_view", "d", "many", page_size=page_size, **options) == whole


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page_size", [1, 2, 500])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduce": False},
        {"startkey": [2]},
        {"skip": 1},
        {"group": True},
        {"group": True, "descending": True, "skip": 2, "limit": 9},
        {"group_level": 1},
        {"group_level": 1, "descending": True},
        {"group_level": 2},
        {"group_level": 2, "descending": True, "startkey": [3, 1, {}], "endkey": [1, 1]},
        {"group_level": 2, "startkey": [0, 1, 2], "limit": 5, "skip": 1},
        {"group": True, "keys": [[0, 0, 0], [1, 2, 5], [9, 9, 9], [0, 0, 0]]},
    ],
    ids=str,
)
def test_pages_of_a_reduced_view_are_the_whole_result(
    dal: CouchDAL, read: Callable[..., list[Any]], page_size: int, options: dict[str, Any]
) -> None:
    whole = dal.view("d", "total", **options)["rows"]
    assert read("iter_view", "d", "total", page_size=page_size, **options) == whole


def test_pages_are_bounded(filled: CouchDAL, read: Callable[..., list[Any]]) -> None:
    asked = []

    def note(backend: object, request: Any) -> Any:
        response = yield request
        rows = response.value()
        asked.append(len(rows.get("rows", rows.get("docs", ()))))
        return response

    with installed(note, filled.backend.server_key):
        read("iter_find", {"n": {"$gte": 0}}, page_size=4)
        read("iter_all_docs", page_size=4)
        read("iter_view", "d", "total", reduce=False, page_size=4)
        read("iter_view", "d", "many", keys=[0, 1, 2, 3], page_size=4)
    assert 20 < len(asked) < 60
    assert max(asked) <= 8


@pytest.mark.usefixtures("filled")
def test_loop_may_delete_what_it_reads(dal: CouchDAL) -> None:
    dal.create_index(["k"])
    for doc in dal.iter_find({"k": {"$gte": 0}}, page_size=4):
        dal.delete_document(doc["_id"], doc["_rev"])
    assert dal.info()["doc_count"] == 2

    dal.bulk_docs({"_id": f"e{n}"} for n in range(9))
    for row in dal.iter_all_docs(startkey="d", page_size=4):
        dal.delete_document(row["id"], row["value"]["rev"])
    assert dal.info()["doc_count"] == 2

    dal.bulk_docs({"_id": f"f{n}", "k": 1, "n": n} for n in range(9))
    for view_row in dal.iter_view("d", "total", reduce=False, include_docs=True, page_size=4):
        doc = view_row["doc"]
        assert doc is not None
        dal.delete_document(doc["_id"], doc["_rev"])
    assert dal.info()["doc_count"] == 2


def test_documents_that_stay_are_read_once_while_others_come_and_go(filled: CouchDAL) -> None:
    writes = itertools.count()

    def write(found: Iterator[Any]) -> Iterator[Any]:
        """Delete the last row that was read, and write rows before and behind it, after each one."""
        for row in found:
            n = next(writes)
            if n < 40:
                filled.bulk_docs({"_id": new, "k": n % 7, "n": n} for new in (f"a{n}", f"z{n}", f"d{n % 23:02}x"))
            doc_id = row.get("id") or row["_id"]
            if len(doc_id) != 3 and not doc_id.startswith("_"):
                with suppress(NotFound):
                    filled.delete_document(doc_id, filled.get_document(doc_id)["_rev"])
            yield row

    stay = [f"d{n:02}" for n in range(23)]
    for found in (
        filled.iter_all_docs(page_size=3),
        filled.iter_view("d", "total", reduce=False, page_size=3),
        filled.iter_find({"n": {"$gte": 0}}, page_size=3),
    ):
        ids = [row.get("id") or row["_id"] for row in write(iter(found))]
        assert sorted(doc_id for doc_id in ids if doc_id in stay) == stay


@pytest.mark.parametrize("indexed", [False, True])
def test_count_is_exact(dal: CouchDAL, indexed: bool) -> None:
    dal.bulk_docs({"_id": f"d{n}", "n": n, "type": "task" if n % 3 else "note"} for n in range(100))
    if indexed:
        dal.create_index(["type"])

    async def counted() -> int:
        async with AsyncCouchDAL(dal.backend) as handle:
            return await handle.count({"type": "task"})

    with dal.expect(requests=1, docs_examined_max=0 if indexed else 102):
        assert dal.count({"type": "task"}) == 66
    assert asyncio.run(counted()) == 66
    assert dal.count({"type": "nothing"}) == 0
    assert dal.count({}) == 100


def test_count_reads_several_pages(monkeypatch: pytest.MonkeyPatch, dal: CouchDAL) -> None:
    monkeypatch.setattr("couchdal.operations.pages.PAGE_SIZE", 1)
    dal.bulk_docs({"_id": f"d{n}"} for n in range(30))
    with dal.expect(requests=4):
        assert dal.count({}) == 30


def test_errors_come_with_the_first_page(dal: CouchDAL) -> None:
    with pytest.raises(BadRequest):
        list(dal.iter_find({"a": {"$nonsense": 1}}))
    dal.put_document("_design/d", {"views": VIEWS})
    with pytest.raises(QueryParseError):
        list(dal.iter_view("d", "many", group=True))
    for wrong in ({"page_size": 0}, {"limit": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            list(dal.iter_all_docs(**wrong))
    with pytest.raises(TypeError):
        list(dal.iter_all_docs(keys="abc"))


def test_break_stops_reading(filled: CouchDAL) -> None:
    with filled.expect(requests_max=2):
        assert next(filled.iter_all_docs(page_size=5))["id"] == "_design/d"
        assert next(filled.iter_find({}, page_size=5))["_id"] == "d00"


def test_keys_of_any_type_continue_a_page(dal: CouchDAL) -> None:
    """The keys of rows are any JSON, and come back as they were sent."""
    keys = [None, False, True, 0, 1, 1.5, 2**53 - 1, "", "a", "ä", "\u2028", [], [1, "x"], {"b": 1, "a": 2}]
    dal.bulk_docs({"_id": uuid.uuid4().hex, "k": key, "n": n} for n, key in enumerate(keys))
    dal.put_document("_design/d", {"views": {"k": {"map": "function (doc) { emit(doc.k, null); }"}}})
    rows = dal.view("d", "k")["rows"]
    assert len(rows) == len(keys)
    assert list(dal.iter_view("d", "k", page_size=1)) == rows
