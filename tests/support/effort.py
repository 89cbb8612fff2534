"""How many random cases the tests try: few in `make test`, many in `make soak`."""

from __future__ import annotations

import os


def examples(quick: int, soak: int) -> int:
    """Return the number of examples for this run. `make soak` sets the variable ``SOAK``."""
    return soak if os.environ.get("SOAK") else quick
