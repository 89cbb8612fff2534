"""Random requests must get the same answers from two backends.

By default, the test compares the emulator in process with the emulator behind a socket. This shows that HTTP does not
change an answer. If ``COUCHDB_URL`` names a server, the test compares the emulator with that server. This finds
differences from CouchDB.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Mapping
from hashlib import md5
from random import Random
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import pytest
from effort import examples
from hypothesis import HealthCheck, note, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from random_functions import FUNCTION_FAMILIES
from random_kinds import KINDS

from couchdal.backends.base import BaseBackend
from couchdal.backends.couch import CouchBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.errors import Unreachable
from couchdal.transcripts.normal_form import canonical_text, in_order
from couchdal.transcripts.scenario import RECORDED_ADMIN, Credentials, Player, Step

Source: TypeAlias = dict[str, Any]

DOC_IDS = ("a", "b", "c", "B", "é", "a b/c+d")
LOCAL_IDS = ("x", "y/z")
ATTACHMENT_NAMES = ("f", "g.txt", "h/i é")
GENERATED_REVS = tuple(f"{n}-{digit * 32}" for n in (1, 2, 3, 4) for digit in "0af")
ODD_REVS = ("1-abc", "2-z", "0-1", "nonsense", "", "1-", "-1", "3-" + "A" * 32, "x-abc", 1, None)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 2**53 + 1, 2**64, -(2**70), 0.5, -0.0, 1e300, 1.0,
    "", "a", "é\u0301", "\u0000", "\U0001f600", [], [1, 2], [256], [1, [2.5, {}]], {}, {"b": 1, "a": {"c": []}},
)  # fmt: skip
READ_FLAGS = (
    "revs", "revs_info", "conflicts", "deleted_conflicts", "local_seq", "meta", "attachments", "latest",
    "att_encoding_info",
)  # fmt: skip
PATHS = (
    "/", "", "/_all_docs", "/_all_docs/queries", "/_design_docs/queries", "/_local_docs", "/_bulk_docs", "/_bulk_get",
    "/_revs_diff", "/_missing_revs", "/_changes", "/_find", "/_index", "/_explain", "/_purge", "/_purged_infos",
    "/_revs_limit", "/_security", "/_compact", "/_compact/d", "/_view_cleanup", "/_ensure_full_commit", "/_local/x",
    "/_local/", "/_local", "/_local/x/f", "/_design/d", "/_design/", "/_design", "/_design/d/f", "/_design%2Fd",
    "/_design/d/_foo", "/_foo", "/_foo/bar", "/_partition", "/_partition/a", "/_temp_view", "/a", "//a//f", "/a/f/",
    "/a+b%2Fc%2Bd", "/a%2", "/%zz", "/a/../b", "/./a", "/a;b", "/a%00b", "/%5Fall_docs", "/_all_docs/x", "/_changes/x",
    "/_bulk_docs/x", "/_find/x", "/_index/_design/d/json/i", "/_index/x", "/_index/_bulk_delete", "/_security/x",
)  # fmt: skip
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "PATCH", "OPTIONS")
CONTENT_TYPES = (
    None, "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", ";application/json", "text/plain",
    "application/x-www-form-urlencoded", "multipart/form-data", "",
)  # fmt: skip
RAW_BODIES = (
    "", "{}", "[]", "1", "null", '"x"', "{", " {} ", '{"a":1,}', "{'a':1}", '{"a":NaN}', '{"a":01}', "\ufeff{}", "100",
    '{"docs":[]}', '{"docs":1}', '{"docs":[1]}', '{"docs":null}', '{"selector":{}}', '{"selector":1}', '{"keys":[]}',
    '{"keys":1}', '{"queries":[]}', '{"queries":1}', '{"queries":[{"keys":["a"]},{"limit":1}]}', '{"a":["1-a"]}',
    '{"_id":"a"}', '{"_rev":"1-a"}', '{"_deleted":true}', '{"index":{"fields":["n"]}}', '{"admins":{}}',
)  # fmt: skip
QUERIES = (
    "rev=", "rev=x", "limit=x", "limit=-1", "skip=-1", "include_docs=x", "batch=ok", "feed=foo", "since=x", "keys=x",
    "key=x", "descending=1", "a=b&a=c", "open_revs=x", "a=%zz", "%zz", "=", "&&", "a", "rev=1-a;revs=true", "style=x",
    "filter=x", "filter=d/x", "filter=_view", "timeout=x", "heartbeat=x", "reduce=false", "group=true", "stale=ok",
)  # fmt: skip
MARKS = (True, False, "true", "false", "", "1", "null")


class World:
    """The ids and revisions that a run has seen so far. With them, random requests reach existing documents."""

    def __init__(self) -> None:
        self.revs: dict[str, list[str]] = {}
        self.sequences = 0
        self.ids = list(DOC_IDS)
        self.deleted: set[str] = set()

    def note(self, source: Source) -> None:
        """Record the documents that can have a deleted leaf after a request."""
        request = source["request"]
        members = request.get("body") or (json.loads(request["raw"]) if "_deleted" in request.get("raw", "") else {})
        listed = members.get("docs") if isinstance(members, dict) else None
        for document in (members, *(listed if isinstance(listed, list) else ())):
            if isinstance(document, dict) and document.get("_deleted"):
                self.deleted.add(str(document.get("_id") or unquote(request["path"][1:])))
        if request["method"] == "DELETE":
            self.deleted.add(unquote(request["path"][1:]))

    def learn(self, value: object, doc_id: str | None = None) -> None:
        """Record every revision in an answer."""
        if isinstance(value, list):
            for item in value:
                self.learn(item, doc_id)
        elif isinstance(value, Mapping):
            doc_id = next((value[k] for k in ("_id", "id") if isinstance(value.get(k), str)), doc_id)
            for name in ("_rev", "rev"):
                rev = value.get(name)
                if doc_id and isinstance(rev, str) and re.fullmatch(r"\d+-\w+", rev):
                    known = self.revs.setdefault(doc_id, [])
                    if rev not in known:
                        known.append(rev)
            for member in value.values():
                self.learn(member, doc_id)

    def rev(self, r: Random, doc_id: str, odd: float = 0.1) -> Any:
        """Return a revision: usually the newest known one, sometimes an older one, an invented one, or None."""
        if r.random() < odd:
            return r.choice(ODD_REVS)
        known = self.revs.get(doc_id, [])
        if not known or r.random() < odd:
            return r.choice(GENERATED_REVS)
        return known[-1] if r.random() < 0.7 else r.choice(known)


def some(r: Random, choices: Mapping[str, Callable[[], Any]], at_most: int = 3) -> Source:
    """Return a few of the named parameters."""
    names = r.sample(sorted(choices), k=min(len(choices), r.randint(0, at_most)))
    return {name: choices[name]() for name in names}


def path_of(doc_id: str) -> str:
    return "/" + (doc_id if doc_id.startswith(("_design/", "_local/")) else quote(doc_id, safe=""))


def attachments(r: Random, with_stubs: bool = True) -> Source:
    def one() -> Any:
        kind = r.random()
        if with_stubs and kind < 0.4:
            return {
                "stub": True,
                **some(
                    r, {"revpos": lambda: r.choice((0, 1, 2, 9)), "digest": lambda: "md5-XUFAKrxLKna5cZ2REBfFkg=="}, 1
                ),
            }
        if kind < 0.45:
            return r.choice(({}, [], None, {"data": 1}, {"data": "?"}, {"follows": True}))
        content = {"data": r.choice(("", "aGVsbG8=", "aGVsbG8gd29ybGQ=", "AAEC"))}
        return content | some(r, {"content_type": lambda: r.choice(("text/plain", "image/png", "application/json"))})

    return {name: one() for name in r.sample(ATTACHMENT_NAMES, k=r.randint(1, 2))}


def body(r: Random, odd: float = 0.06) -> Source:
    members: Source = {r.choice(("n", "s", "t", "é")): r.choice(VALUES) for _ in range(r.randint(0, 3))}
    if r.random() < 0.12:
        members["_attachments"] = attachments(r)
    if r.random() < 0.1:
        members["_deleted"] = r.choice((True, True, False))
    if r.random() < odd:
        members[
            r.choice(("_x", "_deleted", "_revisions", "_conflicts", "_revs_info", "_local_seq", "_attachments", "_id"))
        ] = r.choice(VALUES)
    return members


def replicated(world: World, r: Random, doc_id: str) -> Source:
    """Return a document with a history, as a replicator sends it. The history can be partly known, or stemmed."""
    rev = world.rev(r, doc_id, odd=0)
    position, ids = int(rev.partition("-")[0]), [rev.partition("-")[2]]
    if r.random() < 0.4:
        position, ids = r.randint(0, 3), []
    for _ in range(r.randint(1, 3)):
        # Each id is a hash of its ancestors, so no revision has two histories.
        position += 1
        parent = ids[0] if ids else ""
        ids.insert(0, md5(f"{position}{parent}{r.choice('abc')}".encode(), usedforsecurity=False).hexdigest())
    return {"_id": doc_id, **body(r, odd=0.02), "_revisions": {"start": position, "ids": ids}}


def put_document(world: World, r: Random) -> Source:
    doc_id = r.choice(world.ids)
    request: Source = {"method": "PUT", "path": path_of(doc_id), "body": body(r), "query": {}}
    how = r.random()
    if how < 0.4:
        request["body"]["_rev"] = world.rev(r, doc_id)
    elif how < 0.6:
        request["query"]["rev"] = str(world.rev(r, doc_id))
    elif how < 0.7:
        rev = str(world.rev(r, doc_id)) or "1-x"
        request["headers"] = {"If-Match": r.choice((rev, f'"{rev}"'))}
    if r.random() < 0.1:
        request["query"]["new_edits"] = r.choice(MARKS)
    return {"request": request}


def delete_document(world: World, r: Random) -> Source:
    doc_id = r.choice(world.ids)
    query = {"rev": str(world.rev(r, doc_id))} if r.random() < 0.9 else {}
    return {"request": {"method": "DELETE", "path": path_of(doc_id), "query": query}}


def post_document(world: World, r: Random) -> Source:
    members = body(r)
    doc_id = r.choice((*world.ids, "_local/x", "_bad", "", 1))
    members["_id"] = doc_id
    if r.random() < 0.4 and isinstance(doc_id, str):
        members["_rev"] = world.rev(r, doc_id)
    return {"request": {"method": "POST", "path": r.choice(("/", "")), "body": members}}


def copy_document(world: World, r: Random) -> Source:
    doc_id, other = r.choice(world.ids), r.choice(world.ids)
    destination = path_of(other)[1:]
    if r.random() < 0.6:
        destination += f"?rev={world.rev(r, other, odd=0)}"
    query = some(r, {"rev": lambda: str(world.rev(r, doc_id))}, 1)
    return {
        "request": {"method": "COPY", "path": path_of(doc_id), "query": query, "headers": {"Destination": destination}}
    }


def get_document(world: World, r: Random) -> Source:
    doc_id = r.choice(world.ids)

    def revs() -> list[Any]:
        return [world.rev(r, doc_id) for _ in range(r.randint(0, 3))]

    query = some(
        r,
        {
            "rev": lambda: str(world.rev(r, doc_id)),
            "open_revs": lambda: r.choice(("all", revs(), revs(), "x")),
            "atts_since": revs,
            **dict.fromkeys(READ_FLAGS, lambda: r.choice(MARKS) if r.random() < 0.2 else True),
        },
        4,
    )
    headers = {"If-None-Match": f'"{world.rev(r, doc_id)}"'} if r.random() < 0.1 else {}
    method = "HEAD" if r.random() < 0.1 else "GET"
    return {"request": {"method": method, "path": path_of(doc_id), "query": query, "headers": headers}}


def bulk_docs(world: World, r: Random) -> Source:
    documents: list[Any] = []
    for _ in range(r.randint(0, 4)):
        doc_id = r.choice(world.ids)
        document = {"_id": doc_id, **body(r, odd=0.03)}
        if r.random() < 0.6:
            document["_rev"] = world.rev(r, doc_id, odd=0.03)
        documents.append(document)
    if r.random() < 0.03:
        documents.append(r.choice((1, None, [], "x", {"_id": 1}, {"_id": "_x"}, {"_id": ""})))
    members: Source = {"docs": documents}
    if r.random() < 0.08:
        members["new_edits"] = r.choice((True, None, "x", 1))
    return {"request": {"method": "POST", "path": "/_bulk_docs", "body": members}}


def replicate(world: World, r: Random) -> Source:
    documents: list[Any] = []
    for _ in range(r.randint(1, 4)):
        doc_id = r.choice(world.ids)
        if r.random() < 0.8:
            documents.append(replicated(world, r, doc_id))
        else:
            documents.append({"_id": doc_id, **body(r, odd=0.02), "_rev": world.rev(r, doc_id, odd=0.05)})
    return {"request": {"method": "POST", "path": "/_bulk_docs", "body": {"docs": documents, "new_edits": False}}}


def bulk_get(world: World, r: Random) -> Source:
    documents: list[Any] = []
    for _ in range(r.randint(0, 3)):
        doc_id = r.choice((*world.ids, "_local/x", "none"))
        wanted: Source = {"id": doc_id}
        if r.random() < 0.6:
            wanted["rev"] = world.rev(r, doc_id)
        if r.random() < 0.15:
            wanted["atts_since"] = [world.rev(r, doc_id, odd=0.03)]
        documents.append(
            wanted if r.random() < 0.95 else r.choice((1, {}, {"rev": "1-a"}, {"id": 1}, {"id": ""}, {"id": "_x"}))
        )
    query = some(r, dict.fromkeys(("revs", "attachments", "latest"), lambda: r.choice(MARKS)), 2)
    return {"request": {"method": "POST", "path": "/_bulk_get", "body": {"docs": documents}, "query": query}}


def revs_diff(world: World, r: Random) -> Source:
    asked = {}
    for doc_id in r.sample([*world.ids, "none"], k=r.randint(0, 3)):
        asked[doc_id] = [world.rev(r, doc_id, odd=0.05) for _ in range(r.randint(0, 4))]
    path = "/_revs_diff" if r.random() < 0.8 else "/_missing_revs"
    return {"request": {"method": "POST", "path": path, "body": asked}}


def all_docs(world: World, r: Random) -> Source:
    def key() -> Any:
        return (
            r.choice((*world.ids, "", "zz", "_design/d", "\ufff0"))
            if r.random() < 0.9
            else r.choice((None, 1, [], {}, ["a"]))
        )

    parameters: dict[str, Callable[[], Any]] = {
        **dict.fromkeys(("key", "startkey", "endkey", "start_key", "end_key"), key),
        "keys": lambda: [key() for _ in range(r.randint(0, 4))],
        "startkey_docid": lambda: r.choice(world.ids),
        "endkey_docid": lambda: r.choice(world.ids),
        **dict.fromkeys(
            ("limit", "skip"), lambda: r.choice((0, 1, 2, 3, 100)) if r.random() < 0.9 else r.choice((-1, "x", 1.5))
        ),
        **dict.fromkeys(
            ("descending", "include_docs", "inclusive_end", "conflicts", "update_seq", "attachments"),
            lambda: r.choice((True, False)) if r.random() < 0.95 else r.choice(MARKS),
        ),
    }
    path = r.choice(("/_all_docs",) * 5 + ("/_design_docs", "/_local_docs"))
    given = some(r, parameters, 4)
    if r.random() < 0.3:
        given = {name: value for name, value in given.items() if not isinstance(value, str) or name.endswith("key")}
        return {"request": {"method": "POST", "path": path, "body": given}}
    query = {
        name: value if "docid" in name or not isinstance(value, str) else canonical_text(value)
        for name, value in given.items()
    }
    return {"request": {"method": "GET", "path": path, "query": query}}


def changes(world: World, r: Random) -> Source:
    def since() -> Any:
        return (
            f"${{s{r.randrange(world.sequences)}}}"
            if world.sequences and r.random() < 0.8
            else r.choice((0, "now", "0", 1, "x"))
        )

    query = some(
        r,
        {
            "since": since,
            "limit": lambda: r.choice((0, 1, 2, 5, -1)),
            "style": lambda: r.choice(("all_docs", "main_only")),
            "seq_interval": lambda: r.choice((1, 2, 3)),
            "feed": lambda: r.choice(("normal", "longpoll", "continuous")),
            "filter": lambda: r.choice(("_doc_ids", "_design", "_selector", "x")),
            "doc_ids": lambda: r.choices(world.ids, k=2),
            **dict.fromkeys(
                ("descending", "include_docs", "conflicts", "attachments"), lambda: r.choice((True, False))
            ),
        },
        4,
    )
    if query.get("feed", "normal") != "normal":
        query["timeout"] = 1
    if r.random() < 0.25:
        selector = r.choice(({}, {"n": 1}, {"_deleted": True}, {"n": {"$gt": None}}))
        given = {"doc_ids": r.choices(world.ids, k=2), "selector": selector}
        return {"request": {"method": "POST", "path": "/_changes", "query": query, "body": given}}
    return {"request": {"method": "GET", "path": "/_changes", "query": query}}


def remember_sequence(world: World, r: Random) -> Source:
    world.sequences += 1
    return {"request": {"method": "GET", "path": "/"}, "save": {f"s{world.sequences - 1}": "update_seq"}}


def local_document(world: World, r: Random) -> Source:
    path = f"/_local/{r.choice(LOCAL_IDS)}"
    method = r.choice(("GET", "PUT", "PUT", "DELETE", "HEAD"))
    request: Source = {"method": method, "path": path}
    rev = r.choice(("0-1", "0-2", "0-3", "1-a", "x", None, 1))
    if method == "PUT":
        request["body"] = body(r) | ({"_rev": rev} if r.random() < 0.5 else {})
    elif method == "DELETE" and r.random() < 0.5:
        request["query"] = {"rev": str(rev)}
    return {"request": request}


def attachment(world: World, r: Random) -> Source:
    doc_id = r.choice(world.ids)
    method = r.choice(("GET", "GET", "PUT", "PUT", "DELETE", "HEAD"))
    path = path_of(doc_id) + path_of(r.choice(ATTACHMENT_NAMES)).replace("%2F", "/")
    request: Source = {"method": method, "path": path, "query": {}}
    if method == "PUT" or r.random() < 0.4:
        request["query"] = {"rev": str(world.rev(r, doc_id))} if r.random() < 0.8 else {}
    if method == "PUT":
        request["raw"] = r.choice(("", "hello", "hello world " * 20))
        request["headers"] = {"Content-Type": r.choice(("text/plain", "image/png", None))}
    elif method == "GET" and r.random() < 0.3:
        request["headers"] = {"Range": r.choice(("bytes=0-1", "bytes=2-", "bytes=-2", "bytes=9-3", "x"))}
    return {"request": request}


def find(world: World, r: Random) -> Source:
    value = r.choice(VALUES)
    selector = r.choice(
        (
            {},
            {"n": value},
            {"n": {r.choice(("$gt", "$lt", "$gte", "$lte", "$ne", "$eq")): value}},
            {"_id": {r.choice(("$gt", "$lte")): r.choice(world.ids)}},
            {"$or": [{"n": value}, {"s": {"$exists": True}}]},
            {"s": {"$type": r.choice(("string", "number", "array"))}},
        )
    )
    options = some(
        r,
        {
            "limit": lambda: r.choice((0, 1, 2, 25)),
            "skip": lambda: r.choice((0, 1, 2)),
            "fields": lambda: r.choice((["_id"], ["n", "s"], ["_rev", "n.b"], [])),
            "conflicts": lambda: r.choice((True, False)),
            "execution_stats": lambda: True,
        },
    )
    return {"request": {"method": "POST", "path": "/_find", "body": {"selector": selector, **options}}}


def purge(world: World, r: Random) -> Source:
    asked = {}
    for doc_id in r.sample(world.ids, k=r.randint(1, 2)):
        # A known difference: CouchDB still counts a document as live if a purge leaves only deleted leaves.
        if doc_id not in world.deleted:
            asked[doc_id] = [world.rev(r, doc_id, odd=0.05) for _ in range(r.randint(0, 2))]
    return {"request": {"method": "POST", "path": "/_purge", "body": asked}}


def limits(world: World, r: Random) -> Source:
    path = r.choice(("/_revs_limit", "/_revs_limit", "/_purged_infos_limit", "/_security"))
    if r.random() < 0.4:
        return {"request": {"method": "GET", "path": path}}
    value: Any = r.choice((1, 2, 3, 1000)) if r.random() < 0.9 else r.choice((0, -1, "x", None))
    if path == "/_security":
        value = r.choice(({}, {"admins": {"names": ["n"]}, "members": {"roles": []}}, {"admins": 1}, [], {"x": 1}))
    return {"request": {"method": "PUT", "path": path, "body": value}}


def oddity(world: World, r: Random) -> Source:
    """Return a request whose method, path, query and body were chosen independently."""
    path = r.choice(PATHS) + (f"?{r.choice(QUERIES)}" if r.random() < 0.6 else "")
    request: Source = {"method": r.choice(METHODS), "path": path}
    # The server would choose the id of a document without one, and deleting the database would end the run.
    if path.partition("?")[0] in ("/", "") and request["method"] in ("POST", "DELETE"):
        request["method"] = "PUT"
    if r.random() < (0.05 if request["method"] in ("GET", "HEAD") else 0.7):
        request["raw"] = r.choice(RAW_BODIES)
    if r.random() < 0.5:
        request["headers"] = {"Content-Type": r.choice(CONTENT_TYPES)}
    return {"request": request}


FAMILIES: dict[str, Callable[[World, Random], Source]] = {
    function.__name__: function
    for function in (
        put_document, delete_document, post_document, copy_document, get_document, bulk_docs, replicate, bulk_get,
        revs_diff, all_docs, changes, remember_sequence, local_document, attachment, find, purge, limits, oddity,
    )
} | FUNCTION_FAMILIES  # fmt: skip


class Twins:
    """Two databases with the same name on two backends, which receive the same requests."""

    def __init__(
        self, backends: tuple[tuple[BaseBackend, Credentials], ...], create: Mapping[str, Any] | None = None
    ) -> None:
        name = f"twins{uuid.uuid4().hex[:12]}"
        self.players = [Player(backend, name, admin) for backend, admin in backends]
        self.world = World()
        for player in self.players:
            player.create(create or {})

    def send(self, source: Source) -> list[str]:
        """Send one request to both backends, and return both answers in normal form."""
        self.world.note(source)
        step = Step.parse({"ignore": ["body.stack", "body.*.stack"], **source})
        played = [player.send(step) for player in self.players]
        self.world.learn(played[-1].answer.get("body"))
        return [canonical_text(in_order(one.recorded(), step.unordered)) for one in played]

    def remove(self) -> None:
        for player in self.players:
            player.remove()


class AnswersAgree(RuleBasedStateMachine):
    """After any sequence of requests, the next request gets the same answer from both backends."""

    def __init__(self, backends: tuple[tuple[BaseBackend, Credentials], ...]) -> None:
        super().__init__()
        self.twins = Twins(backends)

    @rule(family=st.sampled_from(sorted(FAMILIES)), r=st.randoms(use_true_random=False))
    def request(self, family: str, r: Random) -> None:
        source = FAMILIES[family](self.twins.world, r)
        note(canonical_text(source))
        one, other = self.twins.send(source)
        # 501 says that the emulator does not support the request. It is not a wrong answer.
        assert one == other or one.endswith('"status": 501}')

    def teardown(self) -> None:
        self.twins.remove()


def compared_backends(request: pytest.FixtureRequest) -> tuple[tuple[BaseBackend, Credentials], ...]:
    """Return the emulator, and the other backend with its administrator."""
    memory = (MemoryBackend(admin=RECORDED_ADMIN), RECORDED_ADMIN)
    url = os.environ.get("COUCHDB_URL")
    if not url:
        return memory, (CouchBackend(request.getfixturevalue("served_address")), RECORDED_ADMIN)
    parts = urlsplit(url)
    other = CouchBackend(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return memory, (other, (unquote(parts.username or "admin"), unquote(parts.password or "")))


@pytest.mark.random
def test_random_requests_get_the_same_answers(request: pytest.FixtureRequest) -> None:
    url, backends = os.environ.get("COUCHDB_URL"), compared_backends(request)
    run_state_machine_as_test(
        lambda: AnswersAgree(backends),
        settings=settings(
            max_examples=int(os.environ.get("DIFFERENTIAL_RUNS") or (100 if url else examples(quick=20, soak=200))),
            stateful_step_count=40,
            # The same requests in every run, except against a server, where the search is for new differences.
            derandomize=not url,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


_REQUESTS = 40
# The engine words these in its own way.
_WORDED = (
    re.compile(r"stacktrace: .*?\""),
    re.compile(r"(cannot read property) '[^']*'"),
    re.compile('SyntaxError: .*?"'),
    # Boundaries of multipart bodies.
    re.compile(r'(boundary=\\")[0-9a-f]{32}'),
    re.compile(r"(--)[0-9a-f]{32}"),
)


def _answers(twins: Twins, source: dict[str, Any]) -> list[str]:
    """Return both answers in normal form. An answer that breaks off is one, too."""
    twins.world.note(source)
    step, shown, body = Step.parse(source), [], None
    for player in twins.players:
        try:
            played = player.send(step)
            body = played.answer.get("body")
            text = canonical_text(in_order(played.recorded(), step.unordered))
        except Unreachable:
            text = "broken off"
        for pattern in _WORDED:
            text = pattern.sub(r"\1" if pattern.groups else "", text)
        shown.append(text)
    twins.world.learn(body)
    return shown


@pytest.mark.random
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_random_requests_of_a_kind_get_the_same_answers(kind: str, request: pytest.FixtureRequest) -> None:
    families, create, quick = KINDS[kind]
    backends = compared_backends(request)
    runs = int(os.environ.get("DIFFERENTIAL_RUNS") or examples(quick=quick, soak=100))
    for seed in range(runs):
        r = Random(seed)
        twins = Twins(backends, create)
        try:
            for _ in range(_REQUESTS):
                source = r.choice(families)(twins.world, r)
                one, other = _answers(twins, source)
                assert one == other, f"seed {seed}: {canonical_text(source)}"
        finally:
            twins.remove()
