"""Field paths of selectors and projections: ``a.b``, with ``\\.`` for a dot that belongs to a name.

It knows nothing of selectors. Source: ``mango_util:parse_field``, ``mango_doc``, ``mango_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast

from dal.errors import BadRequest

_SEPARATOR = re.compile(r"(?<!\\)\.")
_INDEX = re.compile(r"[+-]?[0-9]+\Z")


class Missing:
    """The type of ``NOT_FOUND`` and ``BAD_PATH``: what stands where a path leads to no value."""

    __slots__ = ()


# The last name is missing from an object; the path leads through something that has no members.
NOT_FOUND: Final = Missing()
BAD_PATH: Final = Missing()


def parse_field(field: str) -> list[str]:
    """Return the parts of a field path; raises ``BadRequest`` (``invalid_field_name``) for an empty part."""
    if "\\" not in field:
        parts = field.split(".")
        if "" in parts:
            raise BadRequest(f"Invalid field name: {field}", error="invalid_field_name")
        return parts
    parts = _SEPARATOR.split(field)
    if "" in parts:
        raise BadRequest(f"Invalid field name: {field}", error="invalid_field_name")
    return [part.replace("\\", "") for part in parts]


def get_field(value: object, path: Sequence[str]) -> object:
    """Return what a path leads to, ``NOT_FOUND`` or ``BAD_PATH``; numbers count the items of an array."""
    for name in path:
        if type(value) is dict:
            members = cast("dict[str, object]", value)
            if name not in members:
                return NOT_FOUND
            value = members[name]
        elif type(value) is list:
            index = int(name) if _INDEX.match(name) else -1
            if not 0 <= index < len(value):
                return BAD_PATH
            value = value[index]
        else:
            return BAD_PATH
    return value


def set_field(into: dict[str, object], path: Sequence[str], value: object) -> None:
    """Put a value at a path of a projection, making objects on the way: of array indexes, too."""
    for name in path[:-1]:
        found = into.get(name)
        if type(found) is not dict:
            found = into[name] = {}
        into = cast("dict[str, object]", found)
    into[path[-1]] = value


def project(document: dict[str, object], paths: Sequence[Sequence[str]]) -> dict[str, object]:
    """Return the members of a document that some field paths name, in the order of the paths."""
    projected: dict[str, object] = {}
    for path in paths:
        value = get_field(document, path)
        if not isinstance(value, Missing):
            set_field(projected, path, value)
    return projected
