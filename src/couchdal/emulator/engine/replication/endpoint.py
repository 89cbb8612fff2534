"""One side of a replication: its address, its credentials and its headers. Source: ``couch_replicator_parse``.

Passwords never appear in a repr or in an error.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from couchdal.api import VERSION
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm
from couchdal.emulator.engine.replication.addresses import Address, read_address, split_credentials
from couchdal.emulator.engine.replication.failures import badarg, badmatch, malformed
from couchdal.errors import CouchError, ServerError
from couchdal.http.json_text import JSON

#: Returns a value of the configuration's section ``replicator``.
Setting: TypeAlias = Callable[[str], "str | None"]

_USUAL_PORTS: Final = {"http": (80, 5984), "https": (443,)}
_DEFAULTS: Final = (("Accept", "application/json"), ("User-Agent", f"CouchDB-Replicator/{VERSION}"))
_CREDENTIALS = re.compile(r"//[^/@]*@")
_SPACES = re.compile(r"[ \t\n\r]+")
# Spaces and other letters would break the line of the next request.
_PRINTABLE = re.compile(r"[!-~]*\Z")
_NO_PORT: Final = -1
_NOBODY: Final[tuple[str | None, str | None]] = None, None
_PROTOCOLS: Final = {"endpoint": ("http", "https"), "proxy": ("http", "https", "socks5")}


def unset(_: str) -> str | None:
    """Return nothing: the configuration has no values."""
    return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database as a source or a target.

    ``url`` has no credentials. It ends with a slash, unless it has a query. ``user`` and ``password`` are bytes, each
    as one character. ``headers`` do not include Basic credentials. ``is_local`` means that a request named a database
    of its own server. ``proxy`` is the address of an HTTP proxy.
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
    proxy: str | None = field(default=None, repr=False)

    @property
    def shown_origin(self) -> str:
        """The beginning of ``url``, before its path."""
        return self.url.removesuffix(self.path) if self.url.endswith(self.path) else self.origin

    @property
    def custom_port(self) -> int | None:
        """The port, unless it is a default one."""
        return None if self.port in _USUAL_PORTS[self.origin.partition(":")[0]] else self.port

    @property
    def custom_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that differ from those of each request."""
        return tuple(pair for pair in self.headers if pair not in _DEFAULTS)

    @property
    def shown_proxy(self) -> str | None:
        """The address of the proxy, without its credentials."""
        return None if self.proxy is None else without_credentials(self.proxy)

    def request_headers(self) -> dict[str, str]:
        """Return the headers of each request, credentials included."""
        headers = {name.lower(): value for name, value in (*_DEFAULTS, *self.headers) if value}
        if self.user is not None:
            credentials = f"{self.user}:{self.password}".encode("latin-1")
            headers["authorization"] = "Basic " + b64encode(credentials).decode("ascii")
        return headers


def parse_endpoint(value: JSON, *, is_local: bool = False, proxy: JSON = "", setting: Setting = unset) -> Endpoint:
    """Return the endpoint that a replication names. Raise ``CouchError``, in CouchDB's order."""
    if value is None:
        raise ServerError("Missing replicator database", error="error")
    properties = value if isinstance(value, dict) else {"url": value}
    url = properties.get("url")
    if not isinstance(value, dict) and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
        raise ServerError("local_endpoints_not_supported", error="error")
    _checked(read_address(url) if isinstance(url, str) else None, "endpoint", setting)
    assert isinstance(url, str)
    if "?" not in url and not url.endswith("/"):
        url += "/"
    proxy_url = _proxy(proxy, setting)
    auth, headers = (_members(properties, name) for name in ("auth", "headers"))
    kept, from_headers = _headers(headers)
    from_auth, divided = _from_auth(auth), split_credentials(url)
    if divided is None:
        raise malformed(
            TupleTerm((Atom("case_clause"), TupleTerm((_masked(from_auth), Atom("undefined"), _masked(from_headers)))))
        )
    pairs = (from_auth, _pair(divided[0]), from_headers)
    user, password = next((pair for pair in pairs if pair[0] is not None), _NOBODY)
    # CouchDB tolerates an address that it cannot read without its credentials. No server has it.
    address = read_address(divided[1]) or Address("http", None, None, divided[1], _NO_PORT, "/")
    return Endpoint(
        divided[1], address.origin, address.host, address.port, address.path, user, password, kept, is_local, proxy_url
    )


def _members(properties: Mapping[str, JSON], name: str) -> dict[str, JSON]:
    value = properties.get(name, {})
    if not isinstance(value, dict):
        raise badmatch(value)
    return value


def _masked(pair: tuple[str | None, str | None]) -> TupleTerm:
    """Return a user, with stars for the password that CouchDB shows here."""
    if pair[0] is None:
        return TupleTerm((Atom("undefined"), Atom("undefined")))
    return TupleTerm((list(pair[0].encode("latin-1")), list(b"****") if pair[1] else []))


def invalid_url(what: str) -> CouchError:
    """Return the error for an address that CouchDB refuses."""
    return ServerError(f"{what} has an invalid url", status=400, error="invalid_replication")


def _checked(address: Address | None, what: str, setting: Setting) -> None:
    allowed: Sequence[str] = _PROTOCOLS[what]
    configured = setting(f"valid_{what}_protocols")
    if configured is not None:
        allowed = [name.strip(" ") for name in configured.split(",")]
    if address is None or address.scheme not in allowed:
        raise invalid_url(what)


def _proxy(value: JSON, setting: Setting) -> str | None:
    if value in ("", []):
        return None
    if not isinstance(value, (str, list)):
        raise ServerError("Invalid proxy url", error="error")
    address = read_address(value) if isinstance(value, str) else None
    if address is None or not isinstance(value, str):
        raise badmatch(TupleTerm((Atom("error"), Atom("invalid_uri"))))
    _checked(address, "proxy", setting)
    return value


def redirected(side: Endpoint, location: str) -> Endpoint | None:
    """Return the endpoint that a redirect leads to, or None for an address that CouchDB cannot read.

    Headers and credentials stay with their origin, and with the same host over HTTPS. CouchDB never leaves the
    connection to the first server.
    """
    found = read_address(location.partition("#")[0]) if _PRINTABLE.match(location) else None
    if found is None or found.scheme not in _USUAL_PORTS:
        return None
    there = Endpoint(found.origin, found.origin, found.host, found.port, found.path, proxy=side.proxy)
    is_secured = side.host == found.host and (side.port, found.port) == (80, 443) and found.scheme == "https"
    if not (found.origin == side.origin or is_secured):
        return there
    return replace(there, user=side.user, password=side.password, headers=side.headers)


def _headers(value: dict[str, JSON]) -> tuple[tuple[tuple[str, str], ...], tuple[str | None, str | None]]:
    """Return the headers in order and without Basic credentials, and those credentials."""
    if not all(isinstance(text, str) for text in value.values()):
        raise badarg()
    headers = sorted({**dict(_DEFAULTS), **{name: str(text) for name, text in value.items()}}.items())
    authorization = next((text for name, text in headers if name.lower() == "authorization"), None)
    if authorization is None:
        return tuple(headers), _NOBODY
    # Names that differ in case become one, and values lose the spaces around them.
    merged: dict[str, tuple[str, str]] = {}
    for name, given in headers:
        text = given.strip(" \t\r\n")
        first = merged.get(name.lower())
        merged[name.lower()] = (name, text) if first is None else (first[0], f"{first[1]}, {text}")
    kind, space, credentials = merged["authorization"][1].partition(" ")
    if kind.lower() == "basic" and space:
        del merged["authorization"]
        return tuple(merged[name] for name in sorted(merged)), _decoded(credentials)
    return tuple(merged[name] for name in sorted(merged)), _NOBODY


def _decoded(text: str) -> tuple[str | None, str | None]:
    try:
        return _pair(b64decode(_SPACES.sub("", text), validate=True).decode("latin-1"))
    except NotBase64:
        return _NOBODY


def _pair(text: str | None) -> tuple[str | None, str | None]:
    """Return the user and the password of a text that has both."""
    user, colon, password = (text or "").partition(":")
    return (user, password) if colon else _NOBODY


def _from_auth(value: dict[str, JSON]) -> tuple[str | None, str | None]:
    basic = value.get("basic")
    if not isinstance(basic, dict):
        return _NOBODY
    user, password = basic.get("username"), basic.get("password")
    if isinstance(user, str) and isinstance(password, str):
        return _as_bytes(user), _as_bytes(password)
    return _NOBODY


def _as_bytes(text: str) -> str:
    """Return the bytes of a text, each as one character."""
    return text.encode().decode("latin-1")


def without_credentials(text: str) -> str:
    """Return a text in which no address shows its user and its password."""
    return _CREDENTIALS.sub("//", text)
