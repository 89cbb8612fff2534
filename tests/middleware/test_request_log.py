"""The request log, and expectations about requests."""

from __future__ import annotations

import asyncio

import pytest

from couchdal import AsyncCouchDAL, CouchDAL, MemoryBackend, NotFound, Unreachable
from couchdal.middleware.request_log import redacted_query


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(database="db"))
    handle.bulk_docs([{"_id": str(number), "n": number} for number in range(10)])
    return handle


def test_log_starts_at_the_first_access_and_has_the_requests_of_every_handle(dal: CouchDAL) -> None:
    assert len(dal.requests) == 0
    dal.put_document("a", {"n": 1})
    dal.database("other").request("GET", "/x", params={"rev": "1-a"})
    asyncio.run(AsyncCouchDAL(dal.backend).info())
    assert [str(request) for request in dal.requests] == [
        "PUT /db/a -> 201",
        "GET /other/x?rev=1-a -> 404",
        "GET /db -> 200",
    ]
    assert dal.requests[0].body == {"n": 1}
    dal.requests.clear()
    assert repr(dal.requests) == "no requests"


def test_log_keeps_no_secrets(dal: CouchDAL) -> None:
    assert len(dal.requests) == 0
    dal.request("POST", "/_session", json={"name": "reader", "password": "hidden"})
    dal.request(
        "PUT", "/a", json={"deep": [{"api_token": "hidden", "n": 1}]}, headers={"authorization": "Basic hidden"}
    )
    dal.request("GET", "/a?token=hidden&n=1")
    assert "hidden" not in str([tuple(request) for request in dal.requests])
    assert dal.requests[1].body == {"deep": [{"api_token": "***", "n": 1}]}
    assert dal.requests[2].query == "token=***&n=1"


def test_log_keeps_no_passwords_of_settings_and_of_replications(dal: CouchDAL) -> None:
    assert len(dal.requests) == 0
    dal.request("PUT", "/_node/_local/_config/admins/bob", json="hidden")
    dal.request("POST", "/_replicate", json={"source": "http://bob:hidden@host:5984/db", "target": "copy@db"})
    assert [request.body for request in dal.requests] == [
        "***",
        {"source": "http://***@host:5984/db", "target": "copy@db"},
    ]


def test_examined_documents_are_counted_without_changing_the_answer(dal: CouchDAL) -> None:
    plain = dal.find({"n": {"$gte": 5}})
    with dal.expect(docs_examined_max=20) as log:
        assert dal.find({"n": {"$gte": 5}}) == plain
        stats = dal.get("/_find", "POST", {"selector": {"n": 1}, "execution_stats": True})["execution_stats"]
    assert [request.docs_examined for request in log] == [10, 10]
    assert stats["total_docs_examined"] == 10
    assert plain.keys() == {"docs", "bookmark", "warning"}


def test_met_expectation_passes(dal: CouchDAL) -> None:
    with dal.expect(requests=2, requests_max=2, statuses={200}):
        dal.info()
        dal.get_document("1")


def test_unmet_expectations_list_the_requests(dal: CouchDAL) -> None:
    def ask() -> None:
        dal.find({"n": 1})
        dal.request("GET", "/none")

    with (
        pytest.raises(AssertionError) as unmet,
        dal.expect(requests=1, requests_max=1, docs_examined_max=5, statuses=[200]),
    ):
        ask()
    assert str(unmet.value) == (
        "expected 1 requests, got 2; expected at most 1 requests, got 2;"
        " expected at most 5 examined documents, got 10; expected only the statuses 200, got 404:\n"
        "  1. POST /db/_find -> 200, 10 documents examined\n"
        "  2. GET /db/none -> 404"
    )


def test_expectation_counts_more_requests_than_the_log_keeps(dal: CouchDAL) -> None:
    def ask() -> None:
        for _ in range(1001):
            dal.request("GET", "/1")

    with (
        pytest.raises(AssertionError, match=r"^expected at most 1000 requests, got 1001"),
        dal.expect(requests=1001, requests_max=1000),
    ):
        ask()
    assert len(dal.requests) == 1000


def test_expectation_counts_requests_that_were_cleared_from_the_log(dal: CouchDAL) -> None:
    def ask() -> None:
        dal.info()
        dal.requests.clear()

    with pytest.raises(AssertionError, match=r"1\. GET /db -> 200"), dal.expect(requests=0):
        ask()


def test_nested_expectations_count_their_own_requests(dal: CouchDAL) -> None:
    with dal.expect(requests=3):
        with dal.expect(requests=1):
            dal.info()
        with dal.expect(requests=2):
            dal.info()
            dal.info()


def test_expectation_does_not_hide_what_the_block_raises(dal: CouchDAL) -> None:
    with pytest.raises(NotFound), dal.expect(requests=5):
        dal.get_document("none")


def test_request_without_an_answer_is_logged(dal: CouchDAL) -> None:
    assert len(dal.requests) == 0
    with dal.faults.drop(), pytest.raises(Unreachable, match="cannot be reached"):
        dal.info()
    assert [request.status for request in dal.requests] == [None]
    assert str(dal.requests[0]) == "GET /db -> no answer"


def test_secrets_behind_a_semicolon_are_hidden() -> None:
    assert redacted_query("a=1;password=x&token=y;b=2;;c") == "a=1;password=***&token=***;b=2;;c"
