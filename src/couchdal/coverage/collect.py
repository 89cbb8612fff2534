"""API coverage counted by endpoint. The counts of several processes can be merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from couchdal.api.known_errors import ERRORS
from couchdal.api.parameters import ALIASES, OPERATORS, PARAMETERS, takes_selector
from couchdal.api.routes import ROUTES
from couchdal.middleware.events import RequestEvent

KINDS = ("methods", "parameters", "operators", "errors")


class Coverage:
    """How often each method, parameter, operator and error of each endpoint was used."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, Counter[str]]] = {}

    def add(self, event: RequestEvent) -> None:
        """Count one request."""
        if event.endpoint is None:
            return
        counts = self._of(event.endpoint)
        counts["methods"]["GET" if event.method == "HEAD" else event.method] += 1
        counts["parameters"].update({ALIASES.get(name, name) for name in event.parameters})
        counts["operators"].update(event.operators)
        if event.error is not None:
            counts["errors"][f"{event.status} {event.error}" if event.status else event.error] += 1

    def _of(self, endpoint: str) -> dict[str, Counter[str]]:
        return self.counts.setdefault(endpoint, {kind: Counter() for kind in KINDS})

    def to_json(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the counts as JSON, sorted by name."""
        return {
            endpoint: {kind: dict(sorted(counter.items())) for kind, counter in kinds.items()}
            for endpoint, kinds in sorted(self.counts.items())
        }

    def merge(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        """Add the counts of another process (``to_json``)."""
        for endpoint, kinds in counts.items():
            for kind, counted in kinds.items():
                self._of(endpoint)[kind].update(dict(counted))


def summary(coverage: Coverage) -> dict[str, Any]:
    """Return what tests used of each endpoint, with counts, what they did not use, and the totals.

    ``unlisted`` has the used names that the API's tables do not have: a refused method, or a misspelt parameter.
    """
    listed: dict[str, Any] = {}
    seen = total = 0
    for route in ROUTES:
        if not route.is_listed:
            continue
        endpoint = route.pattern
        counts = coverage.counts.get(endpoint) or {kind: Counter() for kind in KINDS}
        known = {
            "methods": route.methods,
            "parameters": PARAMETERS.get(endpoint, ()),
            "operators": OPERATORS if takes_selector(route) else (),
            "errors": ERRORS.get(endpoint, ()),
        }
        never = {kind: [name for name in names if not counts[kind][name]] for kind, names in known.items()}
        total += sum(map(len, known.values()))
        seen += sum(map(len, known.values())) - sum(map(len, never.values()))
        listed[endpoint] = {
            "requests": counts["methods"].total(),
            "seen": {kind: dict(sorted(counts[kind].items())) for kind in KINDS},
            "never": never,
            "unlisted": {kind: sorted(counts[kind].keys() - set(known[kind])) for kind in KINDS if kind != "errors"},
        }
    used = sum(1 for entry in listed.values() if entry["requests"])
    return {"endpoints": listed, "seen": seen, "total": total, "endpoints_seen": used, "endpoints_total": len(listed)}
