"""The seam of aiohttp: a connection whose other end is the server, on the same event loop.

Its connector hands out connections. Everything above them is the client's own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from couchdal.errors import ConnectionReset, NotConnected, TimedOut
from couchdal.interception.answers import Answer
from couchdal.interception.intercept import Interception, explain, interception_for
from couchdal.interception.server_side import ServerSide

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import BaseConnector, Connection

    from couchdal.http.messages import Request
    from couchdal.interception.patches import Replace


def replacements(module: ModuleType) -> list[Replace]:
    """Return the replacements in ``aiohttp.connector``."""

    def replace(original: Callable[..., Awaitable[Connection]]) -> Callable[..., Awaitable[Connection]]:
        async def connect(
            self: BaseConnector, req: ClientRequest, traces: list[Any], timeout: ClientTimeout
        ) -> Connection:
            address = req.url.scheme, req.url.host or "", req.url.port
            interception = interception_for(*address)
            if interception is None:
                try:
                    return await original(self, req, traces, timeout)
                except OSError as error:
                    explain(error, *address)
                    raise
            for trace in traces:
                await trace.send_connection_create_start()
            protocol: ResponseHandler = self._factory()
            refused = ConnectionRefusedError(111, f"Connect call failed {(req.url.host, req.url.port)}")
            refusal = module.ClientConnectorError(req.connection_key, refused)
            transport = _Transport(interception, protocol, timeout.sock_read, refusal)
            protocol.connection_made(transport)
            # Each connection serves one request, so none remains when the interception ends.
            protocol.force_close()
            for trace in traces:
                await trace.send_connection_create_end()
            connection: Connection = module.Connection(self, req.connection_key, protocol, self._loop)
            return connection

        return connect

    return [(module.BaseConnector, "connect", replace)]


class _Transport(asyncio.Transport):
    """A transport that is connected to a server in this process."""

    def __init__(
        self, interception: Interception, protocol: ResponseHandler, timeout_s: float | None, refusal: Exception
    ) -> None:
        super().__init__({"peername": ("127.0.0.1", 5984)})
        self._interception = interception
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._refusal = refusal
        self._side = ServerSide()
        self._loop = asyncio.get_running_loop()
        self._answering: asyncio.Task[None] | None = None
        self._is_closing = False
        self._reads = asyncio.Event()
        self._reads.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        reply, request = self._side.receive(bytes(data))
        if reply:
            self._loop.call_soon(self._deliver, reply)
        if request is not None:
            self._answering = self._loop.create_task(self._answer(request))
        elif self._side.is_over:
            self._loop.call_soon(self.close)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _deliver(self, data: bytes) -> None:
        if not self._is_closing:
            self._protocol.data_received(data)

    async def _answer(self, request: Request) -> None:
        outcome = await self._interception.async_outcome(request, self._timeout_s)
        if isinstance(outcome, Answer):
            parts = self._side.astream(outcome)
            try:
                async for part in parts:
                    await self._reads.wait()
                    self._deliver(part)
            except TimedOut:
                self._time_out()
            finally:
                await parts.aclose()  # type: ignore[attr-defined]
                await outcome.response.aclose()
            if self._side.is_over:
                self._lose(None)
        elif isinstance(outcome, TimedOut):
            self._time_out()
        elif isinstance(outcome, NotConnected):
            self._protocol.set_exception(self._refusal)
            self.close()
        elif isinstance(outcome, ConnectionReset):
            self._lose(ConnectionResetError(104, "Connection reset by peer"))
        else:
            self._lose(None)

    def _time_out(self) -> None:
        """Time out as the client's own timer does. That timer measures real time, and this one the server's clock."""
        self._protocol._on_read_timeout()

    def _lose(self, error: OSError | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._protocol.connection_lost(error)

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        answering = self._answering
        if answering is not None and answering is not asyncio.current_task(self._loop):
            answering.cancel()
        self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._reads.clear()

    def resume_reading(self) -> None:
        self._reads.set()

    def is_reading(self) -> bool:
        return self._reads.is_set()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0
