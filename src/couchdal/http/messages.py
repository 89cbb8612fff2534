"""Requests and responses as CouchDB reads and writes them: bodies, query strings, paths and feeds.

It knows nothing of routes, documents or sockets: bytes and JSON values in, bytes and JSON values out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol, cast

from couchdal.errors import BadContentType, BadRequest, from_answer
from couchdal.http.json_text import JSON, decode_json, encode_json


class Absent:
    """The type of ``ABSENT``: no body at all, which is not the same as the JSON value ``null``."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent()


# Plain classes, because everybody imports this module, and two dataclasses take as long to make as all the rest of it.
class Request:
    """One request, not to be changed: ``path`` and ``query`` still percent-encoded as they stood in the request line.

    Header names are lower case. A body is either ``body`` (its bytes) or ``json`` (a value that is already decoded,
    checked and not shared with anyone); both absent means an empty body. ``announces_body`` is whether the head told of
    a body, be it an empty one. ``peer`` is the client's address. Only backends that stream take a ``stream``: an
    asynchronous iterator of the body's bytes, which can be read once.
    """

    __slots__ = ("announces_body", "body", "headers", "json", "method", "path", "peer", "query", "stream")

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        json: object = ABSENT,
        peer: str = "127.0.0.1",
        stream: object = None,
        announces_body: bool = True,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.body = body
        self.json = json
        self.peer = peer
        self.stream = stream
        self.announces_body = announces_body

    def with_head(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> Request:
        """Return a request of the same client with the same body."""
        return Request(method, path, query, headers, self.body, self.json, self.peer, self.stream, self.announces_body)

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        """Return the same request with other headers."""
        return self.with_head(self.method, self.path, self.query, headers)

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


class Response:
    """One answer. Its body is ``json`` (decoded, owned by the receiver), or ``body``, or ``stream`` (chunks).

    ``stream`` is a ``Feed`` from memory, an iterator of bytes from a blocking client, an asynchronous one from an
    asynchronous client.
    """

    __slots__ = ("body", "headers", "json", "status", "stream")

    def __init__(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        json: object = ABSENT,
        body: bytes = b"",
        stream: object = None,
    ) -> None:
        self.status = status
        self.headers = {} if headers is None else headers
        self.json = json
        self.body = body
        self.stream = stream

    def __repr__(self) -> str:
        # As with requests: headers may hold a cookie, and bodies anything.
        return f"<Response {self.status}>"

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


def split_path(path: str) -> list[str]:
    """Return the decoded segments of a raw path; empty ones are dropped, as CouchDB drops them.

    Raises ``BadRequest("invalid_url_encoding")``.
    """
    return [unquote(segment) if "%" in segment or "+" in segment else segment for segment in path.split("/") if segment]


def parse_query(query: str) -> list[tuple[str, str]]:
    """Split a query string into decoded pairs, in order; ``;`` separates as ``&`` does."""
    pairs = []
    for part in query.replace(";", "&").split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote(name), unquote(value)))
    return pairs
