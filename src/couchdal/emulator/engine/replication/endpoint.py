"""One side of a replication: its address, its credentials and its headers. Source: ``couch_replicator_parse``.

Nothing here shows a password: not a repr, and not an error.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass, field, replace
from typing import Final

from couchdal.api import VERSION
from couchdal.errors import CouchError, ServerError
from couchdal.http.json_text import JSON
from couchdal.http.urls import unquote_userinfo

# The scheme, the credentials, the host, the port and the path.
_URL = re.compile(r"(https?)://(?:([^/?#]*)@)?(\[[^\]/]+\]|[^:/?#@\[\]]+)(?::([0-9]{1,5}))?(/[^#]*)?\Z")
# Spaces and other letters would break the line of the next request.
_LOCATION = re.compile(_URL.pattern.replace("[^#]*", "[!-~]*"))
_DEFAULT_PORTS: Final = {"http": (80, 5984), "https": (443,)}
_DEFAULTS: Final = (("Accept", "application/json"), ("User-Agent", f"CouchDB-Replicator/{VERSION}"))
_CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database as a source or a target.

    ``url`` has no credentials. It ends with a slash, unless it has a query. ``headers`` do not include Basic
    credentials. ``is_local`` means that a request named a database of its own server.
    """

    url: str
    origin: str
    host: str
    port: int
    path: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    is_local: bool = False

    @property
    def custom_port(self) -> int | None:
        """The port, unless it is a default one."""
        return None if self.port in _DEFAULT_PORTS[self.origin.partition(":")[0]] else self.port

    @property
    def custom_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that differ from those of each request."""
        return tuple(pair for pair in self.headers if pair not in _DEFAULTS)

    def request_headers(self) -> dict[str, str]:
        """Return the headers of each request, credentials included."""
        headers = {name.lower(): value for name, value in (*_DEFAULTS, *self.headers) if value}
        if self.user is not None:
            credentials = f"{self.user}:{self.password}".encode("latin-1", "replace")
            headers["authorization"] = "Basic " + b64encode(credentials).decode("ascii")
        return headers


def invalid_url() -> CouchError:
    """Return the error for an address that CouchDB refuses."""
    return ServerError("endpoint has an invalid url", status=400, error="invalid_replication")


def parse_endpoint(value: JSON, *, is_local: bool = False) -> Endpoint:
    """Return the endpoint that a replication names. Raise ``CouchError``."""
    if value is None:
        raise ServerError("Missing replicator database", error="error")
    properties = value if isinstance(value, dict) else {"url": value}
    url = properties.get("url")
    if not isinstance(value, dict) and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
        raise ServerError("local_endpoints_not_supported", error="error")
    found = _URL.match(url) if isinstance(url, str) else None
    if found is None:
        raise invalid_url()
    scheme, userinfo, host, port, path = found.groups()
    number = int(port) if port else _DEFAULT_PORTS[scheme][0]
    if not 0 < number < 65536:
        raise invalid_url()
    origin = f"{scheme}://{host}{f':{port}' if port else ''}"
    path = path or "/"
    if "?" not in path and not path.endswith("/"):
        path += "/"
    headers, from_headers = _headers(properties.get("headers"))
    none: tuple[str | None, str | None] = None, None
    user, password = _from_auth(properties.get("auth")) or _from_userinfo(userinfo) or from_headers or none
    return Endpoint(origin + path, origin, host, number, path, user, password, headers, is_local)


def redirected(side: Endpoint, location: str) -> Endpoint | None:
    """Return where a redirect leads; None for an address that CouchDB cannot read.

    Headers and credentials stay with their origin, and with the same host over HTTPS. CouchDB never leaves the
    connection to the first server.
    """
    found = _LOCATION.match(location.partition("#")[0])
    if found is None:
        return None
    scheme, _, host, port, path = found.groups()
    number = int(port) if port else _DEFAULT_PORTS[scheme][0]
    there = Endpoint(f"{scheme}://{host}", f"{scheme}://{host}:{number}", host, number, path or "/")
    is_same = (scheme, host, number) == (side.origin.partition(":")[0], side.host, side.port)
    is_secured = side.host == host and (side.port, number) == (80, 443) and scheme == "https"
    if not (is_same or is_secured):
        return there
    return replace(there, user=side.user, password=side.password, headers=side.headers)


def _headers(value: JSON) -> tuple[tuple[tuple[str, str], ...], tuple[str, str] | None]:
    """Return the headers in order and without Basic credentials, and those credentials."""
    if value is None:
        return (), None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ServerError("function_clause")
    headers = sorted((name, str(text)) for name, text in value.items())
    credentials, kept = None, []
    for name, text in headers:
        if name.lower() == "authorization" and text[:6].lower() == "basic ":
            credentials = _decoded(text[6:])
        else:
            kept.append((name, text))
    return tuple(kept), credentials


def _decoded(text: str) -> tuple[str, str] | None:
    try:
        user, colon, password = b64decode(text, validate=True).decode("latin-1").partition(":")
    except NotBase64:
        return None
    return (user, password) if colon else None


def _from_auth(value: JSON) -> tuple[str, str] | None:
    basic = value.get("basic") if isinstance(value, dict) else None
    if not isinstance(basic, dict):
        return None
    user, password = basic.get("username"), basic.get("password")
    return (user, password) if isinstance(user, str) and isinstance(password, str) else None


def _from_userinfo(userinfo: str | None) -> tuple[str, str] | None:
    user, colon, password = (userinfo or "").partition(":")
    return (unquote_userinfo(user), unquote_userinfo(password)) if colon else None


def without_credentials(text: str) -> str:
    """Return a text in which no address shows its user and its password."""
    return _CREDENTIALS.sub("//", text)
