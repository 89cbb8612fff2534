from __future__ import annotations

import pytest

from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.auth import users
from couchdal.emulator.engine.server.server import Clock
from couchdal.http.messages import Request

WRONG = {"error": "unauthorized", "reason": "Name or password is incorrect."}
LOCKED = {"error": "forbidden", "reason": "Account is temporarily locked due to multiple authentication failures"}
FORM = "application/x-www-form-urlencoded"


def cookie_of(response):
    return response.headers["set-cookie"].partition(";")[0]


def wait(backend, seconds):
    backend.server.clock = Clock(backend.server.clock.now() + seconds)


def named(response):
    value = response.value()
    return value["userCtx"]["name"], value["info"].get("authenticated")


def test_session_without_credentials_is_anonymous(send):
    response = send("GET", "/_session", user=None)
    assert response.status == 200
    assert response.value()["userCtx"] == {"name": None, "roles": []}


def test_everybody_is_administrator_without_administrators():
    response = MemoryBackend().send(Request("GET", "/_session"))
    assert response.value()["userCtx"] == {"name": None, "roles": ["_admin"]}
    assert response.value()["info"]["authenticated"] == "default"


def test_login_by_form_sets_a_cookie_that_identifies(send):
    response = send("POST", "/_session", user=None, body=b"name=admin&password=secret", content_type=FORM)
    assert (response.status, response.value()) == (200, {"ok": True, "name": "admin", "roles": ["_admin"]})
    assert "Max-Age=600; Path=/; HttpOnly" in response.headers["set-cookie"]
    assert named(send("GET", "/_session", user=None, cookie=cookie_of(response))) == ("admin", "cookie")


def test_cookie_wins_over_wrong_basic_credentials(send):
    cookie = cookie_of(send("POST", "/_session", {"name": "admin", "password": "secret"}, user=None))
    assert named(send("GET", "/_session", user=("nobody", "x"), cookie=cookie)) == ("admin", "cookie")


def test_cookie_ends_after_ten_minutes(send, backend):
    cookie = cookie_of(send("POST", "/_session", {"name": "admin", "password": "secret"}, user=None))
    wait(backend, 601)
    assert named(send("GET", "/_session", user=None, cookie=cookie)) == (None, None)


def test_old_cookie_is_renewed_with_any_answer(send, backend):
    cookie = cookie_of(send("POST", "/_session", {"name": "admin", "password": "secret"}, user=None))
    assert "set-cookie" not in send("GET", "/_all_dbs", user=None, cookie=cookie).headers
    wait(backend, 300)
    renewed = send("GET", "/_all_dbs", user=None, cookie=cookie)
    wait(backend, 400)
    assert named(send("GET", "/_session", user=None, cookie=cookie_of(renewed))) == ("admin", "cookie")


def test_changed_cookie_is_ignored(send):
    cookie = cookie_of(send("POST", "/_session", {"name": "admin", "password": "secret"}, user=None))
    forged = cookie[:-6] + ("AAAAAA" if not cookie.endswith("AAAAAA") else "BBBBBB")
    assert named(send("GET", "/_session", user=None, cookie=forged)) == (None, None)


def test_malformed_cookie_is_refused(send):
    response = send("GET", "/_session", user=None, cookie="AuthSession=garbage")
    reason = "Malformed AuthSession cookie. Please clear your cookies."
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": reason})


def test_new_password_ends_older_sessions(send, add_user):
    name, _ = add_user("reader")
    cookie = cookie_of(send("POST", "/_session", {"name": name, "password": "pw"}, user=None))
    path = "/_users/org.couchdb.user:reader"
    rev = send("GET", path).value()["_rev"]
    send("PUT", path, {"_rev": rev, "name": name, "password": "new", "roles": [], "type": "user"})
    assert named(send("GET", "/_session", user=None, cookie=cookie)) == (None, None)
    assert send("GET", "/_session", user=(name, "pw")).status == 401
    assert send("GET", "/_session", user=(name, "new")).status == 200


def test_wrong_basic_credentials_are_refused_where_none_are_needed(send):
    response = send("GET", "/_up", user=("nobody", "x"))
    assert (response.status, response.value()) == (401, WRONG)


def test_sixth_wrong_login_is_locked_out_until_time_has_passed(send, add_user, backend):
    name, password = add_user("reader")
    for _ in range(5):
        response = send("POST", "/_session", {"name": name, "password": "x"}, user=None)
        assert (response.status, response.value()) == (401, WRONG)
    response = send("GET", "/_session", user=(name, password))
    assert (response.status, response.value()) == (403, LOCKED)
    wait(backend, 300)
    assert send("GET", "/_session", user=(name, password)).status == 200


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"password": "x"}, "request body must contain a username"),
        ({"name": "a", "username": "b"}, "request body contains different usernames"),
    ],
)
def test_login_needs_one_name(send, payload, reason):
    response = send("POST", "/_session", payload, user=None)
    assert (response.status, response.value()) == (400, {"error": "bad_request", "reason": reason})


def test_login_redirects_to_next(send):
    response = send("POST", "/_session?next=/there", {"name": "admin", "password": "secret"}, user=None, host="h:1")
    assert (response.status, response.headers["location"]) == (302, "http://h:1/there")


def test_logout_clears_the_cookie(send):
    response = send("DELETE", "/_session")
    assert (response.status, response.value()) == (200, {"ok": True})
    assert cookie_of(response) == "AuthSession="


def test_browser_without_rights_is_redirected_to_the_login_page(send):
    response = send("GET", "/_all_dbs", user=None, accept="text/html", host="h")
    assert response.status == 302
    assert response.headers["location"].startswith("http://h/_utils/session.html?return=%2F_all_dbs&reason=")


def test_user_in_conflict_cannot_log_in(send, add_user):
    name, _ = add_user("reader")
    other = {"_id": "org.couchdb.user:reader", "_rev": "1-a", "name": name, "roles": [], "type": "user"}
    assert send("POST", "/_users/_bulk_docs", {"docs": [other], "new_edits": False}).value() == []
    response = send("GET", "/_session", user=(name, "pw"))
    assert response.status == 401
    assert response.value()["reason"].startswith("User document conflicts must be resolved")


def test_password_is_stored_as_a_derived_key(send, add_user):
    add_user("reader", ["dev"])
    document = send("GET", "/_users/org.couchdb.user:reader").value()
    assert "password" not in document
    assert (document["password_scheme"], document["pbkdf2_prf"], document["iterations"]) == ("pbkdf2", "sha256", 600000)
    assert (len(document["salt"]), len(document["derived_key"])) == (32, 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "x"}, "doc.type must be user"),
        ({"name": ""}, "doc.name is required"),
        ({"roles": None}, "doc.roles must exist"),
        ({"roles": "x"}, "doc.roles must be an array"),
        ({"roles": [1]}, "doc.roles can only contain strings"),
        ({"name": "writer"}, "Doc ID must be of the form org.couchdb.user:name"),
        ({"roles": ["_admin"]}, "No system roles (starting with underscore) in users db."),
        ({"password_scheme": "md5", "password": None}, "Password scheme `md5` not supported."),
    ],
)
def test_malformed_user_is_forbidden(send, change, reason):
    document = {"name": "reader", "password": "pw", "roles": [], "type": "user", **change}
    response = send("PUT", "/_users/org.couchdb.user:reader", document)
    assert (response.status, response.value()) == (403, {"error": "forbidden", "reason": reason})


NUMBERS = [
    *((1, "1"), (-1, "-1"), (1.0, "1"), (1.5, "1.5"), (9007199254740993, "9007199254740992"), (0.00001, "0.00001")),
    *((1e-7, "1e-7"), (1e21, "1e%2B21"), (123456789012345680000, "123456789012345680000"), (1.23e22, "1.23e%2B22")),
]


@pytest.mark.parametrize(("name", "text"), [*NUMBERS, (True, "true"), ({}, "%5Bobject%20Object%5D")])
def test_name_that_equals_the_id_only_as_text_fails_as_in_javascript(send, name, text):
    document = {"name": name, "password": "pw", "roles": [], "type": "user"}
    response = send("PUT", f"/_users/org.couchdb.user:{text}", document)
    assert (response.status, response.value()) == (500, {"error": "TypeError", "reason": "{[]}"})
    assert send("GET", f"/_users/org.couchdb.user:{text}").status == 404


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (["a", None, 1], "a,,1", None),
        ([], "", None),
        (["_a"], "_a", None),
        (["_"], "_", "Username may not start with underscore."),
        ([":"], ":", "Character `:` is not allowed in usernames."),
        ({}, "", "Doc ID must be of the form org.couchdb.user:name"),
        (9007199254740993, "9007199254740993", "Doc ID must be of the form org.couchdb.user:name"),
    ],
)
def test_name_may_be_an_array_but_cannot_be_changed(send, name, text, reason):
    document = {"name": name, "password": "pw", "roles": [], "type": "user"}
    path = f"/_users/org.couchdb.user:{text}"
    response = send("PUT", path, document)
    if reason is not None:
        assert (response.status, response.value()) == (403, {"error": "forbidden", "reason": reason})
        return
    assert response.status == 201
    again = send("PUT", path, {**document, "_rev": response.value()["rev"]})
    assert (again.status, again.value()["reason"]) == (403, "Usernames can not be changed.")


@pytest.mark.parametrize(
    ("text", "status", "error", "reason"),
    [
        *((text, 400, "bad_request", "Authorization header has invalid base64 value") for text in ("a", "YQ=", "é")),
        *((text, 500, "unknown_error", "badarg") for text in ("!!!!", "YQ=a", "Y-__", "-Q==")),
        *((text, 500, "unknown_error", "badarith") for text in ("====", "Y===")),
        ("YQ==YQ==", 500, "case_clause", "24"),
        ("YQ===", 500, "case_clause", "eq"),
        ("YQ==-", 500, "case_clause", "bad"),
    ],
)
def test_bad_base64_fails_as_in_erlang(send, text, status, error, reason):
    response = send("GET", "/_session", user=None, authorization=f"Basic {text}")
    value = response.value()
    assert (response.status, value["error"], value["reason"]) == (status, error, reason)


@pytest.mark.parametrize(("change", "answer"), [
    ({"iterations": 10**9 + 1}, (403, "forbidden", "Iteration count is too high for this server")),
    ({"iterations": 2**70}, (403, "forbidden", "Iteration count is too high for this server")),
    ({"iterations": 0}, (403, "forbidden", "Iteration count is too low for this server")),
    ({"iterations": 10.5}, (500, "unknown_error", "function_clause")),
    ({"password_scheme": "simple+pbkdf2", "iterations": True}, (500, "unknown_error", "function_clause")),
    ({"pbkdf2_prf": []}, (403, "forbidden", "PRF is invalid")),
    ({"salt": 5}, (500, "unknown_error", "function_clause")),
    ({"password_scheme": None}, (500, "unknown_error", "case_clause")),
    ({"password_scheme": False}, (500, "case_clause", "false")),
    ({"password_scheme": "simple+pbkdf2", "derived_key": None}, (401, *WRONG.values())),
])  # fmt: skip
def test_login_with_odd_parameters_of_a_user(change, answer, send):
    pbkdf2 = {"password_scheme": "pbkdf2", "derived_key": "aa", "salt": "x", "iterations": 10}
    document = {"name": "odd", "type": "user", "roles": [], **pbkdf2, **change}
    assert send("PUT", "/_users/org.couchdb.user:odd", document).status == 201
    response = send("POST", "/_session", {"name": "odd", "password": "x"}, user=None)
    assert (response.status, response.value()["error"], response.value()["reason"]) == answer


@pytest.mark.parametrize("prf", ["sha", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("length", [2, 64, 65, 128, 129])
def test_key_of_many_iterations_is_the_same(prf, length, monkeypatch):
    at_once = users.derive_key(prf, b"p" * length, b"salt", 300)
    monkeypatch.setattr(users, "_AT_ONCE", 299)
    users._derive_short.cache_clear()
    assert users.derive_key(prf, b"p" * length, b"salt", 300) == at_once
