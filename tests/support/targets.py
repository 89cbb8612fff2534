"""The servers that transcripts run on."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from couchdal.backends.base import BaseBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.http.messages import Request, Response
from couchdal.transcripts.scenario import RECORDED_ADMIN, Credentials

#: The clients of ``http_clients``, by name. Other versions of Python run the transcripts without them.
CLIENT_NAMES = ("http.client", "urllib3", "requests", "httpx", "httpx2", "async-httpx", "async-httpx2", "aiohttp")


@dataclass(frozen=True)
class Target:
    """A server. On an emulator, ``pause`` advances its clock instead of waiting."""

    way: str
    backend: BaseBackend
    pause: Callable[[float], object]
    admin: Credentials = RECORDED_ADMIN
    emulator: MemoryBackend | None = None


class SocketBackend(BaseBackend):
    """Sends requests unchanged with the standard library, so that no HTTP client can hide an error."""

    def __init__(self, address: str) -> None:
        self._host = urlsplit(address).netloc

    def send(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        try:
            target = f"{request.path}?{request.query}" if request.query else request.path
            connection.request(request.method, target, request.content() or None, dict(request.headers))
            response = connection.getresponse()
            return Response(response.status, dict(response.getheaders()), body=response.read())
        finally:
            connection.close()
