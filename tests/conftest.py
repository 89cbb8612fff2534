"""What tests of several folders share: an emulator that answers over HTTP."""

from __future__ import annotations

import threading

import pytest

from couchdal.backends.memory import MemoryBackend
from couchdal.server.application import Application
from couchdal.server.listener import address_of, listen, serve
from couchdal.transcripts.scenario import RECORDED_ADMIN


@pytest.fixture(scope="session")
def served_emulator() -> MemoryBackend:
    """The emulator behind ``served_address``."""
    return MemoryBackend(admin=RECORDED_ADMIN)


@pytest.fixture(scope="session")
def served_address(served_emulator: MemoryBackend) -> str:
    """The address of an emulator whose admin is the transcripts', in a thread that ends with the tests."""
    listener = listen("127.0.0.1", 0)
    application = Application(served_emulator)
    ready = threading.Event()
    threading.Thread(target=serve, args=(application, listener, ready.set), daemon=True).start()
    assert ready.wait(10)
    return address_of(listener)
