"""A network in memory and a clock that jumps: everything in one thread, and decided by one source of chance.

Servers and clients are ordinary asyncio code. Only the event loop differs: its time passes when nothing else is left
to do, and its connections are two transports in this process. The same seed gives the same run, byte for byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpcore2._async.http11
import httpcore2._backends.anyio
import uvicorn
from uvicorn.server import ServerState

from couchdal.server.application import Application
from couchdal.server.protocol import HttpProtocol

Address = tuple[str, int]

# How many bytes the kernels of both sides hold for a connection.
_KERNEL = 16384
_RESET = "the connection was reset"


class Stuck(Exception):
    """Nothing is ready and no timer runs, so nothing would ever happen again."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without sockets. When nothing is ready, its time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.network: Network | None = None
        self.errors: list[str] = []
        self._clock_resolution = 1e-9
        self._selector = self
        self.set_exception_handler(self._keep_error)

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck
        self.now += max(0.0, timeout)
        return []

    def _process_events(self, events: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _keep_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call the function here: threads would run in an order that no seed decides."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        assert self.network is not None
        return await self.network.connect((host, port), protocol_factory)


class SimulatedSocket:
    """The socket behind a transport, with the methods that servers and HTTP clients call."""

    family = socket.AF_INET

    def __init__(self, transport: SimulatedTransport, own: Address, peer: Address) -> None:
        self._transport = transport
        self._own = own
        self._peer = peer

    def getpeername(self) -> Address:
        return self._peer

    def getsockname(self) -> Address:
        return self._own

    def setsockopt(self, *_: object) -> None:
        pass

    def is_readable(self) -> bool:
        transport = self._transport
        return bool(transport.arrived) or transport.at_eof or transport.is_lost


@dataclass
class Fate:
    """The failure of a connection: after a number of bytes in one direction it ends, or falls silent.

    ``after`` are bytes from the client (``upwards``) or from the server. ``end`` is ``reset``, ``eof`` or ``silence``.
    ``slowness`` stretches all delays. ``surplus`` follows some of the server's answers in the same piece.
    ``replace`` is sent in place of the next answer.
    """

    after: int | None = None
    upwards: bool = True
    end: str = "reset"
    slowness: float = 1.0
    surplus: bytes = b""
    replace: bytes = b""


class SimulatedTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, link: Link, *, client: bool, own: Address, peer_address: Address) -> None:
        super().__init__()
        self._link = link
        self._loop = link.network.loop
        self._client = client
        self._socket = SimulatedSocket(self, own, peer_address)
        self._protocol: Any = None
        self.other: SimulatedTransport = self
        #: Bytes that have arrived and wait for a reader.
        self.arrived: deque[bytes] = deque()
        self.at_eof = False
        self.is_lost = False
        self._told_eof = False
        self._paused = False
        self._closing = False
        self._eof_written = False
        self._high, self._low = 65536, 16384
        self._writing_paused = False
        #: Bytes written here that the other side has not read.
        self.unread = 0
        self._last_arrival = 0.0

    # What a protocol calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        known = {
            "socket": self._socket,
            "peername": self._socket.getpeername(),
            "sockname": self._socket.getsockname(),
        }
        return known.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def is_cut(self) -> bool:
        """Return whether the network has ended this connection, perhaps without telling."""
        return self._link.broken or self.is_lost

    def get_write_buffer_size(self) -> int:
        return max(0, self.unread - _KERNEL)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._eof_written or not data:
            return
        if self.is_lost or self.other._closing:
            # The other side closed: the kernel there answers with a reset.
            self._loop.call_later(self._link.delay(), self._lose, ConnectionResetError(_RESET))
            return
        content = bytes(data)
        if self._link.fate.replace and not self._client:
            content, self._link.fate.replace = self._link.fate.replace, b""
        pieces = self._link.pieces(content)
        if not self._client and self._link.fate.surplus and self._link.is_whole_answer(content):
            pieces = [content + self._link.fate.surplus]
            self._link.network.faults["bytes behind an answer"] += 1
        self.unread += sum(map(len, pieces))
        for piece in pieces:
            self._arrive_later(piece)
        if self.get_write_buffer_size() > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if not self._eof_written and not self._closing:
            self._eof_written = True
            self._arrive_later(None)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._eof_written and not self.is_lost:
            self._eof_written = True
            self._arrive_later(None)
        if self.get_write_buffer_size() == 0:
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if self.is_lost:
            return
        self._closing = True
        self._link.broken = True
        self._loop.call_soon(self._lose, None)
        self._loop.call_later(self._link.delay(), self.other._lose, ConnectionResetError(_RESET))

    # What the network does.

    def start(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def _arrive_later(self, piece: bytes | None) -> None:
        # Timers for the same moment would run in any order.
        when = max(self._last_arrival + 1e-6, self._loop.time() + self._link.delay())
        self._last_arrival = when
        self._loop.call_at(when, self._arrive, piece)

    def _arrive(self, piece: bytes | None) -> None:
        link, other = self._link, self.other
        if link.broken or other.is_lost:
            return
        if piece is not None:
            piece = link.fated(self._client, piece)
            if link.broken:
                return
        link.network.record(link, self._client, piece)
        if piece is None:
            other.at_eof = True
        elif piece:
            other.arrived.append(piece)
        other._read()

    def _read(self) -> None:
        while self.arrived and not self._paused and not self.is_lost:
            piece = self.arrived.popleft()
            self.other._consumed(len(piece))
            if not self._closing:
                self._protocol.data_received(piece)
        if self.at_eof and not self.arrived and not self._paused and not self._told_eof and not self.is_lost:
            self._told_eof = True
            if not self._closing and not self._protocol.eof_received():
                self.close()

    def _consumed(self, size: int) -> None:
        self.unread -= size
        if self.is_lost:
            return
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing and self.get_write_buffer_size() == 0:
            self._loop.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if self.is_lost:
            return
        self.is_lost = self._closing = True
        self.arrived.clear()
        self._link.network.links.discard(self._link)
        self._protocol.connection_lost(error)


class Link:
    """One connection: its two transports, and what goes wrong with it."""

    def __init__(self, network: Network, number: int, server: Address, fate: Fate, client: str | None) -> None:
        self.network = network
        self.number = number
        self.server = server
        self.fate = fate
        self.broken = False
        own = (client or "127.1.0.1", 10000 + number)
        self.upper = SimulatedTransport(self, client=True, own=own, peer_address=server)
        self.lower = SimulatedTransport(self, client=False, own=server, peer_address=own)
        self.upper.other, self.lower.other = self.lower, self.upper
        # How many bytes have arrived, by direction.
        self._passed = {True: 0, False: 0}

    def passed(self, *, upwards: bool) -> int:
        return self._passed[upwards]

    def delay(self) -> float:
        return self.network.chance.expovariate(1000.0) * self.fate.slowness

    def pieces(self, content: bytes) -> list[bytes]:
        """Cut what was written as a network may: mostly not, sometimes at a few places, rarely at each byte."""
        chance = self.network.chance
        kind = chance.random()
        if kind < 0.7 or len(content) < 2:
            return [content]
        if kind > 0.98 and len(content) < 400:
            return [content[place : place + 1] for place in range(len(content))]
        places = sorted({chance.randrange(1, len(content)) for _ in range(chance.randrange(1, 5))})
        return [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]

    def is_whole_answer(self, content: bytes) -> bool:
        """Return whether the bytes are one answer, and chance wants surplus behind it."""
        head, mark, body = content.partition(b"\r\n\r\n")
        length = b"content-length: %d" % len(body)
        return bool(mark) and length in head.split(b"\r\n") and self.network.chance.random() < 0.3

    def fated(self, upwards: bool, piece: bytes) -> bytes:
        """Return the part of a piece that arrives, and end the connection if its time has come."""
        fate = self.fate
        before = self._passed[upwards]
        self._passed[upwards] += len(piece)
        if fate.after is None or fate.upwards != upwards:
            return piece
        room = fate.after - before
        if len(piece) <= room:
            return piece
        self.network.faults[f"{fate.end} in a{' request' if upwards else 'n answer'}"] += 1
        self.network.loop.call_soon(self._end)
        fate.after, kept = None, piece[: max(0, room)]
        self.fate = Fate(slowness=fate.slowness)
        self._end_kind, self._end_upwards = fate.end, upwards
        return kept

    def _end(self) -> None:
        if self._end_kind == "eof" and not self._end_upwards:
            # As a server that dies: what it sent arrives, and then the end.
            self.upper.at_eof = True
            self.upper._read()
            self.broken = True
            self.lower._lose(None)
        elif self._end_kind == "silence":
            self.broken = True
        else:
            self.reset()

    def reset(self) -> None:
        """Break the connection off for both sides."""
        self.broken = True
        for transport in (self.lower, self.upper):
            transport._lose(ConnectionResetError(_RESET))


@dataclass
class Network:
    """All servers and connections. ``fate`` decides what goes wrong with a new connection."""

    loop: VirtualLoop
    chance: Random
    fate: Callable[[Address], Fate] = lambda _: Fate()
    #: Addresses that do not answer: ``refused`` or ``silence``.
    down: dict[str, str] = field(default_factory=dict)
    links: set[Link] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)
    #: The last events, which help to find the cause of a failure.
    trace: deque[tuple[float, int, str, str, bytes | None]] = field(default_factory=lambda: deque(maxlen=400))
    listeners: dict[str, Callable[[], Any]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.loop.network = self

    def record(self, link: Link, upwards: bool, piece: bytes | None) -> None:
        """Keep what arrives, and when: two runs of a seed have the same digest."""
        event = (self.loop.now, link.number, ">" if upwards else "<", link.server[0], piece and piece[:400])
        self.digest.update(b"%r %d %d" % (event[0], link.number, upwards))
        self.digest.update(b"end" if piece is None else piece)
        self.trace.append(event)

    async def connect(
        self, address: Address, protocol_factory: Callable[[], Any], client: str | None = None
    ) -> tuple[Any, Any]:
        """Connect a client, whose address is ``client``, to a server."""
        host = address[0]
        await asyncio.sleep(self.chance.expovariate(1000.0))
        state = self.down.get(host)
        if state == "silence":
            self.faults["silence while connecting"] += 1
            await asyncio.sleep(3600.0)
        if state is not None or host not in self.listeners:
            self.faults["connection refused"] += 1
            raise ConnectionRefusedError(111, "Connection refused")
        self.count += 1
        link = Link(self, self.count, address, self.fate(address), client)
        self.links.add(link)
        link.lower.start(self.listeners[host]())
        protocol = protocol_factory()
        link.upper.start(protocol)
        return link.upper, protocol

    def reset_all(self, host: str) -> None:
        """Break off every connection to a server, as when its process ends."""
        for link in sorted((link for link in self.links if link.server[0] == host), key=lambda link: link.number):
            link.reset()

    def serve(self, host: str, application: Application) -> ServerState:
        """Serve an application at an address by the server's own protocol class."""
        config = uvicorn.Config(
            application,
            loop="none",
            http=HttpProtocol,
            ws="none",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            log_level="error",
            server_header=False,
            date_header=False,
            timeout_keep_alive=300,
        )
        config.load()
        state = ServerState()
        self.listeners[host] = lambda: HttpProtocol(config, state, {}, self.loop)
        return state


class _LoopTime:
    """The part of the module ``time`` that the HTTP client uses."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()


def adapt_http_client(patch: Callable[[object, str, object], object]) -> None:
    """Make the HTTP client take the loop's time, and ask simulated sockets whether they are readable."""
    patch(httpcore2._backends.anyio, "is_socket_readable", lambda found: found is None or found.is_readable())
    patch(httpcore2._async.http11, "time", _LoopTime)
