"""The typed methods of both clients."""

from __future__ import annotations

import asyncio
import inspect
import pydoc
from collections.abc import Awaitable, Callable
from typing import Any

import make_async_operations
import pytest

from couchdal import AsyncCouchDAL, Conflict, CouchDAL, IllegalDocId, NotFound


class Both:
    """Calls a method of either client by its name."""

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self._call, self.name = call, name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(method, *args, **kwargs)


@pytest.fixture(params=["blocking", "async"])
def client(request: pytest.FixtureRequest, dal: CouchDAL) -> Both:
    assert dal.name
    if request.param == "blocking":
        return Both(lambda method, *args, **kwargs: getattr(dal, method)(*args, **kwargs), dal.name)

    async def call(method: str, *args: Any, **kwargs: Any) -> Any:
        handle = AsyncCouchDAL(dal.backend)
        try:
            result: Awaitable[Any] = getattr(handle, method)(*args, **kwargs)
            return await result
        finally:
            await handle.aclose()

    return Both(lambda *args, **kwargs: asyncio.run(call(*args, **kwargs)), dal.name)


def test_document_is_written_read_updated_copied_and_deleted(client: Both) -> None:
    first = client.put_document("a", {"x": 1})
    assert first["rev"].startswith("1-")
    second = client.put_document("a", {"x": 2}, rev=first["rev"])
    assert client.get_document("a") == {"_id": "a", "_rev": second["rev"], "x": 2}
    assert client.get_document("a", rev=first["rev"])["x"] == 1
    assert client.get_document("a", revs=True)["_revisions"]["start"] == 2
    client.copy_document("a", "b/c", rev=first["rev"])
    assert client.get_document("b/c")["x"] == 1
    client.copy_document("a", "b/c", destination_rev=client.get_document("b/c")["_rev"])
    assert client.get_document("b/c")["x"] == 2
    client.delete_document("a", second["rev"])
    with pytest.raises(NotFound) as caught:
        client.get_document("a")
    assert (caught.value.status, caught.value.error, caught.value.reason) == (404, "not_found", "deleted")


def test_put_conflicts_when_rev_is_missing(client: Both) -> None:
    client.put_document("a", {})
    with pytest.raises(Conflict) as caught:
        client.put_document("a", {})
    assert (caught.value.status, caught.value.reason) == (409, "Document update conflict.")


def test_posted_document_gets_an_id(client: Both) -> None:
    written = client.post_document({"x": 1})
    assert client.get_document(written["id"])["x"] == 1


def test_open_revs_lists_leaves(client: Both) -> None:
    for rev in ("1-aa", "1-bb"):
        client.bulk_docs([{"_id": "a", "_rev": rev}], new_edits=False)
    assert [row["ok"]["_rev"] for row in client.open_revs("a")] == ["1-aa", "1-bb"]
    assert client.open_revs("a", ["1-bb", "1-cc"])[1] == {"missing": "1-cc"}
    assert client.get_document("a", conflicts=True)["_conflicts"] == ["1-aa"]


def test_prefix_of_a_local_documents_id_is_optional(client: Both) -> None:
    assert client.put_local("a/b", {"seq": 1})["id"] == "_local/a/b"
    assert client.get_local("_local/a/b")["seq"] == client.get_local("a/b")["seq"] == 1
    client.delete_local("a/b")
    with pytest.raises(NotFound):
        client.get_local("a/b")


def test_attachment_is_written_read_and_deleted(client: Both) -> None:
    written = client.put_attachment("a", "f/g 1.txt", b"\x00\xffhello", content_type="text/plain")
    assert client.get_attachment("a", "f/g 1.txt") == b"\x00\xffhello"
    stub = client.get_document("a")["_attachments"]["f/g 1.txt"]
    assert (stub["content_type"], stub["length"]) == ("text/plain", 7)
    client.delete_attachment("a", "f/g 1.txt", written["rev"])
    with pytest.raises(NotFound):
        client.get_attachment("a", "f/g 1.txt")


def test_empty_attachment_comes_back_empty(client: Both) -> None:
    client.put_attachment("a", "f", b"")
    assert client.get_attachment("a", "f") == b""


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_attachment_must_be_bytes(client: Both, wrong: object) -> None:
    with pytest.raises(TypeError, match=f"an attachment must be bytes, not {type(wrong).__name__}"):
        client.put_attachment("a", "f", wrong)
    with pytest.raises(NotFound):
        client.get_document("a")


def test_bulk_docs_gives_each_document_its_outcome(client: Both) -> None:
    client.put_document("a", {})
    rows = client.bulk_docs([{"_id": "a"}, {"_id": "b"}])
    assert rows[0] == {"id": "a", "error": "conflict", "reason": "Document update conflict."}
    assert rows[1]["ok"] is True


def test_bulk_get_takes_ids_and_revisions(client: Both) -> None:
    rev = client.put_document("a", {})["rev"]
    found = client.bulk_get(["a", {"id": "a", "rev": rev}, "b"], revs=True)["results"]
    assert [item["id"] for item in found] == ["a", "a", "b"]
    assert found[1]["docs"][0]["ok"]["_revisions"]["start"] == 1
    assert found[2]["docs"][0]["error"]["reason"] == "missing"


def test_revs_diff_returns_missing_revisions(client: Both) -> None:
    rev = client.put_document("a", {})["rev"]
    assert client.revs_diff({"a": [rev, "2-x"]}) == {"a": {"missing": ["2-x"], "possible_ancestors": [rev]}}


def test_all_docs_takes_keys_and_ranges(client: Both) -> None:
    client.bulk_docs([{"_id": doc_id} for doc_id in ("a", "b", "c", 'd"&')])
    assert [row["id"] for row in client.all_docs(startkey="b", limit=2)["rows"]] == ["b", "c"]
    assert [row["id"] for row in client.all_docs(endkey="b", inclusive_end=False)["rows"]] == ["a"]
    assert [row["id"] for row in client.all_docs(key='d"&')["rows"]] == ['d"&']
    rows = client.all_docs(keys=["c", "x", "a"], include_docs=True)["rows"]
    assert [row.get("error") or row["doc"]["_id"] for row in rows] == ["c", "not_found", "a"]
    assert client.all_docs(descending=True, skip=3)["rows"][0]["id"] == "a"


def test_changes_take_since_ids_and_selector(client: Both) -> None:
    client.bulk_docs([{"_id": doc_id, "n": n} for n, doc_id in enumerate("abc")])
    first = client.changes(limit=1)
    assert (first["results"][0]["id"], first["pending"]) == ("a", 2)
    rest = client.changes(since=first["last_seq"], include_docs=True)
    assert [row["doc"]["n"] for row in rest["results"]] == [1, 2]
    assert [row["id"] for row in client.changes(doc_ids=["c"])["results"]] == ["c"]
    assert [row["id"] for row in client.changes(selector={"n": {"$gt": 0}})["results"]] == ["b", "c"]
    assert client.changes(since="now")["results"] == []


def test_find_takes_every_option(client: Both) -> None:
    client.bulk_docs([{"_id": f"d{n}", "type": "task", "n": n} for n in range(5)])
    first = client.find({"type": "task"}, fields=["n"], limit=2, skip=1, execution_stats=True)
    assert first["docs"] == [{"n": 1}, {"n": 2}]
    rest = client.find({"type": "task"}, fields=["n"], limit=2, bookmark=first["bookmark"])
    assert rest["docs"] == [{"n": 3}, {"n": 4}]


def test_security_revs_limit_purge_and_compaction(client: Both) -> None:
    client.put_security({"members": {"names": ["a"], "roles": []}})
    assert client.get_security()["members"] == {"names": ["a"], "roles": []}
    assert client.get_revs_limit() == 1000
    client.put_revs_limit(5)
    assert client.get_revs_limit() == 5
    rev = client.put_document("a", {})["rev"]
    assert client.purge({"a": [rev]})["purged"] == {"a": [rev]}
    assert client.info()["doc_count"] == 0
    assert client.compact() == {"ok": True}


def test_server_lists_databases_session_and_ids(client: Both) -> None:
    assert client.name in client.all_dbs()
    assert client.session()["userCtx"]["roles"] == ["_admin"]
    assert len(client.uuids(3)["uuids"]) == 3
    client.create_database(f"{client.name}x")
    assert f"{client.name}x" in client.all_dbs()
    client.delete_database(f"{client.name}x")
    assert f"{client.name}x" not in client.all_dbs()


@pytest.mark.parametrize("doc_id", ["", "_all_docs", "_design", "_design/", "_local/", "_x"])
def test_id_that_no_document_can_have_is_refused(client: Both, doc_id: str) -> None:
    for call in (client.get_document, lambda key: client.put_document(key, {})):
        with pytest.raises(IllegalDocId) as caught:
            call(doc_id)
        assert (caught.value.status, caught.value.error) == (400, "illegal_docid")


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("get_document", (1,)),
        ("bulk_get", ("a",)),
        ("bulk_docs", ("a",)),
        ("all_docs", ()),
        ("find", ({},)),
        ("revs_diff", ({"a": "1-a"},)),
    ],
)
def test_text_in_place_of_a_list_is_refused(client: Both, method: str, args: tuple[object, ...]) -> None:
    options = {"all_docs": {"keys": "abc"}, "find": {"fields": "abc"}}.get(method, {})
    with pytest.raises(TypeError):
        getattr(client, method)(*args, **options)


def test_unknown_parameter_is_refused(client: Both) -> None:
    with pytest.raises(TypeError, match="unknown"):
        client.find({}, unknown=1)
    with pytest.raises(TypeError, match="unknown"):
        client.changes(unknown=1)


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def surface(client: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(member).parameters.values())[1:]
            for name, member in inspect.getmembers(client, callable)
            if not name.startswith("_")
        }

    blocking, awaitable = surface(CouchDAL), surface(AsyncCouchDAL)
    assert awaitable.pop("aclose") == awaitable["close"]
    assert blocking == awaitable


def test_asynchronous_methods_are_those_of_the_blocking_client() -> None:
    """The twins of the operations' modules are generated; run ``tools/make_async_operations.py`` after a change."""
    for name in make_async_operations.NAMES:
        twin = make_async_operations.FOLDER / f"async_{name}.py"
        assert twin.read_text("utf-8") == make_async_operations.async_module(name)


@pytest.mark.parametrize("client", [CouchDAL, AsyncCouchDAL])
def test_help_shows_parameters_and_result(client: type) -> None:
    method = inspect.signature(client.revs_diff)  # type: ignore[attr-defined]
    assert str(method) == "(self, revisions: 'Mapping[str, Iterable[str]]') -> 'dict[str, MissingRevisions]'"
    shown = pydoc.render_doc(client, renderer=pydoc.plaintext)
    # Python 3.13 prints a long signature on several lines.
    printed = " ".join(shown.replace("|  ", "").split()).replace("( ", "(")
    assert "get_document(self, doc_id: 'str', *, rev: 'str | None' = None" in printed
