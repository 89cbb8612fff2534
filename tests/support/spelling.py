"""What CouchDB gets from the proxy, and every way to spell a path or a query."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from couchdal.backends.base import AsyncBackend
from couchdal.http.messages import Request, Response
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.breaker import Breaker
from couchdal.proxy.identity import OfClient
from couchdal.proxy.nodes import Node, Nodes
from couchdal.proxy.proxy import Proxy


class Recording(AsyncBackend):
    """Answers every request, and keeps it."""

    name = "http://recording:5984"

    def __init__(self) -> None:
        self.received: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.received.append(request)
        return Response(200)


def sent_through(allowed: AllowList, *requests: Request) -> list[Request | None]:
    """Return what CouchDB gets for each request, ``None`` for a request that is refused."""

    async def send() -> list[Request | None]:
        node = Recording()
        proxy = Proxy(Nodes([Node(node, Breaker(5, 5.0))]), allowed, OfClient())
        found: list[Request | None] = []
        for request in requests:
            node.received.clear()
            status = (await proxy.send(request)).status
            assert (status == 200) == bool(node.received)
            found.append(node.received[0] if node.received else None)
        return found

    return asyncio.run(send())


def hexadecimal(text: str, form: str = "%{:02X}") -> str:
    return "".join(form.format(byte) for byte in text.encode())


def mixed(text: str) -> str:
    """Escape with one capital and one small digit, where a byte has two letters: %aF."""
    return "".join(f"%{byte >> 4:x}{byte & 15:X}" for byte in text.encode())


def segment_forms(segment: str) -> Iterator[str]:
    """Yield ways to write one segment, which CouchDB may or may not decode to the same."""
    yield segment
    for write in (hexadecimal, mixed, lambda text: hexadecimal(text, "%{:02x}")):
        yield write(segment)
        yield write(segment[0]) + segment[1:]
        yield segment[:-1] + write(segment[-1])
    twice = hexadecimal(segment).replace("%", "%25")
    yield twice
    yield twice.replace("%", "%25")
    yield hexadecimal(segment[0]).replace("%", "%25") + segment[1:]
    for end in (";x", "%3Bx", "+", "%20", "%2B", "%00", ".", "%2E", "%3F", "%23", ",", "%09", "%0d%0a", "\\", "%5C"):
        yield segment + end
        yield end + segment
    yield segment.upper()
    yield segment.title()
    # Characters that some software takes for ASCII: full width, look-alikes, and overlong UTF-8.
    yield "".join(f"%EF%BD%{ord(one) - 0x60 + 0x80:02X}" if "a" <= one <= "z" else one for one in segment)
    yield segment.replace("_", "%EF%BC%BF")
    yield segment.replace("_", "%C1%9F")
    yield segment.replace("_", "%E0%81%9F")
    yield segment.replace("_", "%u005F")
    yield segment.replace("s", "%C5%BF")
    yield segment.encode("utf-8").decode("latin-1").replace("_", "\xdf")


def path_forms(path: str) -> Iterator[str]:
    """Yield ways to write a path."""
    segments = path.strip("/").split("/")
    for place, segment in enumerate(segments):
        for form in segment_forms(segment):
            yield "/" + "/".join([*segments[:place], form, *segments[place + 1 :]])
    for slash in (
        "//",
        "/./",
        "/x/../",
        "/%2E/",
        "/x/%2e%2E/",
        "/../",
        "\\",
        "%5C",
        "%2F",
        "%2f",
        "%252F",
        "/;/",
        "/%20/",
    ):
        yield slash + slash.join(segments)
        yield "/" + slash.join(segments)
        yield "/" + segments[0] + slash + "/".join(segments[1:])
        yield "/" + "/".join(segments) + slash
        yield slash + "/" + "/".join(segments)


def read_path(path: str) -> list[str]:
    """Return the segments that CouchDB reads from a path: split at slashes, without empty ones, decoded once."""
    assert re.fullmatch(r"[!-~]*", path), path
    return [_read(segment) for segment in path.split("/") if segment]


def read_query(query: str) -> list[tuple[str, str]]:
    """Return the pairs that CouchDB reads from a query."""
    parts = [part.partition("=") for part in re.split("[&;]", query) if part]
    return [(_read(name), _read(value)) for name, _, value in parts]


def _read(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "surrogateescape")
