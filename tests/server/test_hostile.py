"""Hostile requests over raw sockets: each gets an honest answer, and the server stays as it was."""

from __future__ import annotations

import json
import time

import pytest
from raw_http import Served, Wire

from couchdal import MemoryBackend


@pytest.fixture
def wire() -> Wire:
    wire = Wire(Served(MemoryBackend()).port)
    assert wire.ask("PUT /db HTTP/1.1").status == 201
    return wire


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("GET http://h", 200),
        ("GET http://h?x=1", 200),
        ("POST http://h", 405),
        ("GET http://h:99999/", 200),
        ("GET http://h:99999/_up", 200),
    ],
)
@pytest.mark.parametrize("parted", [True, False])
def test_host_in_a_target_is_ignored(wire: Wire, target: str, status: int, parted: bool) -> None:
    wire.send(f"{target} HTTP/1.1\nHost: x\nContent-Length: 2\n\n")
    if parted:
        time.sleep(0.05)
    assert wire.send("{}").answer().status == status
    assert wire.ask("GET /_up HTTP/1.1").status == 200


@pytest.mark.parametrize("size", [65_536, 70_000, 200_000])
@pytest.mark.parametrize("after", ["", "Content-Length: 3\n"])
def test_target_over_the_limit_is_a_bad_request(wire: Wire, size: int, after: str) -> None:
    answer = wire.send(f"GET /{'a' * size} HTTP/1.1\nHost: x\n{after}\n").answer()
    assert (answer.status, answer.closed) == (400, True)
    assert answer.json() == {"error": "bad_request", "reason": "The head of the request is too large."}


BAD_CHUNK = "POST /db/_find HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nzz\n"


@pytest.mark.parametrize("parted", [True, False])
@pytest.mark.parametrize("malformed", ["\0\n\n", "GET\n\n", BAD_CHUNK, "GET /db HTTP/1.1\nHost: x\n\n" + BAD_CHUNK])
def test_requests_before_malformed_bytes_are_answered(wire: Wire, malformed: str, parted: bool) -> None:
    wire.send("PUT /db/first HTTP/1.1\nHost: x\nContent-Length: 2\n\n{")
    if parted:
        # The rest of the body is awaited, so the answer is, too.
        time.sleep(0.05)
    wire.send("}GET /db/first HTTP/1.1\nHost: x\n\n" + malformed)
    assert [wire.answer().status, wire.answer().json()["_id"]] == [201, "first"]  # type: ignore[index]
    answer = wire.answer()
    if answer.status == 200:
        answer = wire.answer()
    assert (answer.status, answer.closed) == (400, True)
    assert wire.at_end()


def test_function_may_answer_with_any_status(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    statuses = {"999": 999, "600": 600, "418": 418, "1000": 500, "0": 500, "-1": 500}
    functions = {
        f"s{code}": f"function(doc, req) {{ return [{{_id: 's{code}'}}, {{code: {code}, body: 'x'}}]; }}"
        for code in statuses
    }
    assert wire.ask("PUT /db/_design/d HTTP/1.1", json.dumps({"updates": functions}).encode()).status == 201
    for code, status in statuses.items():
        for parted in (False, True):
            wire.send(f"POST /db/_design/d/_update/s{code} HTTP/1.1\nHost: x\nContent-Length: 2\n\n")
            if parted:
                time.sleep(0.05)
            answer = wire.send("{}").answer()
            assert answer.status in ((409,) if parted else (status,)), code
        assert wire.ask(f"GET /db/s{code} HTTP/1.1").status == 200
    # What HTTP cannot say is our failure, and not the client's.
    assert "-1 is not an HTTP status" in caplog.text


def test_functions_get_a_query_that_is_not_utf8(wire: Wire) -> None:
    shows = {"q": "function(doc, req) { return {json: req.query}; }"}
    assert wire.ask("PUT /db/_design/d HTTP/1.1", json.dumps({"shows": shows}).encode()).status == 201
    for query, seen in (("a=%ff", {"a": "\ufffd"}), ("%ff=1", {"\ufffd": "1"}), ("a=%c3%a9", {"a": "é"})):
        assert wire.ask(f"GET /db/_design/d/_show/q?{query} HTTP/1.1").json() == seen
