"""Lists of header names and rules about header values that clients, servers and the proxy share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# Headers that frame a message on one connection. A forwarded message gets its own.
FRAMING: Final = frozenset(("connection", "content-length", "keep-alive", "transfer-encoding"))
# Headers for the next server only (RFC 9110, section 7.6.1), and headers that every client writes itself.
HOP_BY_HOP: Final = FRAMING | {
    "expect",
    "host",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
}
# Headers in which gateways name the origin of a request.
FORWARDED: Final = frozenset(
    ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-ssl")
)
# A path that replaces the one in the request line, for some gateways.
REWRITTEN: Final = frozenset(("x-original-url", "x-rewrite-url"))
# Headers that CouchDB trusts from every client: they name the user, or the path that a virtual host or a rewrite
# replaced. Source: couch_httpd_auth:proxy_auth_user, chttpd:handle_request_int, couch_httpd_rewrite.
TRUSTED_PREFIXES: Final = (
    "x-auth-couchdb-",
    "x-couchdb-requested-path",
    "x-couchdb-vhost-path",
    "x-forwarded-",
)
CREDENTIALS: Final = frozenset(("authorization", "cookie"))
# CouchDB's proxy authentication: a gateway that knows the secret names the user in these headers.
PROXY_USER: Final = "x-auth-couchdb-username"
PROXY_ROLES: Final = "x-auth-couchdb-roles"
PROXY_TOKEN: Final = "x-auth-couchdb-token"

SESSION_COOKIE: Final = "AuthSession"
METHOD_OVERRIDE: Final = "x-http-method-override"

# The methods that CouchDB accepts in ``X-HTTP-Method-Override``. Source: chttpd:handle_request_int.
_OVERRIDES = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "COPY"))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# A string, which Python compiles on first use: only logs need it.
_SESSION = SESSION_COOKIE + r"=[^;'\"]+"


def effective_method(method: str, headers: Mapping[str, str]) -> str:
    """Return the method that applies: a POST may name another one in ``X-HTTP-Method-Override``."""
    if method != "POST":
        return method
    override = headers.get(METHOD_OVERRIDE)
    return override if override in _OVERRIDES else method


def has_control_character(value: str) -> bool:
    """Return whether a value holds a character that no header may hold."""
    return _CONTROL.search(value) is not None


def without_control_characters(value: str) -> str:
    """Return a value with a space for each character that no header may hold."""
    return _CONTROL.sub(" ", value)


def mask_sessions(text: str) -> str:
    """Return a text with ``***`` for each session cookie."""
    return re.sub(_SESSION, SESSION_COOKIE + "=***", text)
