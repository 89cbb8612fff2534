"""One call of CouchDB's: what to send, how to read what comes back, and the paths that name things.

Nothing is sent here, so that ``CouchDAL`` and ``AsyncCouchDAL`` share every line. Paths are relative to a database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature, signature
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from couchdal.backends.base import Backend
from couchdal.errors import IllegalDocId
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")
Selector: TypeAlias = Mapping[str, object]
# What callers may pass as a document: any mapping, so that typed dictionaries are welcome too.
Doc: TypeAlias = Mapping[str, object]


# A named tuple, because everybody imports this module and a dataclass takes five times as long to make.
class Operation(NamedTuple, Generic[T_co]):
    """One call of a ``database`` (the caller's where it is ``None``); ``read`` reads an answer that is not JSON."""

    method: str
    path: str
    payload: object = ABSENT
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    read: Callable[[Response], T_co] | None = None
    database: str | None = None

    def request(self, backend: Backend) -> Request:
        """Return the request, its path completed by the backend's database."""
        target = backend if self.database is None else backend.bind(self.database)
        return target.relative_request(self.method, self.path, self.payload, self.headers, self.body)

    def result(self, backend: Backend, response: Response) -> T_co:
        """Return the result, or raise the ``CouchError`` or ``BackendError`` that the answer amounts to."""
        if self.read is not None and response.status < 400:
            return self.read(response)
        return cast(T_co, backend.result(response))


def document_path(doc_id: str) -> str:
    """Return the path of a document, whatever characters its id has: it never names anything but that document.

    Raises ``IllegalDocId`` for an id that no document can have, and whose path would name something else.
    """
    if not isinstance(doc_id, str):
        raise TypeError(f"a document id must be text, not {type(doc_id).__name__}")
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix) and doc_id != prefix:
            return f"/{prefix}{quote(doc_id[len(prefix) :])}"
    if not doc_id:
        raise IllegalDocId("Document id must not be empty")
    if doc_id.startswith("_"):
        raise IllegalDocId("Only reserved document ids may start with underscore.")
    return "/" + quote(doc_id)


def local_path(doc_id: str) -> str:
    """Return the path of a local document, its id with or without ``_local/``."""
    return document_path("_local/" + doc_id.removeprefix("_local/"))


def attachment_path(doc_id: str, name: str) -> str:
    """Return the path of an attachment, which may have slashes in its name."""
    if not name:
        raise ValueError("an attachment must have a name")
    return f"{document_path(doc_id)}/{quote(name)}"


def add_query(path: str, params: Mapping[str, object] | None) -> str:
    """Return the path with more parameters in its query string."""
    more = encode_params(params) if params else ""
    return path + (more.replace("?", "&", 1) if "?" in path else more)


def query(**params: object) -> str:
    """Return a query string with its question mark: text as it stands, any other value as its JSON text."""
    return encode_params(params)


def encode_params(params: Mapping[str, object]) -> str:
    """Return ``?name=value&...`` for the parameters that are not ``None``, percent-encoded; else an empty string."""
    parts = []
    for name, value in params.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, separators=(",", ":"))
            parts.append(f"{quote(name)}={quote(text)}")
    return "?" + "&".join(parts) if parts else ""


def listed(values: Iterable[Item]) -> list[Item]:
    """Return the values as a list; raises ``TypeError`` for a single text, whose letters nobody means."""
    if isinstance(values, str):
        raise TypeError(f"a list is needed, not the text {values!r}")
    return list(values)


def present(members: Mapping[str, object]) -> dict[str, object]:
    """Return the members that are not ``None``."""
    return {name: value for name, value in members.items() if value is not None}


class _LaterSignature(Signature):
    """A method's signature, put together when somebody asks: all of them take longer than all other imports of ours."""

    def __init__(self, operation: Callable[..., object]) -> None:
        super().__init__()
        self._operation = operation

    @property
    def parameters(self) -> MappingProxyType[str, Parameter]:
        own = Parameter("self", Parameter.POSITIONAL_ONLY)
        return MappingProxyType({"self": own, **signature(self._operation).parameters})

    def replace(self, **changes: Any) -> Signature:  # type: ignore[override]
        # For a bound method, whose signature is an ordinary one: this one without its first parameter.
        return Signature(list(self.parameters.values())).replace(**changes)


def as_method(method: Callable[P, T], operation: Callable[..., object]) -> Callable[P, T]:
    """Give a client's method the name, the documentation and the signature of the call that it makes."""
    method.__name__ = method.__qualname__ = operation.__name__
    method.__doc__ = operation.__doc__
    method.__signature__ = _LaterSignature(operation)  # type: ignore[attr-defined]
    return method
