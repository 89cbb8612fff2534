"""Fixtures for all tests: an emulator that is served over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from effort import examples
from hypothesis import HealthCheck, settings
from raw_http import stopping_servers

from couchdal.backends.base import Backend
from couchdal.backends.memory import MemoryBackend
from couchdal.server.application import Application
from couchdal.server.listener import address_of, listen, serve
from couchdal.transcripts.scenario import RECORDED_ADMIN

# Slowness on a loaded machine is not a failure.
settings.register_profile(
    "couchdal", max_examples=examples(100, 1000), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("couchdal")


@pytest.fixture
def no_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the middleware that other tests of this process have installed on servers of their own."""
    monkeypatch.setattr(Backend, "drivers", None)


@pytest.fixture(autouse=True)
def _no_server_outlives_its_test() -> Iterator[None]:
    with stopping_servers():
        yield


@pytest.fixture(scope="session")
def served_emulator() -> MemoryBackend:
    """The emulator at ``served_address``."""
    return MemoryBackend(admin=RECORDED_ADMIN)


@pytest.fixture(scope="session")
def served_address(served_emulator: MemoryBackend) -> str:
    """The address of a served emulator. Its admin is the one in the transcripts. Its thread ends with the tests."""
    listener = listen("127.0.0.1", 0)
    application = Application(served_emulator)
    ready = threading.Event()
    threading.Thread(target=serve, args=(application, listener, ready.set), daemon=True).start()
    assert ready.wait(10)
    return address_of(listener)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Add to a figure, which is shown below the tests' results."""
    return lambda what, count: record_property(_FIGURE + what, count)


_FIGURE = "figure: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the systematic tests tried, summed over all tests and processes."""
    figures: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    if name.startswith(_FIGURE) and isinstance(value, int):
                        figures[name] = figures.get(name, 0) + value
    if figures:
        terminalreporter.section("figures")
        for name, count in sorted(figures.items()):
            terminalreporter.write_line(f"{name.removeprefix(_FIGURE)}: {count:,}")
