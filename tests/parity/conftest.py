"""Run the transcripts on the emulator in several ways, or on the server that ``COUCHDB_URL`` names."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import unquote, urlsplit

import pytest
from raw_http import Served, stopping_servers
from stored_state import state_of
from targets import SocketBackend, Target

from couchdal.backends.couch import CouchBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.backends.sqlite import SqliteBackend
from couchdal.emulator.engine.server.server import Server
from couchdal.http.messages import Request, Response
from couchdal.interception.intercept import intercept
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.proxy import Proxy
from couchdal.server.assembly import build_application
from couchdal.server.javascript_workers import Workers
from couchdal.server.options import read_options
from couchdal.transcripts.scenario import RECORDED_ADMIN


class _EveryDatabase(AllowList):
    """An allow-list that allows all databases, CouchDB's own included."""

    def check_database(self, name: str | None) -> None:
        pass


def pause_of(emulator: MemoryBackend) -> Callable[[float], None]:
    """Return a function that lets time pass at once, and with it all that the server does by itself."""

    def pause(seconds: float) -> None:
        emulator.clock.advance(seconds)
        emulator.settle()

    return pause


@pytest.fixture(scope="session")
def proxied_address(served_address: str) -> Iterator[str]:
    """The address of a proxy that forwards every request to the served emulator."""
    flags = {"backend": "couch", "upstream": [served_address], "allow": ["/", "/{rest...}"]}
    application = build_application(read_options(flags, {}))
    # Transcripts use names such as "_replicator" and "_foo", which no pattern allows.
    assert isinstance(application.backend, Proxy)
    application.backend.allow_list = _EveryDatabase(flags["allow"])
    with stopping_servers():
        served = Served.__new__(Served)
        served.start(application)
        yield f"http://127.0.0.1:{served.port}"


def intercepted(way: str, opened: ExitStack) -> Target:
    """Return the emulator behind a client whose requests are intercepted until ``opened`` is closed."""
    from http_clients import CLIENTS  # not installed for the quick tests on other versions of Python

    emulator = MemoryBackend(admin=RECORDED_ADMIN)
    address = f"http://{way}.example:5984"
    opened.enter_context(intercept(address, backend=emulator))
    client = CLIENTS[way.removeprefix("intercepted-")](address)
    opened.callback(client.close)
    return Target(way, client, pause_of(emulator), emulator=emulator)


@pytest.fixture(scope="module")
def stored_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteBackend]:
    """An emulator with a data file, which must hold the same data in the end."""
    backend = SqliteBackend(tmp_path_factory.mktemp("parity") / "data.db", admin=RECORDED_ADMIN, synchronous="OFF")
    yield backend
    before = state_of(backend.server)
    backend.close()
    opened = SqliteBackend(backend.path, read_only=True)
    assert state_of(opened.server) == before
    assert opened.check() == []
    opened.close()


class ReopenedBackend(SqliteBackend):
    """Closes its file after each request. The next one finds documents and indexes on the disk."""

    def send(self, request: Request) -> Response:
        answer = super().send(request)
        self.close()
        return answer


@pytest.fixture(scope="module")
def reopened_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteBackend]:
    """An emulator that goes on from its data file with each request."""
    path = tmp_path_factory.mktemp("reopened") / "data.db"
    backend = ReopenedBackend(path, admin=RECORDED_ADMIN, synchronous="OFF")
    yield backend
    assert backend.check() == []
    backend.close()


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, served_emulator: MemoryBackend) -> Iterator[Target]:
    """The server for each way. All transcripts share it, as they shared one server when they were recorded."""
    with ExitStack() as opened:
        yield target_of(request, served_emulator, opened)


def target_of(request: pytest.FixtureRequest, served_emulator: MemoryBackend, opened: ExitStack) -> Target:
    way: str = request.param
    if way.startswith("intercepted-"):
        return intercepted(way, opened)
    if way == "memory":
        emulator = MemoryBackend(admin=RECORDED_ADMIN)
        return Target(way, emulator, pause_of(emulator), emulator=emulator)
    if way in ("sqlite", "reopened"):
        stored: SqliteBackend = request.getfixturevalue("stored_emulator" if way == "sqlite" else "reopened_emulator")
        return Target(way, stored, pause_of(stored), emulator=stored)
    if way == "workers":
        # The workers end with the tests.
        emulator = MemoryBackend(server=Server(dict([RECORDED_ADMIN]), javascript=Workers(most=2)))
        return Target(way, emulator, pause_of(emulator), emulator=emulator)
    if way != "live":
        address: str = request.getfixturevalue("proxied_address" if way == "proxy" else "served_address")
        # No credentials here: each request has those that its transcript names.
        backend = CouchBackend(address) if way == "http" else SocketBackend(address)
        return Target(way, backend, pause_of(served_emulator), emulator=served_emulator)
    parts = urlsplit(os.environ["COUCHDB_URL"])
    backend = CouchBackend(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return Target(way, backend, time.sleep, (unquote(parts.username or "admin"), unquote(parts.password or "")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many scenarios and steps agree, by area and by way."""
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "parity" and report.when == "call":
                    where, area, agreed, steps = value
                    for key in (area, "all"):
                        row = counts[where][key]
                        row[0] += agreed == steps
                        row[1] += 1
                        row[2] += agreed
                        row[3] += steps
    for where, areas in sorted(counts.items()):
        terminalreporter.section(f"parity: {where}")
        terminalreporter.line(f"{'area':<22}{'scenarios':>14}{'steps':>16}")
        for area, (scenarios, of_scenarios, steps, of_steps) in sorted(
            areas.items(), key=lambda i: (i[0] == "all", i[0])
        ):
            terminalreporter.line(f"{area:<22}{scenarios:>7} of {of_scenarios:>3}{steps:>8} of {of_steps:>4}")
