"""The nodes of one CouchDB cluster: choose one for each request, and repeat requests that fail.

Nodes take turns. A node with an open breaker or a failed health check gets requests only if no other node is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from couchdal.backends.base import AsyncBackend
from couchdal.errors import BackendError, NotConnected, TimedOut, Unavailable, Unreachable
from couchdal.http.messages import Request, Response
from couchdal.proxy.breaker import Breaker
from couchdal.proxy.retries import REPEATED, Retries

_HEALTH_TIMEOUT_S = 5.0


class State(Enum):
    """The state of a node. Any answer marks an ``UNREACHABLE`` node as up; a ``DOWN`` one needs a health check."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    UNREACHABLE = "unreachable"


@dataclass(slots=True, eq=False)
class Node:
    """One server. ``prober`` sends the health checks, over connections that no other request uses."""

    backend: AsyncBackend
    breaker: Breaker
    prober: AsyncBackend | None = None
    state: State = State.UNKNOWN

    @property
    def healthy(self) -> bool:
        return self.state is State.UP and not self.breaker.is_open


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
        """Return the number of nodes that are known to be healthy."""
        return sum(1 for node in self.nodes if node.healthy)

    @property
    def is_starting(self) -> bool:
        """Whether the state of every node is still unknown."""
        return all(node.state is State.UNKNOWN for node in self.nodes)

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
                if node.state is not State.DOWN:
                    node.state = State.UP
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
        doubts = [
            (node in tried, node.state in (State.DOWN, State.UNREACHABLE), node.breaker.is_open) for node in ready
        ]
        best = [node for node, doubt in zip(ready, doubts, strict=True) if doubt == min(doubts)]
        self._turn += 1
        return best[self._turn % len(best)]

    async def attend(self) -> None:
        """Check all nodes at once and then repeatedly, until cancelled."""
        while True:
            await asyncio.gather(*map(self._check, self.nodes))
            await self.pause(self.check_interval_s)

    async def _check(self, node: Node) -> None:
        prober = node.prober or node.backend
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                answer = await prober.send(Request("GET", "/_up", headers={"accept": "application/json"}))
                await answer.aclose()
        except (BackendError, TimeoutError):
            node.state = State.UNREACHABLE
            return
        # A node in maintenance answers 404. A node that demands credentials is up.
        node.state = State.UP if answer.status < 500 and answer.status != 404 else State.DOWN
        if node.state is State.UP:
            node.breaker.succeed()

    async def aclose(self) -> None:
        for node in self.nodes:
            await node.backend.aclose()
            if node.prober is not None:
                await node.prober.aclose()


def _count_failure(node: Node, error: BackendError) -> None:
    # If all connections are in use, the node may be fine.
    if isinstance(error, Unavailable):
        return
    node.breaker.fail()
    if isinstance(error, NotConnected) and node.state is not State.DOWN:
        node.state = State.UNREACHABLE
