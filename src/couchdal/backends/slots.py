"""Limit the requests to one server that are in progress.

Ordinary requests, long bodies and feeds have places of their own, so that none of them keeps the others waiting.
"""

from __future__ import annotations

import asyncio


class Slots:
    """The places of one event loop: ``limit`` for requests, and as many for long bodies. Feeds need none.

    Without a limit, there are enough for everything.
    """

    def __init__(self, limit: int | None) -> None:
        self.requests: asyncio.Semaphore | None = None if limit is None else asyncio.Semaphore(limit)
        self.transfers: asyncio.Semaphore | None = None if limit is None else asyncio.Semaphore(limit)

    async def take(self, timeout_s: float, *, feed: bool, transfer: bool) -> Slot:
        """Return a place. Raise ``TimeoutError`` if none becomes free in time."""
        kind = None if feed else self.transfers if transfer else self.requests
        if kind is not None:
            if kind.locked():
                async with asyncio.timeout(timeout_s):
                    await kind.acquire()
            else:
                # Without a timer, which most requests do not need.
                await kind.acquire()
        return Slot(self, kind)


class Slot:
    """The place of one request."""

    __slots__ = ("_kind", "_slots")

    def __init__(self, slots: Slots, kind: asyncio.Semaphore | None) -> None:
        self._slots = slots
        self._kind = kind

    async def become_transfer(self) -> bool:
        """Move to a place for long bodies. Return whether one is free; this never waits."""
        transfers = self._slots.transfers
        if self._kind is not self._slots.requests or transfers is None:
            return True
        if transfers.locked():
            return False
        await transfers.acquire()
        self.release()
        self._kind = transfers
        return True

    def release(self) -> None:
        """Free the place. Freeing it twice is safe."""
        kind, self._kind = self._kind, None
        if kind is not None:
            kind.release()
