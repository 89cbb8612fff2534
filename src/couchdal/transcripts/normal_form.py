"""The normal form of answers: what may differ between two servers is replaced by a word for what it stands for.

It compares text and knows nothing of requests, backends or CouchDB's rules. The placeholders are listed in
``tests/parity/README.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from couchdal.http.json_text import JSON


def expand(value: JSON, values: Mapping[str, JSON]) -> JSON:
    """Replace placeholders by their values; a string that is nothing but one placeholder becomes the value itself."""
    if isinstance(value, str):
        for placeholder, known in values.items():
            if value == placeholder:
                return known
            if placeholder in value:
                value = value.replace(placeholder, known if isinstance(known, str) else json.dumps(known))
        return value
    if isinstance(value, list):
        return [expand(item, values) for item in value]
    if isinstance(value, dict):
        return {str(expand(name, values)): expand(member, values) for name, member in value.items()}
    return value


def contract(value: JSON, values: Mapping[str, JSON]) -> JSON:
    if isinstance(value, str):
        # Longer values first: a saved id may contain the database's name.
        for placeholder, known in sorted(values.items(), key=lambda item: -len(str(item[1]))):
            if isinstance(known, str) and known:
                value = value.replace(known, placeholder)
        return value
    if isinstance(value, list):
        return [contract(item, values) for item in value]
    if isinstance(value, dict):
        return {str(contract(name, values)): contract(member, values) for name, member in value.items()}
    return value


def normalize(answer: Mapping[str, JSON], ignore: Sequence[str] = ()) -> dict[str, JSON]:
    """Return an answer with the values that may differ between servers replaced by what they stand for."""
    shown = dict(answer)
    headers = dict(cast("dict[str, str]", answer.get("headers", {})))
    if "etag" in headers and not re.fullmatch(r'"\d+-[^"]*"', headers["etag"]):
        headers["etag"] = "<etag>"
    shown["headers"] = cast(JSON, headers)
    for part in ("body", "lines"):
        if part in shown:
            shown[part] = _normalize(shown[part], (part,))
    for dotted in ignore:
        shown = cast("dict[str, JSON]", _replace(shown, dotted.split("."), lambda value: "<ignored>"))
    return shown


def _normalize(value: JSON, path: tuple[str, ...]) -> JSON:
    if isinstance(value, list):
        return [_normalize(item, (*path, "*")) for item in value]
    if isinstance(value, dict):
        # An internal error's "ref" is a checksum; in a document it is a field like another.
        return {
            name: "<number>" if name == "ref" and "error" in value and type(member) is int
            else _normalize(member, (*path, name))
            for name, member in value.items()
        }  # fmt: skip
    name, parent = path[-1], path[-2:-1]
    if name in ("seq", "last_seq", "update_seq", "purge_seq"):
        if type(value) is int and parent == ("view_index",):  # a view's index counts in plain integers
            return f"<seq:{value}>"
        found = re.fullmatch(r"(\d+)-\S+", value) if isinstance(value, str) else None
        return f"<seq:{found[1]}>" if found else value
    if isinstance(value, str):
        if name == "bookmark" and value != "nil":
            return "<bookmark>"
        if name == "instance_start_time":
            return "<timestamp>"
        if path in (("body", "uuid"), ("body", "uuids", "*")):
            return "<opaque>"
    elif type(value) in (int, float) and (name == "execution_time_ms" or parent == ("sizes",)):
        return "<number>"
    return value


def in_order(answer: Mapping[str, JSON], unordered: Sequence[str]) -> dict[str, JSON]:
    shown = dict(answer)
    for dotted in unordered:
        shown = cast("dict[str, JSON]", _replace(shown, dotted.split("."), _in_text_order))
    return shown


def _in_text_order(value: JSON) -> JSON:
    return sorted(value, key=canonical_text) if isinstance(value, list) else value


def _replace(value: JSON, path: Sequence[str], change: Callable[[JSON], JSON]) -> JSON:
    """Return a copy in which what stands at a path is changed; ``*`` is every item."""
    if not path:
        return change(value)
    part, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {
            name: _replace(member, rest, change) if part in ("*", name) else member for name, member in value.items()
        }
    if isinstance(value, list):
        return [_replace(item, rest, change) if part in ("*", str(i)) else item for i, item in enumerate(value)]
    return value


def canonical_text(value: JSON) -> str:
    """Return text that is equal for equal values of equal JSON types, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
