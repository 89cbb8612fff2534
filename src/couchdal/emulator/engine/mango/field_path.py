"""Field paths in selectors and projections: ``a.b``, or ``a\\.b`` for one name that contains a dot.

This module does not know selectors. Source: ``mango_util:parse_field``, ``mango_doc``, ``mango_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.errors import BadRequest, CouchError, ServerError

_SEPARATOR = re.compile(r"(?<!\\)\.")


class Missing:
    """The type of ``NOT_FOUND`` and ``BAD_PATH``, the two results for a path without a value."""

    __slots__ = ()


# An object on the path does not have the next name.
NOT_FOUND: Final = Missing()
# The path leads through a value without members, or beyond the end of an array.
BAD_PATH: Final = Missing()


def parse_field(field: str) -> list[str]:
    """Return the parts of a field path. Raise ``BadRequest`` (``invalid_field_name``) for an empty part."""
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
    """Return the value at a path, ``NOT_FOUND`` or ``BAD_PATH``. In an array, a part is an index."""
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


def set_member(into: Mapping[str, object], path: Sequence[str], value: object) -> dict[str, object]:
    """Return a copy of an object with a value set at a path. Missing containers become objects, never arrays.

    In an existing array, CouchDB sets the item before the one that the index names, and fails for index 0.
    """
    name, rest = path[0], path[1:]
    members = dict(into)
    members[name] = _set(members.get(name, {}), rest, value) if rest else value
    return members


def _set(into: object, path: Sequence[str], value: object) -> object:
    if type(into) is dict:
        return set_member(into, path, value)
    if type(into) is list:
        name, rest = path[0], path[1:]
        index = parse_integer(name)
        if index is not None and 0 <= index < len(into):
            item = _set(into[index], rest, value) if rest else value
            if index == 0:
                raise ServerError("function_clause", error="unknown_error")
            return [*into[: index - 1], item, *into[index:]]
    return into


Projection: TypeAlias = "Callable[[Mapping[str, object]], dict[str, object]]"


def compile_projection(fields: Sequence[object]) -> Projection:
    """Return a function that projects a document: it returns the named fields in the order of the paths.

    The result shares its values with the document. The function raises ``CouchError`` for an invalid path, because
    CouchDB checks the paths only when it projects a document.
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
    # CouchDB projects twice: on the shard, and where it assembles the answer. The second time matters only for paths
    # with array indexes.
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
            projected = set_member(projected, path, value)
    return projected
