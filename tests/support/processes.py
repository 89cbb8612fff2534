"""The command ``couchdal`` as a process, and requests to it by the standard library."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent

SOURCE = Path(__file__).parents[2] / "src"


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without couchdal's variables, with the source tree on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUCHDB_", "COUCHDAL_", "DAL_"))}
    return {**kept, "PYTHONPATH": str(SOURCE), **more}


@contextmanager
def couchdal_serve(
    *arguments: str, files: int | None = None, **env: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``couchdal serve`` on a free port. Yield the address that it prints, and the process.

    ``files`` limits its file descriptors.
    """
    limit = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files is not None else []
    command = [*limit, sys.executable, "-m", "couchdal.cli", "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env)
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.match(r"listening at (http://127\.0\.0\.1:[1-9]\d*) for ", line)
            assert found, (line, process.stderr and process.stderr.read())
            yield found[1], process
        finally:
            process.kill()


# ``couchdal serve``, with requests that hold its event loop or its lock forever.
_STUCK = """
    import sys, threading, time
    from couchdal import cli
    from couchdal.backends import memory

    class Stuck(memory.MemoryBackend):
        def send(self, request):
            if request.path == "/loop":
                time.sleep(600)
            if request.path == "/lock":
                threading.Thread(target=self.hold, daemon=True).start()
            return super().send(request)

        def hold(self):
            with self.server.lock:
                time.sleep(600)

    memory.MemoryBackend = Stuck
    sys.exit(cli.main(["serve", "--port", "0", "--shutdown-timeout", sys.argv[1]]))
"""


@contextmanager
def stuck_server(path: str, shutdown_timeout_s: float, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``couchdal serve`` with its event loop blocked (``/loop``), or its lock taken (``/lock``)."""
    command = [sys.executable, "-c", dedent(_STUCK), str(shutdown_timeout_s)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env)
    ) as process:
        try:
            assert process.stdout
            found = re.search(r":(\d+) ", process.stdout.readline())
            assert found
            address = ("127.0.0.1", int(found[1]))
            with socket.create_connection(address) as first, socket.create_connection(address) as second:
                request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                first.sendall(request)
                # A thread takes the lock after the first answer. The second request waits for it.
                time.sleep(0.3)
                second.sendall(request)
                time.sleep(0.2)
                yield process
        finally:
            process.kill()


def ask(url: str, method: str = "GET", user: tuple[str, str] | None = None) -> tuple[int, dict[str, object]]:
    """Send a request and return the status and the decoded body."""
    headers = {"Authorization": "Basic " + b64encode(":".join(user).encode()).decode()} if user else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def forked(act: Callable[[], int], limit_s: float = 20.0) -> int:
    """Return the exit status of a forked process that calls ``act``; -9 if it hangs."""
    child = os.fork()
    if child == 0:
        status = 99
        with suppress(BaseException):
            status = act()
        os._exit(status)
    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9
