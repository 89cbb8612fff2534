"""The headers of an answer, the id of the request among them, and the chunks of a feed."""

from __future__ import annotations

import re

import pytest

from couchdal.http.messages import Request, Response
from couchdal.server.framing import chunks_of, headers_of


def header(name: bytes, request: Request, response: Response | None = None) -> bytes:
    found = [value for key, value in headers_of(request, response or Response(200), b"", None) if key == name]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("given", ["abc", "A-b_9", "", "x" * 36])
def test_client_gives_the_id_of_its_request(given):
    assert header(b"x-couch-request-id", Request("GET", "/", "", {"x-couch-request-id": given})) == given.encode()


# A live CouchDB took none of these.
@pytest.mark.parametrize("given", ["a b", 'x"y', "é", "-_.~", "x" * 37, "a\n"])
def test_other_ids_are_replaced(given):
    made = header(b"x-couch-request-id", Request("GET", "/", "", {"x-couch-request-id": given}))
    assert re.fullmatch(b"[0-9a-f]{10}", made)


def test_requests_have_different_ids():
    request = Request("GET", "/")
    assert len({header(b"x-couch-request-id", request) for _ in range(1000)}) == 1000


def test_id_that_couchdb_gave_passes_the_proxy():
    answer = Response(200, {"x-couch-request-id": "abc", "x-couchdb-body-time": "7"})
    assert header(b"x-couch-request-id", Request("GET", "/"), answer) == b"abc"
    assert header(b"x-couchdb-body-time", Request("GET", "/"), answer) == b"7"


def test_only_json_says_how_long_it_may_be_kept():
    def kept(content_type: str) -> list[bytes]:
        answer = Response(200, {"content-type": content_type})
        return [value for key, value in headers_of(Request("GET", "/"), answer, b"", None) if key == b"cache-control"]

    assert kept("application/json") == [b"must-revalidate"]
    assert kept("text/html; charset=utf-8") == kept('multipart/mixed; boundary="x"') == []


@pytest.mark.parametrize(
    ("sent", "chunks"),
    [
        (b'{"seq":1}\n', [b'{"seq":1}\n']),
        (b'\n{"seq":1}\n', [b"\n", b'{"seq":1}\n']),
        (b'{"results":[\n\n', [b'{"results":[\n', b"\n"]),
        (b'{"results":[\n{"seq":1}', [b'{"results":[\n', b'{"seq":1}']),
        (b"event: heartbeat\ndata: \n\ndata: 1\n", [b"event: heartbeat\ndata: \n\n", b"data: 1\n"]),
        (b"", []),
    ],
)
def test_heartbeats_and_rows_are_separate_chunks(sent, chunks):
    assert list(chunks_of(sent)) == chunks


def test_json_that_a_function_wrote_as_a_page_has_no_cache_control() -> None:
    request = Request("GET", "/db/_design/d/_list/l/v")
    page = Response(200, {"content-type": "application/json", "content-security-policy": "sandbox"}, body=b"{}")
    assert b"cache-control" not in dict(headers_of(request, page, b"{}", None))
    answer = Response(200, {"content-type": "application/json"}, {})
    assert dict(headers_of(request, answer, b"{}", None))[b"cache-control"] == b"must-revalidate"
