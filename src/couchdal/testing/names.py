"""Private names: the names of a test run's databases on a live server.

A private name has the run's start, its machine and its process, the number of a scope, and the name that the test
uses. By these names, a later run recognizes the databases of a killed run.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from couchdal.emulator.engine.server.database_name import validate_name
from couchdal.errors import CouchError
from couchdal.http.urls import quote_like_couchdb

PREFIX = "dal-test-"
#: Runs on other machines count as ended after this time.
MAX_AGE_S = 6 * 3600
# CouchDB's limit for the last segment. Only the first one grows, and it gets no longer than this either.
_MAX_LENGTH = 238
_SYSTEM_SUFFIXES = ("_users", "_replicator", "_global_changes")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PRIVATE = re.compile(PREFIX + r"([0-9a-z]+)-([0-9a-f]{6})-([0-9a-z]+)-\d+h?-")


def is_legal(name: str) -> bool:
    """Return whether CouchDB accepts a name for a database that is not its own."""
    try:
        validate_name(name)
    except CouchError:
        return False
    return not name.startswith("_")


def machine() -> str:
    """Return six digits for the machine and the container that this process runs in."""
    parts = [socket.gethostname()]
    # Linux only: processes of two containers may have the same ids.
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return sha256("/".join(parts).encode()).hexdigest()[:6]


def run_of(name: str) -> str | None:
    """Return the part of a private name that all names of its run share, or ``None`` for another name."""
    found = _PRIVATE.match(name)
    return f"{PREFIX}{found[1]}-{found[2]}-{found[3]}-" if found else None


def has_ended(run: str, now: float | None = None) -> bool:
    """Return whether a run has ended: its process is gone, or it is on another machine and old."""
    started, host, process = run.removeprefix(PREFIX).strip("-").split("-")
    # On Windows, a signal that only checks for a process would end it.
    if host == machine() and os.name == "posix":
        return not _is_alive(int(process, 36))
    return (time.time() if now is None else now) - int(started, 36) > MAX_AGE_S


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with suppress(OSError):
        # Linux: a process whose parent has not yet noticed its end.
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    return True


class PrivateNames:
    """The names of one process of a test run."""

    def __init__(self) -> None:
        #: The start of every private name of this process.
        self.prefix: str = f"{PREFIX}{_base36(int(time.time()))}-{machine()}-{_base36(os.getpid())}-"
        self.marker: bytes = self.prefix.encode()
        self._hashed: dict[str, str] = {}
        self._pattern = re.compile(re.escape(self.marker) + rb"(?:\d+h-([0-9a-f]{32})(?:/_[a-z]+)?|\d+-)")

    def private(self, name: str, scope: int) -> str:
        """Return the private name for a name and the number of a scope. A name that gets too long is hashed."""
        plain = f"{self.prefix}{scope}-{name}"
        if len(plain.partition("/")[0]) <= _MAX_LENGTH:
            return plain
        digest = sha256(name.encode()).hexdigest()[:32]
        self._hashed[digest] = name
        last = name.rpartition("/")[2]
        # CouchDB recognizes its own databases by their last segment.
        return f"{self.prefix}{scope}h-{digest}" + (f"/{last}" if last in _SYSTEM_SUFFIXES else "")

    def public(self, text: str) -> str:
        """Return a text with the tests' names in place of private ones."""
        return self.public_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def public_bytes(self, data: bytes, *, quoted: bool = False) -> bytes:
        """Return data with the tests' names in place of private ones; ``quoted`` if they are percent-encoded."""
        if self.marker not in data:
            return data

        def replace(found: re.Match[bytes]) -> bytes:
            if found[1] is None:
                return b""
            name = self._hashed.get(found[1].decode(), "")
            return (quote_like_couchdb(name) if quoted else name).encode()

        return self._pattern.sub(replace, data)


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"
