"""Settings and the choice of backend. No other module reads the environment.

This module opens nothing, and knows backends only by name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Iterable, Mapping
from math import isfinite
from typing import NamedTuple

from couchdal.errors import NotConfigured

DEFAULT_TIMEOUT_S = 30.0
BACKENDS = ("memory", "sqlite", "couch")
INDEX_MODES = ("watch", "require")


# A named tuple: every program imports this module, and ``dataclasses`` is slow to import.
class Settings(NamedTuple):
    """``COUCHDB_URL``, ``COUCHDB_USER``, ``COUCHDB_PASSWORD``, ``COUCHDB_DATABASE`` and ``COUCHDB_TIMEOUT``."""

    url: str | None = None
    user: str | None = None
    password: str | None = None
    database: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S

    def __repr__(self) -> str:
        # The address is hidden as well as the password: it may contain credentials.
        return f"Settings(user={self.user!r}, database={self.database!r}, timeout_s={self.timeout_s!r})"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the environment. An empty variable counts as unset.

    Raise ``NotConfigured`` for a time-out that is not a positive number of seconds.
    """
    found = os.environ if environ is None else environ
    return Settings(
        url=found.get("COUCHDB_URL") or None,
        user=found.get("COUCHDB_USER") or None,
        password=found.get("COUCHDB_PASSWORD") or None,
        database=found.get("COUCHDB_DATABASE") or None,
        timeout_s=_seconds(found.get("COUCHDB_TIMEOUT")),
    )


def data_file(environ: Mapping[str, str] | None = None) -> str:
    """Return ``COUCHDAL_DATA``: the file of the ``sqlite`` backend. Raise ``NotConfigured`` if it is not set."""
    path = (os.environ if environ is None else environ).get("COUCHDAL_DATA")
    if not path:
        raise NotConfigured("the sqlite backend needs a file: set COUCHDAL_DATA, or use CouchDAL('sqlite:///tasks.db')")
    return path


def couchdb_version(environ: Mapping[str, str] | None = None) -> str | None:
    """Return ``COUCHDAL_COUCHDB_VERSION``: the version of CouchDB that the emulator answers as, or None."""
    return (os.environ if environ is None else environ).get("COUCHDAL_COUCHDB_VERSION") or None


def environment() -> Mapping[str, str]:
    """Return the environment, for code that has its own table of options."""
    return os.environ


def take_variables(names: Iterable[str]) -> dict[str, str]:
    """Return the variables that are set, and remove them from the environment: child processes do not get them."""
    return {name: value for name in names if (value := os.environ.pop(name, ""))}


def _seconds(text: str | None) -> float:
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise NotConfigured(f"COUCHDB_TIMEOUT must be a positive number of seconds, not {text!r}")
    return seconds


def choose_backend(
    argument: str | None = None,
    environ: Mapping[str, str] | None = None,
    modules: Container[str] | None = None,
    known: Container[str] = BACKENDS,
) -> str:
    """Return the name of the backend: the argument, else ``DAL_BACKEND``, else memory under pytest, else couch.

    Raise ``ValueError`` for a name that is not ``known``.
    """
    named = argument or (os.environ if environ is None else environ).get("DAL_BACKEND", "").strip().lower()
    if named:
        if named not in known:
            origin = "backend" if argument else "DAL_BACKEND"
            raise ValueError(f"{origin} is {named!r}; it must be one of: {', '.join(BACKENDS)}")
        return named
    # Tests use the emulator unless they ask for a server.
    return "memory" if "pytest" in (sys.modules if modules is None else modules) else "couch"


def is_reachable(host: str, environ: Mapping[str, str] | None = None, modules: Container[str] | None = None) -> bool:
    """Return whether requests to a host are allowed: under pytest, only to this machine and ``DAL_ALLOWED_HOSTS``."""
    if "pytest" not in (sys.modules if modules is None else modules):
        return True
    if host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost"):
        return True
    listed = (os.environ if environ is None else environ).get("DAL_ALLOWED_HOSTS", "").lower().split(",")
    return host.lower() in (name.strip() for name in listed) or "*" in listed


def choose_indexes(argument: str | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """Return ``"watch"`` or ``"require"``: the argument, else ``DAL_INDEXES``; ``None`` if queries are not watched.

    Raise ``ValueError`` for any other word.
    """
    named = argument or (os.environ if environ is None else environ).get("DAL_INDEXES", "").strip().lower()
    if named and named not in INDEX_MODES:
        origin = "indexes" if argument else "DAL_INDEXES"
        raise ValueError(f"{origin} is {named!r}; it must be one of: {', '.join(INDEX_MODES)}")
    return named or None
