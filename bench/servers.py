"""Servers to compare with couchdal: a trivial one, and a pass-through made of Starlette and httpx2; how to start any.

    python bench/servers.py upstream
    python bench/servers.py bare URL

Prints the port.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from typing import Any

import httptools

_BODY = b'{"_id":"doc","_rev":"1-967a00dff5e02add41819138abb3284d","text":"' + b"x" * 250 + b'"}\n'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Started:
    """A server process that prints its port."""

    def __init__(self, opened: ExitStack, *command: str) -> None:
        process = opened.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        opened.callback(process.kill)
        assert process.stdout
        self.port = process.stdout.readline().partition(" for ")[0].rpartition(":")[2].strip()
        assert self.port.isdigit()
        self.address = f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, method: str = "POST") -> None:
        content = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(self.address + path, content, headers, method=method)).read()


class Trivial(asyncio.Protocol):
    """Sends the same answer to every request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(_ANSWER)  # type: ignore[attr-defined]


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def serve_bare(upstream: str) -> None:
    import socket
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import httpx2
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    client = httpx2.AsyncClient(base_url=upstream)
    dropped = ("host", "content-length", "connection")

    async def forward(request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in dropped]
        answer = await client.request(
            request.method, request.url.path, params=request.query_params, headers=headers, content=await request.body()
        )
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        return Response(answer.content, answer.status_code, kept)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
    application = Starlette(routes=[Route("/{path:path}", forward, methods=methods)], lifespan=lifespan)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(application, access_log=False, log_level="error")).run([listener])


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        asyncio.run(serve_upstream())
    else:
        serve_bare(sys.argv[2])
