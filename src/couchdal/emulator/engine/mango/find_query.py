"""Parse the bodies of ``_find``, ``_explain`` and ``_index``: check each member in CouchDB's order.

This module does not know databases. The error texts are CouchDB's. Source: ``mango_opts``, ``mango_sort``,
``mango_fields``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.documents.partition import validate_partition
from couchdal.emulator.engine.erlang.term_text import pretty_term, print_term
from couchdal.emulator.engine.mango.selector import Selector, normalize_selector
from couchdal.errors import BadRequest, CouchError, IllegalPartition, ServerError

DEFAULT_LIMIT = 25
_REQUIRED: Final = object()


class FindQuery(NamedTuple):
    """A parsed query with a normalized selector. If ``fields`` is None, the answer contains whole documents."""

    selector: Selector
    use_index: list[str]
    bookmark: str | None
    limit: int
    skip: int
    sort: list[tuple[str, str]]
    fields: list[object] | None
    partition: str
    r: int
    conflicts: bool
    stale: str | bool
    update: bool
    stable: bool
    execution_stats: bool
    allow_fallback: bool

    @property
    def is_updating(self) -> bool:
        """Whether the index is brought up to date before it is read."""
        return self.update and self.stale != "ok"


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """A parsed request for an index. None stands for an option that the request does not name."""

    index: object
    type: str
    name: str | None
    ddoc: str | None
    w: int
    partitioned: bool | None


def parse_find_query(body: Mapping[str, object]) -> FindQuery:
    """Return the query of a ``_find`` or ``_explain`` body. Raise ``CouchError`` for the first invalid member."""
    return FindQuery(**_parse(body, _FIND))  # type: ignore[arg-type]


def parse_index_request(body: Mapping[str, object]) -> IndexRequest:
    """Return the request of a ``POST /_index`` body. Raise ``CouchError`` for the first invalid member."""
    return IndexRequest(**_parse(body, _INDEX_REQUEST))  # type: ignore[arg-type]


def parse_index_definition(value: object) -> dict[str, object]:
    """Return an index definition as CouchDB stores it: fields with directions, and a normalized partial filter."""
    if type(value) is not dict:
        raise BadRequest(f"JSON indexes must be an object, not: {print_term(value)}", error="invalid_index")
    members = _parse(value, _INDEX_DEFINITION)
    fields = members["fields"]
    assert isinstance(fields, list)
    members["fields"] = dict(fields)
    return members


def parse_bulk_delete(body: Mapping[str, object]) -> list[object]:
    """Return the design document names of a ``_index/_bulk_delete`` body. Raise ``CouchError``."""
    names = _parse(body, _BULK_DELETE)["docids"]
    assert isinstance(names, list)
    return names


def _parse(body: Mapping[str, object], allowed: _Members) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, (default, parse) in allowed.items():
        if name in body:
            values[name] = parse(body[name])
        elif default is _REQUIRED:
            raise BadRequest(f"Missing required key: {name}", error="missing_required_key")
        else:
            values[name] = default
    for name in body:
        if name not in allowed:
            raise BadRequest(f"Invalid key {name} for this request.", error="invalid_key")
    return values


def _selector(value: object) -> Selector:
    if type(value) is not dict:
        reason = f"Selector must be a JSON object, not: {print_term(value)}"
        raise BadRequest(reason, error="invalid_selector_json")
    return normalize_selector(value)


def parse_use_index(value: object) -> list[str]:
    """Return the design document and the index that ``use_index`` names: no, one or two names.

    Raise ``invalid_index_name``.
    """
    if type(value) is str:
        parts = value.split("/")
        if parts[0] == "_design" and len(parts) in (2, 3):
            return parts[1:]
        if len(parts) <= 2:
            return parts
    elif value is None:
        return []
    elif type(value) is list and len(value) <= 2 and all(type(item) is str for item in value):
        return value
    raise BadRequest(f"Invalid index name: {print_term(value)}", error="invalid_index_name")


def _bookmark(value: object) -> str | None:
    if value is None or value == "":
        return None
    if type(value) is not str:
        raise _unknown("invalid_bookmark", value)
    return value


def _unknown(word: str, value: object) -> CouchError:
    """Return the error for a value for which CouchDB has no error text."""
    return ServerError(f"Unknown Error: mango_opts :: {{{word},{print_term(value)}}}")


def _natural(value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    reason = f"{print_term(value)} is not an integer greater than or equal to zero"
    raise BadRequest(reason, error="invalid_non_neg_integer")


def parse_positive(value: object) -> int:
    """Return a positive integer. Raise ``invalid_pos_integer``."""
    if type(value) is int and value > 0:
        return value
    raise BadRequest(f"{print_term(value)} is not an integer greater than zero", error="invalid_pos_integer")


def _boolean(value: object) -> bool:
    if type(value) is bool:
        return value
    raise BadRequest(f"Invalid boolean value: {print_term(value)}", error="invalid_boolean")


def _ok_or_false(value: object) -> str | bool:
    if value == "ok":
        return "ok"
    if value == "false" or value is False:
        return False
    raise _unknown("invalid_ok_or_false_value", value)


def parse_sort(value: object) -> list[tuple[str, str]]:
    """Return pairs of field and direction. Raise ``CouchError`` for malformed fields and for mixed directions."""
    if type(value) is not list:
        raise BadRequest(_append("Sort must be an array of sort specs, not: ", value), error="invalid_sort_json")
    fields = [_sort_field(item) for item in value]
    if len({direction for _, direction in fields}) > 1:
        reason = "Sorts currently only support a single direction for all fields."
        raise BadRequest(reason, error="unsupported_mixed_sort")
    return fields


def _sort_field(value: object) -> tuple[str, str]:
    if type(value) is str and value:
        return value, "asc"
    if type(value) is dict and len(value) == 1:
        ((name, direction),) = value.items()
        if direction in ("asc", "desc"):
            return name, direction
    raise BadRequest(_append("Invalid sort field: ", value), error="invalid_sort_field")


def _append(text: str, value: object) -> str:
    return text + pretty_term(value, len(text) + 1)


def parse_fields(value: object) -> list[str] | None:
    """Return the fields of a projection, or None for whole documents. Raise ``invalid_fields``, ``invalid_field``."""
    if type(value) is not list:
        reason = f"Fields must be an array of strings, not: {print_term(value)}"
        raise BadRequest(reason, error="invalid_fields")
    for item in value:
        if type(item) is not str and type(item) is not dict:
            raise BadRequest(f"Invalid JSON for field spec: {print_term(item)}", error="invalid_field")
    return value or None


def _partition(value: object) -> str:
    if type(value) is not str:
        raise IllegalPartition("Partition must be a string")
    if value:
        validate_partition(value)
    return value


def _anything(value: object) -> object:
    return value


def _string(value: object) -> str:
    if type(value) is not str:
        raise BadRequest(f"Invalid string: {print_term(value)}", error="invalid_string")
    return value


def _name(value: object) -> str:
    if value == "":
        raise BadRequest("Index name or ddoc cannot be empty string", error="invalid_empty_string")
    return _string(value)


def _partitioned(value: object) -> bool:
    if type(value) is not bool:
        raise _unknown("invalid_partitioned_value", value)
    return value


def _design_names(value: object) -> list[object]:
    if type(value) is not list:
        reason = f"Bulk Delete requires an array of non-null docids. Docids: {print_term(value)}"
        raise BadRequest(reason, error="invalid_bulk_docs")
    for item in value:
        parse_use_index(item)
    return value


_Members: TypeAlias = "dict[str, tuple[object, Callable[[object], object]]]"

# The members of each body in the order in which CouchDB checks them: the default and the function that parses a value.
_FIND: _Members = {
    "selector": (_REQUIRED, _selector),
    "use_index": ([], parse_use_index),
    "bookmark": (None, _bookmark),
    "limit": (DEFAULT_LIMIT, _natural),
    "skip": (0, _natural),
    "sort": ([], parse_sort),
    "fields": (None, parse_fields),
    "partition": ("", _partition),
    "r": (1, parse_positive),
    "conflicts": (False, _boolean),
    "stale": (False, _ok_or_false),
    "update": (True, _boolean),
    "stable": (False, _boolean),
    "execution_stats": (False, _boolean),
    "allow_fallback": (True, _boolean),
}
_INDEX_REQUEST: _Members = {
    "index": (_REQUIRED, _anything),
    "type": ("json", _string),
    "name": (None, _name),
    "ddoc": (None, _name),
    "w": (2, parse_positive),
    "partitioned": (None, _partitioned),
}
_INDEX_DEFINITION: _Members = {
    "fields": (_REQUIRED, parse_sort),
    "partial_filter_selector": ({}, _selector),
}
_BULK_DELETE: _Members = {"docids": (_REQUIRED, _design_names), "w": (2, parse_positive)}
