"""Settings of the process that ``couchdal serve`` runs: how threads switch, and when garbage is collected.

Python's collector of reference cycles looks at every object from time to time, and nobody can work meanwhile: with a
million documents, that takes seconds. The emulator's data has no cycles. So what has lived long is set aside without
being looked at, and is looked at only when the server is idle.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

# How long a thread works before another one may: the event loop waits so long for its turn, more than once a request.
_SWITCH_INTERVAL_S = 0.0005
_NEVER = 1_000_000_000
_PERIOD_S = 0.5
# After so many collections of younger objects, the survivors are set aside.
_MOST_COLLECTIONS = 20
# Looking at so many objects takes some ten milliseconds.
_QUICKLY_CHECKED = 200_000
_IDLE_PERIODS = 4
_LONG_IDLE_PERIODS = 600


def tune() -> None:
    """Let threads switch often, and never look at all objects at once."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.freeze()


async def collect_garbage(count_open: Callable[[], int]) -> None:
    """Set aside what has lived long, until cancelled. Collect all garbage when no request was open for a while."""
    idle = 0
    is_clean = False
    # How long the server must be idle. Counting what was set aside takes long, so it is done only when it is idle.
    needed = _IDLE_PERIODS
    while True:
        await asyncio.sleep(_PERIOD_S)
        idle = 0 if count_open() else idle + 1
        younger = gc.get_count()[2]
        is_clean = is_clean and not younger
        if younger > _MOST_COLLECTIONS:
            gc.freeze()
            needed = _IDLE_PERIODS
        if is_clean or idle < needed:
            continue
        if needed == _IDLE_PERIODS and gc.get_freeze_count() > _QUICKLY_CHECKED:
            needed = _LONG_IDLE_PERIODS
            continue
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        is_clean = True
