"""The contract of ``CouchDAL``: the calls, the choice of backend, errors and copies."""

from __future__ import annotations

import pickle
from datetime import datetime
from typing import Any

import pytest

from couchdal import (
    AsyncCouchDAL,
    Conflict,
    CouchDAL,
    CouchError,
    MemoryBackend,
    NotConfigured,
    NotFound,
    ResetRefused,
)
from couchdal.backends.couch import CouchBackend
from couchdal.backends.memory import default_backend
from couchdal.config import choose_backend


def test_reads_what_was_written_without_any_setup() -> None:
    dal = CouchDAL()
    written = dal.get("/_bulk_docs", "POST", {"docs": [{"_id": "t1", "type": "task"}]})
    assert written == [{"ok": True, "id": "t1", "rev": "1-64a8ebf8051dca919983846be357b98c"}]
    assert dal.get("/t1") == {"_id": "t1", "_rev": "1-64a8ebf8051dca919983846be357b98c", "type": "task"}
    assert [row["id"] for row in dal.get("/_all_docs")["rows"]] == ["t1"]


def test_get_and_handle_request_give_the_same(dal: CouchDAL) -> None:
    dal.get("/a", "PUT", {"x": 1})
    assert dal.backend.handle_request("/a", "GET") == dal.get("/a") == dal.backend.handle_request("/a", "GET", None)
    assert dal.backend.handle_request("/_all_docs?limit=1") == dal.get("/_all_docs?limit=1")


def test_slash_is_the_database_and_session_is_the_server(dal: CouchDAL) -> None:
    assert dal.get("/")["db_name"] == dal.get("")["db_name"] == dal.name
    assert dal.get("/_session")["ok"] is True
    assert dal.name in dal.get("/_all_dbs")


def test_path_may_carry_a_query(dal: CouchDAL) -> None:
    for doc_id in ("a", "b", "c"):
        dal.get(f"/{doc_id}", "PUT", {})
    assert [row["id"] for row in dal.get('/_all_docs?startkey="b"&limit=1')["rows"]] == ["b"]


def test_path_need_not_begin_with_a_slash_nor_be_encoded(dal: CouchDAL) -> None:
    dal.get("grün und blau#1", "PUT", {})
    assert [row["id"] for row in dal.get("_all_docs")["rows"]] == ["grün und blau#1"]


@pytest.mark.parametrize(
    ("argument", "environ", "modules", "chosen"),
    [
        ("couch", {"DAL_BACKEND": "memory"}, {"pytest"}, "couch"),
        ("memory", {"DAL_BACKEND": "couch"}, set(), "memory"),
        (None, {"DAL_BACKEND": "couch"}, {"pytest"}, "couch"),
        (None, {"DAL_BACKEND": " Memory "}, set(), "memory"),
        (None, {"DAL_BACKEND": ""}, {"pytest"}, "memory"),
        (None, {}, {"pytest"}, "memory"),
        (None, {}, set(), "couch"),
    ],
)
def test_first_of_argument_environment_pytest_and_couch_chooses(
    argument: str | None, environ: dict[str, str], modules: set[str], chosen: str
) -> None:
    assert choose_backend(argument, environ, modules) == chosen


@pytest.mark.parametrize(("argument", "environ"), [("mongo", {}), (None, {"DAL_BACKEND": "mongo"})])
def test_unknown_backend_is_refused_by_name(argument: str | None, environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"'mongo'.*memory, sqlite, couch"):
        choose_backend(argument, environ, set())


def test_missing_address_names_the_arguments_that_each_constructor_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAL_BACKEND", "couch")
    for client in (CouchDAL, AsyncCouchDAL):
        with pytest.raises(NotConfigured) as caught:
            client()
        message = str(caught.value)
        assert "set COUCHDB_URL" in message
        example = message[message.index("CouchDAL(") :]
        assert eval(example, {"CouchDAL": CouchDAL, "CouchBackend": CouchBackend}).name == "tasks"


def test_missing_database_names_what_to_set_and_the_server_still_answers(served_address: str) -> None:
    dal = CouchDAL(CouchBackend(served_address))
    assert dal.get("/_up")["status"] == "ok"
    with pytest.raises(NotConfigured, match=r"set COUCHDB_DATABASE, or pass a name, as in CouchDAL\(database="):
        dal.get("/")


def test_environment_configures_couch(monkeypatch: pytest.MonkeyPatch, served_address: str) -> None:
    monkeypatch.setenv("COUCHDB_URL", served_address)
    monkeypatch.setenv("COUCHDB_DATABASE", "from-environment")
    dal = CouchDAL("couch")
    assert (dal.name, dal.backend.name) == ("from-environment", served_address)
    assert CouchDAL("couch", database="argument").name == "argument"


def test_environment_names_the_memory_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_DATABASE", "named")
    assert CouchDAL("memory").info()["db_name"] == "named"


def test_backend_object_is_used_as_it_is() -> None:
    backend = MemoryBackend()
    assert CouchDAL(backend).backend is backend


def test_other_objects_are_refused_as_backends() -> None:
    with pytest.raises(TypeError, match="BaseBackend"):
        CouchDAL(object())  # type: ignore[arg-type]


def test_handles_of_one_process_share_the_memory_server() -> None:
    CouchDAL("memory").put_document("a", {})
    assert CouchDAL("memory").get_document("a")["_id"] == "a"
    assert default_backend().handle_request("/a", "GET") == CouchDAL("memory").get("/a")


def test_memory_backend_made_by_hand_is_private() -> None:
    CouchDAL(MemoryBackend()).put_document("a", {})
    with pytest.raises(NotFound):
        CouchDAL(MemoryBackend()).get_document("a")
    with pytest.raises(NotFound):
        CouchDAL("memory").get_document("a")


def test_only_the_default_database_exists_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    dal = CouchDAL(MemoryBackend())
    assert dal.database("default").info()["doc_count"] == 0
    for other in (dal.database("other"), CouchDAL(dal.backend, database="other")):
        with pytest.raises(NotFound) as caught:
            other.info()
        assert (caught.value.status, caught.value.error) == (404, "not_found")
        assert caught.value.reason == "Database does not exist."
        assert caught.value.body == {"error": "not_found", "reason": "Database does not exist."}
        assert "; create it with create_database(), CouchDAL(..., create=True)" in str(caught.value)
    assert "other" not in dal.all_dbs()
    monkeypatch.setenv("COUCHDB_DATABASE", "configured")
    server = MemoryBackend()
    assert CouchDAL(server, database="configured").info()["doc_count"] == 0
    assert CouchDAL(server).info()["db_name"] == "configured"
    with pytest.raises(NotFound):
        CouchDAL(server, database="default").info()


def test_own_memory_database_can_be_created_by_hand_as_on_couchdb() -> None:
    dal = CouchDAL(MemoryBackend(database="mine"))
    assert dal.create_database() == {"ok": True}
    with pytest.raises(CouchError, match="file_exists"):
        dal.create_database()


def test_deleted_memory_database_stays_deleted() -> None:
    dal = CouchDAL(MemoryBackend())
    dal.info()
    dal.delete_database()
    with pytest.raises(NotFound, match=r"Database does not exist\."):
        dal.info()
    dal.create_database()
    assert dal.info()["doc_count"] == 0


def test_deleting_an_unused_memory_database_is_not_found() -> None:
    with pytest.raises(NotFound):
        CouchDAL(MemoryBackend()).delete_database()


def test_databases_of_a_server_are_created_listed_and_deleted(dal: CouchDAL) -> None:
    other = dal.database(f"{dal.name}-other")
    other.create_database()
    other.put_document("a", {})
    assert {dal.name, other.name} <= set(dal.all_dbs())
    assert (dal.info()["doc_count"], other.info()["doc_count"]) == (0, 1)
    dal.delete_database(other.name)
    assert other.name not in dal.all_dbs()


def test_error_carries_status_error_reason_and_body(dal: CouchDAL) -> None:
    dal.put_document("a", {})
    with pytest.raises(Conflict) as caught:
        dal.get("/a", "PUT", {})
    error = caught.value
    assert (error.status, error.error, error.reason) == (409, "conflict", "Document update conflict.")
    assert error.body == {"error": "conflict", "reason": "Document update conflict."}
    assert pickle.loads(pickle.dumps(error)).body == error.body


def test_request_returns_the_whole_answer_and_raises_for_no_status(dal: CouchDAL) -> None:
    missing = dal.request("GET", "/a")
    assert (missing.status, missing.value()) == (404, {"error": "not_found", "reason": "missing"})
    made = dal.request("put", "/a", json={"x": 1})
    assert made.status == 201
    assert made.headers["etag"].strip('"') == dal.get("/a")["_rev"]
    assert dal.request("HEAD", "/a").status == 200


def test_request_sends_headers_parameters_and_bytes(dal: CouchDAL) -> None:
    made = dal.request("PUT", "/a", body=b'{"x": 1}', headers={"Content-Type": "application/json"})
    etag = made.headers["etag"]
    assert dal.request("GET", "/a", headers={"If-None-Match": etag}).status == 304
    found = dal.request("GET", "/_all_docs?limit=5", params={"startkey": '"a"', "include_docs": True, "skip": None})
    assert found.value()["rows"][0]["doc"]["x"] == 1  # type: ignore[index,call-overload]


def test_reset_empties_memory_for_every_handle() -> None:
    dal = CouchDAL("memory")
    dal.put_document("a", {})
    dal.database("other").create_database()
    CouchDAL("memory").reset()
    assert (dal.info()["doc_count"], "other" in dal.all_dbs()) == (0, False)


def test_reset_is_refused_on_couchdb(served_address: str) -> None:
    with pytest.raises(ResetRefused, match=served_address):
        CouchDAL(CouchBackend(served_address, database="db")).reset()


def test_changing_a_payload_after_the_call_changes_nothing(dal: CouchDAL) -> None:
    doc: dict[str, Any] = {"tags": ["a"], "deep": {"n": 1}}
    dal.put_document("d", doc)
    doc["tags"].append("b")
    doc["deep"]["n"] = 2
    docs = [{"_id": "e", "tags": ["a"]}]
    dal.bulk_docs(docs)
    docs[0]["tags"].append("b")  # type: ignore[attr-defined]
    stored = dal.get_document("d")
    assert (stored["tags"], stored["deep"], dal.get("/e")["tags"]) == (["a"], {"n": 1}, ["a"])


def test_changing_a_result_changes_nothing(dal: CouchDAL) -> None:
    dal.put_document("d", {"tags": ["a"], "deep": {"n": 1}})
    dal.put_local("l", {"tags": ["a"]})
    dal.put_security({"members": {"names": ["a"], "roles": []}, "admins": {"names": [], "roles": []}})

    def read() -> list[Any]:
        return [
            dal.get("/d"),
            dal.get("/_all_docs?include_docs=true"),
            dal.get("/_changes?include_docs=true"),
            dal.get("/_local/l"),
            dal.get("/_bulk_get", "POST", {"docs": [{"id": "d"}]}),
            dal.get("/_security"),
        ]

    before = read()
    for result in read():
        spoil(result)
    assert read() == before


def spoil(value: Any) -> None:
    if isinstance(value, dict):
        for member in value.values():
            spoil(member)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoilt")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime(2026, 1, 1), TypeError),
        ({1, 2}, TypeError),
        (b"bytes", TypeError),
        ({1: "a key"}, TypeError),
        (object(), TypeError),
        (float("nan"), ValueError),
        (float("-inf"), ValueError),
        ("\ud800", ValueError),
    ],
)
def test_values_that_are_not_json_are_refused_before_anything_is_stored(
    dal: CouchDAL, value: object, error: type[Exception]
) -> None:
    for attempt in (
        lambda: dal.get("/a", "PUT", {"x": [value]}),
        lambda: dal.put_document("a", {"x": value}),
        lambda: dal.bulk_docs([{"_id": "b"}, {"_id": "a", "x": {"y": value}}]),
        lambda: dal.request("PUT", "/a", json={"x": value}),
        lambda: dal.backend.handle_request("/a", "PUT", {"x": value}),
    ):
        with pytest.raises(error):
            attempt()
    assert dal.info()["doc_count"] == 0


def test_structure_that_holds_itself_is_refused(dal: CouchDAL) -> None:
    doc: dict[str, Any] = {}
    doc["self"] = doc
    with pytest.raises(ValueError):
        dal.put_document("a", doc)


def test_refused_payload_does_not_even_create_the_memory_database() -> None:
    dal = CouchDAL(MemoryBackend(database="mine"))
    with pytest.raises(TypeError):
        dal.put_document("a", {"x": object()})
    assert "mine" not in dal.all_dbs()


def test_handle_is_a_context_and_can_be_used_again(dal: CouchDAL) -> None:
    with dal as same:
        assert same.info()["doc_count"] == 0
    assert dal.info()["doc_count"] == 0
