"""The proxy's tests. They need no CouchDB; with DAL_BACKEND=couch and COUCHDB_URL they run on one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from proxy import app

from couchdal import CouchDAL


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def tasks() -> CouchDAL:
    """A handle on the database that the proxy uses."""
    return CouchDAL(database="tasks", create=True)


def test_task_is_added_and_read(client: TestClient, tasks: CouchDAL) -> None:
    added = client.post("/tasks", json={"title": "write tests", "due": "2030-01-01"})
    assert added.status_code == 201
    task = client.get(f"/tasks/{added.json()['id']}").json()
    assert (task["title"], task["state"], task["_rev"]) == ("write tests", "open", added.json()["rev"])
    assert tasks.info()["doc_count"] == 2  # with the design document of the index


def test_open_tasks_are_listed_by_due_date(client: TestClient, tasks: CouchDAL) -> None:
    tasks.bulk_docs(
        [
            {"_id": "late", "title": "c", "due": "2030-03-01", "state": "open"},
            {"_id": "soon", "title": "a", "due": "2030-01-01", "state": "open"},
            {"_id": "past", "title": "b", "due": "2029-01-01", "state": "done"},
        ]
    )
    assert [task["_id"] for task in client.get("/tasks").json()] == ["soon", "late"]
    assert [task["_id"] for task in client.get("/tasks?limit=1").json()] == ["soon"]


def test_listing_uses_the_index(client: TestClient, tasks: CouchDAL) -> None:
    selector = {"state": "open", "due": {"$gt": None}}
    assert tasks.explain(selector, sort=["state", "due"])["index"]["name"] == "by-state-and-due"


def test_task_is_finished_once(client: TestClient, tasks: CouchDAL) -> None:
    tasks.put_document("one", {"title": "a", "due": "2030-01-01", "state": "open"})
    assert client.post("/tasks/one/done").status_code == 200
    assert tasks.get_document("one")["state"] == "done"
    assert client.get("/tasks").json() == []


def test_missing_task_is_couchdbs_own_error(client: TestClient) -> None:
    missing = client.get("/tasks/none")
    assert (missing.status_code, missing.json()) == (404, {"error": "not_found", "reason": "missing"})


def test_each_test_starts_with_an_empty_database(client: TestClient) -> None:
    assert client.get("/tasks").json() == []
