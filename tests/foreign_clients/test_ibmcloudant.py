"""The Cloudant SDK, a client for every CouchDB, works as usual."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import BasicAuthenticator, NoAuthAuthenticator
from ibmcloudant import CouchDbSessionAuthenticator
from ibmcloudant.cloudant_v1 import CloudantV1
from ibmcloudant.features.changes_follower import ChangesFollower

IS_PYTHON = True


def connect(server: Any, authenticator: Any) -> CloudantV1:
    service = CloudantV1(authenticator=authenticator)
    service.set_service_url(server.url)
    service.set_http_config({"timeout": 30})
    return service


@pytest.fixture(params=[BasicAuthenticator, CouchDbSessionAuthenticator], ids=["basic", "session"])
def service(server: Any, request: pytest.FixtureRequest) -> CloudantV1:
    return connect(server, request.param(server.user, server.password))


@pytest.fixture
def basic(server: Any) -> CloudantV1:
    return connect(server, BasicAuthenticator(server.user, server.password))


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ApiException) as refused:
        call()
    return refused.value.status_code, refused.value.http_response.json()["error"]


def test_database_is_created_and_deleted(service: CloudantV1, server: Any, name: str) -> None:
    assert service.put_database(name).get_status_code() == 201
    assert refusal(lambda: service.put_database(name)) == (412, "file_exists")
    assert service.head_database(name).get_status_code() == 200
    assert name in service.get_all_dbs().get_result()
    assert service.get_database_information(name).get_result()["doc_count"] == 0
    assert server.look(f"/{name}")["db_name"] == name
    assert service.delete_database(name).get_result() == {"ok": True}
    assert server.look(f"/{name}") == 404


def test_document_is_created_read_updated_and_deleted(service: CloudantV1, server: Any, db: str) -> None:
    made = service.post_document(db, {"_id": "a/b", "n": 1})
    first = made.get_result()["rev"]
    assert (made.get_status_code(), first.startswith("1-")) == (201, True)
    second = service.put_document(db, "a/b", {"n": 2}, rev=first).get_result()["rev"]
    assert second.startswith("2-")
    assert service.get_document(db, "a/b").get_result() == {"_id": "a/b", "_rev": second, "n": 2}
    assert service.get_document(db, "a/b", rev=first).get_result()["n"] == 1
    assert service.head_document(db, "a/b").get_headers()["ETag"] == f'"{second}"'
    assert server.look(f"/{db}/a%2Fb") == {"_id": "a/b", "_rev": second, "n": 2}
    assert service.delete_document(db, "a/b", rev=second).get_result()["rev"].startswith("3-")
    assert refusal(lambda: service.get_document(db, "a/b")) == (404, "not_found")
    assert server.look(f"/{db}/a%2Fb") == 404


def test_second_of_two_writers_conflicts(service: CloudantV1, server: Any, db: str) -> None:
    rev = service.put_document(db, "a", {"n": 1}).get_result()["rev"]
    service.put_document(db, "a", {"n": 2}, rev=rev)
    assert refusal(lambda: service.put_document(db, "a", {"n": 3}, rev=rev)) == (409, "conflict")
    assert refusal(lambda: service.put_document(db, "a", {"n": 3})) == (409, "conflict")
    assert refusal(lambda: service.delete_document(db, "a", rev=rev)) == (409, "conflict")
    assert server.look(f"/{db}/a")["n"] == 2


def test_bulk_writes_and_reads(basic: CloudantV1, server: Any, db: str) -> None:
    first = basic.post_bulk_docs(db, {"docs": [{"_id": f"t{n}", "n": n} for n in range(3)]})
    assert (first.get_status_code(), [row["id"] for row in first.get_result()]) == (201, ["t0", "t1", "t2"])
    revs = [row["rev"] for row in first.get_result()]
    docs = [{"_id": "t0", "_rev": revs[0], "_deleted": True}, {"_id": "t1", "n": 9}, {"_id": "t3", "n": 3}]
    again = basic.post_bulk_docs(db, {"docs": docs}).get_result()
    assert [row.get("error") for row in again] == [None, "conflict", None]
    got = basic.post_bulk_get(db, [{"id": "t1", "rev": revs[1]}, {"id": "nothing"}]).get_result()["results"]
    assert got[0]["docs"][0]["ok"] == {"_id": "t1", "_rev": revs[1], "n": 1}
    assert got[1]["docs"][0]["error"]["error"] == "not_found"
    rows = basic.post_all_docs(db, include_docs=True, descending=True).get_result()["rows"]
    assert [(row["id"], row["doc"]["n"]) for row in rows] == [("t3", 3), ("t2", 2), ("t1", 1)]
    assert server.look(f"/{db}/_all_docs")["total_rows"] == 3
    queries = [{"keys": ["t1"]}, {"start_key": "t2", "limit": 1}]
    results = basic.post_all_docs_queries(db, queries).get_result()["results"]
    assert [[row["id"] for row in result["rows"]] for result in results] == [["t1"], ["t2"]]


def test_find_uses_an_index_page_by_page(basic: CloudantV1, server: Any, db: str) -> None:
    server.look(f"/{db}/_bulk_docs", "POST", {"docs": [{"_id": f"t{n}", "n": n} for n in range(10)]})
    made = basic.post_index(db, {"fields": [{"n": "asc"}]}, ddoc="queries", name="by-n", type="json")
    assert made.get_result() == {"result": "created", "id": "_design/queries", "name": "by-n"}
    query: dict[str, Any] = {"selector": {"n": {"$gte": 3}}, "sort": [{"n": "asc"}], "fields": ["n"], "limit": 4}
    assert basic.post_explain(db, **query).get_result()["index"]["name"] == "by-n"
    pages, bookmark = [], None
    for _ in range(3):
        found = basic.post_find(db, **query, **({"bookmark": bookmark} if bookmark else {})).get_result()
        pages.append([doc["n"] for doc in found["docs"]])
        bookmark = found["bookmark"]
        assert "warning" not in found
    assert pages == [[3, 4, 5, 6], [7, 8, 9], []]
    assert [index["name"] for index in basic.get_indexes_information(db).get_result()["indexes"]] == [
        "_all_docs",
        "by-n",
    ]
    assert basic.delete_index(db, "queries", "json", "by-n").get_result() == {"ok": True}
    assert server.look(f"/{db}/_index")["total_rows"] == 1


def test_attachment_is_saved_read_and_deleted(basic: CloudantV1, server: Any, db: str) -> None:
    rev = basic.put_document(db, "a", {"n": 1}).get_result()["rev"]
    content = bytes(range(256)) * 1000
    kind = "application/octet-stream"
    rev = basic.put_attachment(db, "a", "big", io.BytesIO(content), kind, rev=rev).get_result()["rev"]
    assert basic.get_attachment(db, "a", "big").get_result().content == content
    assert basic.head_attachment(db, "a", "big").get_headers()["Content-Type"] == kind
    assert server.look(f"/{db}/a/big") == content
    assert basic.delete_attachment(db, "a", "big", rev=rev).get_result()["rev"].startswith("3-")
    assert server.look(f"/{db}/a/big") == 404


def test_changes_are_followed(basic: CloudantV1, server: Any, db: str) -> None:
    server.look(f"/{db}/_bulk_docs", "POST", {"docs": [{"_id": f"t{n}"} for n in range(5)]})
    answer = basic.post_changes(db, limit=2, include_docs=True).get_result()
    assert ([row["doc"]["_id"] for row in answer["results"]], answer["pending"]) == (["t0", "t1"], 3)
    # Its long polls take up to a minute, and it refuses a shorter time-out.
    basic.set_http_config({})
    follower = ChangesFollower(basic, db=db, since=answer["last_seq"])
    assert [item.id for item in follower.start_one_off()] == ["t2", "t3", "t4"]
    listening = ChangesFollower(basic, db=db, since=basic.post_changes(db).get_result()["last_seq"])
    items = listening.start()
    assert server.look(f"/{db}/new", "PUT", {})["ok"]
    assert next(items).id == "new"
    # Stopping it waits for its long poll, which ends with the next change.
    stopping = threading.Thread(target=listening.stop)
    stopping.start()
    for n in range(50):
        server.look(f"/{db}/last{n}", "PUT", {})
        stopping.join(0.1)
        if not stopping.is_alive():
            break
    assert not stopping.is_alive()


def test_continuous_feed_is_streamed(basic: CloudantV1, server: Any, db: str) -> None:
    server.look(f"/{db}/a", "PUT", {})
    stream = basic.post_changes_as_stream(db, feed="continuous", timeout=5000).get_result()
    lines = (json.loads(line) for line in stream.iter_lines(chunk_size=1) if line)
    assert next(lines)["id"] == "a"
    server.look(f"/{db}/b", "PUT", {})
    assert next(lines)["id"] == "b"
    stream.close()


def test_local_documents_and_security_are_kept(basic: CloudantV1, server: Any, db: str) -> None:
    assert basic.put_local_document(db, "mark", {"seq": 1}).get_result()["rev"] == "0-1"
    assert basic.get_local_document(db, "mark").get_result()["seq"] == 1
    assert basic.put_security(db, members={"names": ["reader"], "roles": []}).get_result() == {"ok": True}
    assert server.look(f"/{db}/_security")["members"]["names"] == ["reader"]


def test_session_names_the_user(service: CloudantV1, server: Any) -> None:
    told = service.get_session_information().get_result()["userCtx"]
    assert (told["name"], told["roles"]) == (server.user, ["_admin"])


def test_wrong_credentials_are_refused(server: Any, db: str) -> None:
    wrong = connect(server, BasicAuthenticator(server.user, "wrong"))
    assert refusal(lambda: wrong.get_document(db, "a")) == (401, "unauthorized")
    nobody = connect(server, NoAuthAuthenticator())
    assert refusal(lambda: nobody.put_document(db, "a", {})) == (401, "unauthorized")
    session = connect(server, CouchDbSessionAuthenticator(server.user, "wrong"))
    with pytest.raises(ApiException) as refused:
        session.get_document(db, "a")
    assert refused.value.status_code == 401
    assert server.look(f"/{db}")["doc_count"] == 0
