"""The distinct shapes among the requests of many scenarios."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from couchdal.http.json_text import JSON


def distinct(scenarios: list[dict[str, JSON]]) -> tuple[list[JSON], int]:
    """Return scenarios without those that add no shape, in the order of their names, and the number of shapes."""
    seen: set[str] = set()
    kept: list[JSON] = []
    for scenario in sorted(scenarios, key=lambda one: str(one["name"])):
        steps = scenario["steps"]
        assert isinstance(steps, list)
        last = -1
        for at, step in enumerate(steps):
            assert isinstance(step, dict)
            shape = shape_of(step)
            if shape not in seen:
                seen.add(shape)
                last = at
        if last >= 0:
            kept.append({**scenario, "steps": steps[: last + 1]})
    return kept, len(seen)


def shape_of(step: Mapping[str, JSON]) -> str:
    """Return a text that is equal for steps that differ only in values."""
    request = step["request"]
    assert isinstance(request, dict)
    path = re.sub(r"\bs\d+\b|\$\{v\d+\}", "*", str(request["path"]))
    query = request.get("query")
    names = sorted(query) if isinstance(query, dict) else []
    outline = [request["method"], path, names, _outline(request.get("body")), "raw" in request, request.get("headers")]
    return json.dumps(outline, sort_keys=True)


def _outline(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _outline(member) for name, member in value.items()}
    if isinstance(value, list):
        return [*sorted({json.dumps(_outline(item), sort_keys=True) for item in value})]
    return type(value).__name__
