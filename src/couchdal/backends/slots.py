"""Limit the requests to one server that are in progress.

Ordinary requests, long bodies and feeds have places of their own, so that none of them keeps the others waiting. So do
clients: a few of them never have all places.
"""

from __future__ import annotations

import asyncio


def has_room(limit: int, taken: int, held: int) -> bool:
    """Return whether a client that holds ``held`` of ``limit`` places may take one more.

    One client has at most three quarters. The last quarter is for clients that hold few places: each may have a quarter
    of those that are still free, and at least one.
    """
    free = limit - taken
    return free > limit // 4 or (free > 0 and held < max(1, free // 4))


class _Places:
    """``limit`` places. Requests that come from no client, but from this program, may have all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        # For each client, how many places it holds.
        self._held: dict[str, int] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    def take_now(self, client: str) -> bool:
        """Take a place if one is free for a client."""
        held = self._held.get(client, 0)
        if not (has_room(self._limit, self._taken, held) if client else self._taken < self._limit):
            return False
        self._taken += 1
        self._held[client] = held + 1
        return True

    async def take(self, client: str) -> None:
        """Wait for a place."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((client, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._waiting.remove((client, place))
            else:
                self.free(client)
            raise

    def free(self, client: str) -> None:
        """Free a place of a client. The clients that hold the fewest places are the next."""
        self._taken -= 1
        held = self._held.pop(client) - 1
        if held:
            self._held[client] = held
        while waiting := [waiter for waiter in self._waiting if not waiter[1].done()]:
            waiter = min(waiting, key=lambda waiter: self._held.get(waiter[0], 0))
            if not self.take_now(waiter[0]):
                return
            self._waiting.remove(waiter)
            waiter[1].set_result(None)


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
        if places is not None and not places.take_now(client):
            async with asyncio.timeout(timeout_s):
                await places.take(client)
        return Slot(self, places, client)


class Slot:
    """The place of one request."""

    __slots__ = ("_client", "_places", "_slots")

    def __init__(self, slots: Slots, places: _Places | None, client: str) -> None:
        self._slots = slots
        self._places = places
        self._client = client

    def become_transfer(self) -> bool:
        """Move to a place for long bodies. Return whether one is free; this never waits."""
        transfers = self._slots.transfers
        if self._places is not self._slots.requests or transfers is None:
            return True
        if not transfers.take_now(self._client):
            return False
        self.release()
        self._places = transfers
        return True

    def release(self) -> None:
        """Free the place. Freeing it twice is safe."""
        places, self._places = self._places, None
        if places is not None:
            places.free(self._client)
