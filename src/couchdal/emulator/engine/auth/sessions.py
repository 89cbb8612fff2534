"""Session cookies, and the lockout after failed logins.

A cookie contains the user's name and the time of login in hexadecimal. The server's secret and the user's salt sign it.
A new password has a new salt and therefore ends the user's sessions. This module does not know requests. Sources:
``couch_httpd_auth``, ``couch_auth_lockout``.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TypeAlias

from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.integers import parse_hex
from couchdal.errors import BadRequest, ServerError
from couchdal.http.headers import SESSION_COOKIE

# Failed logins by address, name and salt: their number, and the time of the first.
Failures: TypeAlias = dict[tuple[str, str, str], tuple[int, float]]

_LOCKED_FOR_S = 300
# Characters that the value of a cookie's attribute must not contain.
_SEPARATOR = re.compile(r"[\s()<>@,;:\\\"/\[\]?={}]")
# CouchDB's ``max_objects``.
_MOST_KEPT = 10_000
_LONGEST_KEPT = 64


def make_cookie(name: str, settings: Settings, salt: str, now: int) -> str:
    """Return a session cookie that begins at ``now``, in seconds since 1970."""
    from base64 import urlsafe_b64encode  # few requests bring credentials

    signed = f"{name}:{now:X}".encode()
    return (
        urlsafe_b64encode(signed + b":" + _signature(signed, settings, salt, settings.hash_algorithms[0]))
        .rstrip(b"=")
        .decode()
    )


def _signature(signed: bytes, settings: Settings, salt: str, algorithm: str) -> bytes:
    from hmac import digest  # as above

    return digest((settings.secret + salt).encode(), signed, algorithm)


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


def check_cookie(cookie: tuple[str, str, bytes], settings: Settings, salt: str, now: int) -> bool | None:
    """Return None for an expired or forged cookie. Otherwise, return True if it is old enough to be renewed."""
    from hmac import compare_digest  # as above

    name, time, signature = cookie
    began = parse_hex(time)
    if began is None or now >= began + settings.session_timeout_s:
        return None
    signed = f"{name}:{time}".encode("utf-8", "surrogateescape")
    kinds = settings.hash_algorithms
    if not any(compare_digest(_signature(signed, settings, salt, kind), signature) for kind in kinds):
        return None
    return began + settings.session_timeout_s - now < settings.session_timeout_s * 0.9


def set_cookie(value: str, settings: Settings, now: int) -> str:
    """Return a ``Set-Cookie`` header. An empty value logs the user out."""
    from email.utils import formatdate  # as above

    parts = [f"{SESSION_COOKIE}={value}", "Version=1"]
    if settings.allow_persistent_cookies:
        day, date = formatdate(now + max(settings.session_timeout_s, 0), usegmt=True).split(", ")
        parts += (f"Expires={day}, {date.replace(' ', '-', 2)}", f"Max-Age={max(settings.session_timeout_s, 0)}")
    if settings.cookie_domain:
        if _SEPARATOR.search(settings.cookie_domain):
            raise ServerError(settings.cookie_domain, error="cookie_quoting_required")
        parts.append(f"Domain={settings.cookie_domain}")
    parts += ("Path=/", "HttpOnly")
    if settings.same_site in ("none", "lax", "strict"):
        parts.append(f"SameSite={settings.same_site.title()}")
    return "; ".join(parts)


def failure_key(peer: str, name: str, salt: str) -> tuple[str, str, str]:
    """Return the key of a login's failures. It is short even for a long name."""
    return peer, _shortened(name), _shortened(salt)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_KEPT:
        return text
    from hashlib import sha256  # as above

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_locked(failures: Failures, key: tuple[str, str, str], settings: Settings, now: float) -> bool:
    """Return True after too many failed logins. They expire after five minutes."""
    count, since = failures.get(key, (0, now))
    if now - since >= _LOCKED_FOR_S:
        del failures[key]
        return False
    return settings.lockout_mode == "enforce" and count >= settings.lockout_threshold


def count_failure(failures: Failures, key: tuple[str, str, str], settings: Settings, now: float) -> None:
    """Record a failed login. Forget the expired ones, and the oldest if there are too many."""
    if settings.lockout_mode not in ("enforce", "warn"):
        return
    count, since = failures.get(key, (0, now))
    failures[key] = (count + 1, since)
    # The first entries are the oldest, because a later failure does not move an entry.
    for oldest in list(islice(failures, 2)):
        if now - failures[oldest][1] >= _LOCKED_FOR_S or len(failures) > _MOST_KEPT:
            del failures[oldest]
