"""The open requests and feeds of each client, so that a few clients cannot take all of the server's capacity."""

from __future__ import annotations

from couchdal.backends.slots import has_room
from couchdal.errors import ServerError
from couchdal.http.messages import Request
from couchdal.server.framing import Limits
from couchdal.server.operational import PREFIX

# A shorter answer is sent whatever its client has yet to read.
_LONG = 65536


class Clients:
    """Counts the open requests and unread answers of each client, by its address. Another object counts open feeds.

    ``most`` limits the requests of one client, and ``most_of_all`` those of all clients.
    """

    def __init__(self, most: int | None, most_of_all: int | None, limits: Limits) -> None:
        self._most = most
        self._most_of_all = most_of_all
        self._limits = limits
        self._open = 0
        # The bytes that no client has read yet.
        self._unread = 0
        #: For each address, the number of open requests, and how many bytes of answers it has yet to read.
        self.busy: dict[str, tuple[int, int]] = {}

    def open(self, peer: str) -> None:
        """Count a request."""
        requests, unread = self.busy.get(peer, (0, 0))
        self.busy[peer] = (requests + 1, unread)
        self._open += 1

    def add_unread(self, peer: str, size: int) -> None:
        """Count the bytes of an answer to an open request."""
        requests, unread = self.busy[peer]
        self.busy[peer] = (requests, unread + size)
        self._unread += size

    def close(self, peer: str, unread: int = 0) -> None:
        """Count a request, and the bytes of its answer, as done."""
        requests, before = self.busy.pop(peer)
        self._unread -= unread
        self._open -= 1
        if requests > 1:
            self.busy[peer] = (requests - 1, before - unread)

    def is_full(self, peer: str) -> bool:
        """Return whether a client may not begin another request."""
        requests, unread = self.busy.get(peer, (0, 0))
        if self._most is not None and requests >= self._most:
            return True
        most = self._most_of_all
        # If no client may begin one, the application refuses it.
        if most is not None and self._open < most and not has_room(most, self._open, requests):
            return True
        return not self._may_leave_unread(unread)

    def check_unread(self, request: Request, size: int) -> None:
        """Raise ``CouchError`` 503 for an answer of ``size`` bytes if its client has yet to read too much.

        Many answers may have been made since their requests began. What a write did is always said.
        """
        _, unread = self.busy.get(request.peer, (0, 0))
        if size > _LONG and not self._may_leave_unread(unread) and _only_reads(request):
            check_room(request, "no more unread answers to this client")

    def _may_leave_unread(self, unread: int) -> bool:
        return unread <= self._limits.client_unread and has_room(self._limits.unread, self._unread, unread)


def _only_reads(request: Request) -> bool:
    from couchdal.api.routes import find_route  # few clients leave so much
    from couchdal.http.urls import split_path
    from couchdal.proxy.allow_list import only_reads

    return only_reads(request.method, find_route(split_path(request.path))[0])


def check_room(request: Request, what: str, *, closes: bool = False) -> None:
    """Raise ``CouchError`` 503 for a request over the limit. Health checks are always answered."""
    if request.path != "/_up" and not request.path.startswith(PREFIX):
        headers = {"retry-after": "1", "connection": "close"} if closes else {"retry-after": "1"}
        raise ServerError(f"the server allows {what}", status=503, error="service_unavailable", headers=headers)
