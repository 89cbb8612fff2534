"""Send the server's state to systemd: ready, alive or stopping. This is the protocol of ``sd_notify``.

The server is alive while its event loop turns and its backend responds. systemd restarts a server that does not report
this within ``WatchdogSec``. The module is imported only if the environment names systemd's socket.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from time import monotonic, sleep

# systemd reads its socket at once, unless it hangs itself.
_SENDING_S = 1.0

_log = logging.getLogger("couchdal.server")


class Notifier:
    """Sends the state of a server to systemd's socket, which the variables of the environment describe."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        address = variables["NOTIFY_SOCKET"]
        # @ begins an abstract address, which is not a file.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SENDING_S)
        #: How long the server may be silent; None if systemd does not watch it.
        self.interval_s: float | None = _interval_s(variables)

    def start(self, loop: asyncio.AbstractEventLoop, responds: Callable[[float], bool]) -> None:
        """Report that the server is ready, and from then on that it is alive.

        ``responds`` returns whether the backend responds within some seconds. It is called in a thread.
        """
        self._send("READY=1")
        if self.interval_s is not None:
            # systemd ends a silent server by SIGABRT. Then the stacks of all threads are written to standard error.
            faulthandler.enable(file=2)
            watching = (loop, responds, self.interval_s / 2)
            threading.Thread(target=self._watch, args=watching, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Report that the server is stopping."""
        self._send("STOPPING=1")

    def _watch(self, loop: asyncio.AbstractEventLoop, responds: Callable[[float], bool], period_s: float) -> None:
        while not loop.is_closed():
            ends = monotonic() + period_s
            if _turns(loop, period_s) and responds(max(0.0, ends - monotonic())):
                self._send("WATCHDOG=1")
            sleep(max(0.0, ends - monotonic()))

    def _send(self, state: str) -> None:
        try:
            self._socket.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("cannot send %s to systemd: %s", state, error.strerror or error)


def _interval_s(variables: Mapping[str, str]) -> float | None:
    # systemd may watch another process of the service.
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = variables.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() and int(text) else None


def _turns(loop: asyncio.AbstractEventLoop, within_s: float) -> bool:
    """Return whether an event loop runs a callback within some seconds."""
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:
        # The loop has closed.
        return False
    return turned.wait(within_s)
