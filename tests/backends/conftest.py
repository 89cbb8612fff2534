"""Handles on every backend, and a limit for the size of files, for the tests of this folder."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator

import pytest
from handles import backend, couch, dal, plain_environment

__all__ = ["backend", "couch", "dal", "file_size", "plain_environment"]


@pytest.fixture
def file_size() -> Iterator[Callable[[int | None], None]]:
    """A function that limits the size of files, or ends the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handled)
