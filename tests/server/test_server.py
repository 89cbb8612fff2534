"""The served emulator over raw sockets: well-formed and malformed requests, slow and disconnecting clients."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from raw_http import Served, Wire, stopping_servers

from couchdal import AsyncBackend, BaseBackend, MemoryBackend, TimedOut, Unreachable
from couchdal.backends.base import Backend
from couchdal.backends.event_loop import InlineBackend, ThreadedBackend
from couchdal.http.messages import Request, Response
from couchdal.server.access_log import AccessLog
from couchdal.server.application import Application
from couchdal.server.framing import Limits
from couchdal.server.protocol import HttpProtocol

LIMIT = 100_000


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with stopping_servers():
        yield Served(MemoryBackend(), Limits(max_http_request_size=LIMIT))


@pytest.fixture
def connect(served: Served) -> Iterator[Callable[[], Wire]]:
    opened: list[Wire] = []

    def make() -> Wire:
        opened.append(Wire(served.port))
        return opened[-1]

    yield make
    for wire in opened:
        wire.close()


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()


@pytest.fixture
def db(wire: Wire) -> str:
    name = f"server{uuid.uuid4().hex[:12]}"
    assert wire.ask(f"PUT /{name} HTTP/1.1").status == 201
    return name


def test_answer_has_couchdbs_headers_and_ends_with_a_newline(wire: Wire) -> None:
    answer = wire.ask("GET / HTTP/1.1")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "must-revalidate"
    assert re.fullmatch(r"CouchDB/3\.\d+\.\d+ \(couchdal\)", answer.headers["server"])
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.body.endswith(b"}\n")
    assert answer.json()["couchdb"] == "Welcome"  # type: ignore[index,call-overload]


def test_head_gives_the_length_of_values_but_not_of_rows(wire: Wire, db: str) -> None:
    wire.ask(f"PUT /{db}/a HTTP/1.1", b"{}")
    wanted = len(wire.ask(f"GET /{db}/a HTTP/1.1").body)
    assert int(wire.ask(f"HEAD /{db}/a HTTP/1.1").headers["content-length"]) == wanted > 0
    for path in ("_all_docs", "_changes", "a?open_revs=all"):
        answer = wire.ask(f"HEAD /{db}/{path} HTTP/1.1\nAccept: application/json")
        assert (answer.status, answer.headers["content-length"]) == (200, "0")


def test_request_without_the_body_it_needs_is_a_bad_request(wire: Wire, db: str) -> None:
    as_json = "\nContent-Type: application/json"
    for head in (f"PUT /{db}/doc HTTP/1.1", *(f"POST /{db}/{one} HTTP/1.1{as_json}" for one in ("_find", "_changes"))):
        answer = wire.ask(head)
        assert (answer.status, answer.json()) == (400, {"error": "bad_request", "reason": "Missing request body"})
    empty = wire.ask(f"PUT /{db}/doc HTTP/1.1\nContent-Length: 0")
    assert (empty.status, empty.json()) == (400, {"error": "bad_request", "reason": "invalid UTF-8 JSON"})
    assert wire.ask(f"POST /{db}/_changes HTTP/1.1{as_json}\nContent-Length: 0").status == 200
    # Sessions are CouchDB's oldest part, with another message.
    assert wire.ask(f"POST /_session HTTP/1.1{as_json}").json() == empty.json()


def test_server_has_couchdbs_own_paths(wire: Wire) -> None:
    for path in ("/_up", "/_uuids", "/_all_dbs", "/_session"):
        assert wire.ask(f"GET {path} HTTP/1.1").status == 200


def test_connection_carries_one_request_after_another(wire: Wire) -> None:
    begun = time.monotonic()
    for _ in range(50):
        assert wire.ask("GET /_up HTTP/1.1").status == 200
    # A server that leaves Nagle's algorithm on takes 40 ms for each.
    assert time.monotonic() - begun < 1


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    wire.send("GET /_up HTTP/1.1\nHost: x\n\nGET /_uuids HTTP/1.1\nHost: x\n\n")
    assert b"status" in wire.answer().body
    assert b"uuids" in wire.answer().body


def test_pipelined_requests_of_all_kinds_are_answered_in_order(wire: Wire, db: str) -> None:
    asked = []
    for number in range(8):
        asked += [
            (f"PUT /{db}/{number} HTTP/1.1\nHost: x\nContent-Length: 2\n\n{{}}", 201),
            (f"GET /{db}/{number} HTTP/1.1\nHost: x\n\n", 200),
            (f"GET /{db}/{number}-missing HTTP/1.1\nHost: x\n\n", 404),
            (f"GET /{db}/_changes?feed=longpoll HTTP/1.1\nHost: x\n\n", 200),
        ]
    wire.send("".join(text for text, _ in asked))
    answers = [wire.answer() for _ in asked]
    assert [answer.status for answer in answers] == [status for _, status in asked]
    assert [answer.json()["_id"] for answer in answers[1::4]] == [str(number) for number in range(8)]  # type: ignore[index,call-overload]


def test_request_after_connection_close_is_ignored(wire: Wire, db: str, connect: Callable[[], Wire]) -> None:
    late = f"DELETE /{db} HTTP/1.1\nHost: x\n\n"
    answer = wire.send(f"GET /_up HTTP/1.1\nHost: x\nConnection: close\n\n{late}").answer()
    assert (answer.status, answer.closed, wire.at_end()) == (200, True, True)
    assert connect().ask(f"GET /{db} HTTP/1.1").status == 200


def test_long_answer_is_complete_and_in_order(wire: Wire, db: str) -> None:
    text = "x" * (LIMIT - 100)
    count = 600_000 // LIMIT
    for number in range(count):
        assert wire.ask(f"PUT /{db}/{number:05d} HTTP/1.1", json.dumps({"text": text}).encode()).status == 201
    wire.send(f"GET /{db}/_all_docs?include_docs=true HTTP/1.1\nHost: x\n\nGET /_up HTTP/1.1\nHost: x\n\n")
    answer = wire.answer()
    assert len(answer.body) > 500_000
    assert [row["doc"]["text"] for row in answer.json()["rows"]] == [text] * count  # type: ignore[index,call-overload]
    assert wire.answer().json() == {"status": "ok", "seeds": {}}


def test_head_is_answered_without_a_body(wire: Wire, db: str) -> None:
    full, bare = wire.ask(f"GET /{db} HTTP/1.1"), wire.ask(f"HEAD /{db} HTTP/1.1")
    assert (bare.status, bare.headers["content-length"]) == (200, full.headers["content-length"])
    assert wire.ask("HEAD /nowhere HTTP/1.1").status == 404
    assert wire.ask("GET /_up HTTP/1.1").body.startswith(b'{"status"')


def test_encoded_slash_survives_in_a_path(wire: Wire, db: str) -> None:
    assert wire.ask(f"PUT /{db}/a%2Fb%20c HTTP/1.1", b"{}").status == 201
    assert wire.ask(f"GET /{db}/a%2Fb%20c HTTP/1.1").json()["_id"] == "a/b c"  # type: ignore[index,call-overload]
    assert wire.ask(f"GET /{db}/a/b%20c HTTP/1.1").status == 404


def test_request_line_may_contain_a_url(wire: Wire) -> None:
    assert wire.ask("GET http://elsewhere:1/_up?x=1 HTTP/1.1").json() == {"status": "ok", "seeds": {}}


def test_chunked_body_is_read(wire: Wire, db: str) -> None:
    wire.send(f'PUT /{db}/a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n4\n{{"x"\n3\n:1}}\n0\n\n')
    assert wire.answer().status == 201
    assert wire.ask(f"GET /{db}/a HTTP/1.1").json()["x"] == 1  # type: ignore[index,call-overload]


def test_expect_100_continue_is_answered(wire: Wire, db: str) -> None:
    wire.send(f"PUT /{db}/a HTTP/1.1\nHost: x\nContent-Length: 2\nExpect: 100-continue\n\n")
    assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    wire.send("{}")
    assert wire.answer().status == 201


OFFER = "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n"


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_offer_of_another_protocol_is_declined(wire: Wire, db: str, parts: int) -> None:
    head = f"PUT /{db}/a HTTP/1.1\nHost: x\n{OFFER}Content-Length: 7\n\n".replace("\n", "\r\n").encode()
    after = f"GET /{db}/a HTTP/1.1\nHost: x\n{OFFER}\n".replace("\n", "\r\n").encode()
    for part in {1: [head + b'{"x":1}' + after], 2: [head, b'{"x":1}' + after], 3: [head + b'{"x', b'":1}', after]}[
        parts
    ]:
        wire.send(part)
        time.sleep(0.05)
    assert wire.answer().status == 201
    assert wire.answer().json()["x"] == 1  # type: ignore[index,call-overload]
    assert wire.ask(f"GET /{db}/_changes?feed=longpoll HTTP/1.1\n{OFFER.rstrip()}").status == 200
    assert wire.ask("GET /_up HTTP/1.1\nUpgrade: websocket\nConnection: upgrade, close").closed
    assert wire.at_end()


@pytest.mark.parametrize("more", ["", OFFER])
def test_thousands_of_pipelined_requests_are_answered(wire: Wire, more: str) -> None:
    wire.send(f"GET /_up HTTP/1.1\nHost: x\n{more}\n" * 2000)
    assert [wire.answer().status for _ in range(2000)] == [200] * 2000


def test_complete_request_is_answered_without_a_task(wire: Wire, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    begin = HttpProtocol._begin

    def record(protocol: HttpProtocol, *args: Any) -> None:
        begun.append(protocol.url)
        begin(protocol, *args)

    monkeypatch.setattr(HttpProtocol, "_begin", record)
    # Another test may have installed middleware for all backends.
    monkeypatch.setattr(Backend, "drivers", None)
    wire.send(f"PUT /{db}/a HTTP/1.1\nHost: x\nContent-Length: 7\n\n" + '{"x":1}')
    assert wire.answer().status == 201
    assert wire.ask(f"GET /{db}/a HTTP/1.1").json()["x"] == 1  # type: ignore[index,call-overload]
    assert wire.ask(f"HEAD /{db} HTTP/1.1").status == 200
    assert begun == []
    wire.send(f"PUT /{db}/parted HTTP/1.1\nHost: x\nContent-Length: 2\n\n")
    time.sleep(0.05)
    assert wire.send("{}").answer().status == 201
    assert wire.ask(f"GET /{db}/_changes?feed=longpoll HTTP/1.1").status == 200
    assert begun == [f"/{db}/parted".encode(), f"/{db}/_changes?feed=longpoll".encode()]


def test_http_1_0_is_answered_and_closed(wire: Wire) -> None:
    wire.send("GET /_up HTTP/1.0\n\n")
    assert wire.answer().json() == {"status": "ok", "seeds": {}}
    assert wire.at_end()


def test_answer_of_unknown_length_ends_with_the_http_1_0_connection(wire: Wire, db: str) -> None:
    wire.ask(f"PUT /{db}/a HTTP/1.1", b"{}")
    wire.send(f"GET /{db}/_changes?feed=longpoll HTTP/1.0\nConnection: keep-alive\n\n")
    head = wire.read_until(b"\r\n\r\n").lower()
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    answer = wire.rest
    while more := wire.socket.recv(65536):
        answer += more
    assert json.loads(answer)["results"][0]["id"] == "a"


def test_request_needs_no_host(wire: Wire) -> None:
    assert wire.send("GET /_up HTTP/1.1\n\n").answer().status == 200


def test_line_break_in_a_header_is_not_sent(wire: Wire, db: str) -> None:
    attachment = {"content_type": "text/plain\r\nX-Evil: 1", "data": "aGk="}
    wire.ask(f"PUT /{db}/a HTTP/1.1", json.dumps({"_attachments": {"x": attachment}}).encode())
    answer = wire.ask(f"GET /{db}/a/x HTTP/1.1")
    assert (answer.status, answer.body) == (200, b"hi")
    assert answer.headers["content-type"] == "text/plain  X-Evil: 1"


@pytest.mark.parametrize("path", ["/a%zz", "/%", "/db/%G0"])
def test_bad_percent_encoding_is_couchdbs_error(wire: Wire, path: str) -> None:
    answer = wire.ask(f"GET {path} HTTP/1.1")
    assert (answer.status, answer.json()) == (400, {"error": "bad_request", "reason": "invalid_url_encoding"})
    assert wire.ask("GET /_up HTTP/1.1").status == 200


def test_unknown_content_encoding_is_couchdbs_error(wire: Wire, db: str) -> None:
    answer = wire.ask(f"PUT /{db}/a HTTP/1.1\nContent-Encoding: br", b"{}")
    reason = "br is not a supported content encoding."
    assert (answer.status, answer.json()) == (415, {"error": "bad_content_type", "reason": reason})


@pytest.mark.parametrize(
    "text",
    [
        "GARBAGE\n\n",
        "GET / HTTP/1.1\nHost: x\nno colon\n\n",
        "POST /_session HTTP/1.1\nHost: x\nContent-Length: many\n\n",
        "POST /_session HTTP/1.1\nHost: x\nContent-Length: -1\n\n",
        "POST /_session HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nzz\n{}\n",
        "POST /_session HTTP/1.1\nHost: x\nTransfer-Encoding: gzip\n\n{}",
        "POST /_session HTTP/1.1\nHost: x\nContent-Length: 2\nContent-Length: 3\n\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n",
        b"GET /\xff\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 100_000,
    ],
)
def test_malformed_request_is_a_bad_request_and_closes_only_its_connection(
    wire: Wire, connect: Callable[[], Wire], text: str | bytes
) -> None:
    other = connect()
    assert other.ask("GET /_up HTTP/1.1").status == 200
    answer = wire.send(text).answer()
    assert (answer.status, answer.closed) == (400, True)
    assert answer.json()["error"] == "bad_request"  # type: ignore[index,call-overload]
    assert wire.at_end()
    assert other.ask("GET /_up HTTP/1.1").status == 200


def test_garbage_after_a_feed_has_begun_ends_that_feed_only(
    served: Served, wire: Wire, db: str, connect: Callable[[], Wire]
) -> None:
    feed, other = open_feed(connect(), db), connect()
    feed.send(b"\x00 nonsense\r\n\r\n")
    assert other.ask("GET /_up HTTP/1.1").status == 200
    feed.close()
    served.wait_for_followers(0)


@pytest.mark.parametrize("declared", [True, False])
def test_body_over_the_limit_is_too_large(wire: Wire, db: str, connect: Callable[[], Wire], declared: bool) -> None:
    body = b'{"x":"' + b"a" * LIMIT + b'"}'
    wire.send(f"PUT /{db}/a HTTP/1.1\nHost: x\n")
    wire.send(f"Content-Length: {len(body)}\n\n" if declared else "Transfer-Encoding: chunked\n\n")
    with suppress(ConnectionError):
        wire.send(body if declared else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    answer = wire.answer()
    assert (answer.status, answer.closed) == (413, True)
    assert answer.json() == {"error": "too_large", "reason": "the request entity is too large"}
    assert connect().ask(f"GET /{db}/a HTTP/1.1").status == 404


def test_body_at_the_limit_is_accepted(wire: Wire, db: str) -> None:
    body = b'{"x":"' + b"a" * (LIMIT - 8) + b'"}'
    assert len(body) == LIMIT
    assert wire.ask(f"PUT /{db}/a HTTP/1.1", body).status == 201


def test_client_that_sends_slowly_delays_nobody(wire: Wire, db: str, connect: Callable[[], Wire]) -> None:
    wire.send(f"PUT /{db}/slow HTTP/1.1\nHost: x\nContent-Length: 7\n\n")
    for byte in b'{"x":1}':
        assert connect().ask("GET /_up HTTP/1.1").status == 200
        wire.send(bytes([byte]))
    assert wire.answer().status == 201


def test_client_that_disconnects_while_it_sends_a_body_stores_nothing(
    wire: Wire, db: str, connect: Callable[[], Wire]
) -> None:
    wire.send(f"PUT /{db}/half HTTP/1.1\nHost: x\nContent-Length: 100\n\n{{}}").close()
    assert connect().ask(f"GET /{db}/half HTTP/1.1").status == 404


def open_feed(wire: Wire, db: str, feed: str = "continuous") -> Wire:
    wire.send(f"GET /{db}/_changes?feed={feed}&heartbeat=60000&since=0 HTTP/1.1\nHost: x\n\n")
    wire.read_until(b"\r\n\r\n")
    return wire


def test_access_log_has_a_line_for_each_way_to_answer(db: str, served: Served) -> None:
    lines: list[str] = []
    logged = Served.__new__(Served)
    logged.start(Application(served.backend, access_log=AccessLog(lines.append)))
    wire = Wire(logged.port)
    text = "x" * 400_000
    stored = json.dumps({"text": text}).encode()
    sent = [
        len(wire.ask(f"PUT /{db}/long HTTP/1.1", stored).body),
        len(wire.ask(f"GET /{db}/long HTTP/1.1").body),
        len(wire.ask(f"HEAD /{db}/long HTTP/1.1").body),
        len(wire.ask(f"GET /{db}/_changes?feed=longpoll HTTP/1.1").body),
    ]
    wire.close()
    end = time.monotonic() + 5
    while len(lines) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    told = [json.loads(line) for line in lines]
    assert [(line["method"], line["status"]) for line in told] == [
        ("PUT", 201),
        ("GET", 200),
        ("HEAD", 200),
        ("GET", 200),
    ]
    assert [line["bytes_in"] for line in told] == [len(stored), 0, 0, 0]
    assert [line["bytes_out"] for line in told] == sent
    assert sent[1] > 400_000


def test_feed_is_sent_without_delay(served: Served, wire: Wire, db: str, connect: Callable[[], Wire]) -> None:
    for kind in ("continuous", "eventsource", "longpoll"):
        feed = open_feed(connect(), db, kind) if kind != "longpoll" else connect()
        if kind == "longpoll":
            feed.send(f"GET /{db}/_changes?feed=longpoll&since=now HTTP/1.1\nHost: x\n\n")
        served.wait_for_followers(1)
        wire.ask(f"PUT /{db}/{kind} HTTP/1.1", b"{}")
        feed.read_until(b'"id":"' + kind.encode() + b'"')
        feed.close()
        served.wait_for_followers(0)


def test_disconnected_client_ends_its_feed(served: Served, db: str, connect: Callable[[], Wire]) -> None:
    feeds = [open_feed(connect(), db, ("continuous", "eventsource", "longpoll")[n % 3]) for n in range(100)]
    served.wait_for_followers(100)
    for feed in feeds[:50]:
        feed.close()
    served.wait_for_followers(50)
    for feed in feeds[50:]:
        # An abortive close sends a reset instead of an end of file.
        feed.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        feed.close()
    served.wait_for_followers(0)


def test_feed_whose_parameter_is_encoded_is_a_feed(served: Served, db: str, connect: Callable[[], Wire]) -> None:
    feed = connect().send(f"GET /{db}/_changes?f%65ed=continuous&heartbeat=20 HTTP/1.1\nHost: x\n\n")
    assert b"200" in feed.read_until(b"\r\n\r\n")
    served.wait_for_followers(1)
    feed.read_until(b"\n\r\n")
    feed.close()
    served.wait_for_followers(0)


def test_client_that_never_reads_its_feed_delays_nobody(
    served: Served, wire: Wire, db: str, connect: Callable[[], Wire]
) -> None:
    wire.ask(f"PUT /{db}/big HTTP/1.1", b'{"x":"' + b"a" * (LIMIT - 100) + b'"}')
    lazy = connect()
    lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.send(f"GET /{db}/_changes?feed=continuous&include_docs=true&heartbeat=60000 HTTP/1.1\nHost: x\n\n")
    for n in range(20):
        rev = wire.ask(f"GET /{db}/big HTTP/1.1").json()["_rev"]  # type: ignore[index,call-overload]
        body = json.dumps({"_rev": rev, "n": n, "x": "a" * (LIMIT - 200)}).encode()
        assert wire.ask(f"PUT /{db}/big HTTP/1.1", body).status == 201
    lazy.close()
    served.wait_for_followers(0)


def test_deleting_the_database_ends_its_feeds(served: Served, wire: Wire, db: str, connect: Callable[[], Wire]) -> None:
    feed = connect().send(f"GET /{db}/_changes?feed=continuous&heartbeat=60000 HTTP/1.1\nHost: x\n\n")
    served.wait_for_followers(1)
    assert wire.ask(f"DELETE /{db} HTTP/1.1").status == 200
    assert feed.answer().status == 200
    served.wait_for_followers(0)


def test_head_of_a_feed_ends_at_once(served: Served, wire: Wire, db: str) -> None:
    assert wire.ask(f"HEAD /{db}/_changes?feed=continuous&heartbeat=60000 HTTP/1.1").status == 200
    assert served.followers() == 0
    assert wire.ask("GET /_up HTTP/1.1").status == 200


class Failing(BaseBackend):
    """Fails as the path says."""

    def send(self, request: Request) -> Response:
        failures: dict[str, Exception] = {
            "/unreachable": Unreachable("http://there cannot be reached: refused", "http://there"),
            "/slow": TimedOut("http://there did not answer within 1 s", "http://there"),
            "/bug": RuntimeError("a secret detail"),
        }
        if request.path in failures:
            raise failures[request.path]

        def chunks() -> Iterator[bytes]:
            yield b"{"
            raise Unreachable("it broke off")

        return Response(200, {"content-type": "application/json"}, stream=chunks())


@pytest.mark.parametrize("make", [InlineBackend, ThreadedBackend])
def test_failure_of_a_backend_is_an_answer(
    make: Callable[[BaseBackend], AsyncBackend], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test may have installed middleware for all backends; without any, the inline backend answers at once.
    monkeypatch.setattr(Backend, "drivers", None)
    with closing(Wire(Served(make(Failing())).port)) as wire:
        for path, status, word in (("unreachable", 502, "bad_gateway"), ("slow", 504, "gateway_timeout")):
            answer = wire.ask(f"GET /{path} HTTP/1.1")
            assert (answer.status, answer.json()["error"]) == (status, word)  # type: ignore[index,call-overload]
            assert "http://there" in answer.json()["reason"]  # type: ignore[index,call-overload]
        answer = wire.ask("GET /bug HTTP/1.1")
        assert (answer.status, answer.json()["error"]) == (500, "unknown_error")  # type: ignore[index,call-overload]
        assert b"secret" not in answer.body
        assert "a secret detail" in caplog.text
        if make is ThreadedBackend:
            with pytest.raises(EOFError):
                wire.ask("GET /breaks-off HTTP/1.1")


def test_application_ignores_what_is_not_http() -> None:
    async def main() -> None:
        application = Application(MemoryBackend())
        with pytest.raises(ValueError, match="websocket"):
            await application({"type": "websocket"}, asyncio.Queue().get, asyncio.Queue().put)
        messages, sent = asyncio.Queue(), asyncio.Queue()  # type: ignore[var-annotated]
        for kind in ("lifespan.startup", "lifespan.shutdown"):
            messages.put_nowait({"type": kind})
        await application({"type": "lifespan"}, messages.get, sent.put)
        assert [sent.get_nowait()["type"] for _ in range(2)] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]

    asyncio.run(main())
