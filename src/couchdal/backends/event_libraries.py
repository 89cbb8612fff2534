"""One interface for asyncio and trio: which one runs, threads, and events that other threads set.

asyncio is the default. trio is used only if the program has imported it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Signal(Protocol):
    """An event that any thread may set, and that one task waits for."""

    def set(self) -> None:
        """Wake the task. Any thread may call this, even after the event loop has ended."""

    def clear(self) -> None:
        """Forget that the event was set."""

    async def wait(self, seconds: float) -> None:
        """Wait until the event is set, but not longer than some seconds."""


def running_trio() -> ModuleType | None:
    """Return the module ``trio`` if the caller runs in it, else ``None``."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of a call in a thread. A cancelled task does not wait for it."""
    trio = running_trio()
    if trio is None:
        return await asyncio.to_thread(call, *args, **kwargs)
    result: T = await trio.to_thread.run_sync(lambda: call(*args, **kwargs), abandon_on_cancel=True)
    return result


async def pause(seconds: float) -> None:
    """Wait, and let other tasks run."""
    trio = running_trio()
    await (asyncio.sleep(seconds) if trio is None else trio.sleep(seconds))


def new_signal() -> Signal:
    """Return a signal for the running event loop."""
    trio = running_trio()
    return _AsyncioSignal() if trio is None else _TrioSignal(trio)


class _AsyncioSignal:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass


class _TrioSignal:
    def __init__(self, trio: ModuleType) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def set(self) -> None:
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(lambda: self._event.set())

    def clear(self) -> None:
        if self._event.is_set():
            self._event = self._trio.Event()

    async def wait(self, seconds: float) -> None:
        with self._trio.move_on_after(seconds):
            await self._event.wait()
