"""The OpenAPI description is valid, agrees with the tables, and describes what a server answers to random requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from effort import examples
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from couchdal.api.openapi import describe
from couchdal.api.openapi_schemas import SCHEMAS
from couchdal.api.parameters import PARAMETERS
from couchdal.api.routes import ROUTES

# For each operation. Operations without parameters have fewer. `make soak` sends some 12,600 requests in all.
EXAMPLES = examples(quick=5, soak=68)
# The quick tests send one of this many systematic requests, which try each parameter's limits.
SYSTEMATIC = examples(quick=4, soak=1)
MOST_GROWTH_MB = 150
COUNTED: list[int] = []
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
load_all_checks()
DESCRIPTION = describe()
schema = schemathesis.openapi.from_dict(DESCRIPTION)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():  # type: ignore[union-attr, call-arg]
        for method, operation in methods.items():
            yield path, method, operation


def test_every_endpoint_and_method_is_described() -> None:
    described = {(path, method.upper()) for path, method, _ in operations()}
    # OpenAPI 3.1 cannot describe COPY. The others only refuse, or are another spelling of a listed one.
    refused = {("/{db}/_partition/{partition}", "POST"), *((path, "POST") for path in (
        "/{db}/{doc_id}", "/{db}/_design/{design}", "/{db}/_local/{local}"))}  # fmt: skip
    there = {
        (route.pattern.replace("...}", "}"), method)
        for route in ROUTES
        if route.is_listed
        for method in route.methods
        if method != "COPY"
    }
    assert described == there - refused


def test_every_parameter_is_described() -> None:
    for pattern, names in PARAMETERS.items():
        found: set[str] = set()
        for path, _, operation in operations():
            if path == pattern.replace("...}", "}"):
                found |= {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    name = content["schema"].get("$ref", "").rpartition("/")[2]
                    found |= set(SCHEMAS.get(name, content["schema"]).get("properties", {}))  # type: ignore[arg-type]
        missing = set(names) - found
        if pattern.endswith("/queries"):
            missing = {"queries"} - found
        assert not missing, pattern


def test_operations_have_unique_names_and_descriptions() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert not [operation["operationId"] for _, _, operation in operations() if not operation["description"]]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid(name: str) -> None:
    jsonschema_rs.meta.validate({**SCHEMAS[name], "components": {"schemas": dict(SCHEMAS)}})


def test_references_are_defined() -> None:
    text = json.dumps(DESCRIPTION)
    for kind, name in re.findall(r'"#/components/(\w+)/(\w+)"', text):
        assert name in DESCRIPTION["components"][kind]  # type: ignore[index, call-overload]


def test_description_is_the_same_in_every_run() -> None:
    assert describe() == DESCRIPTION


def test_command_prints_what_the_server_serves(server: str) -> None:
    command = [sys.executable, "-m", "couchdal.cli", "openapi"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with urllib.request.urlopen(f"{server}/_couchdal/openapi.json") as answer:
        assert json.loads(printed) == json.load(answer) == DESCRIPTION


def ask(url: str, method: str, body: object = None) -> None:
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, content, headers, method=method)).read()


def fill(server: str) -> None:
    """Create two databases, the second with partitions, with documents, an attachment, an index and local documents."""
    docs: list[dict[str, object]] = [{"_id": name, "type": "task", "n": n} for n, name in enumerate("abcdefgh")]
    docs[0]["_attachments"] = {"x": {"data": "aGk=", "content_type": "text/plain"}}
    design = {"_id": "_design/d", "_attachments": {"x": {"data": "aGk=", "content_type": "text/plain"}}}
    design["views"] = {"v": {"map": "function(doc) { emit(doc.n, doc.n); }", "reduce": "_sum"}}
    design["lists"] = {
        "f": "function() { var keys = [], row; while (row = getRow()) keys.push(row.key); send(toJSON(keys)); }"
    }
    for name in ("db", "parts"):
        with suppress(urllib.error.HTTPError):
            ask(f"{server}/{name}", "DELETE")
        ask(f"{server}/{name}{'?partitioned=true' if name == 'parts' else ''}", "PUT")
        ask(f"{server}/{name}/_index", "POST", {"index": {"fields": ["type"]}, "ddoc": "a", "name": "x"})
    ask(f"{server}/db/_bulk_docs", "POST", {"docs": [*docs, design]})
    parts = [{"_id": f"p:{n}", "type": "task", "n": n} for n in range(5)]
    ask(f"{server}/parts/_bulk_docs", "POST", {"docs": [*parts, design]})
    for name in "abcdefgh":
        ask(f"{server}/db/_local/{name}", "PUT", {})


@pytest.fixture
def filled(server: str) -> str:
    fill(server)
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An emulator with some documents. It must log nothing, and its memory must not grow without end."""
    command = [sys.executable, "-m", "couchdal.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://[\w.]+:\d+", process.stdout.readline())
            assert found
            before = resident_mb(process.pid)
            yield found[0]
            assert resident_mb(process.pid) - before < MOST_GROWTH_MB
            # If no request reached an existing object, this would prove little.
            assert len(COUNTED) < 1000 or sum(status < 300 for status in COUNTED) > len(COUNTED) / 5, Counter(COUNTED)
        finally:
            process.kill()
        assert process.stderr
        assert process.stderr.read() == ""


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text("ascii")) if status.exists() else None
    return int(found[1]) / 1000 if found else 0.0


def is_left_out(case: Any) -> bool:
    """Return whether only `make soak` sends this case: three of four systematic ones, the same ones in every run."""
    if case.meta.phase.name != TestPhase.COVERAGE:
        return False
    sent = (case.path_parameters, case.query, case.headers, case.body)
    return zlib.crc32(repr(sent).encode("utf-8", "surrogatepass")) % SYSTEMATIC != 0


KNOWN = {"name": "x", "type": "json", "partition": "p", "view": "v", "function": "f"}
KNOWN |= {"node": "_local", "section": "x", "key": "y", "job": "x", "path": "couchdb"}
KNOWN |= {"below": "_replicator"}


def aim(case: Any) -> None:
    """Aim most requests at something that exists, and let feeds end."""
    deleting_index, creating = "/_index/" in case.path, case.method == "PUT"
    for name, value in case.path_parameters.items():
        if not sum(map(ord, value)) % 13:
            continue
        if name == "db" and case.path == "/{db}" and case.method in ("PUT", "DELETE"):
            known = f"new{len(value) % 8}"
        elif name == "db":
            known = "parts" if "_partition" in case.path else "db"
        elif name == "design":
            known = "a" if deleting_index else f"new{sum(map(ord, value))}" if creating else "d"
        elif name in ("doc_id", "local"):
            known = f"new{sum(map(ord, value))}" if creating else "abcdefgh"[len(value) % 8]
        else:
            known = "d" if name == "name" and "/_index/" not in case.path else KNOWN[name]
        case.path_parameters[name] = known
    if (case.query or {}).get("feed", "normal") != "normal":
        case.query.update(timeout=1)
        case.query.pop("heartbeat", None)


@pytest.mark.random
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_random_requests_are_answered_as_described(case: Any, filled: str) -> None:
    if is_left_out(case):
        return
    aim(case)
    if case.method == "DELETE" and isinstance(case.query, dict) and len(str(case.query.get("rev", ""))) % 2:
        # Chance does not find revisions.
        document = case.formatted_path.removesuffix("/x")
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{filled}{document}") as found:
            case.query["rev"] = json.load(found)["_rev"]
    response = case.call(base_url=filled)
    COUNTED.append(response.status_code)
    # A schema cannot describe a continuous feed, which has a line of JSON for each change.
    case.validate_response(response, checks=CHECKS[: 1 if (case.query or {}).get("feed") == "continuous" else None])
    if case.path_parameters.get("db") in ("db", "parts") and b"Database does not exist" in response.content:
        # Some request has deleted it.
        fill(filled)
