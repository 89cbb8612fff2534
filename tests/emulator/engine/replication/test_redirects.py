"""Redirects of a server that a replication talks to. Source: ``couch_replicator_httpc``."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from couchdal import CouchDAL, CouchError, MemoryBackend
from couchdal.emulator.engine.replication.endpoint import Endpoint
from couchdal.emulator.engine.replication.peer import Peer, Send
from couchdal.emulator.engine.replication.replication import parse_replication
from couchdal.emulator.engine.replication.replicator import replicate
from couchdal.http.messages import Request, Response

HERE, THERE = "http://one.example.com:1234", "http://two.example.com:1234"


class World:
    """Servers that are one emulator at two addresses. They redirect ``/302/db`` to ``/db`` at ``to``."""

    machine = "here"

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.to = HERE
        self.location: str | None = None
        self.asked: list[tuple[str, Request]] = []

    def connect(self, origin: str) -> Send:
        def send(request: Request) -> Response:
            self.asked.append((origin, request))
            first, _, rest = request.path[1:].partition("/")
            if not first.isdigit():
                return self.backend.send(request)
            query = f"?{request.query}" if request.query else ""
            location = self.location or f"{self.to}/{rest}{query}"
            return Response(int(first), {"location": location})

        return send

    def open(self, side: Endpoint, *, retries: int, timeout_s: float) -> Peer:
        return Peer(side, self.connect(side.origin), lambda _: None, 0, connect=self.connect)

    def close(self, peer: Peer) -> None:
        pass

    def own_name(self, side: Endpoint) -> str | None:
        return None

    def replicate(self, source: str, target: str, **options: object) -> dict[str, object]:
        secret = {"url": f"http://ann:pw@{urlsplit(HERE).netloc}{source}", "headers": {"x-token": "secret"}}
        body = {"source": secret, "target": f"{HERE}{target}", **options}
        return dict(replicate(self.backend.server, parse_replication(body), self))  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("a", "b"):
        db = CouchDAL(world.backend, database=name)
        db.create_database()
        db.get("/_security", "PUT", {"members": {"roles": []}, "admins": {"roles": []}})
    db = CouchDAL(world.backend, database="a")
    for number in range(3):
        db.put_document(str(number), {})
    db.put_document("att", {"_attachments": {"a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}})
    # Everybody may read and write the databases, and wrong credentials are refused.
    world.backend.server.admins["ann"] = "pw"
    return world


@pytest.mark.parametrize("code", [301, 302])
@pytest.mark.parametrize("to", [HERE, THERE])
def test_reads_and_writes_follow_redirects(world, code, to):
    world.to = to
    world.replicate(f"/{code}/a", f"/{code}/b")
    assert CouchDAL(world.backend, database="b").info()["doc_count"] == 4


def test_see_other_is_followed_by_a_get(world):
    # CouchDB 3.5.0: reads go on, and the first write that is not a GET fails.
    with pytest.raises(CouchError) as raised:
        world.replicate("/a", "/303/b")
    assert raised.value.reason.startswith("{revs_diff_failed,405,")
    assert (world.asked[-1][1].method, world.asked[-1][1].content()) == ("GET", b"")


@pytest.mark.parametrize("code", [300, 304, 307, 308])
def test_other_redirects_are_not_followed(world, code):
    with pytest.raises(CouchError) as raised:
        world.replicate(f"/{code}/a", "/b")
    assert (raised.value.error, raised.value.reason) == ("db_not_found", f"could not open {HERE}/{code}/a/")


@pytest.mark.parametrize("location", ["/a", "::::", "ftp://x/y", "http://one.example.com/a b"])
def test_location_that_couchdb_cannot_read_fails(world, location):
    world.location = location
    with pytest.raises(CouchError) as raised:
        world.replicate("/302/a", "/b")
    assert (raised.value.error, raised.value.reason) == ("badmatch", "{error,invalid_uri}")


def test_circle_of_redirects_ends(world):
    world.location = f"{HERE}/302/a/"
    with pytest.raises(CouchError) as raised:
        world.replicate("/302/a", "/b")
    assert raised.value.reason.startswith(f'{{http_request_failed,"GET","{HERE}/302/a/",')
    assert raised.value.reason.endswith("{error,{error,too_many_redirects}}}")
    assert len(world.asked) == 10


@pytest.mark.parametrize(
    ("to", "is_same"),
    [
        (HERE, True),
        (THERE, False),
        ("http://one.example.com:1235", False),
        ("https://one.example.com:1234", False),
    ],
)
def test_credentials_and_headers_stay_with_their_origin(world, to, is_same):
    world.to = to
    world.replicate("/302/a", "/b")
    sent = [request.headers for origin, request in world.asked if request.path.startswith("/a")]
    assert sent
    assert {("authorization" in headers, "x-token" in headers) for headers in sent} == {(is_same, is_same)}
    assert all("user-agent" in headers for headers in sent)


def test_credentials_follow_to_the_same_host_over_https(world):
    side = parse_replication({"source": "http://ann:pw@one.example.com/a", "target": "http://x/b"}).sides[0]
    asked: list[tuple[str, Request]] = []

    def connect(origin: str) -> Send:
        def send(request: Request) -> Response:
            asked.append((origin, request))
            return Response(302 if len(asked) == 1 else 200, {"location": "https://one.example.com/a/#there"})

        return send

    assert Peer(side, connect(side.origin), print, 0, connect=connect).ask("GET").status == 200
    assert [(origin, request.path) for origin, request in asked] == [
        ("http://one.example.com:80", "/a/"),
        ("https://one.example.com:443", "/a/"),
    ]
    assert all("authorization" in request.headers for _, request in asked)
