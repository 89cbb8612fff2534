"""The nodes of one CouchDB cluster: choose one for each request, and repeat requests that fail.

Nodes take turns. A node with an open breaker or a failed health check gets requests only if no other node is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from couchdal.backends.base import AsyncBackend
from couchdal.errors import BackendError, NotConnected, TimedOut, Unavailable, Unreachable
from couchdal.http.messages import Request, Response
from couchdal.proxy.breaker import Breaker
from couchdal.proxy.retries import REPEATED, Retries

_HEALTH_TIMEOUT_S = 5.0


@dataclass(slots=True, eq=False)
class Node:
    """One server. ``healthy`` is the result of the last health check."""

    backend: AsyncBackend
    breaker: Breaker
    healthy: bool = True


@dataclass(slots=True)
class Nodes:
    """Several nodes as one server. ``pause`` waits; ``check_interval_s`` is the time between two health checks."""

    nodes: Sequence[Node]
    retries: Retries = field(default_factory=Retries)
    check_interval_s: float = 10.0
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    #: How many requests were repeated.
    repeated: int = 0
    _turn: int = 0

    @property
    def name(self) -> str:
        return ", ".join(node.backend.name for node in self.nodes)

    def count_up(self) -> int:
        """Return the number of healthy nodes."""
        return sum(1 for node in self.nodes if node.healthy and not node.breaker.is_open)

    async def send(self, request: Request, is_repeatable: Callable[[], bool]) -> Response:
        """Return the answer of one of the nodes. Raise ``BackendError`` if none answered."""
        tried: list[Node] = []
        made = 0
        while True:
            node = self._choose(tried)
            node.breaker.begin()
            tried.append(node)
            made += 1
            response: Response | None = None
            try:
                response = await node.backend.send(request)
                node.breaker.succeed()
                if response.status not in REPEATED or not self._may_repeat(made, is_repeatable):
                    return response
                await response.aclose()
            except NotConnected as error:
                _count_failure(node, error)
                # Nothing was sent, so any request may go to another node.
                if made > self.retries.most:
                    raise
            except (Unreachable, TimedOut) as error:
                _count_failure(node, error)
                if isinstance(error, TimedOut) or not self._may_repeat(made, is_repeatable):
                    raise
            self.repeated += 1
            if response is not None or len(tried) >= len(self.nodes):
                await self.pause(self.retries.pause_s(made, response))

    def _may_repeat(self, made: int, is_repeatable: Callable[[], bool]) -> bool:
        return made <= self.retries.most and is_repeatable()

    def _choose(self, tried: Sequence[Node]) -> Node:
        """Return the next of the best nodes. Raise ``Unavailable`` if every breaker is open."""
        ready = [node for node in self.nodes if node.breaker.wait_s() == 0]
        if not ready:
            wait_s = min(node.breaker.wait_s() for node in self.nodes)
            raise Unavailable(f"{self.name} failed repeatedly; the proxy tries again in {wait_s:.0f} s", self.name)
        doubts = [(node in tried, not node.healthy, node.breaker.is_open) for node in ready]
        best = [node for node, doubt in zip(ready, doubts, strict=True) if doubt == min(doubts)]
        self._turn += 1
        return best[self._turn % len(best)]

    async def attend(self) -> None:
        """Check all nodes repeatedly, until cancelled."""
        while True:
            await self.pause(self.check_interval_s)
            await asyncio.gather(*map(self._check, self.nodes))

    async def _check(self, node: Node) -> None:
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                answer = await node.backend.send(Request("GET", "/_up", headers={"accept": "application/json"}))
        except (BackendError, TimeoutError):
            node.healthy = False
            return
        # A node in maintenance answers 404. A node that demands credentials is up.
        node.healthy = answer.status < 500 and answer.status != 404
        if node.healthy:
            node.breaker.succeed()

    async def aclose(self) -> None:
        for node in self.nodes:
            await node.backend.aclose()


def _count_failure(node: Node, error: BackendError) -> None:
    # If all connections are in use, the node may be fine.
    if not isinstance(error, Unavailable):
        node.breaker.fail()
