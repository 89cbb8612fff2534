"""Forked processes: a child can use each server of its parent, even if another thread was using it."""

from __future__ import annotations

import os
from functools import partial
from threading import RLock, local
from time import monotonic
from typing import Protocol
from weakref import ref

from couchdal.emulator.engine.indexes.indexes import Indexes
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.journal import Journal


class Server(Protocol):
    """The parts of a server that a forked process repairs."""

    lock: RLock
    journal: Journal
    databases: dict[str, Database]


# Use a dictionary: its methods cannot be interrupted, unlike those of a WeakSet.
_servers: dict[int, ref[Server]] = {}
_abandoned: list[Indexes] = []
# The locks that a thread holds while it forks, and how long it waits for them.
_held = local()
_FORK_PAUSE_S = 1.0


def remember(server: Server) -> None:
    """Make a server usable in forked processes, as long as it exists."""
    # The callback is the dictionary's own ``pop``: it removes the entry. The dead reference is its unused default.
    _servers[id(server)] = ref(server, partial(_servers.pop, id(server)))


def _before_fork() -> None:
    """Wait a moment for the requests of other threads to end.

    A thread that is in the middle of one may be importing a module or running JavaScript. The child would wait forever
    for the lock of that module.
    """
    _held.locks = []
    end = monotonic() + _FORK_PAUSE_S
    for known in list(_servers.values()):
        server = known()
        if server is not None and server.lock.acquire(timeout=max(0.0, end - monotonic())):
            _held.locks.append(server.lock)


def _after_fork_in_parent() -> None:
    for lock in _held.locks:
        lock.release()
    _held.locks = []


def _after_fork() -> None:
    """Make the servers of a forked process usable.

    The thread that held a lock does not exist in the child. The child finishes what that thread was writing. Its
    JavaScript engines may be in the middle of a call that never ends: the child neither uses nor frees them.
    """
    _held.locks = []
    for known in list(_servers.values()):
        server = known()
        if server is None:
            continue
        for database in server.databases.values():
            database.writer = None
            database.storage.forget_pins()
            if server.journal.busy:
                _abandoned.append(database.indexes)
                database.indexes = Indexes(tell=database.indexes.tell)
        server.lock = RLock()
        server.journal.busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
