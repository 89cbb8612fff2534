"""The handlers of authentication: tokens, proxies, and the settings of sessions and passwords.

The answers were compared with a CouchDB 3.5 whose file of settings named the same handlers.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha1

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from couchdal import MemoryBackend, Request
from couchdal.transcripts.scenario import RECORDED_ADMIN

HANDLERS = ", ".join(
    f"{{chttpd_auth, {name}_authentication_handler}}" for name in ("jwt", "proxy", "cookie", "default")
)
NOW = 1_700_000_000
SECRET = b"a secret of tokens"
CLAIMS = {"sub": "bob", "exp": NOW + 60}
USERNAME, ROLES, TOKEN = "x-auth-couchdb-username", "x-auth-couchdb-roles", "x-auth-couchdb-token"


@pytest.fixture
def backend() -> MemoryBackend:
    backend = MemoryBackend(admin=RECORDED_ADMIN)
    backend.config.update(
        {
            "chttpd/authentication_handlers": HANDLERS,
            "jwt_keys/hmac:_default": b64encode(SECRET).decode(),
            "jwt_keys/hmac:other": b64encode(b"other").decode(),
            "jwt_keys/hmac:bad": "@",
            "jwt_keys/rsa:bad": "x",
        }
    )
    return backend


def session(backend: MemoryBackend, **headers: str) -> tuple[int, object, object]:
    """Return the status of ``/_session``, and the user and the handler, or the error and its reason."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    answer = backend.send(Request("GET", "/_session", "", named))
    value = answer.value()
    assert isinstance(value, dict)
    if "error" in value:
        return answer.status, value["error"], value["reason"]
    user = value["userCtx"]
    return answer.status, (user["name"], user["roles"]), value["info"].get("authenticated")


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hmac(key: bytes = SECRET, kind: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda message: hmac.digest(key, message, kind)


def token(
    claims: object = CLAIMS,
    header: object = None,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    parts = [encoded(json.dumps(part).encode()) for part in (header or {"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join((*parts, encoded((sign or by_hmac())(".".join(parts).encode()))))


def asked(backend: MemoryBackend, text: str) -> tuple[int, object, object]:
    return session(backend, authorization=f"Bearer {text}")


@pytest.mark.parametrize("size", ["256", "384", "512"])
def test_token_signed_by_a_shared_secret_names_the_user(backend: MemoryBackend, size: str) -> None:
    claims = {**CLAIMS, "_couchdb.roles": ["a", "b"]}
    made = token(claims, {"alg": f"HS{size}"}, by_hmac(kind=f"sha{size}"))
    assert asked(backend, made) == (200, ("bob", ["a", "b"]), "jwt")
    other = token(claims, {"alg": f"HS{size}", "kid": "other"}, by_hmac(b"other", f"sha{size}"))
    assert asked(backend, other) == (200, ("bob", ["a", "b"]), "jwt")
    assert asked(backend, made[:-4] + "AAAA") == (400, "bad_request", "Bad HMAC")


@pytest.mark.parametrize("size", ["256", "384", "512"])
def test_token_signed_by_rsa_names_the_user(backend: MemoryBackend, rsa_key: rsa.RSAPrivateKey, size: str) -> None:
    backend.config["jwt_keys/rsa:k"] = pem(rsa_key)
    kind = getattr(hashes, f"SHA{size}")()
    made = token(
        header={"alg": f"RS{size}", "kid": "k"}, sign=lambda text: rsa_key.sign(text, padding.PKCS1v15(), kind)
    )
    assert asked(backend, made) == (200, ("bob", []), "jwt")
    assert asked(backend, made[:-4] + "AAAA") == (400, "bad_request", "Bad signature")


@pytest.mark.parametrize(("size", "curve"), [("256", ec.SECP256R1()), ("384", ec.SECP384R1()), ("512", ec.SECP521R1())])
def test_token_signed_by_a_curve_names_the_user(backend: MemoryBackend, size: str, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    backend.config["jwt_keys/ec:k"] = pem(key)
    length = (curve.key_size + 7) // 8

    def sign(text: bytes) -> bytes:
        numbers = decode_dss_signature(key.sign(text, ec.ECDSA(getattr(hashes, f"SHA{size}")())))
        return b"".join(number.to_bytes(length) for number in numbers)

    made = token(header={"alg": f"ES{size}", "kid": "k"}, sign=sign)
    assert asked(backend, made) == (200, ("bob", []), "jwt")
    assert asked(backend, made[:-8] + "AAAAAAAA") == (400, "bad_request", "Bad signature")
    backend.config["jwt_keys/rsa:k"] = pem(key)
    wrong = token(header={"alg": "RS256", "kid": "k"})
    assert asked(backend, wrong) == (400, "bad_request", "not an RSA public key")


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode().replace("\n", "\\n")


MALFORMED = [
    ("a.b", "Malformed token"),
    ("a.b.c.d", "Malformed token"),
    ("!.b.c", "Malformed token"),
    (token(header=[1]), "Not an object"),
    (token(5), "Not an object"),
    (token(header={"typ": "JWT"}), "Missing alg header parameter"),
    (token(header={"alg": "none"}), "Invalid alg header parameter"),
    (token(header={"alg": "HS256", "kid": "unknown"}), "Unknown kid"),
    (token(header={"alg": "HS256", "kid": "bad"}), "Not a valid key"),
    (token(header={"alg": "RS256", "kid": "bad"}), "Not a valid key"),
    (token({"sub": "bob"}), "Missing exp claim"),
    (token({**CLAIMS, "_couchdb.roles": [1]}), "Malformed token"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED)
def test_malformed_token_is_refused(backend: MemoryBackend, text: str, reason: str) -> None:
    assert asked(backend, text) == (400, "bad_request", reason)


def test_claims_of_a_token_are_checked_as_configured(backend: MemoryBackend) -> None:
    assert asked(backend, token({**CLAIMS, "exp": NOW})) == (401, "unauthorized", "exp not in future")
    # In Erlang, text is greater than every number.
    assert asked(backend, token({**CLAIMS, "exp": "x"}))[0] == 200
    assert asked(backend, token({"exp": NOW + 60})) == (401, "unauthorized", "Token missing sub claim.")
    backend.config["jwt_auth/required_claims"] = 'exp, nbf, {iss, "Me"}'
    good = {**CLAIMS, "nbf": NOW - 1, "iss": "Me"}
    assert asked(backend, token(good))[0] == 200
    assert asked(backend, token({**good, "iss": "You"})) == (400, "bad_request", "Invalid iss claim")
    assert asked(backend, token({**good, "nbf": NOW + 1})) == (401, "unauthorized", "nbf not in past")
    assert asked(backend, token({**CLAIMS, "iss": "Me"})) == (400, "bad_request", "Missing nbf claim")
    backend.config["jwt_auth/required_claims"] = "exp, other"
    assert asked(backend, token()) == (500, "unknown_checks", "[other]")
    backend.config["jwt_auth/required_claims"] = "123"
    assert asked(backend, token()) == (500, "misconfigured_server", "JWT is not configured correctly")
    backend.config["jwt_auth/required_claims"] = ""
    assert asked(backend, token({"sub": "bob"}))[0] == 200


def test_token_expires_with_the_clock(backend: MemoryBackend) -> None:
    made = token()
    assert asked(backend, made)[0] == 200
    backend.clock.advance(60)
    assert asked(backend, made) == (401, "unauthorized", "exp not in future")


def test_roles_of_a_token_are_found_by_name_or_path(backend: MemoryBackend) -> None:
    made = token({**CLAIMS, "groups": "x, y,,", "a": {"b.c": ["deep"]}, "_couchdb.roles": ["usual"]})
    assert asked(backend, made)[1] == ("bob", ["usual"])
    backend.config["jwt_auth/roles_claim_name"] = "groups"
    assert asked(backend, made)[1] == ("bob", ["x", "y"])
    backend.config["jwt_auth/roles_claim_path"] = "a.b\\.c"
    assert asked(backend, made)[1] == ("bob", ["deep"])
    backend.config["jwt_auth/roles_claim_path"] = "a.x"
    assert asked(backend, made) == (404, "not_found", "missing json key: x")
    backend.config["jwt_auth/roles_claim_path"] = "groups.x"
    assert asked(backend, made) == (404, "not_found", "json_mismatch")


def test_proxy_names_the_user_and_signs_the_name_if_it_has_to(backend: MemoryBackend) -> None:
    named = {USERNAME: "bob", ROLES: "a, b ,,"}
    assert session(backend, **named) == (200, ("bob", ["a", "b"]), "proxy")
    backend.config.update({"chttpd_auth/proxy_use_secret": "true", "chttpd_auth/secret": "s"})
    assert session(backend, **named) == (200, (None, []), None)
    for kind in ("sha256", "sha1"):
        assert session(backend, **named, **{TOKEN: hmac.digest(b"s", b"bob", kind).hex()})[1] == ("bob", ["a", "b"])
    backend.config["chttpd_auth/hash_algorithms"] = "sha512"
    assert session(backend, **named, **{TOKEN: hmac.digest(b"s", b"bob", "sha1").hex()})[1] == (None, [])
    assert session(backend, **named, **{TOKEN: hmac.digest(b"s", b"bob", "sha512").hex()})[2] == "proxy"
    backend.config["chttpd_auth/x_auth_username"] = "X-Name"
    assert session(backend, x_name="ann", **{TOKEN: hmac.digest(b"s", b"ann", "sha512").hex()})[1] == ("ann", [])


def test_headers_of_a_proxy_count_only_if_it_is_a_handler() -> None:
    backend = MemoryBackend(admin=RECORDED_ADMIN)
    assert session(backend, **{USERNAME: "admin", ROLES: "_admin"})[1] == (None, [])
    assert session(backend, authorization=f"Bearer {token()}")[1] == (None, [])


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def add_user(backend: MemoryBackend, name: str, path: str = "/_users", **members: object) -> dict[str, object]:
    document = {"name": name, "roles": [], "type": "user", **members}
    headers = {"authorization": basic(*RECORDED_ADMIN)}
    place = f"{path}/org.couchdb.user:{name}"
    backend.send(Request("PUT", place, "", headers, json=document))
    value = backend.send(Request("GET", place, "", headers)).value()
    assert isinstance(value, dict)
    return value


def test_passwords_are_hashed_by_the_configured_scheme(backend: MemoryBackend) -> None:
    backend.config.update({"chttpd_auth/iterations": "10", "chttpd_auth/pbkdf2_prf": "sha512"})
    ann = add_user(backend, "ann", password="secret")
    assert (ann["pbkdf2_prf"], ann["iterations"], len(str(ann["derived_key"]))) == ("sha512", 10, 128)
    backend.config["chttpd_auth/password_scheme"] = "simple"
    bob = add_user(backend, "bob", password="secret")
    assert bob["password_sha"] == sha1(b"secret" + str(bob["salt"]).encode()).hexdigest()
    for name in ("ann", "bob"):
        assert session(backend, authorization=basic(name, "secret"))[1] == (name, [])
    backend.config["chttpd_auth/min_iterations"] = "11"
    too_low = (403, "forbidden", "Iteration count is too low for this server")
    fresh = add_user(
        backend, "joe", **{key: ann[key] for key in ("password_scheme", "pbkdf2_prf", "salt", "iterations")}
    )
    assert "error" in fresh
    backend.server.known_passwords.clear()
    assert session(backend, authorization=basic("ann", "secret")) == too_low
    backend.config.update({"chttpd_auth/min_iterations": "1", "chttpd_auth/max_iterations": "9"})
    assert session(backend, authorization=basic("ann", "secret"))[2] == "Iteration count is too high for this server"


def test_lockout_follows_its_threshold_and_mode(backend: MemoryBackend) -> None:
    backend.config["chttpd_auth/password_scheme"] = "simple"
    backend.config["chttpd_auth_lockout/threshold"] = "2"
    add_user(backend, "ann", password="secret")
    for _ in range(2):
        assert session(backend, authorization=basic("ann", "wrong"))[0] == 401
    assert session(backend, authorization=basic("ann", "secret"))[0] == 403
    for mode in ("warn", "off"):
        backend.config["chttpd_auth_lockout/mode"] = mode
        assert session(backend, authorization=basic("ann", "secret"))[0] == 200


def test_users_are_those_of_the_configured_database(backend: MemoryBackend) -> None:
    backend.send(Request("PUT", "/people", "", {"authorization": basic(*RECORDED_ADMIN)}))
    members = {"password_scheme": "simple", "salt": "s", "password_sha": sha1(b"secrets").hexdigest()}
    add_user(backend, "ann", "/people", **members)
    assert session(backend, authorization=basic("ann", "secret"))[0] == 401
    backend.config["chttpd_auth/authentication_db"] = "people"
    assert session(backend, authorization=basic("ann", "secret"))[1] == ("ann", [])


def test_session_ends_after_the_configured_time(backend: MemoryBackend) -> None:
    backend.config["chttpd_auth/timeout"] = "100"
    name, password = RECORDED_ADMIN
    login = Request(
        "POST", "/_session", "", {"content-type": "application/json"}, json={"name": name, "password": password}
    )
    cookie = backend.send(login).headers["set-cookie"].partition(";")[0]
    backend.clock.advance(99)
    assert session(backend, cookie=cookie)[2] == "cookie"
    backend.clock.advance(1)
    assert session(backend, cookie=cookie)[2] is None
