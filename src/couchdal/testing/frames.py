"""Which code is a test's or an application's, and not a library's."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from types import FrameType

import pytest


def own_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame, from this one outwards, that is not within a library or couchdal."""
    while frame is not None and frame.f_code.co_filename.startswith(_libraries()):
        frame = frame.f_back
    return frame


@cache
def _libraries() -> tuple[str, ...]:
    paths = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    # Another virtual environment may have pytest and the other libraries.
    return (*paths, str(Path(pytest.__file__).parents[1]), str(Path(__file__).parents[1]), "<")
