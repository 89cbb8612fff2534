"""Documents as objects of a class: pydantic models, msgspec structs and dataclasses.

Each is converted by the functions of its own library. No library is imported here: a caller that passes a class has
loaded it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from couchdal.operations.dataclass_values import build, plain

if TYPE_CHECKING:
    from couchdal.types import Document

T = TypeVar("T")


class InvalidDocument(ValueError):
    """A document does not fit the class that it was read as. The cause is the error of the class's library."""

    def __init__(self, kind: str, doc_id: str, reason: str) -> None:
        self.kind: str = kind
        self.doc_id: str = doc_id
        self.reason: str = reason
        super().__init__(f"the document {doc_id!r} is not a {kind}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.kind, self.doc_id, self.reason))


class _Library(Protocol):
    """How a library converts objects of its classes."""

    def members(self) -> dict[str, str]:
        """Return the member of a document for each attribute of the class."""

    def decode(self, doc: Mapping[str, object]) -> object:
        """Return the object of a document. Raise ``ValueError`` or ``TypeError``."""

    def encode(self, value: object) -> dict[str, object]:
        """Return the document of an object."""

    def replace(self, value: object, changes: dict[str, object]) -> object:
        """Return a copy of an object with other attributes."""


class Codec(Generic[T]):
    """Converts between documents and objects of a class. Raise ``TypeError`` for a class that has no ``_id``."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        self._library = _library_of(cls)
        self._members = self._library.members()
        attributes = {member: attribute for attribute, member in self._members.items()}
        # Attributes named id and rev stand for _id and _rev if the class has no field for these.
        self._renamed = "_id" not in attributes and {"id", "rev"} <= attributes.keys()
        names = ("id", "rev") if self._renamed else ("_id", "_rev")
        if not attributes.keys() >= {*names}:
            raise TypeError(
                f"{cls.__name__} has no fields for _id and _rev: add fields that are called _id and _rev in a"
                " document, or fields called id and rev; both must be optional"
            )
        self.id_attribute: str = attributes[names[0]]
        self.rev_attribute: str = attributes[names[1]]

    def knows(self, member: str) -> bool:
        """Return whether the class has a field for a member of a document."""
        return member in self._members.values() or member in ("_id", "_rev")

    def decode(self, doc: Mapping[str, object]) -> T:
        """Return the object of a document. Raise ``InvalidDocument`` if the document does not fit the class."""
        given = dict(doc)
        if self._renamed:
            given["id"], given["rev"] = given.pop("_id", None), given.pop("_rev", None)
        try:
            return cast("T", self._library.decode(given))
        except (ValueError, TypeError) as error:
            raise InvalidDocument(self.cls.__name__, str(doc.get("_id")), _reason(error)) from error

    def encode(self, value: T) -> Document:
        """Return the document of an object, without ``_id`` and ``_rev`` if they are empty."""
        if not isinstance(value, self.cls):
            raise TypeError(f"expected a {self.cls.__name__}, not {type(value).__name__}")
        doc = self._library.encode(value)
        if self._renamed:
            doc["_id"], doc["_rev"] = doc.pop("id"), doc.pop("rev")
        for name in ("_id", "_rev"):
            if not doc.get(name):
                doc.pop(name, None)
        return cast("Document", doc)

    def identified(self, value: T, doc_id: str, rev: str) -> T:
        """Return the object with its id and revision: the same one, or a copy if it is frozen."""
        changes: dict[str, object] = {self.id_attribute: doc_id, self.rev_attribute: rev}
        try:
            for attribute, text in changes.items():
                setattr(value, attribute, text)
        except (AttributeError, ValueError):
            return cast("T", self._library.replace(value, changes))
        return value


class _Model:
    """A pydantic model."""

    def __init__(self, cls: type) -> None:
        self._cls: _ModelClass = cast("_ModelClass", cls)

    def members(self) -> dict[str, str]:
        return {
            name: field.serialization_alias or field.alias or name for name, field in self._cls.model_fields.items()
        }

    def decode(self, doc: Mapping[str, object]) -> object:
        return self._cls.model_validate(doc)

    def encode(self, value: object) -> dict[str, object]:
        return cast("_ModelObject", value).model_dump(mode="json", by_alias=True)

    def replace(self, value: object, changes: dict[str, object]) -> object:
        return cast("_ModelObject", value).model_copy(update=changes)


class _ModelField(Protocol):
    alias: str | None
    serialization_alias: str | None


class _ModelClass(Protocol):
    model_fields: Mapping[str, _ModelField]

    def model_validate(self, obj: object) -> object: ...


class _ModelObject(Protocol):
    def model_dump(self, *, mode: str, by_alias: bool) -> dict[str, object]: ...

    def model_copy(self, *, update: dict[str, object]) -> object: ...


class _Struct:
    """A msgspec struct."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._msgspec = sys.modules["msgspec"]

    def members(self) -> dict[str, str]:
        fields: tuple[str, ...] = getattr(self._cls, "__struct_fields__", ())
        encoded: tuple[str, ...] = getattr(self._cls, "__struct_encode_fields__", ())
        return dict(zip(fields, encoded, strict=True))

    def decode(self, doc: Mapping[str, object]) -> object:
        try:
            return cast("object", self._msgspec.convert(doc, self._cls))
        except self._msgspec.ValidationError as error:
            raise ValueError(str(error)) from error

    def encode(self, value: object) -> dict[str, object]:
        return cast("dict[str, object]", self._msgspec.to_builtins(value))

    def replace(self, value: object, changes: dict[str, object]) -> object:
        return cast("object", self._msgspec.structs.replace(value, **changes))


class _Dataclass:
    """A dataclass."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def members(self) -> dict[str, str]:
        return {field.name: field.name for field in dataclasses.fields(self._cls)}

    def decode(self, doc: Mapping[str, object]) -> object:
        return build(self._cls, doc, "")

    def encode(self, value: object) -> dict[str, object]:
        return cast("dict[str, object]", plain(value))

    def replace(self, value: object, changes: dict[str, object]) -> object:
        copied: object = dataclasses.replace(value, **changes)  # type: ignore[type-var]
        return copied


def _library_of(cls: type) -> _Library:
    if isinstance(cls, type):
        if hasattr(cls, "model_validate") and hasattr(cls, "model_fields"):
            return _Model(cls)
        if hasattr(cls, "__struct_fields__") and "msgspec" in sys.modules:
            return _Struct(cls)
        if dataclasses.is_dataclass(cls):
            return _Dataclass(cls)
    raise TypeError(f"{cls!r} is not a pydantic model, a msgspec struct or a dataclass")


def _reason(error: Exception) -> str:
    """Return in one line what is wrong. A pydantic error lists its faults by field."""
    faults = getattr(error, "errors", None)
    if not callable(faults):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults())
