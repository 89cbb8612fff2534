"""Load servers with requests from several connections; each sends its next request when it has the answer.

The servers take short turns, so other work on the machine affects all of them alike. The cost of the load itself is
part of every figure and hides differences between servers, so it uses ``uvloop`` and ``httptools``. Waking a sleeping
client takes as long as many an answer; with a processor to spare, the client can poll instead.

    python bench/load.py poll|sleep CONNECTIONS TURNS SECONDS PORT... < requests.json

The input is a list of [method, target, body or null]. ``{n}`` in them becomes a number that is unique for the server.
Prints a JSON list with one object for each server: requests per second, the 50th and 99th percentile of their times in
milliseconds, and the number of failed requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from time import perf_counter

import httptools
import uvloop

yield_processor = getattr(os, "sched_yield", lambda: None)
Request = tuple[str, str, str | None]


class Connection(asyncio.Protocol):
    """One connection. It sends its next request when the answer is complete, as long as its server has the turn."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send_request(self) -> None:
        self.begun = perf_counter()
        self.answer = httptools.HttpResponseParser(self)
        self.transport.write(self.load.next_request())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.answer.feed_data(data)

    def on_message_complete(self) -> None:
        now, load = perf_counter(), self.load
        load.times.append(now - self.begun)
        load.failed += self.answer.get_status_code() >= 400
        if now < load.until:
            self.send_request()
        else:
            load.asking -= 1
            if not load.asking:
                load.over.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.is_lost = True
        self.load.over.set()


class Load:
    """The requests to one server, and the times of their answers."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.connections: list[Connection] = []
        self.times: list[float] = []
        self.count = self.failed = self.asking = 0
        self.until = self.spent = 0.0
        self.over = asyncio.Event()
        self.is_lost = False

    def next_request(self) -> bytes:
        method, target, body = self.requests[self.count % len(self.requests)]
        self.count += 1
        number = f"{self.count:07d}"
        content = (body or "").replace("{n}", number)
        more = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n" if body is not None else ""
        return f"{method} {target.replace('{n}', number)} HTTP/1.1\r\nhost: x\r\n{more}\r\n{content}".encode()

    async def connect(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
            self.connections.append(connection)

    async def take_turn(self, seconds: float, poll: bool) -> None:
        self.over.clear()
        begun = perf_counter()
        self.until, self.asking = begun + seconds, len(self.connections)
        for connection in self.connections:
            connection.send_request()
        while poll and not self.over.is_set():
            yield_processor()
            await asyncio.sleep(0)
        await self.over.wait()
        assert not self.is_lost, "the server closed a connection"
        self.spent += perf_counter() - begun

    def reset(self) -> None:
        self.times, self.spent = [], 0.0

    def figures(self) -> dict[str, float]:
        times = sorted(self.times)
        return {
            "a_second": len(times) / self.spent,
            "p50_ms": times[len(times) // 2] * 1000,
            "p99_ms": times[len(times) * 99 // 100] * 1000,
            "failed": self.failed,
        }


async def run(
    requests: list[Request], ports: list[int], *, connections: int, turns: int, seconds: float, poll: bool
) -> list[Load]:
    loads = [Load(requests) for _ in ports]
    for load, port in zip(loads, ports, strict=True):
        await load.connect(port, connections)
        await load.take_turn(seconds, poll)
        load.reset()
    for turn in range(turns):
        for load in loads if turn % 2 else reversed(loads):
            await load.take_turn(seconds, poll)
    return loads


if __name__ == "__main__":
    wait, connections, turns, seconds, *ports = sys.argv[1:]
    measuring = run(
        json.load(sys.stdin),
        list(map(int, ports)),
        connections=int(connections),
        turns=int(turns),
        seconds=float(seconds),
        poll=wait == "poll",
    )
    print(json.dumps([load.figures() for load in uvloop.run(measuring)]))
