"""The API coverage as text for a terminal: a paragraph for each used endpoint, and the names of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from couchdal.coverage.collect import KINDS, Coverage, summary


def lines(coverage: Coverage) -> Iterator[str]:
    """Yield the lines of the report."""
    found = summary(coverage)
    unmet = [endpoint for endpoint, entry in found["endpoints"].items() if not entry["requests"]]
    for endpoint, entry in found["endpoints"].items():
        if entry["requests"]:
            yield f"{endpoint}  ({requests(entry['requests'])})"
            yield from _paragraph(entry)
    if unmet:
        yield "never met: " + ", ".join(unmet)
    yield (
        f"{found['endpoints_met']} of {found['endpoints_there']} endpoints,"
        f" {found['met']} of {found['there']} methods, parameters, operators and errors"
    )


def requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _paragraph(entry: Mapping[str, Any]) -> Iterator[str]:
    for kind in KINDS:
        met, never = entry["met"][kind], entry["never"].get(kind, ())
        if met:
            yield f"  {kind:<10} " + ", ".join(f"{name} {count}" for name, count in met.items())
        if never:
            yield f"  {'' if met else kind:<10} never: " + ", ".join(never)
