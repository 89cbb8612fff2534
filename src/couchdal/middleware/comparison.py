"""Comparison: sends each request of a live CouchDB to the emulator too, and finds the first answer that differs.

The caller gets CouchDB's answer. Some of its values only CouchDB can choose: generated ids, update sequences, bookmarks
and cookies. The emulator generates the same ids. In later requests to the emulator, the other values are replaced by
those that its own answer had in the same place.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias

from couchdal.api.routes import endpoint_of
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.server.ids import Ids
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response, is_feed
from couchdal.http.urls import parse_query, quote, split_path
from couchdal.middleware.chain import Steps
from couchdal.middleware.difference import describe
from couchdal.middleware.known import KnownDifference
from couchdal.middleware.observed_stream import observed
from couchdal.transcripts.normal_form import canonical_text, normalize
from couchdal.transcripts.scenario import show_answer

Applies: TypeAlias = Callable[[BaseBackend | AsyncBackend], bool]

# What a server chooses, by the name of the member: the two answers may differ there.
_CHOSEN = frozenset(
    (
        "bookmark",
        "derived_key",
        "end_last_seq",
        "instance_start_time",
        "last_seq",
        "purge_seq",
        "recorded_seq",
        "salt",
        "seq",
        "session_id",
        "source_last_seq",
        "start_last_seq",
        "update_seq",
        "uuid",
    )
)
# The salt is part of a user's document, so its revisions differ, too.
_REVISIONS = frozenset(("rev", "_rev"))
# Members that describe the server itself, or the moment of the answer. They are not compared.
_OWN = {
    "/": ("body.version", "body.git_sha", "body.features", "body.vendor"),
    "/{db}/_design/{name}/_info": tuple(
        f"body.view_index.{name}"
        for name in ("collator_versions", "compact_running", "signature", "updater_running", "waiting_commit")
    ),
    "/_membership": ("body",),
    "/_dbs_info": ("body.*.info",),
    "/_node/{node}": ("body",),
    "/_node/{node}/_config": ("body",),
    "/_node/{node}/_stats": ("body",),
    "/_node/{node}/_stats/{path...}": ("body",),
    "/_node/{node}/_prometheus": ("lines",),
    "/_node/{node}/_system": ("body",),
    "/_node/{node}/_versions": ("body",),
    "/{db}/_shards": ("body.shards",),
    "/{db}/_shards/{doc_id}": ("body.nodes",),
    "/_replicate": ("body.reason", "body.history.*.start_time", "body.history.*.end_time"),
}
# Shorter values may stand for something else elsewhere.
_TOKEN = re.compile(rb"\w[\w-]{10,}\w")
_BOUNDARY = re.compile(r'boundary="?([^";]+)')
_COOKIE = re.compile(r"AuthSession=([^;]+)")


class Difference(NamedTuple):
    """The first answers of a test that differ. ``text`` shows the request, both answers and what to do."""

    text: str

    def __str__(self) -> str:
        return self.text


class GivenIds(Ids):
    """Ids that CouchDB generated, for the emulator to generate them again. After them it generates its own."""

    def __init__(self) -> None:
        self._given: list[str] = []
        super().__init__()

    def give(self, ids: Sequence[str]) -> None:
        """Let these be the next ids."""
        self._given[:] = ids

    def next(self) -> str:
        return self._given.pop(0) if self._given else super().next()


class Comparison:
    """Compares the answers of live servers with those of a memory server.

    ``applies`` says which backends are compared. ``where`` says which line of a test made the request. ``existing``
    names databases that the live server has although no request created them.
    """

    def __init__(
        self,
        twin: MemoryBackend,
        applies: Applies,
        known: Sequence[KnownDifference] = (),
        *,
        where: Callable[[], str] = lambda: "",
        existing: Callable[[], Collection[str]] = tuple,
    ) -> None:
        #: The first difference since ``begin``. After it, nothing more is compared, but the twin still gets the
        #: requests: later tests may read what they write.
        self.difference: Difference | None = None
        #: How many answers were compared.
        self.compared: int = 0
        #: How many answers differed for each known reason.
        self.excused: Counter[str] = Counter()
        self._twin = twin
        self._ids = GivenIds()
        twin.server.ids = self._ids
        self._applies = applies
        self._known = known
        self._where = where
        self._existing = existing
        self._lock = threading.Lock()
        # What CouchDB chose, and what the emulator chose in the same place.
        self._chosen: dict[bytes, bytes] = {}
        self._count = 0

    def begin(self) -> None:
        """Begin a new test."""
        self.difference = None
        self._count = 0

    def compare(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Send a request to both servers and return CouchDB's answer: the middleware of the comparison."""
        if not self._applies(backend) or request.stream is not None:
            return (yield request)
        # An emulator may change the value of a request while it answers.
        request = request.with_body(body=request.content())
        with self._lock:
            # The request may delete one of them.
            self._create_missing(self._existing())
        response = yield request
        if response.stream is None:
            self._judge(request, response)
        elif is_feed(request):
            response.stream = observed(response.stream, lambda content: self._judge_feed(request, content))
        return response

    def _judge(self, request: Request, response: Response) -> None:
        with self._lock:
            self._count += 1
            self._create_existing(request)
            self._ids.give(_generated(request, response))
            answer = self._twin.send(self._translated(request))
            answer.content()
            self._ids.give(())
            theirs, ours = show_answer(request, response), show_answer(request, answer)
            self._learn_headers(response, answer)
            self._learn(theirs.get("body"), ours.get("body"), request)
            self._compare(request, theirs, ours)

    def _judge_feed(self, request: Request, content: bytes) -> None:
        """Compare the rows that a feed has sent so far with those of a normal feed."""
        kept = [(name, value) for name, value in parse_query(request.query) if name not in _OF_FEEDS]
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in kept)
        with self._lock:
            self._count += 1
            normal = self._translated(request.with_head(request.method, request.path, query, request.headers))
            value = self._twin.send(normal).value()
            rows = value.get("results") if isinstance(value, dict) else []
            theirs = _rows_of(content)
            theirs, ours = _comparable(theirs, _list(rows), filtered=any(name == "filter" for name, _ in kept))
            self._learn(theirs, ours, request)
            self._compare(request, {"body": {"results": theirs}}, {"body": {"results": ours}})

    def _create_existing(self, request: Request) -> None:
        """Create the databases that exist on the other server without a request of the test."""
        explicit = split_path(request.path) if request.method in ("PUT", "DELETE") else []
        self._create_missing([name for name in self._existing() if explicit != [name]])

    def _create_missing(self, names: Collection[str]) -> None:
        for name in names:
            if name not in self._twin.server.databases:
                self._twin.send(Request("PUT", f"/{quote(name)}"))

    def _compare(self, request: Request, theirs: dict[str, JSON], ours: dict[str, JSON]) -> None:
        if self.difference is not None:
            return
        self.compared += 1
        theirs = json.loads(self._replaced(json.dumps(theirs).encode()))
        own = _OWN.get(endpoint_of(request.path) or "", ())
        shown = [normalize(theirs, own), normalize(ours, own)]
        if canonical_text(shown[0]) == canonical_text(shown[1]):
            return
        if _lists_shared(request):
            self.excused["others have users and replications on the server"] += 1
            return
        for known in self._known:
            if known.excuses(request, theirs, ours):
                self.excused[known.reason] += 1
                return
        self.difference = Difference(describe(self._count, request, shown[0], shown[1], self._where()))

    def _learn_headers(self, theirs: Response, ours: Response) -> None:
        for name, pattern in (("content-type", _BOUNDARY), ("set-cookie", _COOKIE)):
            found = [pattern.search(answer.headers.get(name, "")) for answer in (theirs, ours)]
            if found[0] is not None and found[1] is not None:
                self._choose(found[0][1], found[1][1])

    def _learn(self, theirs: JSON, ours: JSON, request: Request, name: str = "") -> None:
        """Remember the values that the servers chose, by their places in two answers."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for member in theirs.keys() & ours.keys():
                self._learn(theirs[member], ours[member], request, member)
        elif isinstance(theirs, list) and isinstance(ours, list):
            for one, other in zip(theirs, ours, strict=False):
                self._learn(one, other, request, name)
        elif isinstance(theirs, str) and isinstance(ours, str) and theirs != ours and _is_chosen(name, request):
            self._choose(theirs, ours)

    def _choose(self, theirs: str, ours: str) -> None:
        found = [_TOKEN.search(text.encode()) for text in (theirs, ours)]
        if found[0] is not None and found[1] is not None:
            self._chosen[found[0][0]] = found[1][0]

    def _replaced(self, text: bytes) -> bytes:
        if not self._chosen:
            return text
        return _TOKEN.sub(lambda token: self._chosen.get(token[0], token[0]), text)

    def _replaced_text(self, text: str) -> str:
        return self._replaced(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def _translated(self, request: Request) -> Request:
        """Return the request with the emulator's values in place of CouchDB's."""
        headers = {name: self._replaced_text(value) for name, value in request.headers.items()}
        body = self._replaced(request.content())
        if "content-length" in headers:
            headers["content-length"] = str(len(body))
        return Request(
            request.method,
            self._replaced_text(request.path),
            self._replaced_text(request.query),
            headers,
            body,
            peer=request.peer,
        )


def _is_chosen(name: str, request: Request) -> bool:
    return name in _CHOSEN or (name in _REVISIONS and split_path(request.path)[:1] == ["_users"])


_UPDATES = ("/{db}/_design/{name}/_update/{function}", "/{db}/_design/{name}/_update/{function}/{doc...}")
# Parameters that say how a feed waits, not what it holds.
_OF_FEEDS = frozenset(("feed", "heartbeat", "timeout"))


def _generated(request: Request, response: Response) -> list[str]:
    """Return the ids that CouchDB generated for a request, in order."""
    endpoint, answer, sent = endpoint_of(request.path), response.value(), request.value()
    if endpoint == "/_uuids" and isinstance(answer, dict) and isinstance(answer.get("uuids"), list):
        return [str(one) for one in _list(answer["uuids"])]
    if request.method != "POST":
        return []
    if endpoint in _UPDATES:
        return [response.headers["x-couch-id"]] if "x-couch-id" in response.headers else []
    if endpoint == "/{db}" and isinstance(answer, dict) and "id" in answer:
        return [str(answer["id"])]
    if endpoint == "/{db}/_bulk_docs" and isinstance(sent, dict):
        pairs = zip(_list(sent.get("docs")), _list(answer), strict=False)
        return [
            str(row.get("id"))
            for document, row in pairs
            if isinstance(document, dict) and "_id" not in document and isinstance(row, dict)
        ]
    return []


def _lists_shared(request: Request) -> bool:
    """Return whether a request reads more of one of CouchDB's own databases than one document."""
    segments = split_path(request.path)
    single = len(segments) == 2 and not segments[1].startswith("_")
    return segments[:1] in (["_users"], ["_replicator"], ["_global_changes"]) and not single


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


def _rows_of(content: bytes) -> list[JSON]:
    """Return the rows in what a feed has sent: one document, a line for each, or events."""
    try:
        whole = json.loads(content)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "results" in whole:
        return _list(whole["results"])
    rows: list[JSON] = []
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line.removeprefix("data:"))
        except ValueError:
            continue
        if isinstance(row, dict) and "changes" in row:
            rows.append(row)
    return rows


def _comparable(theirs: Sequence[JSON], ours: Sequence[JSON], *, filtered: bool) -> tuple[list[JSON], list[JSON]]:
    """Return the rows that both feeds should have: a later write to a document hides an earlier row.

    A filter may hide the later one, too.
    """
    sent, kept, ids = {_change(row) for row in theirs}, {_change(row) for row in ours}, {_id(row) for row in ours}
    return (
        [row for row in theirs if _change(row) in kept or (not filtered and _id(row) not in ids)],
        [row for row in ours if _change(row) in sent],
    )


def _id(row: JSON) -> str:
    return str(row.get("id")) if isinstance(row, dict) else ""


def _change(row: JSON) -> str:
    return canonical_text([row.get("id"), row.get("changes")]) if isinstance(row, dict) else ""
