"""Test reports: dumps of the databases of failed tests, and tests that differ between backends."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from couchdal.testing.isolation import default_backend
from couchdal.testing.marks import CHOICES

# Dumping a larger database would take too long.
_MAX_DUMPED = 10_000
_PHASES = ("setup", "call", "teardown")
# The outcomes of a test that ran to its end.
_TEARDOWN = "error in teardown"
_RAN = ("passed", "failed", "xfailed", "xpassed", _TEARDOWN)


def show_databases(item: pytest.Item, report: pytest.TestReport) -> None:
    """Dump the memory server's databases into pytest's temporary folder, and add the paths to the report."""
    lines = list(_dumped(item))
    if lines:
        report.sections.append(("couchdal: the databases when the test failed", "\n".join(lines)))


def _dumped(item: pytest.Item) -> Iterator[str]:
    backend = default_backend()
    request: pytest.FixtureRequest | None = getattr(item, "_request", None)
    if backend is None or request is None:
        return
    from couchdal.client import CouchDAL  # only for a failed test

    for name, database in sorted(backend.server.databases.items()):
        count = database.doc_count + database.doc_del_count
        if count == 0:
            continue
        if count > _MAX_DUMPED:
            yield f"{name}: {count} documents, too many to dump"
            continue
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        folder = factory.getbasetemp() / "dal" / re.sub(r"[^\w.-]+", "-", item.nodeid)[-150:]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{re.sub(r'[^a-z0-9_-]', '-', name)}.ndjson"
        CouchDAL(backend, database=name).dump(file)
        yield f"{name}: {count} document{'s' if count > 1 else ''} in {file}"


def show_differences(reporter: pytest.TerminalReporter) -> None:
    """List the tests whose outcomes on the two backends differ."""
    outcomes: dict[str, dict[str, str]] = {}
    reasons: dict[str, str] = {}
    for category in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in reporter.stats.get(category, ()):
            properties = dict(getattr(report, "user_properties", ()))
            backend, outcome = properties.get("dal_backend"), category
            if category == "error" and report.when == "teardown":
                outcome = _TEARDOWN
            elif backend is None and isinstance(report, pytest.TestReport) and report.when not in _PHASES:
                # A worker of xdist died in the test. Only its name says which backend it had.
                backend, outcome = _backend_in(report.nodeid), "crashed"
            if backend:
                test = _without(report.nodeid, str(backend))
                outcomes.setdefault(test, {})[str(backend)] = outcome
                if "dal_only" in properties:
                    reasons[test] = f" ({properties['dal_only']})"
    halves = {test: found for test, found in outcomes.items() if sum(one in _RAN for one in found.values()) < 2}
    judged = {test: found for test, found in outcomes.items() if test not in halves}
    differing = {test: found for test, found in judged.items() if len(set(found.values())) > 1}
    reporter.section("couchdal: memory and CouchDB")
    for test, found in differing.items():
        reporter.write_line(
            f"DIFFERS {test}: " + ", ".join(f"{found[backend]} on {backend}" for backend in sorted(found))
        )
    for test, found in halves.items():
        reporter.write_line(
            f"NOT COMPARED {test}: "
            + ", ".join(f"{found.get(backend, 'not run')} on {backend}" for backend in ("couch", "memory"))
            + reasons.get(test, "")
        )
    verdict = f"{len(judged) - len(differing)} tests agree, {len(differing)} differ"
    reporter.write_line(verdict + (f", {len(halves)} did not run on both" if halves else ""))


def _backend_in(nodeid: str) -> str | None:
    parameters = nodeid.partition("[")[2].removesuffix("]").split("-")
    return next((name for name in CHOICES if name in parameters), None)


def _without(nodeid: str, backend: str) -> str:
    """Return a test's id without the backend among its parameters."""
    name, bracket, parameters = nodeid.partition("[")
    kept = parameters.removesuffix("]").split("-")
    if backend in kept:
        kept.remove(backend)
    return f"{name}[{'-'.join(kept)}]" if bracket and kept else name
