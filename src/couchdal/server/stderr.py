"""Standard error for a server: a thread writes it, so a reader that stops reading blocks no request."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import suppress


class StandardError:
    """A text stream that never blocks. While ``most`` pieces wait to be written, it drops new ones and counts them."""

    def __init__(self, descriptor: int = 2, most: int = 1000) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes | None] = queue.Queue(most)
        self._dropped = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
        # ``sys.stderr`` has a lock, on which the interpreter's exit would wait for a blocked thread.
        self._thread = threading.Thread(target=self._write_all, name="standard error", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        if self._process != os.getpid():
            # The thread does not exist in a forked process.
            with suppress(OSError):
                self._write(data)
            return
        try:
            self._waiting.put_nowait(data)
        except queue.Full:
            with self._lock:
                self._dropped += 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Write the waiting pieces, unless that takes longer than ``timeout_s``."""
        if self._process != os.getpid():
            return
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        data: bytes | None = b""
        while data is not None:
            data = self._waiting.get()
            try:
                self._write(data or b"")
                self._write(self._report())
            except OSError:
                # Standard error is closed. The server continues without it.
                continue

    def _report(self) -> bytes:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return f"couchdal: {dropped} messages were dropped, because nobody read them\n".encode() if dropped else b""

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
