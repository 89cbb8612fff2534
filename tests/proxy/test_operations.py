"""Operation: health, metrics, access logs, limits, TLS, and stopping without loss."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import trustme
from raw_http import Served, Upstream, Wire, answering

from couchdal import MemoryBackend
from couchdal.backends.base import AsyncBackend
from couchdal.errors import NotConfigured, NotConnected
from couchdal.http.messages import Request, Response
from couchdal.server.application import Application
from couchdal.server.assembly import build_application
from couchdal.server.framing import Limits
from couchdal.server.options import read_options

ServeProxy = Callable[..., Wire]


def health(wire: Wire) -> tuple[int, object]:
    answer = wire.ask("GET /_couchdal/health HTTP/1.1")
    return answer.status, answer.json()


def test_health_counts_nodes(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        gone = f"http://127.0.0.1:{listener.getsockname()[1]}"
    other = Upstream()
    other.url = gone
    wire = serve_proxy(upstream, other, breaker_failures="1")
    figures = {"requests": 0, "feeds": 0, "nodes": 2}
    assert health(wire) == (200, {"status": "ok", **figures, "nodes_up": 1})
    upstream.script = [lambda connection: connection.close()]
    wire.ask("PUT /db/doc HTTP/1.1")
    assert health(wire) == (503, {"status": "failing", **figures, "nodes_up": 0})


def test_health_is_starting_until_a_node_answers(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    checked = threading.Event()
    upstream.health = lambda connection: (checked.wait(10), connection.sendall(answering()))
    application = build_application(read_options({"backend": "couch", "upstream": [upstream.url]}, {}))
    served = Served.__new__(Served)
    served.start(application)
    wire = Wire(served.port)
    figures = {"requests": 0, "feeds": 0, "nodes": 1}
    assert health(wire) == (503, {"status": "starting", **figures, "nodes_up": 0})
    # An answer to a client is as good as a health check.
    assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    assert health(wire)[0] == 200
    checked.set()
    wire.close()


def test_node_is_down_from_the_request_that_found_nobody_until_one_is_answered(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    wire = serve_proxy(retries="0")
    assert health(wire)[0] == 200
    nodes = wire.served.application.backend.nodes  # type: ignore[union-attr]
    nodes.nodes[0].backend, backend = Failing(), nodes.nodes[0].backend
    assert wire.ask("GET /db/doc HTTP/1.1").status == 502
    assert health(wire) == (503, {"status": "failing", "requests": 0, "feeds": 0, "nodes": 1, "nodes_up": 0})
    nodes.nodes[0].backend = backend
    assert wire.ask("GET /db/doc HTTP/1.1").status == 200
    assert health(wire)[0] == 200


class Failing(AsyncBackend):
    name = "http://nobody:5984"

    async def send(self, request: Request) -> Response:
        raise NotConnected("there is nobody", self.name)


def test_up_is_answered_by_couchdb(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(200, {"status": "ok", "seeds": {}}), answering(404, {"status": "maintenance_mode"})]
    wire = serve_proxy()
    assert wire.ask("GET /_up HTTP/1.1").json() == {"status": "ok", "seeds": {}}
    assert wire.ask("GET /_up HTTP/1.1").status == 404


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("GET /_couchdal/unknown", 404), ("GET /_couchdal/metrics", 404), ("PUT /_couchdal/health", 405),
     ("GET /_couchdal/health/x", 404), ("HEAD /_couchdal/health", 200)],
)  # fmt: skip
def test_only_operational_paths_are_the_proxys_own(
    request_line: str, status: int, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    assert serve_proxy().ask(f"{request_line} HTTP/1.1").status == status
    assert upstream.received == []


def test_metrics_are_served_if_enabled(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy(metrics="true")
    wire.ask("GET /db/doc HTTP/1.1")
    wire.ask("PROPFIND /db/doc HTTP/1.1")
    answer = wire.ask("GET /_couchdal/metrics HTTP/1.1")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    counted = 'couchdal_requests_total{{backend="{}",endpoint="/{{db}}/{{doc_id}}",method="{}",status="{}"}} 1.0'
    assert counted.format(upstream.url, "GET", 200) in lines
    assert counted.format(upstream.url, "other", 403) in lines
    assert {"couchdal_open_requests 1.0", "couchdal_open_feeds 0.0", "couchdal_nodes_up 1.0"} <= set(lines)


def test_access_log_has_a_line_of_json_for_each_answer(
    serve_proxy: ServeProxy, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    wire = serve_proxy(access_log="true")
    wire.ask("PUT /db/doc?rev=1-a HTTP/1.1", b'{"x": 1}')
    wire.ask("DELETE /db HTTP/1.1")
    logged: list[dict[str, object]] = []
    end = time.monotonic() + 5
    while len(logged) < 2 and time.monotonic() < end:
        logged += [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    put, delete = logged
    assert put.keys() == {
        "time", "client", "method", "path", "query", "status", "bytes_in", "bytes_out", "duration_ms"
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(put["time"]))
    assert (put["method"], put["path"], put["query"], put["status"]) == ("PUT", "/db/doc", "rev=1-a", 200)
    assert (put["bytes_in"], put["bytes_out"], put["client"]) == (
        8,
        len(answering().partition(b"\r\n\r\n")[2]),
        "127.0.0.1",
    )
    assert (delete["method"], delete["status"]) == ("DELETE", 403)


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An upstream with TLS: its URL, and the certificate file of its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with closing(context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except ssl.SSLError:
                    continue
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answering())

        threading.Thread(target=answer, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", str(tmp_path / "ca.pem")


def test_only_the_configured_authority_is_trusted(
    certified: tuple[str, str], serve_proxy: ServeProxy, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.url, authority = certified
    assert serve_proxy(upstream, upstream_ca=authority).ask("GET /db/doc HTTP/1.1").status == 200
    refused = serve_proxy(upstream).ask("GET /db/doc HTTP/1.1")
    assert refused.status == 502
    assert "certificate" in caplog.text


def test_file_without_certificates_is_an_error(tmp_path: Path, serve_proxy: ServeProxy) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(NotConfigured, match="cannot read certificates"):
        serve_proxy(upstream_ca=str(tmp_path / "ca.pem"))


# --- limits, on the embedded server as before a real one --------------------------------------------------------------

Serve = Callable[..., Wire]


@pytest.fixture(params=["memory", "proxy"])
def serve(request: pytest.FixtureRequest, serve_proxy: ServeProxy, upstream: Upstream) -> Iterator[Serve]:
    """A function that serves an emulator with some limits, alone or behind a proxy, and connects to it."""
    embedded = Served(MemoryBackend())
    upstream.url = f"http://127.0.0.1:{embedded.port}"
    Wire(embedded.port).ask("PUT /db HTTP/1.1")
    with ExitStack() as opened:

        def make(limits: Limits | None = None) -> Wire:
            served = Served.__new__(Served)
            proxied = request.param == "proxy"
            backend = serve_proxy(upstream).served.application.backend if proxied else embedded.backend
            served.start(Application(backend, limits=limits))
            wire = opened.enter_context(closing(Wire(served.port)))
            wire.served = served
            return wire

        yield make


def connect(wire: Wire) -> Wire:
    return Wire(wire.port)


def test_number_of_feeds_is_limited_and_requests_go_on(serve: Serve) -> None:
    wire = serve(Limits(feeds=3))
    open_feeds = [connect(wire).send("GET /db/_changes?feed=continuous HTTP/1.1\nHost: x\n\n") for _ in range(3)]
    for feed in open_feeds:
        assert b"200" in feed.read_until(b"\r\n\r\n")
    refused = wire.ask("GET /db/_changes?feed=longpoll HTTP/1.1")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"error": "service_unavailable", "reason": "the server allows 3 open feeds"}
    assert wire.ask("GET /db HTTP/1.1").status == 200
    open_feeds[0].close()
    end = time.monotonic() + 5
    while wire.ask("HEAD /db/_changes?feed=longpoll&timeout=1 HTTP/1.1").status == 503 and time.monotonic() < end:
        time.sleep(0.02)
    assert wire.ask("GET /db/_changes?feed=longpoll&timeout=1 HTTP/1.1").status == 200


def test_number_of_requests_is_limited(serve: Serve) -> None:
    wire = serve(Limits(requests=2))
    slow = [connect(wire).send("PUT /db/a HTTP/1.1\nHost: x\nContent-Length: 2\n\n{") for _ in range(2)]
    end = time.monotonic() + 5
    while (answer := connect(wire).ask("GET /db HTTP/1.1")).status != 503 and time.monotonic() < end:
        time.sleep(0.02)
    assert answer.json()["reason"] == "the server allows 2 open requests"  # type: ignore[call-overload, index]
    assert slow[0].send("}").answer().status == 201
    assert wire.ask("GET /db HTTP/1.1").status == 200


def test_body_that_does_not_arrive_in_time_is_a_request_timeout(serve: Serve) -> None:
    wire = serve(Limits(body_timeout_s=0.2)).send("PUT /db/slow HTTP/1.1\nHost: x\nContent-Length: 9\n\n{")
    answer = wire.answer()
    assert (answer.status, answer.json()["error"]) == (408, "request_timeout")  # type: ignore[call-overload, index]
    assert wire.at_end()
    assert connect(wire).ask("GET /db/slow HTTP/1.1").status == 404


def test_long_body_that_stops_arriving_is_a_request_timeout(serve: Serve) -> None:
    wire = serve(Limits(body_timeout_s=0.3)).send(
        "PUT /db/slow HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 999999\n\n"
    )
    assert wire.send(b'{"x": "' + b"x" * 200_000).answer().status == 408
    assert connect(wire).ask("GET /db/slow HTTP/1.1").status == 404


@pytest.mark.parametrize("begun", [b"GET /db HT", b"GET /db HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_head_that_does_not_arrive_in_time_ends_the_connection(begun: bytes, serve: Serve) -> None:
    wire = serve(Limits(header_timeout_s=0.2))
    # An idle connection waits longer.
    time.sleep(0.3)
    assert wire.ask("GET /db HTTP/1.1").status == 200
    wire.send(begun)
    time.sleep(0.1)
    assert wire.send(b"T").at_end()


def test_head_that_is_too_large_is_refused(serve: Serve) -> None:
    wire = serve(Limits(max_header_size=4096))
    wire.send(f"GET /db HTTP/1.1\nHost: x\nX-Long: {'x' * 3000}")
    time.sleep(0.2)
    wire.send("x" * 3000)
    assert wire.answer().status == 400
    assert wire.at_end()
    assert connect(wire).ask(f"GET /db HTTP/1.1\nX-Long: {'x' * 3000}").status == 200


def test_client_that_reads_nothing_is_disconnected(serve: Serve) -> None:
    wire = serve(Limits(send_timeout_s=0.3))
    assert wire.ask("PUT /db/big/file HTTP/1.1", b"x" * 30_000_000).status == 201
    stalled = connect(wire).send("GET /db/big/file HTTP/1.1\nHost: x\n\n")
    assert stalled.socket.recv(1)
    end = time.monotonic() + 5
    while wire.served.application.requests and time.monotonic() < end:
        time.sleep(0.02)
    assert wire.served.application.requests == 0
    # The answer has no end.
    with pytest.raises((EOFError, ConnectionResetError)):
        stalled.take(30_000_000)


def test_hundreds_of_stalled_feeds_delay_nobody(serve: Serve) -> None:
    wire = serve()
    with ExitStack() as opened:
        for _ in range(500):
            feed = opened.enter_context(closing(connect(wire)))
            feed.send("GET /db/_changes?feed=continuous&include_docs=true HTTP/1.1\nHost: x\n\n")
        document = json.dumps({"text": "x" * 1000}).encode()
        begun = time.monotonic()
        for number in range(50):
            assert wire.ask(f"PUT /db/doc{number} HTTP/1.1", document).status == 201
        # Each write wakes 500 feeds, which takes a bounded time.
        assert time.monotonic() - begun < 60
    assert wire.ask("GET /db HTTP/1.1").json()["doc_count"] >= 50  # type: ignore[call-overload, index]


# --- how it ends ------------------------------------------------------------------------------------------------------


@contextmanager
def proxy_process(upstream: Upstream, *flags: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    served = ["serve", "--backend", "couch", "--upstream", upstream.url, "--port", "0", *flags]
    command = [sys.executable, "-m", "couchdal.cli", *served]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r":(\d+)", process.stdout.readline())
        assert found
        yield int(found[1]), process
        process.kill()


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows")
def test_termination_waits_for_open_requests(upstream: Upstream) -> None:
    upstream.script = [lambda connection: (time.sleep(1), connection.sendall(answering()))]
    with proxy_process(upstream) as (port, process):
        wire = Wire(port).send("GET /db/doc HTTP/1.1\nHost: x\n\n")
        while not upstream.received:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert wire.answer().status == 200
        with pytest.raises(ConnectionRefusedError):
            Wire(port)
        assert process.wait(5) == -signal.SIGTERM
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows")
def test_termination_stops_waiting_after_the_timeout(upstream: Upstream) -> None:
    upstream.script = [lambda _: time.sleep(30)]
    with proxy_process(upstream, "--shutdown-timeout", "1") as (port, process):
        wire = Wire(port).send("GET /db/doc HTTP/1.1\nHost: x\n\n")
        while not upstream.received:
            time.sleep(0.01)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert 0.5 < time.monotonic() - begun < 5
        wire.close()


# --- browsers ---------------------------------------------------------------------------------------------------------


def test_proxys_cors_settings_replace_couchdbs(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(200, Access_Control_Allow_Origin="*")]
    wire = serve_proxy(cors_origins=["http://page"], cors_credentials="true", cors_max_age="7")
    asked = wire.ask("OPTIONS /db/doc HTTP/1.1\nOrigin: http://page\nAccess-Control-Request-Method: PUT")
    assert (asked.status, asked.headers["access-control-max-age"]) == (204, "7")
    assert upstream.received == []
    answer = wire.ask("GET /db/doc HTTP/1.1\nOrigin: http://page")
    assert answer.headers["access-control-allow-origin"] == "http://page"
    assert answer.headers["access-control-allow-credentials"] == "true"
    refused = wire.ask("DELETE /db HTTP/1.1\nOrigin: http://page")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, "http://page")
    assert "access-control-allow-origin" not in wire.ask("GET /db/doc HTTP/1.1\nOrigin: http://other").headers


def test_couchdbs_cors_settings_apply_if_the_proxy_has_none(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(200, Access_Control_Allow_Origin="http://page")]
    wire = serve_proxy()
    asked = wire.ask("OPTIONS /db/doc HTTP/1.1\nOrigin: http://page\nAccess-Control-Request-Method: PUT")
    assert asked.headers["access-control-allow-origin"] == "http://page"
    assert [received.method for received in upstream.received] == ["OPTIONS"]


def test_credentials_for_every_origin_are_refused() -> None:
    flags = {"backend": "memory", "cors_origins": ["http://page", "*"], "cors_credentials": "true"}
    with pytest.raises(NotConfigured, match="every web page could use the sessions and passwords of its visitors"):
        build_application(read_options(flags, {}))
    for changed in ({"cors_origins": ["http://page"]}, {"cors_credentials": "false"}):
        build_application(read_options({**flags, **changed}, {}))
