"""What CouchDB 3.5.0 answered to ``_replicate`` with random bodies: the ids of replications, and errors."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from couchdal import MemoryBackend
from couchdal.http.messages import Request, Response

_RECORDED = json.loads((Path(__file__).parent / "recorded_answers.json").read_text())
_CODES = [
    *("function(doc){return true}", "  function(doc){return true}  ", "function(doc){\n return true}\n", "   x   \n"),
    *("x\n y ", "é\u2028 ", "", "   ", " \t a \t ", "a\r\n", "{", 5, None, {"a": 1}, [1], True),
]
_DESIGNS = {
    **{f"f{number}": {"filters": {"f": code}} for number, code in enumerate(_CODES)},
    "g": {"filters": "x"},
    "h": {},
    "k": {"filters": {"a/b": "function(){}", "": "x"}},
    "h2": {"filters": [1]},
    "h3": {"filters": None},
}


def send(backend: MemoryBackend, method: str, path: str, body: object) -> Response:
    credentials = "Basic " + b64encode(b"admin:password").decode()
    headers = {"authorization": credentials, "accept": "application/json", "content-type": "application/json"}
    return backend.send(Request(method, path, "", headers, json.dumps(body).encode()))


@pytest.fixture
def recorded_server() -> MemoryBackend:
    """A server with the id, the address and the databases of the recorded one."""
    backend = MemoryBackend(admin=("admin", "password"))
    backend.config["couchdb/uuid"] = _RECORDED["uuid"]
    backend.config["chttpd/port"] = "5994"
    for name in ("repl_fa", "repl_fb"):
        send(backend, "PUT", f"/{name}", {})
    for name, design in _DESIGNS.items():
        send(backend, "PUT", f"/repl_fa/_design/{name}", design)
    return backend


def test_answers_are_those_that_couchdb_gave(recorded_server):
    different = []
    for body, status, answer in _RECORDED["answers"]:
        with recorded_server.rollback():
            response = send(recorded_server, "POST", "/_replicate", body)
        value = dict(response.value())  # type: ignore[arg-type]
        value.pop("ref", None)
        if (response.status, value) != (status, answer):
            different.append((body, status, answer, response.status, value))
    assert different == []
    assert len(_RECORDED["answers"]) > 100
