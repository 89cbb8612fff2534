"""The seam of ``http.client`` and urllib3: a socket whose other end is the server, in the same thread.

Everything above the socket is the client's own code: its framing, its time-outs, its exceptions.
"""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from http.client import HTTPConnection
from types import ModuleType
from typing import TYPE_CHECKING

from couchdal.errors import ConnectionReset, NotConnected, TimedOut
from couchdal.interception.answers import Answer, Outcome
from couchdal.interception.intercept import Interception, explain, interception_for
from couchdal.interception.server_side import ServerSide

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from couchdal.http.messages import Request
    from couchdal.interception.patches import Replace

# The outcome of a request that another seam has sent already: the socket delivers it.
_known: ContextVar[list[Outcome]] = ContextVar("couchdal_known_outcome")
# A pair of system sockets without data. Clients ask the system whether an idle connection has bytes to read.
_idle: list[int] = []


@contextmanager
def delivering(outcome: Outcome) -> Iterator[None]:
    """Let the next socket deliver an outcome instead of asking the server."""
    token = _known.set([outcome])
    try:
        yield
    finally:
        _known.reset(token)


class ServerSocket:
    """A socket that is connected to a server in this process."""

    def __init__(self, interception: Interception, timeout_s: float | None, refusal: Callable[[], Exception]) -> None:
        self.interception = interception
        self._refusal = refusal
        self._timeout_s = timeout_s
        self._side = ServerSide()
        self._ready = bytearray()
        self._request: Request | None = None
        self._answer: Iterator[bytes] | None = None
        self._is_closed = False

    def sendall(self, data: Buffer) -> None:
        if self._is_closed:
            raise BrokenPipeError("the connection is closed")
        if self._answer is not None:
            # The client may have read the last answer by its length, without its end. Read the rest.
            for part in self._answer:
                self._ready += part
            self._answer = None
        reply, request = self._side.receive(bytes(data))
        self._ready += reply
        if request is not None:
            self._request = request

    def send(self, data: Buffer) -> int:
        self.sendall(data)
        return len(bytes(data))

    def recv(self, size: int) -> bytes:
        """Return bytes of the answer: at least one, unless the connection has ended."""
        while not self._ready:
            if self._answer is None:
                request, self._request = self._request, None
                if request is None:
                    # The server has closed the connection, or the client reads more than it was sent.
                    return b""
                self._answer = self._begin(request)
            try:
                part = next(self._answer, None)
            except TimedOut:
                self._answer = None
                raise TimeoutError("timed out") from None
            if part is None:
                self._answer = None
                if self._side.is_over:
                    return b""
            else:
                self._ready += part
        part, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return part

    def _begin(self, request: Request) -> Iterator[bytes]:
        known = _known.get([])
        outcome = known.pop() if known else self.interception.outcome(request, self._timeout_s)
        if isinstance(outcome, Answer):
            return self._side.stream(outcome)
        self._side.is_over = True
        if isinstance(outcome, TimedOut):
            raise TimeoutError("timed out")
        if isinstance(outcome, NotConnected):
            raise self._refusal()
        if isinstance(outcome, ConnectionReset):
            raise ConnectionResetError(104, "Connection reset by peer")
        return iter(())

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self), 65536)

    def settimeout(self, value: float | None) -> None:
        self._timeout_s = value

    def gettimeout(self) -> float | None:
        return self._timeout_s

    def setsockopt(self, *option: object) -> None:
        pass

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 5984

    def fileno(self) -> int:
        if not _idle:
            # They stay open as long as the process.
            _idle.extend(end.detach() for end in socket.socketpair())
        return _idle[0]

    def shutdown(self, how: int) -> None:
        self.close()

    def close(self) -> None:
        # Readers of the answer continue, as with a socket.
        self._is_closed = True

    def end(self) -> None:
        """End the answer, because its reader has closed it."""
        answer, self._answer = self._answer, None
        close = getattr(answer, "close", None)
        if close is not None:
            close()


class _Reader(io.RawIOBase):
    def __init__(self, connected: ServerSocket) -> None:
        self._connected = connected

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        content = self._connected.recv(len(view))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed and self._connected._is_closed:
            self._connected.end()
        super().close()


def replacements(module: ModuleType) -> list[Replace]:
    """Return the replacements in ``http.client`` or ``urllib3.connection``."""
    classes = (module.HTTPConnection, module.HTTPSConnection)
    # urllib3's exceptions are not those of the system.
    names = ("NewConnectionError", "ConnectTimeoutError")
    connect = partial(_connect, errors=(OSError, *(vars(module)[name] for name in names if name in vars(module))))
    replaced: list[Replace] = [(owner, "connect", connect) for owner in classes if "connect" in vars(owner)]
    if module.__name__ == "http.client":
        replaced.append((module.HTTPConnection, "putrequest", _putrequest))
    return replaced


def _address(connection: HTTPConnection) -> tuple[str, str, int]:
    scheme = "https" if connection.default_port == 443 else "http"
    tunnel: str | None = getattr(connection, "_tunnel_host", None)
    if tunnel is not None:
        return "https", tunnel, getattr(connection, "_tunnel_port", None) or 443
    return scheme, connection.host, connection.port


def _attach(connection: HTTPConnection, interception: Interception) -> None:
    # ``socket.getdefaulttimeout`` stands for the timeout of a connection without one.
    timeout = connection.timeout
    seconds = timeout if isinstance(timeout, (int, float)) else socket.getdefaulttimeout()
    connection.sock = ServerSocket(interception, seconds, partial(_refusal, connection))
    interception.connections.add(connection)
    if hasattr(connection, "is_verified"):
        # urllib3 warns about connections whose certificate it has not checked.
        connection.is_verified = True


def _refusal(connection: HTTPConnection) -> Exception:
    """Return the exception of a connection that is refused. urllib3 has its own."""
    if hasattr(connection, "is_verified"):
        refused: type[Exception] = vars(sys.modules["urllib3.connection"])["NewConnectionError"]
        return refused(connection, "Failed to establish a new connection: [Errno 111] Connection refused")
    return ConnectionRefusedError(111, "Connection refused")


def _connect(original: Callable[..., object], errors: tuple[type[Exception], ...]) -> Callable[..., object]:
    def connect(self: HTTPConnection) -> None:
        interception = interception_for(*_address(self))
        if interception is not None:
            _attach(self, interception)
            return
        try:
            original(self)
        except errors as error:
            explain(error, *_address(self))
            raise

    return connect


def _putrequest(original: Callable[..., object]) -> Callable[..., object]:
    def putrequest(self: HTTPConnection, *arguments: object, **options: object) -> None:
        """Begin a request. Drop a connection from before the interception, or from an inner one."""
        connected: object = self.sock
        current = connected.interception if isinstance(connected, ServerSocket) else None
        wanted = interception_for(*_address(self))
        if connected is not None and current is not wanted:
            self.sock.close()
            self.sock = None
        if wanted is not None and self.sock is None:
            _attach(self, wanted)
        original(self, *arguments, **options)

    return putrequest
