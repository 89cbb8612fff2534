"""Origins: the scheme, host and port of a server, patterns for them, and the origins answered in this process."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """A scheme, a host in lower case, and a port; ``None`` stands for every port."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{'*' if self.port is None else self.port}"

    def covers(self, other: Origin) -> bool:
        """Return whether another origin is this one, or this one with any port."""
        return self.port in (None, other.port) and self[:2] == other[:2]


def parse_origin(text: str) -> Origin:
    """Return the origin in an address; its credentials are ignored. Raise ``ValueError``."""
    wildcard = text.rstrip("/").endswith(":*")
    try:
        parts = urlsplit(text.rstrip("/").removesuffix(":*") if wildcard else text)
        port = None if wildcard else parts.port or _PORTS.get(parts.scheme)
        usable = parts.scheme in _PORTS and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable or parts.hostname is None or "*" in parts.hostname:
        # The text may have a password, so the error does not show it.
        raise ValueError("an origin must look like http://couchdb:5984, https://couchdb or http://couchdb:*")
    if parts.path.strip("/"):
        raise ValueError(f"an origin has no path; write {Origin(parts.scheme, parts.hostname, port)}")
    return Origin(parts.scheme, parts.hostname, port)


@lru_cache(maxsize=64)
def origin_of(scheme: str, host: str, port: int | None) -> Origin:
    """Return the origin that a client connects to; without a port, it is the scheme's."""
    return Origin(scheme, host.lower().rstrip(".").strip("[]"), port or _PORTS.get(scheme))


class Origins(Generic[T]):
    """Maps origins to the values that answer for them. For one origin, the value that was added last wins.

    Only one thread at a time may add or remove a value.
    """

    def __init__(self) -> None:
        self._entries: tuple[tuple[tuple[Origin, ...], T], ...] = ()
        self._found: dict[tuple[str, str, int | None], T | None] = {}

    def values(self) -> list[T]:
        """Return all values, the last one first."""
        return [value for _, value in self._entries]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, origins: Iterable[Origin], value: T) -> None:
        """Make a value answer for some origins."""
        self._entries = ((tuple(origins), value), *self._entries)
        self._found = {}

    def remove(self, value: T) -> None:
        """Undo ``add``."""
        self._entries = tuple(entry for entry in self._entries if entry[1] is not value)
        self._found = {}

    def find(self, scheme: str, host: str, port: int | None) -> T | None:
        """Return the value that answers for a server, or ``None``."""
        if not self._entries:
            return None
        key, known = (scheme, host, port), self._found
        try:
            return known[key]
        except KeyError:
            asked = origin_of(scheme, host, port)
            entries = self._entries
            found = next((value for origins, value in entries if any(o.covers(asked) for o in origins)), None)
            known[key] = found
            return found

    def describe(self) -> str:
        """Return the origins as a list in words."""
        return ", ".join(dict.fromkeys(str(origin) for origins, _ in self._entries for origin in origins))


#: The active interceptions. ``couchdal.intercept`` adds to them; the network guard allows their origins.
ANSWERED: Final[Origins[object]] = Origins()
