"""A lock around everything that the exporters do, which no thread holds while the process forks.

The libraries have locks of their own. A forked process would wait forever for one that another thread held.
"""

from __future__ import annotations

import os
from threading import RLock

exporting: RLock = RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=exporting.acquire, after_in_parent=exporting.release, after_in_child=exporting.release)
