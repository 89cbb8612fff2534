"""``--dal-backend=compare``: tests run on CouchDB, and the memory server answers each of their requests, too.

The first answer that differs fails the test that sent the request. The memory server answers as in a run on memory, so
requests without credentials are an administrator's there.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from couchdal.backends.memory import default_backend
from couchdal.middleware.chain import install
from couchdal.middleware.comparison import Comparison
from couchdal.middleware.known import KnownDifference, read_known_differences
from couchdal.testing.either import is_compared
from couchdal.testing.frames import own_frame
from couchdal.testing.live import LiveDatabases
from couchdal.testing.mapping import MAPPING

_OUTPUT = "dal_compared"
# These values depend on the user. On the memory server, the test is an administrator without a name.
_ADMIN = KnownDifference(
    "the memory server needs no credentials",
    endpoint="/_session",
    ignore=("body.userCtx", "body.info.authenticated"),
)


def start(config: pytest.Config, live: LiveDatabases) -> None:
    """Compare the answers of a live run. Raise ``pytest.UsageError`` for a wrong file of known differences."""
    file = config.getini("dal_known_differences")
    try:
        known = read_known_differences(config.rootpath / file) if file else []
    except ValueError as error:
        raise pytest.UsageError(f"dal_known_differences: {error}") from None
    mapping = config.stash[MAPPING]
    comparison = Comparison(
        default_backend(),
        # A test that chose its backend is not compared.
        lambda backend: mapping.concerns(backend.server_key) and is_compared(),
        [*known, _ADMIN],
        where=_line_of_test,
        existing=lambda: [name for name in (live.default, *live.existing) if live.exists(name)],
    )
    # Inside of faults, which apply to both servers, and outside of the mapping to private names.
    config.add_cleanup(install(comparison.compare, innermost=True, outermost=True))
    config.pluginmanager.register(ComparePlugin(comparison), "dal-compare")


class ComparePlugin:
    """Fails each test at its first answer that differs."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._comparison.begin()
        return (yield from self._judged())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._judged())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._judged())

    def _judged(self) -> Generator[None, object, object]:
        """Run a phase of a test, and fail it if an answer differed. If it fails itself, add a note to its error."""
        before = self._comparison.difference
        try:
            result = yield
        finally:
            found, error = self._comparison.difference, sys.exc_info()[1]
            if found is not before and error is not None:
                error.add_note(str(found))
        if found is not before:
            pytest.fail(str(found), pytrace=False)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = (self._comparison.compared, dict(self._comparison.excused))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        compared, excused = getattr(node, "workeroutput", {}).get(_OUTPUT, (0, {}))
        self._comparison.compared += compared
        self._comparison.excused += Counter(excused)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("couchdal: CouchDB and the emulator")
        terminalreporter.write_line(f"{self._comparison.compared} answers compared")
        for reason, count in sorted(self._comparison.excused.items()):
            terminalreporter.write_line(f"{count} differ as known: {reason}")


def _line_of_test() -> str:
    """Return the file and line of the test that sent the current request; its id if a client sent it to a server."""
    frame = own_frame(sys._getframe(1))
    if frame is None:
        return os.environ.get("PYTEST_CURRENT_TEST", "another thread")
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
