"""Limit the requests to one server that are in progress.

Ordinary requests, long bodies and feeds have places of their own, so that none of them keeps the others waiting. So do
clients: one of them never has all places.
"""

from __future__ import annotations

import asyncio


class _Places:
    """``limit`` places. One client has at most three quarters of them, if there are more than three.

    Requests that come from no client, but from this program, may have all.
    """

    def __init__(self, limit: int) -> None:
        self._all = asyncio.Semaphore(limit)
        self._limit = limit
        # For each client, its share, and how many requests have a place or wait for one.
        self._clients: dict[str, tuple[asyncio.Semaphore, int]] = {}

    def are_taken(self, client: str) -> bool:
        """Return whether a client would have to wait for a place."""
        share = self._clients.get(client)
        return self._all.locked() or (share is not None and share[0].locked())

    async def take(self, client: str) -> None:
        """Take a place, and wait for one if none is free."""
        most = self._limit - self._limit // 4 if client else self._limit
        share, count = self._clients.get(client) or (asyncio.Semaphore(most), 0)
        self._clients[client] = share, count + 1
        try:
            await share.acquire()
            try:
                await self._all.acquire()
            except asyncio.CancelledError:
                share.release()
                raise
        except asyncio.CancelledError:
            self._forget(client)
            raise

    def free(self, client: str) -> None:
        """Free a place of a client."""
        self._all.release()
        self._clients[client][0].release()
        self._forget(client)

    def _forget(self, client: str) -> None:
        share, count = self._clients.pop(client)
        if count > 1:
            self._clients[client] = share, count - 1


class Slots:
    """The places of one event loop: ``limit`` for requests, and as many for long bodies. Feeds need none.

    Without a limit, there are enough for everything.
    """

    def __init__(self, limit: int | None) -> None:
        self.requests: _Places | None = None if limit is None else _Places(limit)
        self.transfers: _Places | None = None if limit is None else _Places(limit)

    async def take(self, client: str, timeout_s: float, *, feed: bool, transfer: bool) -> Slot:
        """Return a place. Raise ``TimeoutError`` if none becomes free in time."""
        places = None if feed else self.transfers if transfer else self.requests
        if places is not None:
            if places.are_taken(client):
                async with asyncio.timeout(timeout_s):
                    await places.take(client)
            else:
                # Without a timer, which most requests do not need.
                await places.take(client)
        return Slot(self, places, client)


class Slot:
    """The place of one request."""

    __slots__ = ("_client", "_places", "_slots")

    def __init__(self, slots: Slots, places: _Places | None, client: str) -> None:
        self._slots = slots
        self._places = places
        self._client = client

    async def become_transfer(self) -> bool:
        """Move to a place for long bodies. Return whether one is free; this never waits."""
        transfers = self._slots.transfers
        if self._places is not self._slots.requests or transfers is None:
            return True
        if transfers.are_taken(self._client):
            return False
        await transfers.take(self._client)
        self.release()
        self._places = transfers
        return True

    def release(self) -> None:
        """Free the place. Freeing it twice is safe."""
        places, self._places = self._places, None
        if places is not None:
            places.free(self._client)
