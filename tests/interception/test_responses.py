"""Responses of intercepted clients have what they have over a connection."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

import couchdal

ADDRESS = "http://couchdb.example:5984"


@pytest.fixture
def backend() -> Iterator[couchdal.MemoryBackend]:
    made = couchdal.MemoryBackend()
    couchdal.CouchDAL(made, database="db", create=True).put_document("a", {"n": 1})
    with couchdal.intercept(ADDRESS, backend=made):
        yield made


def test_raw_response_of_requests_is_urllib3s(backend: Any) -> None:
    answer = requests.get(f"{ADDRESS}/db/a")
    assert isinstance(answer.raw, urllib3.HTTPResponse)
    assert answer.raw.closed
    assert (answer.raw.status, answer.raw.reason, answer.raw.version) == (200, "OK", 11)
    assert answer.raw.headers["content-type"] == answer.headers["content-type"] == "application/json"
    assert answer.raw.read() == b""
    assert not hasattr(answer.raw, "no_such_attribute")
    assert (answer.encoding, answer.reason, answer.url) == ("utf-8", "OK", f"{ADDRESS}/db/a")
    assert answer.request.method == "GET"
    assert answer.elapsed.total_seconds() > 0
    assert pickle.loads(pickle.dumps(answer)).json() == answer.json()
    answer.close()


def test_streamed_response_of_requests_is_read_once(backend: Any) -> None:
    with requests.get(f"{ADDRESS}/db/a", stream=True) as answer:
        assert answer.raw.read(5) == b'{"_id'
        assert b"".join(answer.iter_content(3)).endswith(b'"n":1}\n')
        assert answer.raw.read() == b""


def test_adapter_of_a_subclass_builds_its_responses(backend: Any) -> None:
    class Marking(HTTPAdapter):
        def build_response(self, req: Any, resp: Any) -> requests.Response:
            built = super().build_response(req, resp)
            built.headers["x-marked"] = str(resp.status)
            return built

    with requests.Session() as session:
        session.mount("http://", Marking())
        answer = session.get(f"{ADDRESS}/db/a")
    assert (answer.headers["x-marked"], answer.json()["n"]) == ("200", 1)


def test_hooks_redirects_and_event_hooks_are_called(backend: Any) -> None:
    seen: list[int] = []
    hooks = {"response": lambda answer, **_: seen.append(answer.status_code)}
    requests.get(f"{ADDRESS}/db/a", hooks=hooks)
    with httpx.Client(event_hooks={"response": [lambda answer: seen.append(answer.status_code)]}) as client:
        answer = client.get(f"{ADDRESS}/db/none")
        assert answer.http_version == "HTTP/1.1"
        assert answer.elapsed.total_seconds() > 0
    assert seen == [200, 404]


def test_empty_and_bodiless_answers(backend: Any) -> None:
    for module in (requests, httpx):
        head = module.head(f"{ADDRESS}/db/a")
        assert (head.status_code, head.content, int(head.headers["content-length"]) > 10) == (200, b"", True)
        etag = head.headers["etag"]
        assert module.get(f"{ADDRESS}/db/a", headers={"if-none-match": etag}).status_code == 304


def test_request_that_is_not_http_gets_a_400(backend: Any) -> None:
    import http.client

    connection = http.client.HTTPConnection("couchdb.example", 5984)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("content-length", "many")
    connection.endheaders()
    with connection.getresponse() as answer:
        assert (answer.status, answer.headers["connection"]) == (400, "close")
