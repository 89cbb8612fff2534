"""The blocks of indexes that were read last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

# So many bytes of blocks as they are on the disk. In memory they take several times as much.
_MOST_BYTES = 4 << 20


class BlockCache:
    """Blocks by their keys. Several threads can use it at once."""

    def __init__(self, most: int = _MOST_BYTES) -> None:
        self._most = most
        self._lock = Lock()
        self._blocks: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: object) -> Any:
        """Return a block; None if it is not there."""
        with self._lock:
            found = self._blocks.get(key)
            if found is None:
                return None
            self._blocks.move_to_end(key)
            return found[0]

    def put(self, key: object, block: object, size: int) -> None:
        """Keep a block, and forget those that nobody has used for the longest time."""
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block, size
                self._bytes += size
            while self._bytes > self._most:
                self._bytes -= self._blocks.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget all blocks. A forked process does so, because another thread may have held the lock."""
        self._lock = Lock()
        self._blocks, self._bytes = OrderedDict(), 0
