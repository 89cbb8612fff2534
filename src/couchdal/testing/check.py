"""``--dal-check``: check the data of every memory server that a test used, and fail the test that broke them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.memory import MemoryBackend, existing_default_backend
from couchdal.emulator.engine.server.server import Server
from couchdal.http.messages import Request
from couchdal.middleware.chain import Steps, install


class CheckPlugin:
    """Checks the servers that a test's requests reach. Runs with ``--dal-check`` register it."""

    def __init__(self, config: pytest.Config) -> None:
        # The servers that were used since the last check. A test may have no other reference to them at its end.
        self._used: dict[int, Server] = {}
        config.add_cleanup(install(self._note))

    def _note(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        server = backend.server_key
        if isinstance(server, Server):
            self._used[id(server)] = server
        return (yield request)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        result = yield
        default = existing_default_backend()
        if default is not None:
            self._used[id(default.server)] = default.server
        used, self._used = self._used, {}
        wrong = [found for server in used.values() for found in MemoryBackend(server=server).check()]
        if wrong:
            pytest.fail("\n".join(["The data of the memory server are inconsistent:", *wrong]), pytrace=False)
        return result
