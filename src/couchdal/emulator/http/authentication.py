"""Authentication: the user of a request, from its cookie, its credentials, its token or a proxy.

Source: ``couch_httpd_auth``, ``chttpd_auth``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from couchdal.emulator.engine.auth.security import UserContext
from couchdal.emulator.engine.config.settings import HANDLERS, Settings
from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.revisions.revision_tree import ranked_leaves
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BadRequest, CouchError, Forbidden, ServerError, Unauthorized
from couchdal.http.headers import SESSION_COOKIE, effective_method
from couchdal.http.messages import Request, too_large
from couchdal.http.urls import split_path

_ADMIN_PARTY = UserContext(None, ("_admin",), "default")
_ANONYMOUS = UserContext()
WRONG_PASSWORD = "Name or password is incorrect."


def identify(server: Server, request: Request) -> UserContext:
    """Return the user of a request: the one that the first handler finds, or an anonymous user.

    On a server without administrators, an anonymous user is an administrator. Raise ``Unauthorized`` for wrong
    credentials, ``Forbidden`` after too many attempts, and ``BadRequest`` for malformed credentials.
    """
    settings = server.settings
    if settings.authentication_handlers is not HANDLERS:
        for name in settings.authentication_handlers:
            user = _BY_HANDLER[name](server, request)
            if user is not None:
                return user
    else:
        if "cookie" in request.headers:
            user = _by_cookie(server, request)
            if user is not None:
                return user
        if "authorization" in request.headers:
            user = _by_password(server, request)
            if user is not None:
                return user
    if settings.refuses_anonymous or settings.require_valid_user_except_for_up:
        _require_user(request, settings)
    return _ANONYMOUS if server.admins and server.is_closed else _ADMIN_PARTY


def _require_user(request: Request, settings: Settings) -> None:
    """Raise ``Unauthorized`` for a request without a user, unless it logs in or may be anonymous."""
    segments = split_path(request.path)
    if segments == ["_session"] and effective_method(request.method, request.headers) == "POST":
        return
    if segments != ["_up"] or not settings.require_valid_user_except_for_up:
        raise Unauthorized("Authentication required.")


def _by_password(server: Server, request: Request) -> UserContext | None:
    authorization = request.headers.get("authorization")
    credentials = _basic_credentials(authorization) if authorization else None
    if credentials is None:
        return None
    name, password = credentials
    properties = user_properties(server, name)
    if properties is None or "totp" in properties:
        raise Unauthorized(WRONG_PASSWORD)
    if not authenticate(server, request.peer, name, password, properties):
        raise Unauthorized(WRONG_PASSWORD)
    return UserContext(name, roles_of(properties), "default")


def _by_anybody(server: Server, request: Request) -> UserContext:
    return UserContext(None, ("_admin",), "null")


def _by_proxy(server: Server, request: Request) -> UserContext | None:
    """Return the user that a proxy names in headers. If a secret is configured, the proxy must sign the name."""
    from hmac import compare_digest, digest  # few servers are behind such a proxy

    from couchdal.emulator.engine.auth.tokens import split_list

    settings, headers = server.settings, request.headers
    name = headers.get(settings.x_auth_username)
    if name is None:
        return None
    encoded = name.encode("latin-1", "replace")
    if settings.proxy_use_secret:
        token = headers.get(settings.x_auth_token, "").encode("latin-1", "replace")
        secret = settings.secret.encode()
        signed = (digest(secret, encoded, kind).hex().encode() for kind in settings.hash_algorithms)
        if not any(compare_digest(one, token) for one in signed):
            return None
    listed = headers.get(settings.x_auth_roles)
    roles = () if listed is None else split_list(listed)
    return UserContext(encoded.decode("utf-8", "surrogateescape"), tuple(roles), "proxy")


def _by_token(server: Server, request: Request) -> UserContext | None:
    """Return the user of a JSON web token. Raise ``CouchError`` for an invalid one."""
    authorization = request.headers.get("authorization", "").rstrip()
    if not authorization.startswith("Bearer "):
        return None
    from couchdal.emulator.engine.auth.tokens import user_of_token  # few programs use tokens

    name, roles = user_of_token(authorization[7:], server.settings, int(server.clock.now()))
    return UserContext(name, roles, "jwt")


def check_large(server: Server, request: Request) -> None:
    """Raise ``CouchError`` if a client may not send a body over ``ANONYMOUS_BODY``, before the body is received.

    Everybody may try to log in, so a login's body must be small. Other large bodies need valid credentials, if any
    exist.
    """
    try:
        anonymous = server.is_closed and identify(server, request).name is None
    except CouchError as error:
        error.headers = {**error.headers, "connection": "close"}
        raise
    if anonymous or split_path(request.path) == ["_session"]:
        raise too_large()


def roles_of(properties: Mapping[str, object]) -> tuple[str, ...]:
    """Return a user's roles."""
    roles = properties.get("roles", ())
    return tuple(roles) if isinstance(roles, (list, tuple)) else ()


def user_properties(server: Server, name: str) -> Mapping[str, object] | None:
    """Return the properties of a user: those of an administrator, or those in the user's document.

    Raise ``Unauthorized`` for a document in conflict, because its revisions may have different passwords.
    """
    from couchdal.emulator.engine.auth.users import ID_PREFIX, USERS

    users = server.databases.get(server.settings.authentication_db or USERS)
    record: DocumentRecord | None = users.get(ID_PREFIX + name) if users is not None else None
    body: Mapping[str, object] | None = None
    if record is not None and not record.deleted:
        conflicts = any(not leaf.deleted for leaf in ranked_leaves(record.tree)[1:])
        if conflicts and not server.settings.allow_conflicted_user_docs:
            raise Unauthorized(
                "User document conflicts must be resolved before the document is used for authentication purposes."
            )
        body = record.winner.body
    if name not in server.admins:
        return body
    value = server.admins[name]
    properties: Mapping[str, object] | None = {"salt": server.ids.named(f"salt/{name}"), "password": value}
    if value.startswith("-"):
        from couchdal.emulator.engine.auth.admins import admin_properties, is_hashed  # few administrators are hashed

        if is_hashed(value):
            properties = admin_properties(value)
    return body if properties is None else {**properties, "roles": ("_admin", *roles_of(body or {}))}


def authenticate(server: Server, peer: str, name: str, password: str, properties: Mapping[str, object]) -> bool:
    """Return whether the password is right. Raise ``Forbidden`` after too many wrong ones from one address."""
    from couchdal.emulator.engine.auth.sessions import count_failure, failure_key, is_locked
    from couchdal.emulator.engine.auth.users import verify_password

    settings = server.settings
    key, now = failure_key(peer, name, str(properties.get("salt", ""))), server.clock.now()
    if is_locked(server.failures, key, settings, now):
        raise Forbidden("Account is temporarily locked due to multiple authentication failures")
    if name in server.admins and "password" in properties:
        right = password == properties["password"]
    else:
        right = verify_password(
            properties, password.encode("utf-8", "surrogateescape"), settings, server.known_passwords
        )
    if not right:
        count_failure(server.failures, key, settings, now)
    elif settings.upgrade_hash_on_auth and name not in server.admins:
        from couchdal.emulator.engine.auth.upgrades import is_outdated, upgrade_hash  # few requests bring passwords

        if is_outdated(properties, settings):
            upgrade_hash(server, name, password)
    return right


def _by_cookie(server: Server, request: Request) -> UserContext | None:
    """Return the user of a session cookie. Return None without a valid one."""
    header = request.headers.get("cookie")
    if not header:
        return None
    from couchdal.emulator.engine.auth.sessions import check_cookie, make_cookie, parse_cookie, set_cookie

    parts = (part.strip().partition("=") for part in header.replace(",", ";").split(";"))
    value = next((value.strip('"') for name, _, value in parts if name == SESSION_COOKIE), "")
    if not value:
        return None
    cookie = parse_cookie(value)
    name = cookie[0]
    properties = user_properties(server, name)
    if properties is None:
        return None
    settings, salt, now = server.settings, str(properties.get("salt", "")), int(server.clock.now())
    old = check_cookie(cookie, settings, salt, now)
    if old is None:
        return None
    renewed = set_cookie(make_cookie(name, settings, salt, now), settings, now) if old else None
    return UserContext(name, roles_of(properties), "cookie", renewed)


_BY_HANDLER: Final[Mapping[str, Callable[[Server, Request], UserContext | None]]] = {
    "cookie": _by_cookie,
    "default": _by_password,
    "jwt": _by_token,
    "null": _by_anybody,
    "proxy": _by_proxy,
}


def _basic_credentials(header: str) -> tuple[str, str] | None:
    """Return the name and the password in an Authorization header.

    Return None for another scheme or without a colon. Raise ``BadRequest`` or ``ServerError`` for bad base64.
    """
    if not header.startswith("Basic "):
        return None
    name, colon, password = decoded_base64(header[6:]).decode("utf-8", "surrogateescape").partition(":")
    # Web applications send "_:_" to make a browser forget its credentials.
    return (name, password) if colon and (name, password) != ("_", "_") else None


def decoded_base64(text: str) -> bytes:
    """Decode base64. Raise ``BadRequest`` or ``ServerError``, depending on the mistake."""
    from couchdal.emulator.engine.erlang.base64_text import decode_base64  # few requests bring credentials

    try:
        return decode_base64(text)
    except ValueError:
        raise _base64_error(text.encode("latin-1", "replace")) from None


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _base64_error(text: bytes) -> CouchError:
    """Return the error for bad base64: CouchDB handles some errors of Erlang's decoder and crashes on others."""
    padding, group, ended = -2, [], False
    for byte in text:
        if byte in b"\t\n\r ":
            continue
        value = padding if byte == ord("=") else _BASE64.find(byte)
        if ended:
            return ServerError(str(value) if value >= 0 else "eq" if value == padding else "bad", error="case_clause")
        group.append(value)
        if len(group) == 4:
            ended = group[3] == padding
            shifted = (group[1] if group[2] == padding else group[2]) if ended else 0
            if shifted < 0:
                return ServerError("badarith", error="unknown_error")
            if min(group[:2] if ended else group) < 0:
                return ServerError("badarg", error="unknown_error")
            group = []
    return BadRequest("Authorization header has invalid base64 value")
