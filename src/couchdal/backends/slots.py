"""Limit the requests to one server that are in progress.

Each request takes a slot. Ordinary requests, long bodies and feeds have separate slots, so none of the three keeps the
others waiting. A few clients never get all slots.
"""

from __future__ import annotations

import asyncio


def has_room(limit: int, taken: int, held: int) -> bool:
    """Return whether a client that holds ``held`` of ``limit`` slots may take one more; ``taken`` slots are in use.

    One client gets at most three quarters. The last quarter is for clients that hold few slots: each may have a quarter
    of the free ones, and at least one.
    """
    free = limit - taken
    return free > limit // 4 or (free > 0 and held < max(1, free // 4))


class _Pool:
    """``limit`` slots. Requests of this program itself, which have no client, may take all of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        # For each client, how many slots it holds.
        self._held: dict[str, int] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    def take_now(self, client: str) -> bool:
        """Take a slot if one is free for the client. Return whether it was."""
        held = self._held.get(client, 0)
        if not (has_room(self._limit, self._taken, held) if client else self._taken < self._limit):
            return False
        self._taken += 1
        self._held[client] = held + 1
        return True

    async def take(self, client: str) -> None:
        """Wait for a slot."""
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append((client, slot))
        try:
            await slot
        except asyncio.CancelledError:
            if slot.cancelled():
                self._waiting.remove((client, slot))
            else:
                self.free(client)
            raise

    def free(self, client: str) -> None:
        """Free a slot of a client, and give free slots to those waiting clients that hold the fewest."""
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
    """The slots of one event loop: ``limit`` for requests, and as many for long bodies. Feeds need none.

    Without a limit, a slot is always free.
    """

    def __init__(self, limit: int | None) -> None:
        self.requests: _Pool | None = None if limit is None else _Pool(limit)
        self.transfers: _Pool | None = None if limit is None else _Pool(limit)

    async def take(self, client: str, timeout_s: float, *, feed: bool, transfer: bool) -> Slot:
        """Return a slot. Raise ``TimeoutError`` if none becomes free in time."""
        pool = None if feed else self.transfers if transfer else self.requests
        if pool is not None and not pool.take_now(client):
            async with asyncio.timeout(timeout_s):
                await pool.take(client)
        return Slot(self, pool, client)


class Slot:
    """The slot of one request."""

    __slots__ = ("_client", "_pool", "_slots")

    def __init__(self, slots: Slots, pool: _Pool | None, client: str) -> None:
        self._slots = slots
        self._pool = pool
        self._client = client

    def become_transfer(self) -> bool:
        """Exchange this slot for one for long bodies. Return whether one is free; this never waits."""
        transfers = self._slots.transfers
        if self._pool is not self._slots.requests or transfers is None:
            return True
        if not transfers.take_now(self._client):
            return False
        self.release()
        self._pool = transfers
        return True

    def release(self) -> None:
        """Free the slot. Freeing it twice is safe."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.free(self._client)
