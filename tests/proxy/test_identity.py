"""Whose credentials CouchDB sees, and that they appear nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable

import pytest
from raw_http import Served, Upstream, Wire, answering

from couchdal import MemoryBackend
from couchdal.errors import NotConfigured
from couchdal.proxy.identity import Vouched
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options

ServeProxy = Callable[..., Wire]
PASSWORD = "hunter2"
OWN = f"Basic {b64encode(f'proxy:{PASSWORD}'.encode()).decode()}"
CLIENTS = "\nAuthorization: Basic Y2xpZW50OnNlY3JldA==\nCookie: AuthSession=clients; other=1"


@pytest.mark.parametrize(
    "credentials",
    ["Authorization: Basic Y2xpZW50OnNlY3JldA==", "Authorization: Bearer a.b.c", "Cookie: AuthSession=clients"],
)
def test_clients_credentials_are_forwarded(credentials: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    serve_proxy().ask(f"GET /db/doc HTTP/1.1\n{credentials}")
    name, _, value = credentials.partition(": ")
    assert upstream.received[0].header(name.lower()) == value


def test_client_without_credentials_stays_without(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.url = upstream.url.replace("//", f"//proxy:{PASSWORD}@")
    serve_proxy(upstream, auth="client").ask("GET /db/doc HTTP/1.1")
    assert upstream.received[0].header("authorization") is None


def test_clients_get_their_cookies(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.script = [answering(200, Set_Cookie="AuthSession=abc; Version=1; Path=/; HttpOnly")]
    answer = serve_proxy().ask("POST /_session HTTP/1.1")
    assert answer.headers["set-cookie"] == "AuthSession=abc; Version=1; Path=/; HttpOnly"


@pytest.mark.parametrize("in_address", [True, False])
def test_proxys_account_replaces_the_clients(in_address: bool, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    account = {} if in_address else {"user": "proxy", "password": PASSWORD}
    if in_address:
        upstream.url = upstream.url.replace("//", f"//proxy:{PASSWORD}@")
    serve_proxy(upstream, **account).ask(f"GET /db/doc HTTP/1.1{CLIENTS}")
    assert upstream.received[0].header("authorization") == OWN
    assert upstream.received[0].header("cookie") is None


def test_cookie_of_the_proxys_account_is_renewed_and_hidden_from_clients(
    serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    cookie = "AuthSession={}; Version=1; Max-Age=600; Path=/; HttpOnly"
    upstream.script = [
        answering(200, Set_Cookie=cookie.format("first")),
        answering(200, Set_Cookie=cookie.format("second")),
        answering(401, {"error": "unauthorized"}),
        answering(200, Set_Cookie=cookie.format("third")),
        answering(200),
    ]
    wire = serve_proxy(auth="cookie", user="proxy", password=PASSWORD)
    for _ in range(2):
        answer = wire.ask(f"GET /db/doc HTTP/1.1{CLIENTS}")
        assert (answer.status, answer.headers.get("set-cookie")) == (200, None)
    assert [(received.target, received.header("cookie")) for received in upstream.received] == [
        ("/_session", None),
        ("/db/doc", "AuthSession=first"),
        ("/db/doc", "AuthSession=second"),
        ("/_session", None),
        ("/db/doc", "AuthSession=third"),
    ]
    assert all(received.header("authorization") is None for received in upstream.received)


def token(user: str, secret: str) -> str:
    return hmac.new(secret.encode(), user.encode(), hashlib.sha256).hexdigest()


def test_proxy_authentication_names_the_user_and_sends_a_token(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy(auth="proxy", proxy_secret="s3", proxy_user="reader", proxy_roles=["a", "b"])
    wire.ask(f"GET /db/doc HTTP/1.1{CLIENTS}\nX-Auth-CouchDB-UserName: admin\nX-Auth-CouchDB-Roles: _admin")
    headers = dict(upstream.received[0].headers)
    assert headers["x-auth-couchdb-username"] == "reader"
    assert headers["x-auth-couchdb-roles"] == "a,b"
    assert headers["x-auth-couchdb-token"] == token("reader", "s3")
    assert not {"authorization", "cookie"} & headers.keys()


def test_gateway_in_front_of_the_proxy_names_the_user(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy(auth="proxy", proxy_secret="s3", proxy_user_header="X-Remote-User")
    wire.ask("GET /db/doc HTTP/1.1\nX-Remote-User: writer")
    assert upstream.received[0].header("x-auth-couchdb-token") == token("writer", "s3")
    assert upstream.received[0].header("x-remote-user") is None


# The gateway's header, and the client's own.
TWICE = "\nX-Remote-User: ada\nX-Remote-User: root"


@pytest.mark.parametrize(
    "header", ["", "\nX-Remote-User:", "\nX-Remote-User: ", "\nX_Remote_User: a", TWICE, TWICE.lower()]
)
def test_request_without_a_gateways_user_is_refused(header: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy(auth="proxy", proxy_secret="s3", proxy_user_header="X-Remote-User")
    answer = wire.ask(f"GET /db/doc HTTP/1.1{header}")
    assert answer.status == 401
    assert answer.json() == {
        "error": "unauthorized",
        "reason": "the gateway in front of the proxy must name one user, without a comma",
    }
    assert upstream.received == []


@pytest.mark.parametrize("names", ["X-Remote-User", "keep-alive, x-REMOTE-user", "close\nConnection: X-Remote-User"])
def test_connection_cannot_drop_the_gateways_user(names: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy(auth="proxy", proxy_secret="s3", proxy_user_header="X-Remote-User")
    answer = wire.ask(f"GET /db/doc HTTP/1.1\nX-Remote-User: writer\nConnection: {names}")
    assert (answer.status, answer.json()["error"]) == (400, "bad_request")  # type: ignore[call-overload, index]
    assert upstream.received == []


@pytest.mark.parametrize("name", ["Authorization", "cookie"])
def test_connection_cannot_drop_the_clients_credentials(name: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    answer = serve_proxy().ask(f"GET /db/doc HTTP/1.1\n{name}: x\nConnection: {name}")
    assert answer.status == 400
    assert upstream.received == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"auth": "proxy", "proxy_user": "u"}, "COUCHDAL_PROXY_SECRET"),
        ({"auth": "proxy", "proxy_secret": "s"}, "--proxy-user"),
        ({"auth": "basic"}, "COUCHDB_USER"),
        ({"auth": "cookie"}, "COUCHDB_USER"),
        ({"user": "u"}, "COUCHDB_PASSWORD"),
        (
            {"auth": "proxy", "proxy_secret": "s", "proxy_user": "u", "proxy_user_header": "X-User"},
            "--proxy-user and --proxy-user-header exclude each other",
        ),
        ({"auth": "proxy", "proxy_secret": "s", "proxy_user_header": "X-Forwarded-User"}, "drops that header"),
        ({"auth": "proxy", "proxy_secret": "s", "proxy_user_header": "Authorization"}, "drops that header"),
    ],
)
def test_incomplete_identity_is_an_error(flags: dict[str, str], said: str) -> None:
    options = read_options({"backend": "couch", "upstream": ["http://127.0.0.1:1"], **flags}, {})
    with pytest.raises(NotConfigured, match=said):
        build_application(options)


def test_sessions_of_a_served_couchdb_work_through_the_proxy(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    upstream.url = f"http://127.0.0.1:{Served(MemoryBackend(admin=('root', PASSWORD))).port}"
    wire = serve_proxy(upstream, allow=["PUT /{db}"])
    assert wire.ask("PUT /db HTTP/1.1").status == 401
    login = wire.ask("POST /_session HTTP/1.1\nContent-Type: application/json",
                     json.dumps({"name": "root", "password": PASSWORD}).encode())  # fmt: skip
    assert login.status == 200
    cookie = login.headers["set-cookie"].partition(";")[0]
    assert wire.ask(f"PUT /db HTTP/1.1\nCookie: {cookie}").status == 201
    assert wire.ask(f"GET /_session HTTP/1.1\nCookie: {cookie}").json()["userCtx"]["name"] == "root"  # type: ignore[call-overload, index]


def test_no_repr_shows_a_secret() -> None:
    assert PASSWORD not in repr(Vouched(PASSWORD, "user"))


@pytest.mark.parametrize("auth", ["basic", "cookie", "proxy"])
def test_credentials_are_in_no_answer_log_or_metric(
    auth: str, serve_proxy: ServeProxy, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.url = upstream.url.replace("//", f"//proxy:{PASSWORD}@")
    upstream.script = [answering(200), lambda connection: connection.close()]
    wire = serve_proxy(upstream, auth=auth, proxy_secret=PASSWORD, proxy_user="u", access_log="true", metrics="true")
    said = [wire.ask(f"GET /db/doc?token={PASSWORD}&pass%77ord={PASSWORD} HTTP/1.1\nAuthorization: Basic {PASSWORD}")]
    said += [wire.ask(f"PUT /db/doc HTTP/1.1\nCookie: AuthSession={PASSWORD}", b"{}")]
    said += [wire.ask("GET /_couchdal/metrics HTTP/1.1"), wire.ask("GET /_couchdal/health HTTP/1.1")]
    out, err = capfd.readouterr()
    assert '"path": "/db/doc"' in err
    assert b"couchdal_requests_total" in said[2].body
    for text in (out, err, *(str(answer.headers) + answer.body.decode() for answer in said)):
        assert PASSWORD not in text
        assert OWN not in text
