"""``--dal-record-requests=FILE``: writes the shapes of the requests that a test run makes, for ``couchdal certify``.

A test is kept up to its last request of a new shape. A test without one is left out.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.config import read_settings
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.middleware.chain import Steps, install
from couchdal.transcripts.distinct import distinct
from couchdal.transcripts.replayable import NotRecorded
from couchdal.transcripts.shapes import Exchange, scenario_of

_OUTPUT = "dal_requests"


class RecordingPlugin:
    """Collects the requests of each test. Runs with ``--dal-record-requests`` register it."""

    def __init__(self, config: pytest.Config, file: str) -> None:
        self._file = Path(config.invocation_params.dir) / file
        self._exchanges: list[Exchange] = []
        self._scenarios: list[dict[str, JSON]] = []
        self._left_out: list[str] = []
        self._remove = install(self._keep)
        self._is_worker = hasattr(config, "workerinput")

    def _keep(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        # The emulator may change the value of a request while it answers.
        kept = request.with_body(body=request.content()) if request.stream is None else None
        response = yield request
        if kept is not None:
            self._exchanges.append(Exchange.of(kept, response))
        return response

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._exchanges = []
        try:
            return (yield)
        finally:
            self._add(item.nodeid)

    def _add(self, name: str) -> None:
        if not self._exchanges:
            return
        try:
            database = read_settings().database or "default"
            self._scenarios.append(scenario_of(name, self._exchanges, database))
        except NotRecorded as why:
            self._left_out.append(f"{name}: {why}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._remove()
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = (self._scenarios, self._left_out)
            return
        kept, shapes = distinct(self._scenarios)
        self._file.write_text(json.dumps({"shapes": shapes, "scenarios": kept}, indent=1) + "\n", "utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        scenarios, left_out = getattr(node, "workeroutput", {}).get(_OUTPUT, ((), ()))
        self._scenarios += scenarios
        self._left_out += left_out

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        kept, shapes = distinct(self._scenarios)
        terminalreporter.section("couchdal: recorded requests")
        for line in self._left_out:
            terminalreporter.write_line(f"not recorded: {line}")
        terminalreporter.write_line(
            f"{shapes} different requests of {len(kept)} tests written to {self._file}; run couchdal certify"
        )
