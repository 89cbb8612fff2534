"""The proxy as a backend: it checks a request, builds a new one, signs it and sends it to one of the nodes."""

from __future__ import annotations

from couchdal.backends.base import AsyncBackend
from couchdal.errors import CouchError
from couchdal.http.answers import error_response
from couchdal.http.headers import effective_method
from couchdal.http.messages import Request, Response
from couchdal.http.urls import split_path
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.identity import Identity
from couchdal.proxy.nodes import Nodes
from couchdal.proxy.outgoing import outgoing
from couchdal.proxy.retries import is_repeatable


class Proxy(AsyncBackend):
    """Forwards allowed requests to ``nodes``, and streams bodies both ways."""

    streams = True

    def __init__(self, nodes: Nodes, allow_list: AllowList, identity: Identity) -> None:
        self.nodes = nodes
        self.name: str = nodes.name
        self._allow_list = allow_list
        self._identity = identity

    def __repr__(self) -> str:
        return f"<Proxy for {self.name}>"

    async def send(self, request: Request) -> Response:
        try:
            method, segments = effective_method(request.method, request.headers), split_path(request.path)
            route = self._allow_list.check(method, segments)
            sent = self._identity.sign(outgoing(request, method, segments))
        except CouchError as error:
            response = error_response(error, request)
            return Response(response.status, response.headers) if request.method == "HEAD" else response
        return self._identity.clear(await self.nodes.send(sent, lambda: is_repeatable(sent, route)))

    async def attend(self) -> None:
        await self.nodes.attend()

    async def aclose(self) -> None:
        await self.nodes.aclose()
