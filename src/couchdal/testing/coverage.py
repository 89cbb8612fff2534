"""Coverage of the data-access layer: collected in every process of a test run, merged and reported once.

Each report is imported when it is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from couchdal.coverage.collect import Coverage, summary
from couchdal.middleware.events import observe

FORMATS = ("term", "html", "json")
_OUTPUT = "dal_coverage"


def parse_formats(values: Sequence[str]) -> list[str]:
    """Return the formats that the option names; it can be repeated. Raise ``pytest.UsageError``."""
    formats = [name for text in values for name in text.split(",")]
    wrong = [name for name in formats if name not in FORMATS]
    if wrong:
        raise pytest.UsageError(
            f"unknown format {wrong[0]!r} for --dal-coverage; use {', '.join(FORMATS)}, or several separated by commas."
            " Write --dal-coverage=term before a path."
        )
    return formats


class CoveragePlugin:
    """Collects and reports coverage. Runs with ``--dal-coverage`` register it."""

    def __init__(self, config: pytest.Config, formats: list[str]) -> None:
        self._coverage = Coverage()
        self._formats = formats
        self._folder = Path(config.invocation_params.dir)
        self._end: Callable[[], None] = observe(self._coverage.add)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._end()
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = self._coverage.to_json()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._coverage.merge(getattr(node, "workeroutput", {}).get(_OUTPUT, {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("coverage of the data-access layer")
        if "term" in self._formats:
            from couchdal.coverage.report import lines

            for line in lines(self._coverage):
                terminalreporter.write_line(line)
        if "html" in self._formats:
            from couchdal.coverage.html import page

            self._write(terminalreporter, "dal-coverage.html", page(self._coverage))
        if "json" in self._formats:
            self._write(terminalreporter, "dal-coverage.json", json.dumps(summary(self._coverage), indent=1) + "\n")

    def _write(self, reporter: pytest.TerminalReporter, name: str, text: str) -> None:
        file = self._folder / name
        file.write_text(text, "utf-8")
        reporter.write_line(f"written to {file}")
