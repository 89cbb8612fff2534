"""Dataclasses from JSON values and back. The annotations decide; an annotation that is not listed takes any value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C")

_PLAIN: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    NoneType: "null",
}


def build(hint: object, value: object, at: str) -> object:
    """Return the value that an annotation describes. Raise ``ValueError`` that names the place ``at``."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build_dataclass(hint, value, at)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if isinstance(hint, type) and hint in _PLAIN:
        return _checked(hint, value, at)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _build_union(args, value, at)
    if origin is Literal and value not in args:
        raise ValueError(f"{at}: expected one of {', '.join(map(repr, args))}, not {value!r}")
    if isinstance(origin, type) and issubclass(origin, Mapping):
        members = _expect(value, dict, "an object", at)
        return {name: build(args[-1], member, f"{at}.{name}") for name, member in members.items()}
    if isinstance(origin, type) and issubclass(origin, (Sequence, set, frozenset)):
        items = _expect(value, list, "a list", at)
        # The annotation tuple[int, str] has a type for each place; all others have one type for all items.
        hints = args if origin is tuple and args[-1] is not ... else [args[0]] * len(items)
        if len(hints) != len(items):
            raise ValueError(f"{at}: expected {len(hints)} items, not {len(items)}")
        built = [build(kind, item, f"{at}[{n}]") for n, (kind, item) in enumerate(zip(hints, items, strict=True))]
        return origin(built) if origin in (tuple, set, frozenset) else built
    return value


def _build_dataclass(cls: type, value: object, at: str) -> object:
    members = _expect(value, dict, "an object", at)
    try:
        hints: Mapping[str, object] = get_type_hints(cls)
    except NameError:
        # A class defined inside a function: its annotations may name types that only this function knows.
        hints = {}
    given = {}
    for field in dataclasses.fields(cls):
        if field.init and field.name in members:
            inner = f"{at}.{field.name}" if at else field.name
            given[field.name] = build(hints.get(field.name), members[field.name], inner)
        elif field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{at + '.' if at else ''}{field.name}: is missing")
    return cls(**given)


def _build_union(args: tuple[object, ...], value: object, at: str) -> object:
    errors = []
    for arg in args:
        try:
            return build(arg, value, at)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(" or ".join(errors))


def _checked(hint: type, value: object, at: str) -> object:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = is_number if hint is float else isinstance(value, hint) and (hint is not int or is_number)
    if not fits:
        raise ValueError(f"{at}: expected {_PLAIN[hint]}, not {value!r:.60}")
    return value


def _expect(value: object, kind: type[C], name: str, at: str) -> C:
    if not isinstance(value, kind):
        raise ValueError(f"{at or 'the document'}: expected {name}, not {value!r:.60}")
    return value


def plain(value: object) -> object:
    """Return a value of JSON's types: dataclasses become objects, and enumerations their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value
