"""The normal form of answers: replaces values that differ between servers by placeholders.

``tests/parity/README.md`` lists the placeholders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from couchdal.http.json_text import JSON


def as_object(value: JSON) -> dict[str, JSON]:
    """Return a JSON object. Raise ``TypeError`` for any other value."""
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, not {value!r}")
    return value


def as_array(value: JSON) -> list[JSON]:
    """Return a JSON array. Raise ``TypeError`` for any other value."""
    if not isinstance(value, list):
        raise TypeError(f"expected a JSON array, not {value!r}")
    return value


def as_text(value: JSON) -> str:
    """Return a text. Raise ``TypeError`` for any other value."""
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {value!r}")
    return value


def expand(value: JSON, values: Mapping[str, JSON]) -> JSON:
    """Return a value with its placeholders replaced. A text that is one placeholder becomes its value."""
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
    """Return a value with known values replaced by their placeholders: the opposite of ``expand``."""
    if isinstance(value, str):
        # Replace longer values first: a saved id may contain the database's name.
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
    """Return an answer with placeholders for the values that may differ between servers."""
    shown = dict(answer)
    headers = dict(cast("dict[str, str]", answer.get("headers", {})))
    if "etag" in headers and not re.fullmatch(r'"\d+-[^"]*"', headers["etag"]):
        headers["etag"] = "<etag>"
    shown["headers"] = cast(JSON, headers)
    for part in ("body", "lines"):
        if part in shown:
            shown[part] = _normalize(shown[part], (part,))
    for dotted in ignore:
        shown = as_object(_replace(shown, dotted.split("."), lambda value: "<ignored>"))
    return shown


def _normalize(value: JSON, path: tuple[str, ...]) -> JSON:
    if isinstance(value, list):
        return [_normalize(item, (*path, "*")) for item in value]
    if isinstance(value, dict):
        # The "ref" of an internal error is a checksum. In a document it is an ordinary field.
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
    """Return an answer with the lists at these paths sorted by their text."""
    shown = dict(answer)
    for dotted in unordered:
        shown = as_object(_replace(shown, dotted.split("."), _in_text_order))
    return shown


def _in_text_order(value: JSON) -> JSON:
    return sorted(value, key=canonical_text) if isinstance(value, list) else value


def _replace(value: JSON, path: Sequence[str], change: Callable[[JSON], JSON]) -> JSON:
    """Return a copy with the value at a path changed. ``*`` in the path means every item."""
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
    """Return the value as JSON text with sorted keys: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
