"""API coverage: counted, merged from several processes, and reported."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plugin_runs import clean_environment
from warm_pytest import run_pytest

from couchdal import CouchDAL, MemoryBackend, observe
from couchdal.api import routes as routing
from couchdal.api.known_errors import ERRORS
from couchdal.api.parameters import ALIASES, OPERATORS, PARAMETERS
from couchdal.api.routes import ROUTES, find_route
from couchdal.coverage.collect import Coverage, summary
from couchdal.coverage.html import page
from couchdal.coverage.report import lines
from couchdal.emulator.engine.mango import find_query
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.errors import CouchError
from couchdal.http.urls import split_path

TRANSCRIPTS = Path(__file__).parent.parent / "parity/transcripts"
LISTED = {route.pattern for route in ROUTES if route.is_listed}
FIND, DOCUMENT = "/{db}/_find", "/{db}/{doc_id}"


@pytest.fixture
def coverage() -> Coverage:
    found = Coverage()
    dal = CouchDAL(MemoryBackend(database="db"))
    end = observe(found.add, dal.backend.server_key)
    dal.put_document("a", {"n": 1})
    dal.request("PUT", "/a", json={})
    dal.request("HEAD", "/a?conflicts=true")
    dal.find({"n": {"$gt": 0}}, limit=1)
    dal.get('/_all_docs?startkey="a"')
    end()
    return found


def test_counts_are_by_endpoint(coverage: Coverage) -> None:
    counts = coverage.to_json()
    assert counts[DOCUMENT] == {
        "methods": {"GET": 1, "PUT": 2},
        "parameters": {"conflicts": 1},
        "operators": {},
        "errors": {"409 conflict": 1},
    }
    assert counts[FIND]["operators"] == {"$gt": 1}
    assert counts[FIND]["parameters"] == {"limit": 1, "selector": 1}
    assert counts["/{db}/_all_docs"]["parameters"] == {"start_key": 1}


def test_counts_of_several_processes_are_added(coverage: Coverage) -> None:
    both = Coverage()
    for _ in range(2):
        both.merge(json.loads(json.dumps(coverage.to_json())))
    assert both.to_json()[DOCUMENT]["methods"] == {"GET": 2, "PUT": 4}


def test_summary_names_what_was_never_used(coverage: Coverage) -> None:
    found = summary(coverage)
    document = found["endpoints"][DOCUMENT]
    assert document["never"]["methods"] == ["DELETE", "COPY", "POST"]
    assert "revs" in document["never"]["parameters"]
    assert "$regex" in found["endpoints"][FIND]["never"]["operators"]
    assert found["endpoints"]["/{db}/_bulk_docs"]["requests"] == 0
    assert (found["endpoints_seen"], found["endpoints_total"]) == (3, len(LISTED))
    assert document["unlisted"] == {"methods": [], "parameters": [], "operators": []}
    assert document["never"]["errors"][0] == "400 bad_request"
    assert "409 conflict" not in document["never"]["errors"]
    # Of documents two methods, a parameter and an error; of queries a method, two parameters and an operator.
    assert found["seen"] == (2 + 1 + 1) + (1 + 2 + 1) + (1 + 1)


def test_report_names_what_was_used_and_what_was_not(coverage: Coverage) -> None:
    text = "\n".join(lines(coverage))
    assert "/{db}/{doc_id}  (3 requests)\n  methods    GET 1, PUT 2\n             never: DELETE, COPY, POST" in text
    assert "errors     409 conflict 1" in text
    assert re.search(r"never seen: .*/\{db\}/_bulk_docs", text)


class Page(HTMLParser):
    """The chips of a page by class, and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.chips: dict[str, int] = {}
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href"):
                self.fetched.append(str(value))
            if name == "class" and str(value).startswith("chip "):
                kind = str(value).split()[1]
                self.chips[kind] = self.chips.get(kind, 0) + 1


def test_page_is_self_contained_and_escapes_what_it_shows(coverage: Coverage) -> None:
    coverage.counts[DOCUMENT]["parameters"]["<script>"] += 1
    text = page(coverage)
    parsed = Page()
    parsed.feed(text)
    assert parsed.fetched == []
    assert "url(" not in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert parsed.chips["unlisted"] == 2  # one in the key
    assert "<h3>Endpoints that were never seen: " in text
    assert "<li>/{db}/_bulk_docs</li>" in text
    assert parsed.chips["error"] == 2  # one in the key
    assert parsed.chips["never"] > 50


def test_known_operators_are_those_that_are_answered() -> None:
    arguments = {"$in": [1], "$nin": [1], "$all": [1], "$exists": True, "$type": "null", "$size": 1, "$mod": [2, 1]}
    arguments |= {"$and": [{"b": 1}], "$or": [{"b": 1}], "$nor": [{"b": 1}], "$regex": "a", "$beginsWith": "a"}
    arguments |= {"$not": {"$eq": 1}, "$elemMatch": {"$eq": 1}, "$allMatch": {"$eq": 1}, "$keyMapMatch": {"$eq": 1}}
    for operator in OPERATORS:
        condition = {operator: arguments.get(operator, 1)}
        normalize_selector(condition if operator in ("$and", "$or", "$nor") else {"a": condition})
    with pytest.raises(CouchError):
        normalize_selector({"a": {"$unknown": 1}})


def test_known_errors_are_those_of_the_transcripts() -> None:
    seen: dict[str, set[str]] = {}
    for file in TRANSCRIPTS.glob("*/*.json"):
        for step in json.loads(file.read_text("utf-8"))["steps"]:
            request, response = step["request"], step["response"]
            path, body = request["path"].partition("?")[0], response.get("body")
            error = body.get("error") if isinstance(body, dict) else None
            if error is None or response["status"] // 100 != 4 or error == "method_not_allowed":
                continue
            with suppress(CouchError):
                within = [] if request.get("scope") == "server" else ["db"]
                endpoint = find_route([*within, *split_path(path)])[0].pattern
                seen.setdefault(endpoint, set()).add(f"{response['status']} {error}")
    assert {endpoint: set(errors) for endpoint, errors in ERRORS.items()} == {
        endpoint: errors for endpoint, errors in seen.items() if endpoint in LISTED
    }


def test_parameters_of_the_transcripts_are_known() -> None:
    """The table lists every parameter of a successful request, except those that CouchDB ignores."""
    ignored = {"deleted", "frobnicate", "stale"}
    unknown: dict[str, set[str]] = {}
    for file in TRANSCRIPTS.glob("documents/*.json"):
        for step in json.loads(file.read_text("utf-8"))["steps"]:
            request = step["request"]
            path, _, query = request["path"].partition("?")
            names = {part.partition("=")[0] for part in query.split("&") if part} | set(request.get("query", {}))
            if step["response"]["status"] >= 300 or not names:
                continue
            endpoint = find_route(["db", *split_path(path)])[0].pattern
            known = {*PARAMETERS.get(endpoint, ()), *ALIASES, *ignored}
            unknown.setdefault(endpoint, set()).update(names - known)
    assert not {endpoint: names for endpoint, names in unknown.items() if names}


# What modules read by name beside the parameters that make a difference.
BESIDE = {
    "all_docs": {"partition"} | {"reduce", "stale", "stable", "update", "group", "group_level", "sorted"},  # of views
    "answering": {"callback"},  # which any request may have
    "attachments": {"q"},  # of a header
    "authentication": {"AuthSession"},  # a cookie
    "changes": {"_design", "_doc_ids", "_selector", "_view"},  # filters
    "design_functions": {"base64", "body", "code", "headers", "json", "stop"},  # of what functions answer
    "databases": {"engine", "rev", "partition"},  # to refuse them
    "documents": {"deleted"},
    "node": {"_local"},  # the name of this node
}
# Which endpoints' parameters the modules read that no route names.
READ_FOR = {
    "document_query": "documents",
    "edits": "documents",
    "listings": "all_docs",
    "view_query": "all_docs",
    "view_rows": "views",
}


def parameters_read(tree: ast.Module) -> Iterator[str]:
    """Yield the names of parameters that a module looks up, compares with, or lists in a table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "param":
            yield from constants(node.args[0])
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "name":
            yield from constants(node.comparators[0])
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if ast.unparse(target) in ("_FLAGS", "_PARAMETERS"):
                yield from (name for key in node.value.keys if key for name in constants(key))


def constants(node: ast.AST) -> Iterator[str]:
    return (leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str))


def test_parameters_of_the_endpoints_are_known() -> None:
    reached: dict[str, set[str]] = {}
    for route in ROUTES:
        for function in route.endpoints.values():
            reached.setdefault(function.partition(".")[0], set()).update(PARAMETERS.get(route.pattern, ()))
    read: dict[str, set[str]] = {}
    for file in Path(routing.__file__).parents[1].glob("emulator/*/*.py"):
        names = {ALIASES.get(name, name) for name in parameters_read(ast.parse(file.read_text("utf-8")))}
        read.setdefault(READ_FOR.get(file.stem, file.stem), set()).update(names)
    assert len(set().union(*read.values())) > 40
    unknown = {module: names - reached.get(module, set()) - BESIDE.get(module, set()) for module, names in read.items()}
    assert not {module: names for module, names in unknown.items() if names}


def test_parameters_of_queries_and_indexes_are_known() -> None:
    assert {*find_query._FIND} == {*PARAMETERS[FIND]}
    assert {*find_query._INDEX_REQUEST, "limit", "skip"} == {*PARAMETERS["/{db}/_index"]}
    assert {*find_query._BULK_DELETE} == {*PARAMETERS["/{db}/_index/_bulk_delete"]}


TESTS = """
from couchdal import CouchDAL

def test_one():
    CouchDAL().put_document("a", {})

def test_other():
    CouchDAL().find({"n": {"$lt": 1}})
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_option_reports_for_all_workers(workers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = ["-q", "-p", "no:cacheprovider", *workers, "--dal-coverage=html,json", "--dal-coverage", "--", "."]
    ended = run_pytest(command, tmp_path, clean_environment())
    assert ended.returncode == 0
    printed = ended.stdout
    assert "/{db}/{doc_id}  (1 request)" in printed
    assert "operators  $lt 1" in printed
    assert "2 of " in printed
    assert json.loads((tmp_path / "dal-coverage.json").read_text())["endpoints"][FIND]["requests"] == 1
    assert (tmp_path / "dal-coverage.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("option", ["--dal-coverage=pdf", "--dal-coverage test_it.py"])
def test_unknown_format_and_path_are_refused(option: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    ended = run_pytest(option.split(), tmp_path, clean_environment())
    assert ended.returncode != 0
    assert "for --dal-coverage; use term, html, json" in ended.stderr
    assert "Write --dal-coverage=term before a path" in ended.stderr
