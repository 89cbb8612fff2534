"""The proxy as a backend: it checks a request, builds a new one, signs it and sends it to one of the nodes."""

from __future__ import annotations

import logging

from couchdal.backends.base import AsyncBackend
from couchdal.errors import BackendError, CouchError, NotConnected, TimedOut, Unavailable, Unreachable
from couchdal.http.answers import error_response
from couchdal.http.headers import effective_method
from couchdal.http.messages import Request, Response
from couchdal.http.urls import split_path
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.identity import Identity
from couchdal.proxy.nodes import Nodes
from couchdal.proxy.outgoing import outgoing
from couchdal.proxy.retries import is_repeatable

_log = logging.getLogger("couchdal.proxy")

# The reasons that clients get. The log has the whole message, which names the server.
_REASONS: dict[type[BackendError], str] = {
    Unavailable: "CouchDB cannot be asked now: it failed repeatedly, or too many requests are open",
    NotConnected: "CouchDB cannot be reached",
    Unreachable: "CouchDB broke the connection off",
    TimedOut: "CouchDB did not answer in time",
    BackendError: "CouchDB cannot be asked",
}


class Proxy(AsyncBackend):
    """Forwards allowed requests to ``nodes``, and streams bodies both ways."""

    streams = True

    def __init__(self, nodes: Nodes, allow_list: AllowList, identity: Identity) -> None:
        self.nodes = nodes
        self.name: str = nodes.name
        self._origins = [node.backend.name for node in nodes.nodes]
        self.allow_list = allow_list
        self._identity = identity

    def __repr__(self) -> str:
        return f"<Proxy for {self.name}>"

    async def send(self, request: Request) -> Response:
        try:
            method, segments = effective_method(request.method, request.headers), split_path(request.path)
            route = self.allow_list.check(method, segments)
            sent = self._identity.sign(outgoing(request, method, segments, self._identity.needed))
        except CouchError as error:
            response = error_response(error, request)
            return Response(response.status, response.headers) if request.method == "HEAD" else response
        try:
            response = await self.nodes.send(sent, lambda: is_repeatable(sent, route))
        except BackendError as error:
            _log.warning("%s", error)
            raise _without_address(error) from None
        self._show_own_address(request, response)
        return self._identity.clear(response)

    def _show_own_address(self, request: Request, response: Response) -> None:
        """Replace CouchDB's own host in ``Location`` by the host that the client used.

        With ``X-Forwarded-Host``, CouchDB would do so itself. But it also chooses a virtual host by that header, and a
        virtual host replaces the path that was checked. Source: couch_httpd_vhost:host.
        """
        location, host = response.headers.get("location"), request.headers.get("host")
        if location is None or host is None:
            return
        for origin in self._origins:
            if location.startswith(origin + "/"):
                scheme = origin.partition("://")[0]
                response.headers["location"] = f"{scheme}://{host}{location[len(origin) :]}"
                return

    async def attend(self) -> None:
        await self.nodes.attend()

    async def aclose(self) -> None:
        await self.nodes.aclose()


def _without_address(error: BackendError) -> BackendError:
    """Return an error of the same kind for clients: it does not say where CouchDB is."""
    reason = next(text for kind, text in _REASONS.items() if isinstance(error, kind))
    return type(error)(reason) if type(error) in _REASONS else BackendError(reason)
