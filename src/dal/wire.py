"""Requests, responses and JSON text as CouchDB reads and writes them.

It knows nothing of routes, documents or sockets: bytes and JSON values in, bytes and JSON values out.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, Protocol, TypeAlias, cast

from dal.errors import BadContentType, BadRequest, from_answer

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"


class Absent:
    """The type of ``ABSENT``: no body at all, which is not the same as the JSON value ``null``."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent()


# Not frozen, only because a frozen one takes thrice as long to make, and one is made for every call.
@dataclass(slots=True)
class Request:
    """One request, not to be changed: ``path`` and ``query`` still percent-encoded as they stood in the request line.

    Header names are lower case. A body is either ``body`` (its bytes) or ``json`` (a value that is already decoded,
    checked and not shared with anyone); both absent means an empty body. ``announces_body`` is whether the head told of
    a body, be it an empty one. ``peer`` is the client's address. Only backends that stream take a ``stream``: an
    asynchronous iterator of the body's bytes, which can be read once.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    json: object = ABSENT
    peer: str = "127.0.0.1"
    stream: object = None
    announces_body: bool = True

    def __repr__(self) -> str:
        # Headers and bodies carry credentials, and a repr ends up in logs and in failing tests.
        return f"<Request {self.method} {self.path}{'?' if self.query else ''}{self.query}>"

    def content(self) -> bytes:
        """Return the body as bytes, whichever way it was given."""
        return self.body if self.json is ABSENT else encode_json(self.json)

    def value(self) -> JSON:
        """Return the decoded body, which is shared; ``None`` where there is none, or none that is JSON."""
        if self.json is not ABSENT:
            return cast(JSON, self.json)
        if not self.body or "json" not in self.headers.get("content-type", ""):
            return None
        try:
            return decode_json(self.body)
        except BadRequest:
            return None


def is_feed(request: Request) -> bool:
    """Whether the answer may be long in coming: a changes feed that waits."""
    if not request.path.rstrip("/").endswith(("/_changes", "/_db_updates")):
        return False
    # CouchDB does not tell capitals apart in the names of these parameters.
    feeds = (part.partition("=")[2] for part in request.query.lower().split("&") if part.startswith("feed="))
    return any(feed not in ("", "normal") for feed in feeds)


class Feed(Protocol):
    """A response that goes on: polled without blocking, so that a thread and an event loop can both drive it."""

    def poll(self) -> tuple[bytes, float | None]:
        """Return what there is to send now, and after how many seconds to poll again; ``None`` when it has ended."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, from any thread, whenever a poll may give more than the last one did."""

    def close(self) -> None:
        """Forget the subscription. Safe to call twice."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks, blocking between them, until the feed has ended."""


@dataclass(slots=True)
class Response:
    """One answer. Its body is ``json`` (decoded, owned by the receiver), or ``body``, or ``stream`` (chunks).

    ``stream`` is a ``Feed`` from memory, an iterator of bytes from a blocking client, an asynchronous one from an
    asynchronous client.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    json: object = ABSENT
    body: bytes = b""
    stream: object = None

    def content(self) -> bytes:
        """Return the whole body as bytes. CouchDB ends every JSON body with a newline."""
        if self.stream is not None:
            self.body, self.stream = b"".join(cast("Iterable[bytes]", self.stream)), None
        return self.body if self.json is ABSENT else encode_json(self.json) + b"\n"

    def value(self) -> JSON:
        """Return the decoded body; ``None`` where it is empty, text where it is not JSON."""
        if self.json is not ABSENT:
            return cast(JSON, self.json)
        content = self.content()
        if not content:
            return None
        try:
            return decode_json(content)
        except BadRequest:
            return content.decode("utf-8", "replace")

    def result(self) -> JSON:
        """Return the decoded body, or raise the ``CouchError`` of a status >= 400."""
        if self.status >= 400:
            raise from_answer(self.status, self.value(), self.headers)
        return self.value()


# --- JSON text -------------------------------------------------------------------------------------------------------

# Rules go through values by recursion, and whoever calls may stand deep in the interpreter's stack already.
MOST_DEPTH = 300
_EXACT = frozenset((int, bool, type(None)))
_ATOMIC = _EXACT | {float}
_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} does not fit a double")
    return number


def _object_of_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    # Of a duplicate key, CouchDB keeps the last value at the last position.
    members = {}
    for name, value in pairs:
        members.pop(name, None)
        members[name] = value
    return members


_DECODER = _json.JSONDecoder(
    object_pairs_hook=_object_of_pairs, parse_constant=_refuse_constant, parse_float=_parse_float
)
_ENCODER = _json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)


def decode_json(data: bytes) -> JSON:
    """Return the value of a JSON text as CouchDB reads it; raises ``BadRequest("invalid UTF-8 JSON")``."""
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        # An escape such as \ud800 is the one way in which decoded text can hold what UTF-8 cannot.
        if "\\u" in text and _holds_surrogate(value):
            raise ValueError("a lone surrogate is not JSON")
    except (ValueError, RecursionError):
        raise BadRequest("invalid UTF-8 JSON") from None
    return cast(JSON, value)


def decode_request(data: bytes) -> JSON:
    """Return the value of a JSON text that a client sent, likewise; what ``is_deep`` is refused as no JSON is."""
    value = decode_json(data)
    if data.count(b"{") + data.count(b"[") > MOST_DEPTH and is_deep(value):
        raise BadRequest("invalid UTF-8 JSON")
    return value


def is_deep(value: object) -> bool:
    """Whether arrays and objects stand within each other more than ``MOST_DEPTH`` times."""
    level: list[Any] = [[value]]
    depth = -1
    while level and depth < MOST_DEPTH:
        parts = [item.values() if type(item) is dict else item for item in level]
        level = [member for part in parts for member in part if type(member) in (dict, list)]
        depth += 1
    return bool(level)


def _holds_surrogate(value: object) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_holds_surrogate(name) or _holds_surrogate(member) for name, member in value.items())
    return isinstance(value, list) and any(map(_holds_surrogate, value))


def encode_json(value: object) -> bytes:
    """Return a value as compact UTF-8 JSON, keys in their order."""
    return _ENCODER.encode(value).encode()


def copy_json(value: object, most_depth: int = 2 * MOST_DEPTH) -> JSON:
    """Return a deep copy of a JSON value; tuples become lists.

    Raises ``TypeError`` for a type that JSON does not have (``datetime``, ``set``, a key that is not text) and
    ``ValueError`` for one that it cannot say (NaN, a lone surrogate) or that is nested more deeply (or holds itself).
    """
    try:
        return _copy(value, most_depth)
    except RecursionError:
        raise ValueError("the value is nested too deeply, or holds itself") from None


# The two functions below run for every value of every payload: hence the untyped locals and the order of the tests.


def _copy(value: Any, left: int) -> JSON:
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        if not left:
            raise RecursionError
        if kind is dict:
            return _copy_members(value, left - 1)
        return [item if type(item) is int else _copy(item, left - 1) for item in value]
    if kind is str:
        if not value.isascii() and _SURROGATE.search(value):
            raise ValueError("a lone surrogate is not JSON")
        return cast(str, value)
    if kind is float and not isfinite(value):
        raise ValueError(f"{value!r} is not JSON")
    return cast(JSON, value) if kind in _ATOMIC else _copy_subclass(value, left)


def _copy_members(members: dict[Any, Any], left: int) -> dict[str, JSON]:
    copied = members.copy()
    for name, member in members.items():
        kind = type(member)
        if kind is str:
            if member.isascii():
                continue
        elif kind in _EXACT:
            continue
        copied[name] = _copy(member, left)
    try:
        plain = "".join(copied).isascii()
    except TypeError:
        plain = False
    # Keys that could be a subclass of str, or hold a surrogate, are looked at one by one.
    return copied if plain else {_copy_key(name): member for name, member in copied.items()}


def _copy_key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a key of a JSON object must be text, not {type(name).__name__}")
    return str(_copy(str(name), 0))


def _copy_subclass(value: object, left: int) -> JSON:
    # Subclasses (an IntEnum, an OrderedDict, a str subclass) are taken for the JSON type that they extend.
    if isinstance(value, str):
        return _copy(str.__str__(value), left)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _copy(float(value), left)
    if isinstance(value, Mapping):
        return _copy(dict(value), left)
    if isinstance(value, (list, tuple)):
        return _copy(list(value), left)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def decompress(data: bytes, encoding: str) -> bytes:
    """Return a body without its ``Content-Encoding``; raises ``BadRequest``, or ``BadContentType`` for all but gzip."""
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise BadContentType(f"{encoding} is not a supported content encoding.")
    import gzip  # few clients compress what they send
    import zlib

    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise BadRequest("Request body is not properly gzipped.") from None


# --- query strings and paths -----------------------------------------------------------------------------------------

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def check_encoding(text: str) -> None:
    """Raise ``BadRequest("invalid_url_encoding")`` for a percent sign that no two hex digits follow."""
    if "%" in text and _BAD_PERCENT.search(text):
        raise BadRequest("invalid_url_encoding")


def unquote(text: str) -> str:
    """Decode one path segment or query part: ``+`` is a space, a bad ``%zz`` is 400 ``invalid_url_encoding``."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    check_encoding(text)
    # By hand, because importing urllib.parse takes as long as importing the engine.
    parts = text.encode("utf-8", "surrogateescape").split(b"%")
    decoded = [bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in parts[1:]]
    return b"".join((parts[0], *decoded)).decode("utf-8", "surrogateescape")


# Python reads no number of more than 4,300 digits, since the time that it takes grows with their square.
MOST_DIGITS = 4000


def parse_integer(text: str) -> int:
    """Return the number that digits say; of more than ``MOST_DIGITS``, what the first of them say.

    For bounds and counts, beyond all of which either number is.
    """
    return int(text[:MOST_DIGITS])


def parse_query(query: str) -> list[tuple[str, str]]:
    """Split a query string into decoded pairs, in order; ``;`` separates as ``&`` does."""
    pairs = []
    for part in query.replace(";", "&").split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote(name), unquote(value)))
    return pairs
