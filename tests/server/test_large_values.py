"""Large values and long lists do not hold up others: the event loop leaves them to a thread, which works in steps."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import pytest

from couchdal import MemoryBackend
from couchdal.backends.served import ServedBackend, Task
from couchdal.backends.threads import Turns
from couchdal.emulator.engine.erlang.base64_text import decode_base64
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.http.json_text import decode_json, encode_in_pieces, encode_json
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.pace import Pace, here

pytestmark = pytest.mark.usefixtures("no_middleware")

_T = TypeVar("_T")
LONG_TEXT = {"text": "x" * 2_000_000}
NESTED = {"list": [{"n": n, "o": {"a": [n]}} for n in range(3000)]}
MEMBERS = {f"name{n}": n for n in range(20_000)}


class GivenUp(Exception):
    """The event loop leaves a request to a thread."""


class Counting(Pace):
    """Counts steps. As the pace of the event loop, it raises when something takes long."""

    def __init__(self, *, gives_up: bool) -> None:
        self.gives_up = gives_up
        self.steps = 0

    def step(self) -> None:
        self.steps += 1

    def begin_long(self) -> None:
        self.step()
        if self.gives_up:
            raise GivenUp

    def unlocked(self) -> AbstractContextManager[None]:
        return nullcontext()

    waiting = computing = unlocked

    def left(self) -> float | None:
        return None

    def view(self, db: _T) -> AbstractContextManager[_T] | None:
        return None


@contextmanager
def pace(*, gives_up: bool = False) -> Iterator[Counting]:
    counting = here.pace = Counting(gives_up=gives_up)
    try:
        yield counting
    finally:
        here.pace = None


@pytest.fixture(scope="module")
def filled() -> MemoryBackend:
    backend = MemoryBackend()
    for path, value in (
        ("/db", ABSENT),
        ("/db/text", LONG_TEXT),
        ("/db/deep", {"a": {"b": LONG_TEXT}}),
        ("/db/nested", NESTED),
        ("/db/members", MEMBERS),
        ("/db/_security", {"members": {"names": [f"u{n}" for n in range(3000)]}}),
        ("/_node/_local/_config/section/key", "x" * 2_000_000),
        ("/_users/org.couchdb.user:jo", {"name": "jo", "roles": list(map(str, range(3000))), "type": "user"}),
        ("/db/_design/rewrites", {"rewrites": [{"from": f"/{n}", "to": "/"} for n in range(5000)]}),
    ):
        if isinstance(value, dict) and value.get("type") == "user":
            value = {**value, "password": "secret"}
        assert send(backend, "PUT", path, value).status in (200, 201)
    return backend


@pytest.fixture
def backend(filled: MemoryBackend) -> MemoryBackend:
    return filled.fork()


def send(backend: MemoryBackend, method: str, path: str, payload: object = ABSENT, **headers: str) -> Response:
    path, _, query = path.partition("?")
    return backend.send(Request(method, path, query, {"content-type": "application/json", **headers}, json=payload))


LARGE: dict[str, Callable[[MemoryBackend], Response]] = {
    "a long text": lambda backend: send(backend, "GET", "/db/text"),
    "a long text within an object": lambda backend: send(backend, "GET", "/db/deep"),
    "many values": lambda backend: send(backend, "GET", "/db/nested"),
    "many members": lambda backend: send(backend, "GET", "/db/members"),
    "a listing": lambda backend: send(backend, "GET", "/db/_all_docs?include_docs=true"),
    "a copy": lambda backend: send(backend, "COPY", "/db/nested", destination="copied"),
    "a copy of many members": lambda backend: send(backend, "COPY", "/db/members", destination="copied"),
    "sizes of documents": lambda backend: send(backend, "GET", "/_dbs_info"),
    "security": lambda backend: send(backend, "GET", "/db/_security"),
    "a value of the configuration": lambda backend: send(backend, "GET", "/_node/_local/_config/section/key"),
    "the configuration": lambda backend: send(backend, "GET", "/_node/_local/_config"),
    "the roles of a user": lambda backend: send(backend, "POST", "/_session", {"name": "jo", "password": "secret"}),
}


@pytest.mark.parametrize("name", LARGE)
def test_event_loop_leaves_large_value_to_a_thread(backend: MemoryBackend, name: str) -> None:
    with pace(gives_up=True), pytest.raises(GivenUp):
        LARGE[name](backend)
    assert backend.check() == []
    with pace() as counted:
        assert LARGE[name](backend).status in (200, 201)
    assert counted.steps > 0


def test_many_rewrite_rules_are_read_in_steps(backend: MemoryBackend) -> None:
    with pace() as counted:
        assert send(backend, "GET", "/db/_design/rewrites/_rewrite/missing").status == 404
    assert counted.steps > 100


VALUES: dict[str, Any] = {
    "a long list": list(range(50_000)),
    "many members": {f"name{n}": [n, str(n)] for n in range(20_000)},
    "nested lists": [[[n + 300] * 50 for n in range(50)] for _ in range(50)],
    "texts": ["x" * 5000] * 20_000,
}


@pytest.mark.parametrize("name", VALUES)
def test_large_term_is_joined_in_pieces(name: str) -> None:
    value = VALUES[name]
    members = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    terms = [(b"" if key is None else encode_term({key: item})[7:-1]) or encode_term(item) for key, item in members]
    head = (b"h\x01l" if isinstance(value, dict) else b"l") + len(value).to_bytes(4, "big")
    with pace() as counted:
        assert encode_term(value) == head + b"".join(terms) + b"j"
    assert counted.steps > 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/db/_all_docs?include_docs=true", ABSENT),
        ("POST", "/db/_all_docs?include_docs=true", {"keys": ["nested", "members"]}),
        ("POST", "/db/_all_docs/queries", {"queries": [{"include_docs": True}]}),
        ("GET", "/db/_changes?include_docs=true", ABSENT),
        ("POST", "/db/_find", {"selector": {}}),
    ],
    ids=["documents", "keys", "queries", "changes", "find"],
)
def test_rows_with_large_documents_are_encoded_in_pieces(
    backend: MemoryBackend, method: str, path: str, body: object
) -> None:
    expected = send(backend, method, path, body).content()
    for _ in range(2):
        with pace() as counted:
            response = send(backend, method, path, body)
            before = counted.steps
            text = response.content(encode_in_pieces)
        assert text == expected
        # Each large document is encoded in several pieces, and released in several.
        assert counted.steps - before > 20


def test_rows_that_were_encoded_leave_the_index_as_it_was(backend: MemoryBackend) -> None:
    """Encoding in pieces empties an answer, so nothing in it may belong to the store."""
    views = {"v": {"map": "function (doc) { emit(doc._id, doc.list || doc); }"}}
    assert send(backend, "PUT", "/db/_design/by", {"views": views}).status == 201
    path = "/db/_design/by/_view/v?include_docs=true"
    expected = send(backend, "GET", path).content()
    for _ in range(2):
        with pace():
            assert send(backend, "GET", path).content(encode_in_pieces) == expected
    assert backend.check() == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/_dbs_info", b""),
        ("POST", "/_dbs_info", b" " * 1_000_000 + b"{}"),
        ("POST", "/_replicate", encode_json(NESTED)),
    ],
    ids=["information about databases", "white space", "replication"],
)
def test_long_work_for_the_whole_server_is_done_without_its_lock(
    backend: MemoryBackend, method: str, path: str, body: bytes
) -> None:
    server = backend.server
    held: list[bool] = []

    class Noting(Task):
        def step(self) -> None:
            held.append(self.holds_lock)

    task = here.pace = Noting(server, Turns(), None)
    task.begin()
    try:
        headers = {"content-type": "application/json"}
        ServedBackend(backend, server)._answer(task, Request(method, path, "", headers, body=body), None)
    finally:
        here.pace = None
        task.end()
    # At the end the answer is encoded.
    assert held.count(False) > 1
    assert held.count(True) <= 2


def test_base64_is_decoded_in_pieces() -> None:
    data = bytes(range(256)) * 20_000
    text = b64encode(data).decode()
    with pace() as counted:
        assert decode_base64(text) == data
        with pytest.raises(ValueError, match="base64"):
            decode_base64(text[:-8] + "?" * 8)
        with pytest.raises(ValueError, match="base64"):
            # The padding is at the end of a piece.
            decode_base64("A" * (2**20 - 2) + "==" + "AAAA")
    assert counted.steps > 5


def test_white_space_is_skipped_in_steps() -> None:
    with pace() as counted:
        assert decode_json(b" " * 1_000_000 + b"[1]" + b"\n" * 1_000_000) == [1]
    assert counted.steps > 20
    assert encode_json([1]) == b"[1]"
