"""The headers of an answer: the id of the request, which the client may give."""

from __future__ import annotations

import re

import pytest

from couchdal.http.messages import Request, Response
from couchdal.server.framing import headers_of


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
