"""Session cookies, and the lockout after failed logins.

A cookie contains the user's name and the time of login in hexadecimal. The server's secret and the user's salt sign it.
A new password has a new salt and therefore ends the user's sessions. This module does not know requests. Sources:
``couch_httpd_auth``, ``couch_auth_lockout``.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

from couchdal.emulator.engine.erlang.integers import parse_hex
from couchdal.errors import BadRequest
from couchdal.http.headers import SESSION_COOKIE

# Failed logins by address, name and salt: their number, and the time of the first.
Failures: TypeAlias = dict[tuple[str, str, str], tuple[int, float]]

TIMEOUT_S = 600
_RENEWED_AFTER_S = TIMEOUT_S // 10
_LOCKED_AFTER = 5
_LOCKED_FOR_S = 300
# CouchDB's ``max_objects``.
_MOST_KEPT = 10_000
_LONGEST_KEPT = 64


def make_cookie(name: str, secret: str, salt: str, now: int) -> str:
    """Return a session cookie that begins at ``now``, in seconds since 1970."""
    from base64 import urlsafe_b64encode  # few requests bring credentials

    signed = f"{name}:{now:X}".encode()
    return urlsafe_b64encode(signed + b":" + _signature(signed, secret, salt, "sha256")).rstrip(b"=").decode()


def _signature(signed: bytes, secret: str, salt: str, algorithm: str) -> bytes:
    from hmac import digest  # as above

    return digest((secret + salt).encode(), signed, algorithm)


def parse_cookie(value: str) -> tuple[str, str, bytes]:
    """Return the name, time and signature in a cookie. Raise ``BadRequest`` for a malformed one."""
    from base64 import b64decode  # as above

    try:
        if "=" in value:
            raise ValueError
        padded = value.encode() + b"=" * (-len(value) % 4)
        name, time, signature = b64decode(padded, b"-_", validate=True).split(b":", 2)
    except ValueError:
        raise BadRequest("Malformed AuthSession cookie. Please clear your cookies.") from None
    return name.decode("utf-8", "surrogateescape"), time.decode("latin-1"), signature


def check_cookie(cookie: tuple[str, str, bytes], secret: str, salt: str, now: int) -> bool | None:
    """Return None for an expired or forged cookie. Otherwise, return True if it is old enough to be renewed."""
    from hmac import compare_digest  # as above

    name, time, signature = cookie
    began = parse_hex(time)
    if began is None or now >= began + TIMEOUT_S:
        return None
    signed = f"{name}:{time}".encode("utf-8", "surrogateescape")
    # CouchDB signs with SHA-256 and still accepts SHA-1.
    if not any(compare_digest(_signature(signed, secret, salt, kind), signature) for kind in ("sha256", "sha1")):
        return None
    return now - began > _RENEWED_AFTER_S


def set_cookie(value: str, now: int) -> str:
    """Return a ``Set-Cookie`` header. An empty value logs the user out."""
    from email.utils import formatdate  # as above

    day, date = formatdate(now + TIMEOUT_S, usegmt=True).split(", ")
    expires = date.replace(" ", "-", 2)
    return f"{SESSION_COOKIE}={value}; Version=1; Expires={day}, {expires}; Max-Age={TIMEOUT_S}; Path=/; HttpOnly"


def failure_key(peer: str, name: str, salt: str) -> tuple[str, str, str]:
    """Return the key of a login's failures. It is short, however long the name is."""
    return peer, _shortened(name), _shortened(salt)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_KEPT:
        return text
    from hashlib import sha256  # as above

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_locked(failures: Failures, key: tuple[str, str, str], now: float) -> bool:
    """Return True after too many failed logins. They expire after five minutes."""
    count, since = failures.get(key, (0, now))
    if now - since >= _LOCKED_FOR_S:
        del failures[key]
        return False
    return count >= _LOCKED_AFTER


def count_failure(failures: Failures, key: tuple[str, str, str], now: float) -> None:
    """Record a failed login. Forget the expired ones, and the oldest if there are too many."""
    count, since = failures.get(key, (0, now))
    failures[key] = (count + 1, since)
    # The first entries are the oldest, because a later failure does not move an entry.
    for oldest in list(islice(failures, 2)):
        if now - failures[oldest][1] >= _LOCKED_FOR_S or len(failures) > _MOST_KEPT:
            del failures[oldest]
