"""``update_document``, ``conflicts``, ``resolve`` and ``find_conflicted``, on both clients and every backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from couchdal import AsyncCouchDAL, Conflict, CouchDAL, Document, Forbidden, NotFound


class Calls:
    """The methods of either client, by their names; an iterator is read to its end."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(method, *args, **kwargs)


@pytest.fixture(params=["blocking", "async"])
def client(request: pytest.FixtureRequest, dal: CouchDAL) -> Calls:
    def blocking(method: str, *args: Any, **kwargs: Any) -> Any:
        found = getattr(dal, method)(*args, **kwargs)
        return list(found) if method.startswith("find_") else found

    async def in_loop(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncCouchDAL(dal.backend) as handle:
            found = getattr(handle, method)(*args, **kwargs)
            return [item async for item in found] if method.startswith("find_") else await found

    if request.param == "blocking":
        return Calls(blocking)
    return Calls(lambda *args, **kwargs: asyncio.run(in_loop(*args, **kwargs)))


def edits(*leaves: dict[str, Any], doc_id: str = "a") -> list[dict[str, Any]]:
    """Return conflicting first revisions of a document: 1-aa, 1-bb and so on. The last one wins."""
    return [{"_id": doc_id, "_rev": f"1-{letter * 2}", **leaf} for letter, leaf in zip("abcdef", leaves, strict=False)]


def test_update_writes_what_the_function_returns(client: Calls, dal: CouchDAL) -> None:
    dal.put_document("a", {"n": 1})
    updated = client.update_document("a", lambda doc: {"n": doc["n"] + 1})
    assert updated == dal.get_document("a") == {"_id": "a", "_rev": updated["_rev"], "n": 2}
    assert updated["_rev"].startswith("2-")


def test_update_writes_what_the_function_changes_in_place(client: Calls, dal: CouchDAL) -> None:
    dal.put_document("a", {"tags": []})

    def add_tag(doc: Document) -> None:
        doc["tags"].append("x")

    assert client.update_document("a", add_tag)["tags"] == dal.get_document("a")["tags"] == ["x"]


def test_update_without_a_change_writes_nothing(client: Calls, dal: CouchDAL) -> None:
    rev = dal.put_document("a", {"n": 1})["rev"]
    with dal.expect(requests=1):
        assert client.update_document("a", lambda doc: None)["_rev"] == rev
    assert client.update_document("a", lambda doc: {**doc})["_rev"] == rev
    assert dal.get_document("a")["_rev"] == rev


def test_update_deletes_a_document(client: Calls, dal: CouchDAL) -> None:
    dal.put_document("a", {"n": 1})
    assert client.update_document("a", lambda doc: {"_deleted": True})["_deleted"] is True
    with pytest.raises(NotFound, match="deleted"):
        dal.get_document("a")
    assert client.update_document("a", lambda doc: {**doc, "m": 1}, default={"n": 0})["_rev"].startswith("3-")
    assert dal.get_document("a")["m"] == 1


def test_update_of_a_missing_document_raises_or_begins_with_the_default(client: Calls, dal: CouchDAL) -> None:
    with pytest.raises(NotFound, match="missing"):
        client.update_document("a", lambda doc: doc)
    default = {"tags": []}
    updated = client.update_document("a", lambda doc: doc["tags"].append(1), default=default)
    assert updated == dal.get_document("a")
    assert updated["tags"] == [1]
    assert default == {"tags": []}
    assert client.update_document("b", lambda doc: None, default={"n": 0}) == dal.get_document("b")


def test_update_begins_again_on_a_conflict(client: Calls, dal: CouchDAL) -> None:
    dal.put_document("a", {"n": 0})
    seen = []

    def change(doc: Document) -> Document:
        seen.append(doc["n"])
        if len(seen) < 4:
            dal.put_document("a", {**doc, "n": doc["n"] + 10})
        doc["n"] += 1
        return doc

    assert client.update_document("a", change)["n"] == 31
    assert seen == [0, 10, 20, 30]


def test_update_gives_up_after_its_tries(client: Calls, dal: CouchDAL) -> None:
    dal.put_document("a", {"n": 0})
    calls = []

    def change(doc: Document) -> Document:
        calls.append(doc)
        dal.put_document("a", {**doc, "n": doc["n"] + 1})
        return doc | {"mine": True}  # type: ignore[return-value]

    with pytest.raises(Conflict):
        client.update_document("a", change, tries=3)
    assert len(calls) == 3
    assert "mine" not in dal.get_document("a")
    with pytest.raises(ValueError, match="tries must be at least 1"):
        client.update_document("a", change, tries=0)


def test_update_refuses_a_result_that_is_not_this_document(client: Calls, dal: CouchDAL) -> None:
    rev = dal.put_document("a", {})["rev"]
    with pytest.raises(ValueError, match="an id does not change"):
        client.update_document("a", lambda doc: {"_id": "b"})
    with pytest.raises(TypeError, match="must be a mapping, not int"):
        client.update_document("a", lambda doc: 5)
    with pytest.raises(ZeroDivisionError):
        client.update_document("a", lambda doc: {"n": 1 / 0})
    # An old revision does not matter.
    assert client.update_document("a", lambda doc: {"n": 1, "_rev": "1-aa"})["_rev"].startswith("2-")
    assert dal.get_document("a", rev=rev)


def test_concurrent_updates_lose_nothing(dal: CouchDAL) -> None:
    def work() -> None:
        for _ in range(10):
            dal.update_document("counter", lambda doc: {"n": doc["n"] + 1}, default={"n": 0})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dal.get_document("counter")["n"] == 60


def test_update_keeps_attachments(client: Calls, dal: CouchDAL) -> None:
    dal.put_attachment("a", "note.txt", b"hello", content_type="text/plain")
    client.update_document("a", lambda doc: {**doc, "n": 1})
    assert dal.get_attachment("a", "note.txt") == b"hello"


def test_conflicts_are_the_live_leaves_but_the_winner(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs([*edits({"n": 1}, {"n": 2}, {"n": 3}), {"_id": "b", "_rev": "1-zz"}], new_edits=False)
    assert [(doc["_rev"], doc["n"]) for doc in client.conflicts("a")] == [("1-bb", 2), ("1-aa", 1)]
    assert client.conflicts("b") == []
    dal.delete_document("a", "1-bb")
    assert [doc["_rev"] for doc in client.conflicts("a")] == ["1-aa"]
    with pytest.raises(NotFound):
        client.conflicts("nowhere")


def test_resolve_keeps_the_chosen_leaf(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({"n": 5}, {"n": 9}, {"n": 3}), new_edits=False)
    given = []

    def choose(leaves: list[Document]) -> Document:
        given.append([leaf["_rev"] for leaf in leaves])
        return max(leaves, key=lambda leaf: leaf["n"])

    with dal.expect(requests=3):
        kept = client.resolve("a", choose)
    assert given == [["1-cc", "1-bb", "1-aa"]]
    assert kept == dal.get_document("a", conflicts=True) == {"_id": "a", "_rev": "1-bb", "n": 9}


def test_resolve_writes_a_merged_document(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({"tags": ["x"]}, {"tags": ["y"]}), new_edits=False)
    merged = client.resolve("a", lambda leaves: {"tags": sorted(tag for leaf in leaves for tag in leaf["tags"])})
    assert merged == dal.get_document("a", conflicts=True)
    assert merged["tags"] == ["x", "y"]
    # A new revision of the winner.
    assert dal.get_document("a", revs=True)["_revisions"]["ids"][1] == "bb"


def test_resolve_can_delete_all_leaves(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({}, {}), new_edits=False)
    client.resolve("a", lambda leaves: {"_deleted": True})
    with pytest.raises(NotFound, match="deleted"):
        dal.get_document("a")


def test_resolve_leaves_a_document_without_conflicts_alone(client: Calls, dal: CouchDAL) -> None:
    rev = dal.put_document("a", {})["rev"]
    with dal.expect(requests=1):
        assert client.resolve("a", lambda leaves: 1 / 0)["_rev"] == rev
    with pytest.raises(NotFound):
        client.resolve("nowhere", lambda leaves: leaves[0])


def test_resolve_begins_again_if_somebody_edits_a_leaf(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({"tags": ["x"]}, {"tags": ["y"]}), new_edits=False)
    calls = []

    def merge(leaves: list[Document]) -> dict[str, Any]:
        calls.append(len(leaves))
        if len(calls) == 1:
            dal.put_document("a", {"tags": ["z"], "_rev": "1-aa"})
        return {"tags": sorted({tag for leaf in leaves for tag in leaf["tags"]})}

    assert client.resolve("a", merge)["tags"] == ["x", "y", "z"]
    assert calls == [2, 2]
    assert "_conflicts" not in dal.get_document("a", conflicts=True)


def test_resolve_refuses_a_document_of_another_revision(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({}, {}), new_edits=False)
    with pytest.raises(ValueError, match="not a live leaf of 'a'"):
        client.resolve("a", lambda leaves: {"_rev": "1-zz"})
    with pytest.raises(TypeError, match="choose must return the document to keep, not NoneType"):
        client.resolve("a", lambda leaves: None)
    assert len(dal.conflicts("a")) == 1


def test_resolve_raises_the_error_of_a_leaf_that_may_not_be_deleted(client: Calls, dal: CouchDAL) -> None:
    dal.bulk_docs(edits({}, {}), new_edits=False)
    check = "function (doc) { if (doc._deleted) { throw({forbidden: 'keep it'}); } }"
    dal.put_document("_design/d", {"validate_doc_update": check})
    with pytest.raises(Forbidden, match="keep it"):
        client.resolve("a", lambda leaves: leaves[0])


@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_conflicted_documents_are_found(client: Calls, dal: CouchDAL, page_size: int) -> None:
    for doc_id in ("a", "b", "_design/d"):
        dal.bulk_docs(edits({}, {}, doc_id=doc_id), new_edits=False)
    dal.put_document("c", {})
    dal.bulk_docs([*edits({}, {"_deleted": True}, doc_id="e")], new_edits=False)
    dal.resolve("b", lambda leaves: leaves[0])
    assert sorted(client.find_conflicted(page_size=page_size)) == ["_design/d", "a"]


def test_loop_may_resolve_what_it_finds(dal: CouchDAL) -> None:
    for n in range(7):
        dal.bulk_docs(edits({}, {}, doc_id=f"d{n}"), new_edits=False)
    found = []
    for doc_id in dal.find_conflicted(page_size=2):
        found.append(doc_id)
        dal.resolve(doc_id, lambda leaves: {**leaves[0], "resolved": True})
    assert sorted(found) == [f"d{n}" for n in range(7)]
    assert list(dal.find_conflicted()) == []
