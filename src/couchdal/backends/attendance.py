"""The replications of a served emulator: a task on the event loop starts the work that is due, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from couchdal.backends.peers import LocalAndRemote
    from couchdal.emulator.engine.replication.scheduler import Scheduler
    from couchdal.emulator.engine.server.server import Server

_T = TypeVar("_T")

# How often a server with replications looks for work that is due.
_LOOKS_S = 0.05
# A write that starts a replication may still be computed when the server is notified of it.
_IDLE_LOOKS = 100


class InThread(Protocol):
    """Runs work in a thread of the server, with the databases that it may open."""

    def __call__(self, work: Callable[[LocalAndRemote], _T]) -> Awaitable[_T]: ...


async def attend(server: Server, in_thread: InThread) -> None:
    """Let replications advance until cancelled. If the server has none, wait until one is requested."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    advancing: dict[str, asyncio.Task[None]] = {}
    # A data file may hold documents that start replications.
    looks = _IDLE_LOOKS

    def wake() -> None:
        with suppress(RuntimeError):
            # The loop may have closed.
            loop.call_soon_threadsafe(asked.set)

    async def advance(scheduler: Scheduler, name: str) -> None:
        try:
            await in_thread(partial(scheduler.advance, name))
        finally:
            advancing.pop(name, None)

    server.wake = wake
    try:
        if server.replications is None:
            await asked.wait()
        from couchdal.emulator.engine.replication.scheduler import known_scheduler  # most servers never get here

        while True:
            scheduler = known_scheduler(server)
            if scheduler is None or (scheduler.is_idle and not looks):
                await asked.wait()
                asked.clear()
                looks = _IDLE_LOOKS
                continue
            looks = max(looks - 1, 0) if scheduler.is_idle else _IDLE_LOOKS
            for name in await in_thread(scheduler.due_now):
                if name not in advancing:
                    advancing[name] = asyncio.create_task(advance(scheduler, name))
            await asyncio.sleep(_LOOKS_S)
    finally:
        server.wake = None
        for task in [*advancing.values()]:
            task.cancel()
