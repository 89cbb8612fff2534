"""Other people's HTTP clients as backends, so that one test sends its requests through each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3
from targets import SocketBackend
from yarl import URL

from couchdal.backends.base import BaseBackend
from couchdal.http.messages import Request, Response

_TIMEOUT_S = 60


def _target(request: Request) -> str:
    return f"{request.path}?{request.query}" if request.query else request.path


class ClientBackend(BaseBackend):
    """Sends requests as they are with one client. ``send`` never follows redirects."""

    def __init__(self, address: str) -> None:
        self.address = address


class RequestsBackend(ClientBackend):
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.client = requests.Session()

    def send(self, request: Request) -> Response:
        # Without a default for these headers, each request has what its test names.
        headers: dict[str, Any] = {"user-agent": None, "accept": None, "accept-encoding": None, **request.headers}
        with self.client.request(
            request.method,
            self.address + _target(request),
            headers=headers,
            data=request.content() or None,
            allow_redirects=False,
            timeout=_TIMEOUT_S,
            stream=True,
        ) as answer:
            self.client.cookies.clear()
            return Response(answer.status_code, dict(answer.headers), body=answer.content)

    def close(self) -> None:
        self.client.close()


class Urllib3Backend(ClientBackend):
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.client = urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S)

    def send(self, request: Request) -> Response:
        answer = self.client.request(
            request.method,
            self.address + _target(request),
            headers=dict(request.headers),
            body=request.content() or None,
            redirect=False,
            decode_content=False,
        )
        return Response(answer.status, dict(answer.headers), body=answer.data)

    def close(self) -> None:
        self.client.clear()


class HttpxBackend(ClientBackend):
    def __init__(self, address: str, module: Any = httpx) -> None:
        super().__init__(address)
        self.client = module.Client(timeout=_TIMEOUT_S)

    def send(self, request: Request) -> Response:
        made = self.client.build_request(
            request.method,
            self.address,
            headers=dict(request.headers),
            content=request.content() or None,
            # Its own addresses are normalized.
            extensions={"target": _target(request).encode("ascii")},
        )
        answer = self.client.send(made)
        self.client.cookies.clear()
        return Response(answer.status_code, dict(answer.headers), body=answer.content)

    def close(self) -> None:
        self.client.close()


class AsyncHttpxBackend(ClientBackend):
    def __init__(self, address: str, module: Any = httpx) -> None:
        super().__init__(address)
        self.runner = asyncio.Runner()
        self.client = module.AsyncClient(timeout=_TIMEOUT_S)

    def send(self, request: Request) -> Response:
        made = self.client.build_request(
            request.method,
            self.address,
            headers=dict(request.headers),
            content=request.content() or None,
            extensions={"target": _target(request).encode("ascii")},
        )
        answer = self.runner.run(self.client.send(made))
        self.client.cookies.clear()
        return Response(answer.status_code, dict(answer.headers), body=answer.content)

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


class AiohttpBackend(ClientBackend):
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.runner = asyncio.Runner()
        self.client = self.runner.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    async def _send(self, request: Request) -> Response:
        async with self.client.request(
            request.method,
            URL(self.address + _target(request), encoded=True),
            headers=dict(request.headers),
            skip_auto_headers=["user-agent", "accept", "accept-encoding", "content-type"],
            data=request.content() or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(_TIMEOUT_S),
        ) as answer:
            return Response(answer.status, dict(answer.headers), body=await answer.read())

    def send(self, request: Request) -> Response:
        return self.runner.run(self._send(request))

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


CLIENTS: dict[str, Callable[[str], BaseBackend]] = {
    "http.client": SocketBackend,
    "urllib3": Urllib3Backend,
    "requests": RequestsBackend,
    "httpx": HttpxBackend,
    "httpx2": lambda address: HttpxBackend(address, httpx2),
    "async-httpx": AsyncHttpxBackend,
    "async-httpx2": lambda address: AsyncHttpxBackend(address, httpx2),
    "aiohttp": AiohttpBackend,
}
