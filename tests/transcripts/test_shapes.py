"""The shapes of a test's requests: what stays, what is replaced, and what refers to earlier answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from couchdal import CouchDAL, MemoryBackend
from couchdal.backends.authentication import BasicAuthentication
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.http.json_text import JSON
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.middleware.chain import Steps, installed
from couchdal.transcripts.distinct import shape_of
from couchdal.transcripts.pseudonyms import Pseudonyms
from couchdal.transcripts.replayable import NotRecorded
from couchdal.transcripts.shapes import Exchange, scenario_of

DESIGN = {"views": {"v": {"map": "function(doc) { emit(doc.kind, doc.size) }", "reduce": "_sum"}}}


@pytest.fixture
def exchanges() -> list[Exchange]:
    return []


@pytest.fixture
def db(exchanges: list[Exchange]) -> Iterator[CouchDAL]:
    backend = MemoryBackend()

    def keep(one: BaseBackend | AsyncBackend, request: Request) -> Steps:
        kept = request.with_body(body=request.content())
        response = yield request
        exchanges.append(Exchange.of(kept, response))
        return response

    with installed(keep, backend.server_key):
        yield CouchDAL(backend)


def steps_of(exchanges: list[Exchange]) -> list[dict[str, object]]:
    steps = scenario_of("a test", exchanges, "default")["steps"]
    assert isinstance(steps, list)
    return [dict(step) for step in steps if isinstance(step, dict)]


def requests_of(exchanges: list[Exchange]) -> list[dict[str, object]]:
    return [dict(step["request"]) for step in steps_of(exchanges)]  # type: ignore[call-overload]


def test_no_text_and_no_number_of_a_document_is_kept(db: CouchDAL, exchanges: list[Exchange]) -> None:
    db.put_document(
        "client/4711", {"name": "Hopper", "phones": ["555-1234", {"ext": 98765}], "paid": True, "due": None}
    )
    db.get("/_bulk_docs", "POST", {"docs": [{"_id": "zeta", "note": "Hopper", "pay": 123.5}]})
    db.get("/_find", "POST", {"selector": {"name": {"$in": ["Hopper"]}, "pay": {"$gt": 123.5}}, "fields": ["name"]})
    db.get('/_all_docs?startkey="client"&endkey="client\ufff0"')
    db.request("PUT", "/raw/note.txt", body=b"Hopper", headers={"content-type": "text/plain"})
    db.get("/_revs_diff", "POST", {"client/4711": ["1-abc"]})
    text = json.dumps(steps_of(exchanges))
    for secret in ("Hopper", "4711", "555", "98765", "123.5", "client", "zeta", "note.txt"):
        assert secret not in text
    first, bulk, find, rows = requests_of(exchanges)[:4]
    assert first["path"] == "/{db}/s4%2Fs1"
    body = first["body"]
    assert isinstance(body, dict)
    assert body["paid"] is True
    assert body["due"] is None
    assert body["phones"][1] == {"ext": 2}  # the second of two numbers
    assert find["body"]["selector"]["name"] == {"$in": [body["name"]]}  # type: ignore[index]
    assert find["body"]["selector"]["pay"]["$gt"] == bulk["body"]["docs"][0]["pay"]  # type: ignore[index]
    assert find["body"]["fields"] == ["name"]  # type: ignore[index]
    assert rows["query"] == {"startkey": '"s4"', "endkey": '"s4\ufff0"'}


def test_design_documents_and_queries_stay(db: CouchDAL, exchanges: list[Exchange]) -> None:
    db.put_document("_design/kinds", DESIGN)
    db.get('/_design/kinds/_view/v?group=true&limit=3&key="blue"')
    db.get("/_index", "POST", {"index": {"fields": ["kind"], "partial_filter_selector": {"kind": "blue"}}, "name": "k"})
    design, view, index = requests_of(exchanges)
    assert design["path"] == "/{db}/_design/kinds"
    assert design["body"]["views"] == DESIGN["views"]  # type: ignore[index]
    assert view["query"] == {"group": "true", "limit": "3", "key": '"s1"'}
    assert index["body"] == {"index": {"fields": ["kind"], "partial_filter_selector": {"kind": "s1"}}, "name": "k"}


def test_revisions_sequences_and_generated_ids_refer_to_answers(db: CouchDAL, exchanges: list[Exchange]) -> None:
    made = db.get("/", "POST", {"n": 1})
    last = db.get("/_changes")["last_seq"]
    db.get(f"/_changes?since={last}")
    db.put_document(made["id"], {"_rev": made["rev"], "n": 2})
    db.request("DELETE", f"/{made['id']}", headers={"if-match": f'"{made["rev"]}"'})
    steps = steps_of(exchanges)
    assert steps[0]["save"] == {"v1": "id", "v2": "rev"}
    assert steps[2]["request"]["query"] == {"since": "${v3}"}  # type: ignore[index]
    assert steps[1]["save"] == {"v3": "results.0.seq"}
    assert steps[3]["request"]["path"] == "/{db}/${v1}"  # type: ignore[index]
    assert steps[3]["request"]["body"] == {"_rev": "${v2}", "n": 2}  # type: ignore[index]
    assert steps[4]["request"]["headers"] == {"if-match": '"${v2}"'}  # type: ignore[index]


def test_users_get_names_of_the_scenario(db: CouchDAL, exchanges: list[Exchange]) -> None:
    user = {"name": "hopper", "password": "cobol", "roles": ["staff"], "type": "user"}
    db.get("/_users/org.couchdb.user:hopper", "PUT", user)
    signed = BasicAuthentication("hopper", "cobol").flow(Request("GET", "/_session"))
    exchanges.append(Exchange.of(next(signed), Response(200)))
    created, session = requests_of(exchanges)
    assert created["path"] == "/_users/org.couchdb.user%3A{db}-s2"
    assert created["body"] == {"name": "{db}-s2", "password": "s1", "roles": ["staff"], "type": "user"}
    assert session["auth"] == {"user": "{db}-s2", "password": "s1"}


def test_databases_that_the_test_found_are_created(db: CouchDAL, exchanges: list[Exchange]) -> None:
    with db.emulator.rollback():
        db.backend.send(Request("PUT", "/clients"))
        for path in ("/missing/a", "/clients/_all_docs", "/_all_dbs"):
            db.backend.exchange(Request("GET", path))
    paths = [(request["method"], request["path"]) for request in requests_of(exchanges)]
    assert paths == [
        ("GET", "/{db}-2/s1"),
        ("PUT", "/{db}-3"),
        ("GET", "/{db}-3/_all_docs"),
        ("GET", "/_all_dbs"),
    ]


def test_feeds_wait_for_a_moment_only() -> None:
    request = Request("GET", "/default/_changes", "feed=continuous&heartbeat=true&timeout=60000")
    exchanges = [Exchange.of(request, Response(200, stream=[b"{}"]))]
    assert requests_of(exchanges)[0]["query"] == {"feed": "continuous", "timeout": "100"}


@pytest.mark.parametrize("kind", ["multipart/related; boundary=x", "application/x-www-form-urlencoded"])
def test_bodies_in_other_formats_are_not_recorded(kind: str) -> None:
    request = Request("PUT", "/default/a", headers={"content-type": kind}, body=b"x")
    with pytest.raises(NotRecorded):
        scenario_of("a test", [Exchange.of(request, Response(201))], "default")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/_node/_local/_config/log/level", "debug"),
        ("POST", "/_cluster_setup", {}),
        ("DELETE", "/_users", None),
        ("PUT", "/_users/_security", {}),
        ("PUT", "/_users/_design/d", {}),
        ("POST", "/_users/_bulk_docs", {"docs": [{"_id": "org.couchdb.user:a"}, {"_id": "_design/d"}]}),
        ("PUT", "/_replicator/job", {"source": "a", "target": "b"}),
        ("POST", "/_replicate", {"source": "http://elsewhere/a", "target": "default"}),
        ("POST", "/_replicate", {"source": "default", "target": "_users"}),
        ("POST", "/_replicate", {"source": "default", "target": "other", "continuous": True}),
    ],
)
def test_lasting_changes_of_a_server_are_not_recorded(method: str, path: str, body: JSON) -> None:
    request = Request(method, path, json=ABSENT if body is None else body)
    with pytest.raises(NotRecorded):
        scenario_of("a test", [Exchange.of(request, Response(200))], "default")


def test_databases_in_bodies_are_those_of_the_scenario(db: CouchDAL, exchanges: list[Exchange]) -> None:
    db.database("other").create_database()
    db.info()
    db.get("/_replicate", "POST", {"source": "default", "target": "other", "doc_ids": ["secret"]})
    db.get("/_replicate", "POST", {"source": "default", "target": "new", "create_target": True})
    db.get("/_dbs_info", "POST", {"keys": ["other", "_users"]})
    bodies = [request["body"] for request in requests_of(exchanges)[-3:]]
    assert bodies == [
        {"source": "{db}", "target": "{db}-2", "doc_ids": ["s1"]},
        {"source": "{db}", "target": "{db}-3", "create_target": True},
        {"keys": ["{db}-2", "_users"]},
    ]


def test_shapes_are_equal_if_only_values_differ(db: CouchDAL, exchanges: list[Exchange]) -> None:
    db.put_document("a", {"n": 1, "tags": ["x", "y"]})
    db.put_document("b", {"n": 7, "tags": ["z"]})
    db.put_document("c", {"n": "7", "tags": ["z"]})
    shapes = [shape_of(step) for step in steps_of(exchanges)]  # type: ignore[arg-type]
    assert shapes[0] == shapes[1]
    assert shapes[0] != shapes[2]


def test_pseudonyms_keep_the_order() -> None:
    names = Pseudonyms()
    texts = [f"t{n:03}" for n in range(120)]
    numbers = [-7, -0.5, 0, 3, 3.5, 900]
    for value in (*texts, *numbers):
        names.leaf(value)
    names.finish()
    assert [names.leaf(text) for text in texts] == sorted(str(names.leaf(text)) for text in texts)
    replaced = [names.leaf(number) for number in numbers]
    assert replaced == sorted(replaced)  # type: ignore[type-var]
    assert [type(value) for value in replaced] == [type(number) for number in numbers]
    assert names.leaf(0) == 0
