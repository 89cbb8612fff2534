"""Known differences between a live server and the emulator, as a file of a test suite names them.

The file is TOML. Each entry has a reason, and chooses answers by ``method`` and ``endpoint``, both optional. ``ignore``
and ``unordered`` list dotted paths of an answer; without them, the answers are not compared at all:

    [[difference]]
    reason = "a cluster merges the changes of its shards in no fixed order"
    endpoint = "/{db}/_changes"
    unordered = ["body.results"]
    ignore = ["body.results.*.seq", "body.pending"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from couchdal.api.routes import ROUTES, endpoint_of
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.transcripts.normal_form import canonical_text, in_order, normalize

_PATTERNS = frozenset(route.pattern for route in ROUTES)
_TEXTS, _LISTS = ("reason", "method", "endpoint"), ("ignore", "unordered")


class KnownDifference(NamedTuple):
    """One entry of the file."""

    reason: str
    method: str | None = None
    endpoint: str | None = None
    ignore: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()

    def excuses(self, request: Request, theirs: Mapping[str, JSON], ours: Mapping[str, JSON]) -> bool:
        """Return whether this entry explains that two answers to a request differ."""
        if self.method not in (None, request.method) or self.endpoint not in (None, endpoint_of(request.path)):
            return False
        if not self.ignore and not self.unordered:
            return True
        shown = [canonical_text(in_order(normalize(answer, self.ignore), self.unordered)) for answer in (theirs, ours)]
        return shown[0] == shown[1]


def read_known_differences(file: Path) -> list[KnownDifference]:
    """Read a file of known differences. Raise ``ValueError`` with the file's name if it is wrong."""
    try:
        content = tomllib.loads(file.read_text("utf-8"))
        entries = content.pop("difference", [])
        if content or not isinstance(entries, list):
            raise ValueError(f"only [[difference]] entries are known, not {', '.join(content) or 'a table'}")
        return [_entry(entry) for entry in entries]
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def _entry(entry: Mapping[str, object]) -> KnownDifference:
    unknown = entry.keys() - {*_TEXTS, *_LISTS}
    if unknown:
        raise ValueError(f"unknown name {min(unknown)!r}; the names are {', '.join((*_TEXTS, *_LISTS))}")
    texts = {name: entry[name] for name in _TEXTS if name in entry}
    lists = {name: entry[name] for name in _LISTS if name in entry}
    if not texts.get("reason"):
        raise ValueError("each difference needs a reason")
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{', '.join(texts)} must be strings")
    if not all(isinstance(one, list) and all(isinstance(path, str) for path in one) for one in lists.values()):
        raise ValueError(f"{', '.join(lists)} must be lists of strings")
    endpoint = texts.get("endpoint")
    if endpoint is not None and endpoint not in _PATTERNS:
        raise ValueError(f"unknown endpoint {endpoint!r}; use a route's pattern, such as '/{{db}}/_find'")
    method = texts.get("method")
    return KnownDifference(
        str(texts["reason"]),
        None if method is None else str(method).upper(),
        None if endpoint is None else str(endpoint),
        *(tuple(str(path) for path in _listed(lists.get(name))) for name in _LISTS),
    )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
