"""Deeply nested values, sent from deep in the interpreter's stack, are stored or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from couchdal import CouchDAL, MemoryBackend
from couchdal.http.json_text import MOST_DEPTH

# For each kind of nesting: a function that nests a value in a number of steps, and the levels that one step adds.
KINDS: dict[str, tuple[str, str, int]] = {
    "arrays": ("[", "]", 1),
    "objects": ('{"a":', "}", 1),
    "both": ('[{"a":', "}]", 2),
}
QUERIES = {
    "$and": ('{"$and":[', "]}", 2),
    "$not": ('{"$not":', "}", 1),
    "$nor": ('{"$nor":[', "]}", 2),
    "subfields": ('{"a":', "}", 1),
    "$elemMatch": ('{"a":{"$elemMatch":', "}}", 2),
    "$all": ('{"a":{"$all":[', "]}}", 3),
}


def nested(kind: tuple[str, str, int], depth: int, inner: str) -> str:
    before, after, levels = kind
    return before * (depth // levels) + inner + after * (depth // levels)


def deep_in_the_stack(call: Callable[[], object], frames: int = 150) -> object:
    return call() if not frames else deep_in_the_stack(call, frames - 1)


@pytest.fixture
def ask(send):
    send("PUT", "/db")
    return lambda *request, **more: deep_in_the_stack(lambda: send(*request, **more))


JSON = {"content_type": "application/json"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", ["", "?new_edits=false"])
def test_document_of_the_greatest_depth_is_stored(ask, kind, query):
    rev = '"_rev":"1-a",' if query else ""
    value = nested(KINDS[kind], MOST_DEPTH - 1, "1" if kind != "arrays" else "")
    put = ask("PUT", f"/db/a{query}", body=f'{{{rev}"n":{value}}}'.encode(), **JSON)
    assert put.status == 201
    assert value in ask("GET", "/db/a").content().decode()
    assert value in ask("GET", "/db/_all_docs?include_docs=true").content().decode()
    assert value in ask("GET", "/db/_changes?include_docs=true").content().decode()


@pytest.mark.parametrize("kind", QUERIES)
def test_query_of_the_greatest_depth_is_answered(ask, kind):
    ask("PUT", "/db/a", body=f'{{"a":{nested(KINDS["both"], MOST_DEPTH - 1, "1")}}}'.encode(), **JSON)
    selector = nested(QUERIES[kind], MOST_DEPTH - 2, '{"b":1}')
    asked = f'{{"selector":{selector}}}'.encode()
    assert ask("POST", "/db/_find", body=asked, **JSON).status == 200
    assert ask("POST", "/db/_explain", body=asked, **JSON).status == 200


@pytest.mark.parametrize("depth", [MOST_DEPTH + 2, 600, 5_000])
@pytest.mark.parametrize("kind", KINDS)
def test_deeper_value_is_refused_and_changes_nothing(ask, kind, depth):
    value = nested(KINDS[kind], depth, r'"\u0041"')
    for method, path in (("PUT", "/db/a"), ("POST", "/db/_bulk_docs"), ("POST", "/db/_find")):
        refused = ask(method, path, body=value.encode(), **JSON)
        assert (refused.status, refused.value()["reason"]) == (400, "invalid UTF-8 JSON")
    assert ask("GET", "/db").value()["doc_count"] == 0


def test_deeper_payload_is_refused_before_it_is_sent():
    dal = CouchDAL(MemoryBackend())
    payload: object = 1
    for _ in range(MOST_DEPTH):
        payload = [payload]
    with pytest.raises(ValueError, match="nested too deeply"):
        dal.put_document("a", {"n": payload})
    assert dal.info()["doc_count"] == 0
