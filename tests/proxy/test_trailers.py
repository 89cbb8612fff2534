"""Trailers of chunked requests never count as headers: neither for the proxy nor for the emulator."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import uvicorn
from raw_http import Served, Upstream, Wire

from couchdal import Application, BaseBackend, MemoryBackend, Request, Response

ServeProxy = Callable[..., Wire]
VOUCHED = {"auth": "proxy", "proxy_secret": "s3", "proxy_user_header": "X-User"}


def chunked(request_line: str, trailers: str, *, headers: str = "", body: str = "{}") -> bytes:
    text = f"{request_line} HTTP/1.1\nHost: x\nContent-Type: application/json\nTransfer-Encoding: chunked\n{headers}\n"
    text += f"{len(body):x}\n{body}\n0\n{trailers}\n\n"
    return text.replace("\n", "\r\n").encode()


def exchange(wire: Wire, content: bytes, *, pieces: bool) -> int:
    """Send a request at once or byte by byte, and return the status of its answer."""
    for part in (content[place : place + 1] for place in range(len(content))) if pieces else (content,):
        wire.send(part)
    return wire.answer().status


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(
    "trailer",
    [
        "X-HTTP-Method-Override: DELETE",
        "Authorization: Basic YWRtaW46cGFzc3dvcmQ=",
        "Cookie: AuthSession=stolen",
        "X-User: admin",
        "X-Auth-CouchDB-UserName: admin",
        "X-CouchDB-VHost-Path: /_users",
        "If-Match: 1-a",
        "Connection: close",
    ],
)
def test_trailer_is_not_forwarded(trailer: str, pieces: bool, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    assert exchange(serve_proxy(), chunked("POST /db/_find", trailer), pieces=pieces) == 200
    received = upstream.received[0]
    assert (received.method, received.body) == ("POST", b"{}")
    name, _, value = trailer.partition(": ")
    assert value not in {value for known, value in received.headers if known == name.lower()}


@pytest.mark.parametrize("pieces", [False, True])
def test_trailer_is_not_the_user_that_a_gateway_names(
    pieces: bool, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    wire = serve_proxy(**VOUCHED)
    content = chunked("POST /db/_find", "X-User: admin", headers="X-User: writer\n")
    assert exchange(wire, content, pieces=pieces) == 200
    assert upstream.received[0].header("x-auth-couchdb-username") == "writer"


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(
    ("trailer", "status"), [("X-HTTP-Method-Override: DELETE", 200), ("Authorization: Basic cm9vdDpw", 401)]
)
def test_trailer_is_not_a_header_of_the_emulator(trailer: str, status: int, pieces: bool) -> None:
    served = Served(MemoryBackend(admin=("root", "p")) if status == 401 else MemoryBackend())
    wire = Wire(served.port)
    request_line = "PUT /db" if status == 401 else "POST /_dbs_info"
    content = chunked(request_line, trailer, body='{"keys": []}')
    assert exchange(wire, content, pieces=pieces) == status
    assert wire.ask("GET /_up HTTP/1.1").status == 200


@pytest.mark.parametrize(("parser", "status"), [("httptools", 411), ("h11", 200)])
def test_other_server_with_the_application_mixes_no_trailers(parser: str, status: int) -> None:
    seen: list[Request] = []

    class Seeing(BaseBackend):
        def send(self, request: Request) -> Response:
            seen.append(request)
            return Response(200, json={})

    config = uvicorn.Config(Application(Seeing()), http=parser, log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        wire = Wire(listening.getsockname()[1])
        assert exchange(wire, chunked("POST /db/_find", "X-User: admin"), pieces=False) == status
        wire.close()
        server.should_exit = True
        thread.join()
    assert len(seen) == (status == 200)
    assert not any("x-user" in request.headers for request in seen)
