"""Print each benchmark's time as a multiple of its yardstick's time in the same run."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    times: dict[str, dict[str, float]] = {}
    targets: dict[str, float | None] = {}
    for benchmark in session.benchmarks:
        role = benchmark.extra_info.get("role")
        if role:
            times.setdefault(benchmark.group, {})[role] = benchmark.stats.min
            targets[benchmark.group] = benchmark.extra_info["target"]
    terminalreporter.section("ratios: couchdal's time over the yardstick's (the least is the best)")
    for benchmark in session.benchmarks:
        spent = benchmark.extra_info.get("milliseconds_a_test")
        if spent is not None:
            verdict = _verdict(spent, benchmark.extra_info.get("milliseconds_allowed"))
            terminalreporter.write_line(f"{benchmark.name:<72} {spent:8.3f} ms a test{verdict}")
        rate = benchmark.extra_info.get("requests_a_second")
        if rate is not None and "slowest" not in benchmark.name:
            slowest = benchmark.extra_info["p99_ms"]
            terminalreporter.write_line(f"{benchmark.name:<72} {rate:8.0f} requests a second, p99 {slowest:.2f} ms")
    for group, by_role in times.items():
        if {"couchdal", "yardstick"} <= by_role.keys():
            ratio, target = by_role["couchdal"] / by_role["yardstick"], targets[group]
            terminalreporter.write_line(f"{group:<72} {ratio:8.3f}{_verdict(ratio, target)}")


def _verdict(found: float, allowed: float | None) -> str:
    return "" if allowed is None else f"   at most {allowed:<7.3f} {'met' if found <= allowed else 'MISSED'}"
