"""Decide which requests the proxy may repeat, and how long it waits before."""

from __future__ import annotations

from dataclasses import dataclass
from random import random

from couchdal.api.routes import Route
from couchdal.http.messages import Request, Response
from couchdal.http.urls import parse_query

# Statuses which mean that the server did nothing.
REPEATED = frozenset((429, 503))


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to ``most`` repetitions. Each pause is random, between 0 and a limit that doubles (full jitter)."""

    most: int = 2
    first_s: float = 0.05
    longest_s: float = 2.0

    def pause_s(self, made: int, response: Response | None) -> float:
        """Return the seconds to wait after ``made`` requests: at least what the server asks for, within bounds."""
        asked = "" if response is None else response.headers.get("retry-after", "")
        least = float(asked) if asked.isdigit() else 0.0
        return min(self.longest_s, max(least, random() * self.first_s * 2.0**made))


def is_repeatable(request: Request, route: Route) -> bool:
    """Return whether a request that is sent twice changes no more than one that is sent once.

    Reads are repeatable, and so are writes of existing revisions (``new_edits: false``). A streamed body can be sent
    only once.
    """
    if request.stream is not None:
        return False
    if request.method in ("GET", "HEAD", "OPTIONS") or request.method in route.reading:
        return True
    if ("new_edits", "false") in parse_query(request.query):
        return request.method in ("PUT", "POST")
    if route.pattern.endswith("/_bulk_docs"):
        body = request.value()
        return isinstance(body, dict) and body.get("new_edits") is False
    return False
