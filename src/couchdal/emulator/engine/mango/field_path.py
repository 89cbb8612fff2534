"""Field paths of selectors and projections: ``a.b``, with ``\\.`` for a dot that belongs to a name.

It knows nothing of selectors. Source: ``mango_util:parse_field``, ``mango_doc``, ``mango_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.errors import BadRequest, CouchError, ServerError

_SEPARATOR = re.compile(r"(?<!\\)\.")


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


def get_field(value: Any, path: Sequence[str]) -> object:
    """Return what a path leads to, ``NOT_FOUND`` or ``BAD_PATH``; numbers count the items of an array."""
    for name in path:
        if type(value) is dict:
            value = value.get(name, NOT_FOUND)
            if value is NOT_FOUND:
                return value
        elif type(value) is list:
            index = parse_integer(name)
            if index is None or not 0 <= index < len(value):
                return BAD_PATH
            value = value[index]
        else:
            return BAD_PATH
    return value


def set_field(into: object, path: Sequence[str], value: object) -> object:
    """Return a copy of a value with another one put at a path, with objects made on the way: for array indexes, too.

    Where there is an array already, CouchDB puts the value one place too early, and falls over the index 0.
    """
    name, rest = path[0], path[1:]
    if type(into) is dict:
        members = dict(cast("dict[str, object]", into))
        members[name] = set_field(members.get(name, {}), rest, value) if rest else value
        return members
    if type(into) is list:
        index = parse_integer(name)
        if index is not None and 0 <= index < len(into):
            item = set_field(into[index], rest, value) if rest else value
            if index == 0:
                raise ServerError("function_clause", error="unknown_error")
            return [*into[: index - 1], item, *into[index:]]
    return into


Projection: TypeAlias = "Callable[[Mapping[str, object]], dict[str, object]]"


def compile_projection(fields: Sequence[object]) -> Projection:
    """Return a function that gives the members of a document that some field paths name, in the order of the paths.

    What it gives shares its parts with the document. It raises ``CouchError`` for a field that is no path: CouchDB
    notices when a document is projected.
    """
    try:
        paths = [parse_field(_checked(field)) for field in fields]
    except CouchError as error:
        failure = error

        def fail(document: Mapping[str, object]) -> dict[str, object]:
            raise failure

        return fail
    if all(len(path) == 1 for path in paths):
        names = [path[0] for path in paths]
        return lambda document: {name: document[name] for name in names if name in document}
    if all(parse_integer(name) is None for path in paths for name in path):
        return lambda document: _project(document, paths)
    # CouchDB projects twice, once where the document is and once where the answer is put together. It shows only where
    # array indexes are among the paths.
    return lambda document: _project(_project(document, paths), paths)


def _checked(field: object) -> str:
    if type(field) is not str:
        raise ServerError("badarg", error="unknown_error")
    return field


def _project(document: Mapping[str, object], paths: Sequence[Sequence[str]]) -> dict[str, object]:
    projected: dict[str, object] = {}
    for path in paths:
        value = get_field(document, path)
        if not isinstance(value, Missing):
            projected = cast("dict[str, object]", set_field(projected, path, value))
    return projected
