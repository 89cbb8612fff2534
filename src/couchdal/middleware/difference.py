"""Describes how two answers to one request differ."""

from __future__ import annotations

import json
from collections.abc import Mapping

from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.redaction import redacted_query
from couchdal.middleware.request_log import redacted_body
from couchdal.transcripts.normal_form import canonical_text

_MOST_SHOWN = 2000


def describe(number: int, request: Request, theirs: Mapping[str, JSON], ours: Mapping[str, JSON], where: str) -> str:
    query = f"?{redacted_query(request.query)}" if request.query else ""
    body = redacted_body(request)
    lines = [
        f"CouchDB and the emulator answer request {number} of this test differently{where and f' ({where})'}:",
        f"  {request.method} {request.path}{query}{'' if body is None else ' ' + _short(body)}",
        f"  CouchDB:      {_short(theirs)}",
        f"  the emulator: {_short(ours)}",
        f"  first difference: {first_difference(theirs, ours)}",
        "If a cluster or a setting of your server explains it, name the reason in the file of dal_known_differences."
        " Otherwise the emulator is wrong: please report this text.",
    ]
    return "\n".join(lines)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(text)} characters)"


def first_difference(theirs: JSON | Mapping[str, JSON], ours: JSON | Mapping[str, JSON], place: str = "") -> str:
    """Return the place of the first value that differs, and both values.

    >>> first_difference({"status": 200, "body": [1]}, {"status": 200, "body": [2]})
    'body.0 is 1 on CouchDB, 2 on the emulator'
    """
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            inner = f"{place}.{name}" if place else name
            if name not in ours:
                return f"{inner} is {_short(theirs[name])} on CouchDB, missing on the emulator"
            if name not in theirs:
                return f"{inner} is missing on CouchDB, {_short(ours[name])} on the emulator"
            if canonical_text(theirs[name]) != canonical_text(ours[name]):
                return first_difference(theirs[name], ours[name], inner)
    if isinstance(theirs, list) and isinstance(ours, list):
        for at, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            if canonical_text(one) != canonical_text(other):
                return first_difference(one, other, f"{place}.{at}")
        return f"{place} has {len(theirs)} items on CouchDB, {len(ours)} on the emulator"
    return f"{place} is {_short(theirs)} on CouchDB, {_short(ours)} on the emulator"
