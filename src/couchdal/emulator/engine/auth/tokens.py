"""JSON web tokens: their signatures, claims and roles.

This module does not know requests. RSA and EC signatures need the package ``cryptography``. Sources: ``jwtf``,
``jwtf_keystore``, ``couch_httpd_auth:jwt_authentication_handler``.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from hmac import compare_digest, digest
from typing import Final, NamedTuple, TypeAlias

from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.errors import BadRequest, NotFound, NotSupported, ServerError, Unauthorized
from couchdal.http.json_text import decode_json

_Claims: TypeAlias = Mapping[str, object]

_HASHES: Final = {"256": "sha256", "384": "sha384", "512": "sha512"}
_KINDS: Final = {"HS": "hmac", "RS": "rsa", "ES": "ec"}
_CLAIM = re.compile(r'([a-z]+)|\{([a-z]+) *, *"([^"]+)"\}')
_KNOWN_CLAIMS: Final = frozenset(("alg", "exp", "iat", "iss", "kid", "nbf", "sig", "typ"))
_DOT = re.compile(r"(?<!\\)\.")
_COMMA = re.compile(r"\s*,\s*")
_MALFORMED: Final = "Malformed token"


class TokenUser(NamedTuple):
    """The user that a token names."""

    name: str | None
    roles: tuple[str, ...]


def user_of_token(token: str, settings: Settings, now: int) -> TokenUser:
    """Return the user of a token. Raise ``BadRequest`` or ``Unauthorized`` for a token that is not valid."""
    required = _required(settings.required_claims)
    parts = token.split(".")
    if len(parts) != 3:
        raise BadRequest(_MALFORMED)
    _check_names(required)
    header = _decoded(parts[0])
    _check_header(header, required)
    claims = _decoded(parts[1])
    _check_claims(claims, required, now)
    algorithm = str(header["alg"])
    key = _key(algorithm, header, required, settings.jwt_keys)
    _verify(algorithm, f"{parts[0]}.{parts[1]}".encode(), _from_base64(parts[2]), key)
    roles = _roles(claims, settings)
    if "sub" not in claims:
        raise Unauthorized("Token missing sub claim.")
    name = claims["sub"]
    if name is not None and not isinstance(name, str):
        raise NotSupported("the name of a token's user must be a string")
    return TokenUser(name, roles)


def _required(text: str) -> list[tuple[str, object]]:
    """Return the checks that the setting names: claims with True, or with the value that they must have."""
    found = [(plain, True) if plain else (name, value) for plain, name, value in _CLAIM.findall(text)]
    if not found and text:
        error = ServerError("JWT is not configured correctly", error="misconfigured_server")
        error.is_traced = False
        raise error
    return [("alg", True), *found]


def _check_names(required: list[tuple[str, object]]) -> None:
    twice = [check for place, check in enumerate(required) if check in required[:place]]
    if twice:
        raise ServerError(_shown(sorted(twice, key=repr)), error="duplicate_checks")
    unknown = [check for check in required if check[0] not in _KNOWN_CLAIMS]
    if unknown:
        raise ServerError(_shown(unknown), error="unknown_checks")


def _shown(checks: list[tuple[str, object]]) -> str:
    """Return checks as Erlang prints them."""
    terms = (name if value is True else f"{{{name},{pretty_term(value)}}}" for name, value in checks)
    return f"[{','.join(terms)}]"


def _check_header(header: _Claims, required: list[tuple[str, object]]) -> None:
    needs = dict(required)
    kind = header.get("typ")
    if kind != "JWT":
        if "typ" in needs:
            raise BadRequest(f"{'Missing' if 'typ' not in header else 'Invalid'} typ header parameter")
        if "typ" in header:
            raise ServerError(f"{{undefined,{pretty_term(kind)}}}", error="case_clause")
    if "alg" not in header:
        raise BadRequest("Missing alg header parameter")
    algorithm = header["alg"]
    if not isinstance(algorithm, str) or algorithm[:2] not in _KINDS or algorithm[2:] not in _HASHES:
        raise BadRequest("Invalid alg header parameter")


def _check_claims(claims: _Claims, required: list[tuple[str, object]], now: int) -> None:
    needs = dict(required)
    if "iss" in needs and claims.get("iss") != needs["iss"]:
        raise BadRequest(f"{'Missing' if 'iss' not in claims else 'Invalid'} iss claim")
    for name in ("iat", "nbf", "exp"):
        if name not in needs:
            continue
        if needs[name] is not True:
            found = pretty_term(claims[name]) if name in claims else "undefined"
            raise ServerError(f"{{{pretty_term(needs[name])},{found}}}", error="case_clause")
        if name not in claims:
            raise BadRequest(f"Missing {name} claim")
        value = claims[name]
        if name == "iat" and type(value) is not int:
            raise BadRequest("Invalid iat claim")
        # In Erlang, every value that is not a number is greater than all numbers.
        time = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if name == "nbf" and not (time is not None and time < now):
            raise Unauthorized("nbf not in past")
        if name == "exp" and not (time is None or time > now):
            raise Unauthorized("exp not in future")


def _decoded(part: str) -> _Claims:
    try:
        data = _from_base64(part)
        value = None if data is None else decode_json(data)
    except BadRequest:
        data = value = None
    if data is None:
        raise BadRequest(_MALFORMED)
    if type(value) is not dict:
        raise BadRequest("Not an object")
    return value


def _from_base64(text: str) -> bytes | None:
    """Return decoded base64 of either alphabet, or None."""
    try:
        return b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


# --- keys and signatures ----------------------------------------------------------------------------------------------


def _key(algorithm: str, header: _Claims, required: list[tuple[str, object]], keys: Mapping[str, str]) -> str:
    name = header.get("kid")
    if name is None and "kid" not in header and "kid" in dict(required):
        raise BadRequest("Missing kid claim")
    if "kid" in header and not isinstance(name, str):
        raise ServerError("function_clause")
    found = keys.get(f"{_KINDS[algorithm[:2]]}:{'_default' if name is None else name}")
    if found is None:
        raise BadRequest("Unknown kid")
    return found


def _verify(algorithm: str, message: bytes, signature: bytes | None, key: str) -> None:
    name, kind = _HASHES[algorithm[2:]], algorithm[:2]
    if kind == "HS":
        try:
            secret = b64decode("".join(key.split()), validate=True)
        except ValueError:
            raise BadRequest("Not a valid key") from None
        if signature is None or not compare_digest(digest(secret, message, name), signature):
            raise BadRequest("Bad HMAC")
        return
    verify = _public_verifier(kind, key)
    if signature is None:
        raise ServerError("badarg", error="unknown_error")
    if not verify(signature, message, name):
        raise BadRequest("Bad signature")


def _public_verifier(kind: str, key: str) -> Callable[[bytes, bytes, str], bool]:
    """Return the function that checks a signature with a public key in PEM. Raise ``BadRequest`` for a wrong key."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # an extra
        from cryptography.hazmat.primitives import hashes  # an extra
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # an extra
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # an extra
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # an extra
    except ModuleNotFoundError:
        raise NotSupported("tokens with RSA and EC signatures need the extra: couchdal[jwt]") from None

    try:
        public = load_pem_public_key(key.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise BadRequest("Not a valid key") from None
    kinds = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}

    def by_rsa(signature: bytes, message: bytes, name: str) -> bool:
        assert isinstance(public, rsa.RSAPublicKey)
        try:
            public.verify(signature, message, padding.PKCS1v15(), kinds[name])
        except InvalidSignature:
            return False
        return True

    def by_curve(signature: bytes, message: bytes, name: str) -> bool:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        # On every curve, each of the two numbers is half of the signature.
        number, half = int.from_bytes(signature), 4 * len(signature)
        try:
            parts = encode_dss_signature(number >> half, number & ((1 << half) - 1))
            public.verify(parts, message, ec.ECDSA(kinds[name]))
        except InvalidSignature:
            return False
        return True

    if kind == "RS":
        if not isinstance(public, rsa.RSAPublicKey):
            raise BadRequest("not an RSA public key")
        return by_rsa
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadRequest("not an EC public key")
    return by_curve


# --- roles ------------------------------------------------------------------------------------------------------------


def _roles(claims: _Claims, settings: Settings) -> tuple[str, ...]:
    found: object = claims.get(settings.roles_claim_name, [])
    if settings.roles_claim_path is not None:
        found = claims
        for name in _DOT.split(settings.roles_claim_path):
            key = name.replace("\\.", ".")
            if not isinstance(found, dict):
                raise NotFound("json_mismatch")
            if key not in found:
                raise NotFound(f"missing json key: {key}")
            found = found[key]
    if isinstance(found, str):
        found = split_list(found)
    if not isinstance(found, list):
        raise ServerError("badarg", error="unknown_error")
    if not all(type(role) is str for role in found):
        raise BadRequest(_MALFORMED)
    return tuple(found)


def split_list(text: str) -> list[str]:
    """Return the parts of a list with commas, without empty ones at its end. An empty text has one part."""
    parts = _COMMA.split(text)
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts
