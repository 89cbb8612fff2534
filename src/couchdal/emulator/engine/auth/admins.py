"""Administrators as the configuration stores them: the name, and a hash of the password.

Sources: ``couch_passwords:hash_admin_password``, ``couch_auth_cache:get_admin``.
"""

from __future__ import annotations

import re
from hashlib import sha1

from couchdal.emulator.engine.auth.users import PRFS, derive_key, remember
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.integers import parse_integer

#: The section of the configuration.
ADMINS = "admins"
_HASHED = re.compile(r"-(?:hashed|pbkdf2(?::(?:sha|sha224|sha256|sha384|sha512))?)-")


def is_hashed(value: str) -> bool:
    """Return whether a value is the hash of a password."""
    return _HASHED.match(value) is not None


def hash_admin(password: str, salt: str, settings: Settings, known: dict[str, bytes]) -> str:
    """Return the value for a password, by the scheme of the settings.

    CouchDB does not hash the password if the settings name an unknown scheme, hash function or number.
    """
    encoded = password.encode("utf-8", "surrogateescape")
    if settings.password_scheme == "simple":
        return f"-hashed-{sha1(encoded + salt.encode(), usedforsecurity=False).hexdigest()},{salt}"
    prf, iterations = settings.pbkdf2_prf, settings.iterations
    if settings.password_scheme != "pbkdf2" or (prf and prf not in PRFS) or iterations < 1:
        return password
    derived_key = derive_key(prf or "sha", encoded, salt.encode(), iterations)
    remember(known, derived_key, encoded)
    return f"-pbkdf2{':' if prf else ''}{prf}-{derived_key},{salt},{iterations}"


def admin_properties(value: str) -> dict[str, object] | None:
    """Return the properties of the administrator with this value, as a user document has them, or None."""
    kind = _HASHED.match(value)
    if kind is None:
        return None
    parts = [part for part in value[kind.end() :].split(",") if part]
    properties: dict[str, object] = {"roles": ["_admin"]}
    if kind[0] == "-hashed-" and len(parts) == 2:
        return {**properties, "password_scheme": "simple", "password_sha": parts[0], "salt": parts[1]}
    if kind[0] == "-hashed-" or len(parts) != 3:
        return None
    prf = kind[0].partition(":")[2].removesuffix("-") or "sha"
    derived = {"password_scheme": "pbkdf2", "pbkdf2_prf": prf, "derived_key": parts[0], "salt": parts[1]}
    return {**properties, **derived, "iterations": parse_integer(parts[2])}
