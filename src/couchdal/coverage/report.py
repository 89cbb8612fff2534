"""The API coverage as text for a terminal: a paragraph for each used endpoint, and the names of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from couchdal.coverage.collect import KINDS, Coverage, summary


def lines(coverage: Coverage) -> Iterator[str]:
    """Yield the lines of the report."""
    found = summary(coverage)
    unseen = [endpoint for endpoint, entry in found["endpoints"].items() if not entry["requests"]]
    for endpoint, entry in found["endpoints"].items():
        if entry["requests"]:
            yield f"{endpoint}  ({requests(entry['requests'])})"
            yield from _paragraph(entry)
    if unseen:
        yield "never seen: " + ", ".join(unseen)
    yield (
        f"{found['endpoints_seen']} of {found['endpoints_total']} endpoints,"
        f" {found['seen']} of {found['total']} methods, parameters, operators and errors"
    )


def requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def _paragraph(entry: Mapping[str, Any]) -> Iterator[str]:
    for kind in KINDS:
        seen, never = entry["seen"][kind], entry["never"].get(kind, ())
        if seen:
            yield f"  {kind:<10} " + ", ".join(f"{name} {count}" for name, count in seen.items())
        if never:
            yield f"  {'' if seen else kind:<10} never: " + ", ".join(never)
