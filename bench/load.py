"""A load: so many connections put the same requests to servers, each as soon as the last is answered.

The servers take short turns, so that whatever else the machine does meanwhile falls on all of them. What the load
costs itself is part of every figure, and hides how servers differ: hence ``uvloop`` and ``httptools``. To be woken
takes as long as many an answer: where there is a processor to spare, the load can stay awake.

    python bench/load.py awake|asleep CONNECTIONS TURNS SECONDS PORT... < requests.json

The input is a list of [method, target, body or null]; ``{n}`` in them is a number that no other request to the server
has. Prints for each server, as a list in JSON: requests a second, the 50th and 99th percentile of their times in
milliseconds, and how many failed.
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
    """One connection: it asks again when the answer is whole, as long as it is its server's turn."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
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
            self.ask()
        else:
            load.asking -= 1
            if not load.asking:
                load.over.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.is_lost = True
        self.load.over.set()


class Load:
    """What one server is asked, and how long it took."""

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
        told = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n" if body is not None else ""
        return f"{method} {target.replace('{n}', number)} HTTP/1.1\r\nhost: x\r\n{told}\r\n{content}".encode()

    async def connect(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
            self.connections.append(connection)

    async def take_turn(self, seconds: float, awake: bool) -> None:
        self.over.clear()
        begun = perf_counter()
        self.until, self.asking = begun + seconds, len(self.connections)
        for connection in self.connections:
            connection.ask()
        while awake and not self.over.is_set():
            yield_processor()
            await asyncio.sleep(0)
        await self.over.wait()
        assert not self.is_lost, "the server closed a connection"
        self.spent += perf_counter() - begun

    def forget(self) -> None:
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
    requests: list[Request], ports: list[int], connections: int, turns: int, seconds: float, awake: bool
) -> list[Load]:
    loads = [Load(requests) for _ in ports]
    for load, port in zip(loads, ports, strict=True):
        await load.connect(port, connections)
        await load.take_turn(seconds, awake)
        load.forget()
    for turn in range(turns):
        for load in loads if turn % 2 else reversed(loads):
            await load.take_turn(seconds, awake)
    return loads


if __name__ == "__main__":
    manner, connections, turns, seconds, *ports = sys.argv[1:]
    asked = run(
        json.load(sys.stdin), list(map(int, ports)), int(connections), int(turns), float(seconds), manner == "awake"
    )
    print(json.dumps([load.figures() for load in uvloop.run(asked)]))
