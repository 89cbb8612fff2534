"""The users database: password hashing, and who may read and write a document.

This module does not know sessions or requests. Sources: ``couch_users_db`` and ``couch_passwords``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import new, pbkdf2_hmac, sha1, sha256
from hmac import compare_digest, digest

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.errors import Forbidden, NotFound, ServerError
from couchdal.pace import begin_long, computing, paced, unlocked

USERS = "_users"
ID_PREFIX = "org.couchdb.user:"
# How many correct passwords are remembered, and the longest password whose derived key is cached.
_MOST_KNOWN = 1000
_LONGEST_KEPT = 1024
# How many iterations one call makes. A call cannot be interrupted, and takes a second or two.
_AT_ONCE = 1_000_000
PRFS = {"sha": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
_COMMA = re.compile(r"\s*,\s*", re.ASCII)
OLDER_SCHEMES = ("simple", "pbkdf2")
SCHEMES = (*OLDER_SCHEMES, "simple+pbkdf2")
_PASSWORD_FIELDS = frozenset(
    (
        "derived_key",
        "iterations",
        "password",
        "password_scheme",
        "password_sha",
        "preserve_salt",
        "pbkdf2_prf",
        "salt",
    )
)


def derive_key(prf: str, password: bytes, salt: bytes, iterations: int) -> str:
    """Return the key derived from a password, in hexadecimal. ``prf`` names the hash function and sets the length.

    A derivation takes a good part of a second by design. Salts are the same in every run, so the tests of one process
    share the cached results, except those of very long passwords.
    """
    derive = _derive_short if len(password) + len(salt) <= _LONGEST_KEPT else _derive
    return derive(prf, password, salt, iterations)


@lru_cache(maxsize=256)
def _derive_short(prf: str, password: bytes, salt: bytes, iterations: int) -> str:
    return _derive(prf, password, salt, iterations)


def _derive(prf: str, password: bytes, salt: bytes, iterations: int) -> str:
    if iterations > _AT_ONCE:
        return _derive_in_steps(PRFS[prf], password, salt, iterations)
    begin_long()
    with computing():
        return pbkdf2_hmac(PRFS[prf], password, salt, iterations).hex()


def _derive_in_steps(name: str, password: bytes, salt: bytes, iterations: int) -> str:
    """Derive a key slowly, so that a request with a hostile number of iterations can end. Source: RFC 8018, 5.2."""
    begin_long()
    hashed = new(name, password)
    # Hash a long key once here. Otherwise HMAC would hash it in each iteration.
    key = hashed.digest() if len(password) > hashed.block_size else password
    last = digest(key, salt + b"\0\0\0\1", name)
    total = int.from_bytes(last)
    with unlocked():
        for _ in paced(range(iterations - 1)):
            last = digest(key, last, name)
            total ^= int.from_bytes(last)
    return total.to_bytes(hashed.digest_size).hex()


def verify_password(
    properties: Mapping[str, object], password: bytes, settings: Settings, known: dict[str, bytes]
) -> bool:
    """Return True if the key in a user document derives from the password.

    ``known`` has digests of correct passwords by derived key, because verification is slow. Raise ``Forbidden`` or
    ``ServerError`` if the document names parameters that CouchDB does not support.
    """
    expected = str(properties.get("derived_key"))
    if expected in known:
        return compare_digest(known[expected], _digest(password))
    right = _verify(properties, password, settings)
    if right and properties.get("password_scheme") == "pbkdf2":
        remember(known, expected, password)
    return right


def remember(known: dict[str, bytes], derived_key: str, password: bytes) -> None:
    """Keep the digest of a password, and forget the oldest if there are too many."""
    known[derived_key] = _digest(password)
    if len(known) > _MOST_KNOWN:
        known.pop(next(iter(known)), None)


def _digest(password: bytes) -> bytes:
    return sha256(password).digest()


def _verify(properties: Mapping[str, object], password: bytes, settings: Settings) -> bool:
    scheme, text = properties.get("password_scheme", "simple"), properties.get("salt", "")
    if scheme not in SCHEMES:
        raise ServerError("case_clause") if scheme is None else ServerError(pretty_term(scheme), error="case_clause")
    if type(text) is not str:
        raise ServerError("function_clause")
    salt = text.encode("utf-8", "surrogatepass")
    if scheme == "simple":
        return sha1(password + salt, usedforsecurity=False).hexdigest() == properties.get("password_sha")
    if scheme == "simple+pbkdf2":
        password = sha1(password + salt, usedforsecurity=False).hexdigest().encode()
    prf = properties.get("pbkdf2_prf", "sha")
    if not isinstance(prf, str) or prf not in PRFS:
        raise Forbidden("PRF is invalid")
    iterations = properties.get("iterations", 10_000)
    if type(iterations) is not int:
        raise ServerError("function_clause")
    if iterations < settings.min_iterations:
        raise Forbidden("Iteration count is too low for this server")
    if iterations > settings.max_iterations:
        raise Forbidden("Iteration count is too high for this server")
    if iterations < 1:
        raise ServerError("function_clause", error="unknown_error")
    return derive_key(prf, password, salt, iterations) == properties.get("derived_key")


def hash_password(document: Document, new_salt: str, settings: Settings, known: dict[str, bytes]) -> Document:
    """Return a user document with a derived key instead of its password. Documents without one are not changed."""
    body = document.body
    password = body.get("password")
    if password is None:
        return document
    if type(password) is not str:
        raise Forbidden(f"Password value of '{pretty_term(password)}' is invalid.")
    salt = str(body.get("salt", new_salt)) if body.get("preserve_salt") is True else new_salt
    hashed = _hashed(password, salt, settings, known)
    hashed.update((name, member) for name, member in body.items() if name not in _PASSWORD_FIELDS)
    return Document(
        document.doc_id,
        hashed,
        position=document.position,
        ids=document.ids,
        deleted=document.deleted,
        attachments=document.attachments,
    )


def _hashed(text: str, salt: str, settings: Settings, known: dict[str, bytes]) -> dict[str, object]:
    """Return the members of a user document for a password, by the scheme of the settings."""
    scheme, prf, iterations = settings.password_scheme, settings.pbkdf2_prf, settings.iterations
    if scheme not in ("simple", "pbkdf2"):
        raise Forbidden("Server cannot hash passwords at this time.")
    if settings.password_regexp:
        from couchdal.emulator.engine.auth.password_rules import check_new_password  # few servers have rules

        check_new_password(text, settings.password_regexp)
    password = text.encode()
    if scheme == "simple":
        password_sha = sha1(password + salt.encode(), usedforsecurity=False).hexdigest()
        return {"password_scheme": "simple", "salt": salt, "password_sha": password_sha}
    if prf and prf not in PRFS:
        raise ServerError("badarg", error="unknown_error")
    if iterations < 1:
        raise ServerError("function_clause", error="unknown_error")
    derived_key = derive_key(prf or "sha", password, salt.encode(), iterations)
    remember(known, derived_key, password)
    hashed = {"salt": salt, "iterations": iterations, "derived_key": derived_key}
    return {"password_scheme": "pbkdf2", **({"pbkdf2_prf": prf} if prf else {}), **hashed}


def check_writable(doc_id: str, user: UserContext, security: Mapping[str, object]) -> None:
    """Raise ``NotFound`` for the document of another user. Anonymous users may write, because they may sign up."""
    own = user.name is None or doc_id == ID_PREFIX + user.name
    if not own and not is_db_admin(user, security):
        raise NotFound("missing")


def readable_part(
    doc_id: str,
    document: Mapping[str, object],
    user: UserContext,
    security: Mapping[str, object],
    settings: Settings,
) -> Mapping[str, object]:
    """Return the part of a document of the users database that a user may read: others see public members only.

    Raise ``NotFound`` if there are none, and ``Forbidden`` for a design document. Source:
    ``couch_users_db:after_doc_read``.
    """
    if is_db_admin(user, security) or doc_id.startswith("_local/"):
        return document
    if doc_id.startswith("_design/"):
        raise Forbidden("Only administrators can view design docs in the users database.")
    if user.name is not None and doc_id == ID_PREFIX + user.name:
        return document
    public = _COMMA.split(settings.public_fields)
    if not any(name in document for name in public):
        raise NotFound("missing")
    return {name: value for name, value in document.items() if name.startswith("_") or name in public}
