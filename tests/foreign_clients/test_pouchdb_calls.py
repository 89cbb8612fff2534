"""PouchDB as a plain client: its calls on a server's database, without a local database."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def pouchdb(node: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    """A function that gives calls to PouchDB."""
    return node("calls.mjs")


@pytest.fixture
def calls(pouchdb: Callable[..., Any], server: Any, name: str) -> Callable[..., list[Any]]:
    """A function that makes calls, one after the other, and returns their outcomes."""

    def make(*wanted: list[Any], base: str = server.with_credentials, **headers: str) -> list[Any]:
        outcomes: list[Any] = pouchdb(remote=f"{base}/{name}", headers=headers, calls=wanted)
        return outcomes

    return make


def test_database_is_created_by_its_first_use_and_destroyed(calls: Any, server: Any, name: str) -> None:
    [info] = calls(["info"])
    assert (info["ok"]["db_name"], info["ok"]["doc_count"]) == (name, 0)
    assert server.look(f"/{name}")["db_name"] == name
    [destroyed] = calls(["destroy"])
    assert destroyed["ok"]["ok"] is True
    assert server.look(f"/{name}") == 404


def test_document_is_created_read_updated_and_deleted(calls: Any, server: Any, db: str) -> None:
    [made, again, posted] = calls(["put", {"_id": "a/b", "n": 1}], ["put", {"_id": "a/b", "n": 2}], ["post", {"n": 3}])
    first = made["ok"]["rev"]
    assert (again["status"], again["name"]) == (409, "conflict")
    assert server.look(f"/{db}/{posted['ok']['id']}")["n"] == 3
    [updated, got, old] = calls(
        ["put", {"_id": "a/b", "_rev": first, "n": 2}], ["get", "a/b"], ["get", "a/b", {"rev": first, "revs": True}]
    )
    second = updated["ok"]["rev"]
    assert got["ok"] == {"_id": "a/b", "_rev": second, "n": 2} == server.look(f"/{db}/a%2Fb")
    assert (old["ok"]["n"], old["ok"]["_revisions"]["start"]) == (1, 1)
    [stale, removed, gone] = calls(["remove", "a/b", first], ["remove", "a/b", second], ["get", "a/b"])
    assert (stale["status"], stale["name"]) == (409, "conflict")
    assert removed["ok"]["rev"].startswith("3-")
    assert (gone["status"], gone["name"], gone["reason"]) == (404, "not_found", "deleted")
    assert server.look(f"/{db}/a%2Fb") == 404


def test_bulk_writes_and_reads(calls: Any, server: Any, db: str) -> None:
    docs = [{"_id": f"t{n}", "n": n} for n in range(4)]
    [written, again, listed, fetched] = calls(
        ["bulkDocs", docs],
        ["bulkDocs", [{"_id": "t0", "n": 9}, {"_id": "t9", "n": 9}]],
        ["allDocs", {"include_docs": True, "startkey": "t2"}],
        ["bulkGet", {"docs": [{"id": "t1"}, {"id": "nothing"}]}],
    )
    assert [row["ok"] for row in written["ok"]] == [True] * 4
    assert [row.get("status") for row in again["ok"]] == [409, None]
    assert [row["doc"]["n"] for row in listed["ok"]["rows"]] == [2, 3, 9]
    [found, missing] = fetched["ok"]["results"]
    assert found["docs"][0]["ok"] == server.look(f"/{db}/t1")
    assert missing["docs"][0]["error"]["error"] == "not_found"


def test_find_uses_an_index(calls: Any, server: Any, db: str) -> None:
    docs = [{"_id": f"t{n}", "n": n} for n in range(8)]
    query = {"selector": {"n": {"$gte": 5}}, "sort": [{"n": "desc"}], "fields": ["n"]}
    [_, made, again, listed, explained, found] = calls(
        ["bulkDocs", docs],
        ["createIndex", {"index": {"fields": ["n"], "name": "by-n", "ddoc": "queries"}}],
        ["createIndex", {"index": {"fields": ["n"], "name": "by-n", "ddoc": "queries"}}],
        ["getIndexes"],
        ["explain", query],
        ["find", query],
    )
    assert (made["ok"]["result"], again["ok"]["result"]) == ("created", "exists")
    assert [index["name"] for index in listed["ok"]["indexes"]] == ["_all_docs", "by-n"]
    assert explained["ok"]["index"]["name"] == "by-n"
    assert found["ok"]["docs"] == [{"n": 7}, {"n": 6}, {"n": 5}]
    assert "_design/queries" in [row["id"] for row in server.look(f"/{db}/_all_docs")["rows"]]


def test_changes_are_read_once_and_followed(calls: Any, server: Any, db: str) -> None:
    server.look(f"/{db}/_bulk_docs", "POST", {"docs": [{"_id": f"t{n}"} for n in range(3)]})
    [once, some, followed] = calls(
        ["changes", {"include_docs": True}],
        ["changes", {"doc_ids": ["t1"]}],
        ["follow", "new1", "new2", "new3"],
    )
    assert [row["doc"]["_id"] for row in once["ok"]["results"]] == ["t0", "t1", "t2"]
    assert [row["id"] for row in some["ok"]["results"]] == ["t1"]
    assert followed["ok"] == ["new1", "new2", "new3"]


def test_attachment_is_saved_read_and_removed(calls: Any, server: Any, db: str) -> None:
    rev = server.look(f"/{db}/a", "PUT", {})["rev"]
    [attached, read] = calls(
        ["attach", "a", "letter é.txt", rev, "Hello", "text/plain"], ["attached", "a", "letter é.txt"]
    )
    assert read["ok"] == "Hello"
    assert server.look(f"/{db}/a/letter%20%C3%A9.txt") == b"Hello"
    [removed] = calls(["removeAttachment", "a", "letter é.txt", attached["ok"]["rev"]])
    assert removed["ok"]["rev"].startswith("3-")
    assert "_attachments" not in server.look(f"/{db}/a")


def test_credentials_are_checked(calls: Any, server: Any, db: str) -> None:
    [refused] = calls(["get", "a"], base=server.url.replace("://", f"://{server.user}:wrong@"))
    assert (refused["status"], refused["name"]) == (401, "unauthorized")
    [refused] = calls(["put", {"_id": "a"}], base=server.url)
    assert (refused["status"], refused["name"]) == (401, "unauthorized")
    account = json.dumps({"name": server.user, "password": server.password}).encode()
    request = urllib.request.Request(f"{server.url}/_session", account, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    [written] = calls(["put", {"_id": "a"}], base=server.url, cookie=cookie)
    assert written["ok"]["rev"] == server.look(f"/{db}/a")["_rev"]
