"""A CouchDB's address and credentials: arguments and environment become one checked value.

No message repeats a text that may be a password.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from couchdal.backends.authentication import Anonymous, Authentication, BasicAuthentication, CookieAuthentication
from couchdal.config import Settings, read_settings
from couchdal.errors import NotConfigured
from couchdal.http.urls import unquote_userinfo

AuthenticationName: TypeAlias = Literal["basic", "cookie"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a CouchDB is, and how to authenticate.

    ``origin`` is scheme, host and port. ``prefix`` is the path of a gateway, without a final slash.
    """

    origin: str
    prefix: str
    authentication: Authentication
    database: str | None
    timeout_s: float

    @property
    def name(self) -> str:
        """The server's name in messages."""
        return self.origin + self.prefix


def find_address(
    url: str | None,
    *,
    user: str | None,
    password: str | None,
    database: str | None,
    timeout: float | None,
    auth: AuthenticationName | Authentication,
) -> Address:
    """Return the address from the arguments, completed from the environment. Raise ``NotConfigured``."""
    settings = _complete(url, user, password, database, timeout)
    if settings.url is None:
        raise NotConfigured(
            "no CouchDB is named: set COUCHDB_URL (or DAL_BACKEND=memory for the emulator), or pass a backend, as in"
            ' CouchDAL(CouchBackend("http://localhost:5984", user="admin", password="..."), database="tasks")'
        )
    parts = _split_url(settings.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    origin = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
    authentication = _authentication(settings, parts, auth, origin) if isinstance(auth, str) else auth
    return Address(origin, parts.path.rstrip("/"), authentication, settings.database, settings.timeout_s)


def _complete(
    url: str | None, user: str | None, password: str | None, database: str | None, timeout: float | None
) -> Settings:
    found = read_settings()
    if timeout is not None and not timeout > 0:
        raise NotConfigured(f"timeout must be a positive number of seconds, not {timeout!r}")
    # The environment's credentials belong to the environment's server. Another server never sees them.
    own = Settings() if url is not None else found
    return Settings(
        url=url or own.url,
        user=user or own.user,
        password=password if password is not None else own.password,
        database=database or found.database,
        timeout_s=timeout or found.timeout_s,
    )


def _split_url(url: str) -> SplitResult:
    """Return the parts of a server's address. Raise ``NotConfigured`` without the text, which may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    # An "@" in the path means that the password has an unescaped "/", "?" or "#". The "host" is then part of it.
    if not usable or parts.query or parts.fragment or "@" in parts.path:
        raise NotConfigured(
            "the CouchDB address must look like http://host:5984 or http://user:password@host:5984, with special"
            " characters in the password percent-encoded"
        )
    return parts


def _authentication(settings: Settings, parts: SplitResult, auth: AuthenticationName, server: str) -> Authentication:
    user = settings.user or unquote_userinfo(parts.username or "")
    password = settings.password if settings.password is not None else unquote_userinfo(parts.password or "")
    if auth not in ("basic", "cookie"):
        raise ValueError(f"auth must be 'basic' or 'cookie', not {auth!r}")
    if not user and auth == "cookie":
        raise NotConfigured(f"a session on {server} needs an account: set COUCHDB_USER and COUCHDB_PASSWORD", server)
    if not user:
        return Anonymous()
    if not password:
        raise NotConfigured(f"the user for {server} has no password: set COUCHDB_PASSWORD or pass password=", server)
    return BasicAuthentication(user, password) if auth == "basic" else CookieAuthentication(user, password)
