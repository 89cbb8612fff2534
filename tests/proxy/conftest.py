"""A proxy before servers of the tests' own, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from raw_http import Served, Upstream, Wire

from couchdal.server.assembly import build_application
from couchdal.server.options import read_options


class Standing(Served):
    """The application that options describe, on a port."""

    def __init__(self, **flags: object) -> None:
        quiet = {"backend": "couch", "health_interval": "3600", "breaker_pause": "60"}
        self.start(build_application(read_options({**quiet, **flags}, {})))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def stand(upstream: Upstream) -> Iterator[Callable[..., Wire]]:
    """A function that puts a proxy with some options before the upstream, or others, and connects to it."""
    with ExitStack() as opened:

        def make(*others: Upstream, **flags: object) -> Wire:
            servers = others or (upstream,)
            standing = Standing(upstream=[server.url for server in servers], **flags)
            wire = opened.enter_context(closing(Wire(standing.port)))
            wire.standing = standing
            return wire

        yield make
