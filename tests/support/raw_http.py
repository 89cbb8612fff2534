"""HTTP over raw sockets: connections, a served backend, and a scripted server for the proxy."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar

import uvicorn

from couchdal import AsyncBackend, BaseBackend, MemoryBackend
from couchdal.server.application import Application
from couchdal.server.framing import Limits
from couchdal.server.listener import listen, new_server


@dataclass
class Answer:
    """One response. ``closed`` means that the server closes the connection after it."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = False

    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Wire:
    """One connection."""

    port: int
    socket: socket.socket = field(init=False)
    rest: bytes = b""
    #: The served application, for tests that look inside.
    served: Served | None = None
    #: How many bytes the system keeps for a client that does not read. It is set before the connection is made.
    receive_buffer: int | None = None
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if self.receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.socket.bind((self.address, 0))
        self.socket.connect(("127.0.0.1", self.port))

    def close(self) -> None:
        self.socket.close()

    def send(self, text: str | bytes) -> Wire:
        self.socket.sendall(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())
        return self

    def ask(self, head: str, body: bytes = b"") -> Answer:
        length = f"\nContent-Length: {len(body)}" if body else ""
        self.send(f"{head}\nHost: x{length}\n\n")
        if body:
            self.send(body)
        return self.answer(head.startswith("HEAD"))

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.rest:
            if not (more := self.socket.recv(65536)):
                raise EOFError(self.rest)
            self.rest += more
        found, self.rest = self.rest.split(mark, 1)
        return found

    def answer(self, head_only: bool = False) -> Answer:
        first, *lines = self.read_until(b"\r\n\r\n").decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status, body = int(first.split()[1]), b""
        if not head_only:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(self.read_until(b"\r\n"), 16):
                    body += self.take(size)
                    self.take(2)
                self.take(2)
            else:
                body = self.take(int(headers.get("content-length", 0)))
        return Answer(status, headers, body, headers.get("connection", "").lower() == "close")

    def take(self, size: int) -> bytes:
        while len(self.rest) < size:
            if not (more := self.socket.recv(65536)):
                raise EOFError(self.rest)
            self.rest += more
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def at_end(self) -> bool:
        """Return whether the server closes the connection, now or soon."""
        with suppress(ConnectionResetError):
            return self.rest == b"" and self.socket.recv(1) == b""
        return True


class Served:
    """A backend on a port, in a thread. What a test starts, a fixture stops after the test."""

    #: The servers of all objects that run, in the order of their start.
    running: ClassVar[list[uvicorn.Server]] = []

    def __init__(
        self, backend: BaseBackend | AsyncBackend, limits: Limits | None = None, send_buffer: int | None = None
    ) -> None:
        self.backend = backend
        self.start(Application(backend, limits=limits), send_buffer)

    def start(self, application: Application, send_buffer: int | None = None) -> None:
        self.application = application
        listener = listen("127.0.0.1", 0)
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port: int = listener.getsockname()[1]
        ready = threading.Event()
        server = new_server(application, listener, ready.set)
        threading.Thread(target=server.run, args=([listener],), daemon=True).start()
        assert ready.wait(10)
        self.running.append(server)

    def followers(self) -> int:
        assert isinstance(self.backend, MemoryBackend)
        return sum(len(database.watchers) for database in self.backend.server.databases.values())

    def wait_for_followers(self, count: int) -> None:
        end = time.monotonic() + 5
        while self.followers() != count:
            assert time.monotonic() < end, f"{self.followers()} followers, not {count}"
            time.sleep(0.01)


@contextmanager
def stopping_servers() -> Iterator[None]:
    """Stop the servers that are started within a ``with`` block. It does not wait for them."""
    before = len(Served.running)
    yield
    while len(Served.running) > before:
        Served.running.pop().should_exit = True


@dataclass
class Received:
    """One request: its target unchanged, and its headers with names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)


def answering(status: int = 200, body: object = None, **headers: str) -> bytes:
    """Return the bytes of a JSON answer."""
    content = json.dumps({"ok": True} if body is None else body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} Whatever", "content-type: application/json", f"content-length: {len(content)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Upstream:
    """A server that records requests and follows a script: one step for each request, the last step repeatedly.

    A step is the bytes of an answer, after which the connection stays open, or a function of the connection, after
    which it is closed. Without a script, every answer is ``{"ok": true}``. Health checks, which have no
    ``X-Forwarded-For``, get ``health`` and are neither recorded nor part of the script.
    """

    health: bytes | Callable[[socket.socket], object]

    def __init__(self, *script: bytes | Callable[[socket.socket], object]) -> None:
        self.received: list[Received] = []
        self.script = list(script) or [answering()]
        self.health = answering()
        #: Reads bodies without recording them.
        self.swallow: Callable[[io.BufferedReader], object] | None = None
        #: How many connections were opened, and how many are closed.
        self.accepted = self.closed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), self._counting():
            stream = connection.makefile("rb")
            while (request := self._read(stream)) is not None:
                if request.target == "/_up" and request.header("x-forwarded-for") is None:
                    if not isinstance(self.health, bytes):
                        self.health(connection)
                        return
                    connection.sendall(self.health)
                    continue
                self.received.append(request)
                step = self.script[0] if len(self.script) == 1 else self.script.pop(0)
                if not isinstance(step, bytes):
                    step(connection)
                    return
                connection.sendall(step)
                if self.swallow is not None:
                    # It may have stopped before the end.
                    return

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.closed += 1

    def _read(self, stream: io.BufferedReader) -> Received | None:
        first = stream.readline()
        if not first:
            return None
        method, target, _ = first.decode("latin-1").split(" ")
        headers = []
        while (line := stream.readline().decode("latin-1").strip("\r\n")) != "":
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        told = dict(headers)
        body = b""
        if self.swallow is not None and {"content-length", "transfer-encoding"} & told.keys():
            self.received.append(Received(method, target, headers, b""))
            self.swallow(stream)
        elif told.get("transfer-encoding") == "chunked":
            while size := int(stream.readline(), 16):
                body += stream.read(size)
                stream.readline()
            stream.readline()
        else:
            body = stream.read(int(told.get("content-length", 0)))
        return Received(method, target, headers, body)
