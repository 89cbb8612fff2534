"""The seam: a backend turns a ``Request`` into a ``Response`` and knows nothing of who asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping

from dal.wire import ABSENT, JSON, Request, Response, copy_json


class BaseBackend(ABC):
    """A server that answers requests: ``MemoryBackend`` in this process, ``CouchBackend`` over HTTP."""

    @abstractmethod
    def send(self, request: Request) -> Response:
        """Answer one request. A status >= 400 is an answer like any other; only a missing answer raises."""

    def close(self) -> None:
        """Give back what the backend holds: connections, threads. Sending again afterwards is allowed."""

    def handle_request(self, path: str, method: str = "GET", payload: object = ABSENT) -> JSON:
        """Return the decoded body of the answer to ``method path``; ``path`` is the server's: ``/{db}/...``.

        Raises ``CouchError`` for a status >= 400, and ``TypeError`` or ``ValueError`` for a payload that is not JSON.
        """
        return self.send(make_request(method, path, payload)).result()


class AsyncBackend(ABC):
    """The seam for callers on an event loop; its answers stream as asynchronous iterators."""

    @abstractmethod
    async def send(self, request: Request) -> Response:
        """Answer one request, as ``BaseBackend.send`` does."""

    async def aclose(self) -> None:
        """Give back what the backend holds."""

    def stream(self, response: Response) -> AsyncIterator[bytes]:
        """Return the chunks of a streamed response, in order, as they come."""
        raise NotImplementedError


def make_request(
    method: str, path: str, payload: object = ABSENT, headers: Mapping[str, str] | None = None
) -> Request:
    """Return the request for a path with an optional query string and an optional JSON payload.

    The payload is copied and checked here, so that what the caller does with it afterwards changes nothing.
    """
    path, _, query = path.partition("?")
    sent = {"accept": "application/json"}
    if payload is not ABSENT:
        sent["content-type"] = "application/json"
        payload = copy_json(payload)
    if headers:
        sent.update((name.lower(), value) for name, value in headers.items())
    return Request(method.upper(), path if path.startswith("/") else "/" + path, query, sent, json=payload)
