"""A load: so many connections put the same requests to a server in turn, each as soon as the last is answered.

What it costs itself is part of every figure, and hides how servers differ: hence ``uvloop`` and ``httptools``.

    python bench/load.py PORT CONNECTIONS SECONDS < requests.json

The input is a list of [method, target, body or null]; ``{n}`` in them is a number that no other request has. Prints
requests a second, and the 50th and 99th percentile of their times in milliseconds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import httptools
import uvloop


class Connection(asyncio.Protocol):
    """One connection: it asks again when the answer is whole."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.begun = time.perf_counter()
        self.answer = httptools.HttpResponseParser(self)
        self.transport.write(self.load.next_request())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.answer.feed_data(data)

    def on_message_complete(self) -> None:
        self.load.times.append(time.perf_counter() - self.begun)
        self.load.failed += self.answer.get_status_code() >= 400
        if not self.load.over:
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.failed += not self.load.over


class Load:
    def __init__(self, requests: list[tuple[str, str, str | None]]) -> None:
        self.requests = requests
        self.times: list[float] = []
        self.count = self.failed = 0
        self.over = False

    def next_request(self) -> bytes:
        method, target, body = self.requests[self.count % len(self.requests)]
        self.count += 1
        number = f"{self.count:07d}"
        content = (body or "").replace("{n}", number)
        told = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n" if body is not None else ""
        return f"{method} {target.replace('{n}', number)} HTTP/1.1\r\nhost: x\r\n{told}\r\n{content}".encode()

    def stay_awake(self, loop) -> None:
        if not self.over:
            os.sched_yield()
            loop.call_soon(self.stay_awake, loop)

    async def run(self, port: int, connections: int, seconds: float) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        self.stay_awake(loop)
        begun = time.perf_counter()
        open_ones = [
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", port) for _ in range(connections)
        ]
        await asyncio.sleep(seconds)
        self.over = True
        spent = time.perf_counter() - begun
        for transport, _ in open_ones:
            transport.close()
        times = sorted(self.times)
        return {
            "a_second": len(times) / spent,
            "p50_ms": times[len(times) // 2] * 1000,
            "p99_ms": times[len(times) * 99 // 100] * 1000,
            "failed": self.failed,
        }


if __name__ == "__main__":
    port, connections, seconds = sys.argv[1:]
    load = Load(json.load(sys.stdin))
    print(json.dumps(uvloop.run(load.run(int(port), int(connections), float(seconds)))))
