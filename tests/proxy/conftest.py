"""Fixtures: a proxy in front of the tests' own servers, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from raw_http import Served, Upstream, Wire

from couchdal.proxy.nodes import State
from couchdal.proxy.proxy import Proxy
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options


class ServedOptions(Served):
    """The application for some options, on a port."""

    def __init__(self, **flags: object) -> None:
        quiet = {"backend": "couch", "health_interval": "3600", "breaker_pause": "60"}
        self.start(build_application(read_options({**quiet, **flags}, {})))
        self._wait_for_checks()

    def _wait_for_checks(self) -> None:
        """Wait for the first health checks, which would otherwise run at any time during a test."""
        assert isinstance(self.application.backend, Proxy)
        nodes, end = self.application.backend.nodes.nodes, time.monotonic() + 10
        while any(node.state is State.UNKNOWN for node in nodes):
            assert time.monotonic() < end
            time.sleep(0.002)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def serve_proxy(upstream: Upstream) -> Iterator[Callable[..., Wire]]:
    """A function that starts a proxy with some options for the upstream, or for others, and connects to it."""
    with ExitStack() as opened:

        def make(*others: Upstream, **flags: object) -> Wire:
            servers = others or (upstream,)
            served = ServedOptions(upstream=[server.url for server in servers], **flags)
            wire = opened.enter_context(closing(Wire(served.port)))
            wire.served = served
            return wire

        yield make
