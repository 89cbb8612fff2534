"""The program of a worker process: runs JavaScript for a server, and ends with it.

It talks to the server over the socket that is its standard input. Each message is a kind, a length, and a text.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

from couchdal.emulator.engine.javascript.runtime import Run, Stopped, new_context

HEAD = struct.Struct(">cI")
#: Kinds of messages from the server: forget the last engine and run this command in a new one; run these commands.
START, ASK = b"s", b"a"
#: Kinds to the server: the answer to a command; the output of a list function; the reason why the engine was stopped.
ANSWER, TURN, STOPPED = b"r", b"t", b"x"

# The interpreter and the JSON texts need memory besides that of the JavaScript engine.
_ADDRESS_SPACE = 1024 * 1024 * 1024
# Answers are collected and sent together, but not later than this.
_LONGEST_HELD_S = 0.05


class _Worker:
    def __init__(self, connection: socket.socket) -> None:
        self._received = connection.makefile("rb")
        self._sent = connection.makefile("wb")
        self._command: Run | None = None

    def run(self) -> None:
        """Answer until the server closes the connection."""
        while len(head := self._received.read(HEAD.size)) == HEAD.size:
            kind, length = HEAD.unpack(head)
            text = self._received.read(length).decode()
            try:
                self._start(text) if kind == START else self._ask(text)
            except (Stopped, MemoryError) as stopped:
                # The engine is in an unknown state.
                self._command = None
                self._send(STOPPED, str(stopped) or "InternalError: out of memory")
            self._sent.flush()

    def _start(self, load: str) -> None:
        self._command = None
        self._command = new_context(load, self._tell_turn)
        self._send(ANSWER, "")

    def _tell_turn(self, turn: str) -> None:
        self._send(TURN, turn)
        # Send now: the function may never return.
        self._sent.flush()

    def _ask(self, commands: str) -> None:
        assert self._command is not None
        flushed = time.monotonic()
        # JSON text has no line feeds.
        for command in commands.split("\n"):
            self._send(ANSWER, self._command(command))
            now = time.monotonic()
            if now - flushed > _LONGEST_HELD_S:
                self._sent.flush()
                flushed = now

    def _send(self, kind: bytes, text: str) -> None:
        body = text.encode()
        self._sent.write(HEAD.pack(kind, len(body)))
        self._sent.write(body)


def _end_with_server(connection: socket.socket) -> None:
    """End this process when the server has ended, even while a function runs."""
    waiting = select.poll()
    # Without events, this reports only that the other side is closed.
    waiting.register(connection, 0)
    while not waiting.poll():
        pass
    os._exit(0)


def _limit_memory() -> None:
    import resource  # only POSIX systems have it

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    with suppress(ValueError, OSError):
        # A crash of the JavaScript engine leaves no file behind.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Run the worker."""
    # Ignore signals to the whole process group: the server handles them and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _limit_memory()
    connection = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    threading.Thread(target=_end_with_server, args=(connection,), daemon=True).start()
    with suppress(OSError):
        _Worker(connection).run()
    os._exit(0)


if __name__ == "__main__":
    main()
