"""The simulation: its seeds repeat, they find nothing, and they find what is broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from effort import examples
from simulation import World, simulate

import couchdal.backends.couch_server
import couchdal.proxy.proxy
from couchdal.backends.couch_server import CouchServer
from couchdal.backends.slots import Slot
from couchdal.http.messages import Feed, Request, Response
from couchdal.proxy.breaker import Breaker
from couchdal.server.protocol import HttpProtocol

# Middleware changes the order of steps. Other tests of this process may have installed some.
pytestmark = pytest.mark.usefixtures("no_middleware")

ROOT = Path(__file__).parents[2]
# A mutation that no world of these seeds shows is not found within a minute.
MOST_SEEDS = 12


@pytest.mark.random
def test_worlds_are_right(figure: Callable[[str, int], None]) -> None:
    for _ in range(examples(quick=1, soak=20)):
        seed = Random().getrandbits(32)
        outcome = simulate(seed)
        assert outcome.wrong == [], f"repeat it by: make simulate SEED={seed}"
        assert outcome.requests > 100
        assert outcome.faults
        figure("simulated requests", outcome.requests)
        figure("simulated faults", outcome.faults.total())


def test_seed_repeats_the_same_bytes() -> None:
    """Also in another process, whose hashes and addresses differ."""
    first, second = simulate(7, 8.0), simulate(7, 8.0)
    assert first.requests > 20
    assert (first.digest, first.requests, first.faults) == (second.digest, second.requests, second.faults)
    assert simulate(8, 8.0).digest != first.digest
    command = [sys.executable, ROOT / "tools/simulate.py", "--seed", "7", "--seconds", "8", "--digest"]
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert printed.strip() == first.digest


def spoiled(change: Callable[[World, Request, Callable[[Request], Response]], Response]) -> Callable[[World], None]:
    """Return a function that puts ``change`` between the emulator and its callers."""

    def install(world: World) -> None:
        original = world.backend.send
        world.patch(world.backend, "send", lambda request: change(world, request, original))

    install.__name__ = change.__name__
    return install


def repeat_every_request(world: World) -> None:
    world.patch(couchdal.proxy.proxy, "is_repeatable", lambda request, route: request.stream is None)


@spoiled
def lose_acknowledged_writes(world: World, request: Request, send: Callable[[Request], Response]) -> Response:
    if request.method in ("PUT", "POST") and world.chance.random() < 0.03:
        with world.backend.rollback():
            return send(request)
    return send(request)


@spoiled
def read_old_answers(world: World, request: Request, send: Callable[[Request], Response]) -> Response:
    kept: dict[str, Response] = world.__dict__.setdefault("kept", {})
    if request.method != "GET" or request.query or request.path == "/_up":
        return send(request)
    if request.path not in kept or world.chance.random() < 0.9:
        response = send(request)
        kept[request.path] = Response(response.status, dict(response.headers), body=response.content())
    old = kept[request.path]
    return Response(old.status, dict(old.headers), body=old.body)


@spoiled
def refuse_what_was_written(world: World, request: Request, send: Callable[[Request], Response]) -> Response:
    response = send(request)
    if request.method == "POST" and response.status == 201 and world.chance.random() < 0.05:
        return Response(409, {"content-type": "application/json"}, body=b'{"error":"conflict","reason":"x"}\n')
    return response


class LeakyFeed:
    """A feed that leaves out rows."""

    def __init__(self, feed: Any, chance: Random) -> None:
        self._feed = feed
        self._chance = chance
        self.subscribe, self.close = feed.subscribe, feed.close

    def poll(self) -> tuple[bytes, float | None]:
        text, wait = self._feed.poll()
        lines = text.splitlines(keepends=True)
        return b"".join(line for line in lines if self._chance.random() > 0.03 or b'"id"' not in line), wait


@spoiled
def leave_out_rows_of_feeds(world: World, request: Request, send: Callable[[Request], Response]) -> Response:
    response = send(request)
    if isinstance(response.stream, Feed) and "continuous" in request.query:
        response.stream = LeakyFeed(response.stream, world.chance)
    return response


def keep_connections_with_surplus(world: World) -> None:
    world.patch(couchdal.backends.couch_server, "_connection_state", lambda holder: None)


def lose_places(world: World) -> None:
    release = Slot.release
    world.patch(Slot, "release", lambda slot: None if world.chance.random() < 0.05 else release(slot))


def never_forget_failures(world: World) -> None:
    world.patch(Breaker, "succeed", lambda breaker: None)


def wait_for_silent_feeds(world: World) -> None:
    world.patch(CouchServer, "_feed_timeout_s", lambda server, request: None)


def answer_in_another_order(world: World) -> None:
    complete = HttpProtocol.on_response_complete

    def reverse(protocol: HttpProtocol) -> None:
        protocol.pipeline.reverse()
        complete(protocol)

    world.patch(HttpProtocol, "on_response_complete", reverse)


def count_requests_twice(world: World) -> None:
    application = world.applications[-1]
    admit = application._admit

    def admit_twice(cycle: Any) -> None:
        admit(cycle)
        if world.chance.random() < 0.01:
            admit(cycle)

    world.patch(application, "_admit", admit_twice)


BROKEN = (
    repeat_every_request,
    lose_acknowledged_writes,
    read_old_answers,
    refuse_what_was_written,
    leave_out_rows_of_feeds,
    keep_connections_with_surplus,
    lose_places,
    never_forget_failures,
    wait_for_silent_feeds,
    answer_in_another_order,
    count_requests_twice,
)
# These seeds find their fault soonest, so they are tried first.
FIRST_SEEDS = {
    repeat_every_request: 11,
    lose_acknowledged_writes: 10,
    refuse_what_was_written: 2,
    keep_connections_with_surplus: 10,
    lose_places: 5,
    never_forget_failures: 5,
    wait_for_silent_feeds: 1,
    answer_in_another_order: 2,
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_world_is_found(broken: Callable[[World], None], figure: Callable[[str, int], None]) -> None:
    for seed in sorted(range(MOST_SEEDS), key=lambda seed: seed != FIRST_SEEDS.get(broken)):
        outcome = simulate(seed, 30.0, broken)
        if outcome.wrong:
            figure("components broken on purpose that the simulation found", 1)
            return
    pytest.fail(f"{MOST_SEEDS} seeds found nothing")
