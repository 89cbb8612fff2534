"""The process that ``couchdal serve`` runs: how its threads switch, when it collects garbage, and how it ends in time.

From time to time, Python's garbage collector looks at every object for reference cycles, and no thread can work
meanwhile: with a million documents, that takes seconds. The emulator's data has no cycles. So old objects are frozen:
the collector looks at them only when the server is idle.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import sleep

# How long a thread runs before another one may. The event loop waits this long for its turn, more than once per
# request.
_SWITCH_INTERVAL_S = 0.0005
_NEVER = 1_000_000_000
_PERIOD_S = 0.5
# After this many collections of younger objects, the survivors are frozen.
_MOST_COLLECTIONS = 20
# A collection of this many objects takes tens of milliseconds.
_QUICKLY_CHECKED = 200_000
_IDLE_PERIODS = 4
_LONG_IDLE_PERIODS = 600
# The parameter of glibc's ``mallopt`` (see malloc.h), and the size in bytes of blocks that go back to the system.
_M_MMAP_THRESHOLD = -3
_RETURNED = 1 << 18
# A process that does not end in time is ended this much later: by a thread, by faulthandler, by the system's alarm.
_LATE_S, _LATER_S, _LATEST_S = 0.25, 0.35, 0.45


def tune() -> None:
    """Let threads switch often, return freed memory, and never collect the oldest generation automatically."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with suppress(AttributeError, OSError):
        # By default, glibc keeps larger and larger blocks that were freed, for each thread.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _RETURNED)
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.freeze()


async def collect_garbage(count_open: Callable[[], int]) -> None:
    """Freeze old objects, until cancelled. Collect all garbage when no request was open for a while."""
    idle = 0
    is_clean = False
    # How long the server must be idle. Counting the frozen objects takes long, so do that only when it is idle.
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


def end_within(grace_s: float, describe: Callable[[], str]) -> None:
    """End this process after ``grace_s`` seconds if it has not ended by itself. Another signal ends it at once.

    A thread writes ``describe()`` to standard error and ends the process. If a native call holds the interpreter's
    lock, so that the thread cannot run, faulthandler writes where all threads are and ends the process. If nobody reads
    standard error, so that both must wait, the system's alarm ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, grace_s + _LATEST_S)

    def end() -> None:
        sleep(grace_s + _LATE_S)
        with suppress(OSError):
            os.write(2, f"couchdal: the server did not end within {grace_s:g} s; {describe()}\n".encode())
        os._exit(1)

    # If memory does not suffice for another thread, the alarm remains.
    with suppress(RuntimeError):
        faulthandler.dump_traceback_later(grace_s + _LATER_S, exit=True, file=2)
        threading.Thread(target=end, name="last resort", daemon=True).start()
