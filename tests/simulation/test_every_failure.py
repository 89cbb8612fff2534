"""Fail at every byte between the proxy and a node, and at every request of a workload in every way.

Each world has one failure. A read or another repeatable request has to succeed all the same. Any other request is
acknowledged and there once, or its outcome is unknown and it is there at most once.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from simulated_clients import UNANSWERED, Answer, Broken, HttpClient
from simulated_network import Address, Fate
from simulation import NODES, PROXY, SURPLUS, World, deterministic

from couchdal import MemoryBackend
from couchdal.http.messages import Request, Response

# The quick tests try one of this many bytes.
STEP = 1 if os.environ.get("SOAK") else 17


@dataclass
class Requests:
    """A client of a world in which nothing goes wrong by chance."""

    world: World
    http: HttpClient
    count: int = 0
    sent: Counter[str] = field(default_factory=Counter)

    async def ask(self, kind: str) -> Answer | None:
        """Send a request of a kind, judge its answer, and return it; ``None`` if there was none."""
        self.count += 1
        self.sent[kind] += 1
        number, judge = self.count, self.world.judge
        asked: tuple[Any, ...]
        tokens: list[str] = []

        def token() -> str:
            tokens.append(f"{kind}.{number}.{len(tokens)}")
            judge.outcomes[tokens[-1]] = None
            return tokens[-1]

        if kind == "put":
            asked = ("PUT", f"/db/{number}", {"token": token()})
        elif kind == "post":
            asked = ("POST", "/db", {"token": token()})
        elif kind == "bulk":
            asked = ("POST", "/db/_bulk_docs", {"docs": [{"token": token()} for _ in range(2)]})
        elif kind == "revisions":
            doc = {"_id": f"r{number}", "_rev": "3-abc", "token": token()}
            asked = ("POST", "/db/_bulk_docs", {"docs": [doc], "new_edits": False})
        elif kind == "delete":
            # Bypass the test's own changes between the emulator and its callers.
            response = MemoryBackend.send(self.world.backend, Request("PUT", f"/db/d{number}", "", {}, b"{}"))
            rev: Any = response.result()
            asked = ("DELETE", f"/db/d{number}?rev={rev['rev']}")
        elif kind == "get":
            asked = ("GET", "/db/known")
        elif kind == "find":
            asked = ("POST", "/db/_find", {"selector": {"_id": "known"}, "fields": ["_id"]})
        else:
            asked = ("GET", "/db/_changes?limit=1")
        try:
            answer = await self.http.ask(*asked)
        except Broken:
            judge.complain(f"{kind}: the proxy broke the connection off")
            return None
        if answer.status in (UNANSWERED | {429}) - {500}:
            # A request that took too long is not repeated: the client has waited long enough.
            if kind in REPEATABLE and answer.status != 504:
                judge.complain(f"{kind} is repeatable, but was answered {answer.status} {answer.body!r}")
        elif answer.status >= 300:
            judge.complain(f"{kind} was answered {answer.status} {answer.body!r}")
        for one in tokens:
            judge.outcomes[one] = True if answer.status < 300 else None
        if kind == "get" and answer.status == 200 and answer.json()["_id"] != "known":
            judge.complain(f"another document: {answer.body!r}")
        if kind == "find" and answer.status == 200 and answer.json()["docs"] != [{"_id": "known"}]:
            judge.complain(f"another result: {answer.body!r}")
        return answer


REPEATABLE = ("get", "find", "revisions", "changes")
KINDS = ("put", "post", "bulk", "delete", *REPEATABLE)


class Scripted:
    """Decides what goes wrong with the connections to nodes: the next one gets ``pending``."""

    def __init__(self) -> None:
        self.pending: Fate | None = None

    def __call__(self, address: Address) -> Fate:
        if address[0] in NODES and self.pending is not None:
            fate, self.pending = self.pending, None
            return fate
        return Fate()


def run(script: Callable[[World, Requests], Awaitable[None]], fates: Scripted | None = None) -> Requests:
    """Run a script in a world, and fail if anything was wrong."""
    world = World(1)
    if fates is not None:
        world.network.fate = fates
    else:
        world.quiet = True
    requests = Requests(world, HttpClient(world.network, world.judge, "127.9.0.1", PROXY))

    async def live() -> None:
        assert world.proxy is not None
        await script(world, requests)
        requests.http.close()
        world._count_tokens()
        await world.proxy.aclose()
        # Silent connections end by time limits.
        await asyncio.sleep(400.0)
        world._judge_servers()

    with deterministic(world) as errors:
        asyncio.set_event_loop(world.loop)
        try:
            world.backend.send(Request("PUT", "/db/known", "", {}, b"{}"))
            world.serve(breaker_failures="1000000")
            world.loop.run_until_complete(live())
            wrong = [*world.judge.wrong, *errors.messages, *world.loop.errors]
        finally:
            asyncio.set_event_loop(None)
            world.loop.close()
    assert wrong == []
    return requests


@pytest.mark.random
@pytest.mark.parametrize("kind", KINDS)
def test_connection_that_ends_at_any_byte_loses_nothing_and_doubles_nothing(
    kind: str, figure: Callable[[str, int], None]
) -> None:
    fates = Scripted()

    async def script(world: World, requests: Requests) -> None:
        for upwards in (True, False):
            for end in ("reset", "eof"):
                for after in range(0, 700, STEP):
                    for node in NODES:
                        world.network.reset_all(node)
                    await asyncio.sleep(1.0)
                    failed = world.network.faults.total()
                    fates.pending = Fate(after=after, upwards=upwards, end=end)
                    await requests.ask(kind)
                    if world.network.faults.total() == failed and after > 150:
                        # The request, or the answer, has fewer bytes.
                        break
                    assert (await requests.http.ask("GET", "/db/known")).status == 200

    sent = run(script, fates).sent
    assert sent[kind] > 600 / STEP
    figure("bytes between the proxy and a node at which the connection ended", sent[kind])


WAYS = ("refused", "before", "after", "unavailable", "silence", "garbage", "half", "surplus", "too many")
WORKLOAD = ("put", "get", "post", "find", "bulk", "revisions", "delete", "changes", "get", "put")


def failing(world: World, way: str, number: int) -> None:
    """Make the n-th request to the nodes fail."""
    network = world.network
    left = [number]
    send = world.backend.send

    def links() -> list[Any]:
        return sorted((link for link in network.links if link.server[0] in NODES), key=lambda link: link.number)

    def fail(request: Request) -> Response:
        left[0] -= 1
        if left[0] or request.method == "HEAD":
            return send(request)
        network.faults[way] += 1
        if way in ("refused", "before"):
            for node in NODES:
                world.loop.call_soon(network.reset_all, node)
            if way == "refused":
                network.down[NODES[0]] = "refused"
                world.loop.call_later(3.0, network.down.pop, NODES[0])
            return Response(500)
        if way == "unavailable":
            return Response(503, {"content-type": "application/json"}, body=b'{"error":"x","reason":"x"}\n')
        if way == "too many":
            return Response(429, {"content-type": "application/json", "retry-after": "1"}, body=b'{"error":"x"}\n')
        response = send(request)
        for link in links():
            if way == "after":
                world.loop.call_soon(link.reset)
            elif way == "silence":
                link.broken = True
            elif way == "garbage":
                link.fate = Fate(replace=b"\0\xff garbage\r\n\r\n")
            elif way == "half":
                link.fate = Fate(after=link.passed(upwards=False) + 60, upwards=False, end="eof")
            elif way == "surplus":
                link.fate = Fate(surplus=SURPLUS)
        return response

    world.patch(world.backend, "send", fail)


@pytest.mark.parametrize("way", WAYS)
def test_workload_survives_the_failure_of_its_nth_request(way: str, figure: Callable[[str, int], None]) -> None:
    tried = 0
    for number in range(1, len(WORKLOAD) + 1):

        async def script(world: World, requests: Requests, number: int = number) -> None:
            failing(world, way, number)
            for kind in WORKLOAD:
                await requests.ask(kind)
            await asyncio.sleep(5.0)
            for kind in ("get", "find", "revisions", "changes"):
                await requests.ask(kind)

        tried += run(script).count
    figure("requests to nodes that failed in one of nine ways", len(WORKLOAD))
    figure("requests around them", tried)
