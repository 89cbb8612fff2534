"""The addresses that a replication may have. CouchDB reads each twice, by two rules.

Sources: ``ibrowse_lib:parse_url``, and ``uri_string:parse`` of Erlang's standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple

from couchdal.emulator.engine.erlang.integers import parse_integer

_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "socks5": 1080, "ftp": 21}
_SCHEME = re.compile(r"([^:]+)://(.*)\Z", re.DOTALL)
_USERINFO = re.compile(r"([^:@\[]*)(?::([^@\[]*))?@")
_SAFE = r"A-Za-z0-9._~!$&'()*+,;=%\-"
_STRICT = re.compile(
    rf"https?://(?:([{_SAFE}:]*)@)?(?:\[[0-9A-Fa-f:.]+\]|[{_SAFE}]*)(?::[0-9]*)?"
    rf"(?:/[{_SAFE}:@/]*)?(?:\?[{_SAFE}:@/?]*)?(?:#[{_SAFE}:@/?]*)?\Z"
)


class Address(NamedTuple):
    """An address as the HTTP client of CouchDB reads it. ``path`` includes the query."""

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """The address without a path, for a client."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_address(text: str) -> Address | None:
    """Return an address, or None if CouchDB cannot read it. An unknown scheme is one that it cannot read.

    >>> read_address("http://localhost:5984/db")
    Address(scheme='http', user=None, password=None, host='localhost', port=5984, path='/db')
    """
    found = _SCHEME.match(text)
    if found is None or found[1] not in _DEFAULT_PORTS:
        return None
    scheme, rest = found.groups()
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    userinfo = _USERINFO.match(authority)
    user, password = (None, None) if userinfo is None else (userinfo[1], userinfo[2] or "")
    place = authority[userinfo.end() :] if userinfo is not None else authority
    host, has_port, port = _split_place(place, is_bare=userinfo is None)
    # Without credentials, a colon that nothing follows is taken for one before a password.
    is_cut = bool(has_port and not port and path and userinfo is None and not place.startswith("["))
    number = _DEFAULT_PORTS[scheme] if not port else parse_integer(port)
    if host is None or number is None or is_cut or not (host or path):
        return None
    return Address(scheme, user, password, host, number, path if path.startswith("/") else f"/{path}")


def _split_place(place: str, *, is_bare: bool) -> tuple[str | None, str, str]:
    """Return the host, a colon if there is one, and the port. The host is None if it is malformed."""
    if not place.startswith("["):
        host, colon, port = place.partition(":")
        return (None if is_bare and "[" in host else host), colon, port
    host, bracket, rest = place[1:].partition("]")
    try:
        IPv6Address(host)
    except AddressValueError:
        return None, "", ""
    return (host if bracket and rest[:1] in ("", ":") else None), rest[:1], rest[1:]


def split_credentials(url: str) -> tuple[str | None, str] | None:
    """Return the user and the password in an address, undivided, and the address without them.

    Return None if it contains a character that an address may not contain.
    """
    found = _STRICT.match(url)
    if found is None:
        return None
    return (None, url) if found[1] is None else (found[1], url[: found.start(1)] + url[found.end(1) + 1 :])
