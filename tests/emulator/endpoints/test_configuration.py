"""The configuration of a server: rolled back, forked, carried over, and obeyed."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha1
from pathlib import Path

import pytest

from couchdal import BadRequest, CouchDAL, Forbidden, MemoryBackend, Request, SqliteBackend
from couchdal.transcripts.scenario import RECORDED_ADMIN

CONFIG = "/_node/_local/_config"


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(admin=RECORDED_ADMIN)


def ask(
    backend: MemoryBackend, method: str, path: str, body: object = None, user: tuple[str, str] = RECORDED_ADMIN
) -> tuple[int, object]:
    headers = {"authorization": "Basic " + b64encode(":".join(user).encode()).decode()}
    text = b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    headers["content-type"] = "application/json"
    answer = backend.send(Request(method, path, query, headers, body=text))
    return answer.status, answer.value()


def test_administrator_of_the_configuration_logs_in_until_it_is_deleted(backend: MemoryBackend) -> None:
    backend.config["chttpd_auth/iterations"] = "10"
    assert ask(backend, "PUT", f"{CONFIG}/admins/other", "secret") == (200, "")
    status, value = ask(backend, "GET", f"{CONFIG}/admins/other", user=("other", "secret"))
    assert status == 200
    assert isinstance(value, str)
    assert value.startswith("-pbkdf2:sha256-")
    assert value.endswith(",10")
    assert ask(backend, "GET", CONFIG, user=("other", "wrong"))[0] == 401
    assert ask(backend, "DELETE", f"{CONFIG}/admins/other") == (200, value)
    assert ask(backend, "GET", CONFIG, user=("other", "secret"))[0] == 401


def test_hash_of_a_password_is_an_administrator_elsewhere(backend: MemoryBackend) -> None:
    backend.config.update({"chttpd_auth/iterations": "10", "admins/other": "secret"})
    another = MemoryBackend(admin=RECORDED_ADMIN)
    another.config["admins/other"] = backend.config["admins/other"]
    assert another.config["admins/other"] == backend.config["admins/other"]
    assert ask(another, "GET", f"{CONFIG}/x", user=("other", "secret")) == (200, {})


def test_new_secret_ends_all_sessions(backend: MemoryBackend) -> None:
    name, password = RECORDED_ADMIN
    login = Request(
        "POST", "/_session", "", {"content-type": "application/json"}, json={"name": name, "password": password}
    )
    cookie = backend.send(login).headers["set-cookie"].partition(";")[0]
    asked = Request("GET", "/_session", "", {"cookie": cookie})
    assert backend.send(asked).value()["userCtx"]["name"] == name  # type: ignore[index, call-overload]
    backend.config["chttpd_auth/secret"] = "0123456789abcdef"
    assert backend.send(asked).value().get("userCtx", {}).get("name") is None  # type: ignore[union-attr]


def test_values_go_back_with_a_rollback(backend: MemoryBackend) -> None:
    before = dict(backend.config)
    with backend.rollback():
        backend.config.update({"x/a": "1", "cluster/q": "2", "chttpd_auth/iterations": "10", "admins/other": "secret"})
        del backend.config["x/a"]
        assert backend.server.settings.iterations == 10
    assert backend.server.settings.iterations == 600_000
    assert dict(backend.config) == before


def test_fork_has_values_of_its_own(backend: MemoryBackend) -> None:
    backend.config["x/a"] = "1"
    other = backend.fork()
    backend.config["x/a"] = "2"
    other.config["x/b"] = "3"
    assert {path: value for path, value in backend.config.items() if path[0] == "x"} == {"x/a": "2"}
    assert {path: value for path, value in other.config.items() if path[0] == "x"} == {"x/a": "1", "x/b": "3"}


def test_values_cannot_be_what_couchdb_refuses(backend: MemoryBackend) -> None:
    before = dict(backend.config)
    with pytest.raises(Forbidden):
        backend.config["query_servers/x"] = "/bin/sh"
    with pytest.raises(BadRequest):
        backend.config["x/y"] = "a\nb"
    for path in ("x", "/x", "x/", ""):
        with pytest.raises(KeyError, match="is not section/key"):
            backend.config[path] = "1"
    with pytest.raises(KeyError):
        del backend.config["x/missing"]
    assert dict(backend.config) == before


def test_handle_reaches_the_configuration() -> None:
    dal = CouchDAL(MemoryBackend(), database="db")
    dal.emulator.config["x/y"] = "z"
    assert dal.get(f"{CONFIG}/x") == {"y": "z"}


def new_ids(backend: MemoryBackend, algorithm: str, count: int = 3) -> list[str]:
    backend.config["uuids/algorithm"] = algorithm
    _, value = ask(backend, "GET", f"/_uuids?count={count}")
    assert isinstance(value, dict)
    return list(value["uuids"])


@pytest.mark.parametrize(
    ("algorithm", "form"),
    [
        ("sequential", "[0-9a-f]{32}"),
        ("random", "[0-9a-f]{32}"),
        ("utc_random", "0[0-9a-f]{31}"),
        ("utc_id", "0[0-9a-f]{13}-here"),
    ],
)
def test_ids_have_the_form_of_their_algorithm(backend: MemoryBackend, algorithm: str, form: str) -> None:
    backend.config["uuids/utc_id_suffix"] = "-here"
    ids = new_ids(backend, algorithm)
    assert all(re.fullmatch(form, one) for one in ids)
    assert len(set(ids)) == 3
    assert algorithm == "random" or ids == sorted(ids)
    assert new_ids(backend, algorithm)[0] not in ids


def test_ids_of_the_time_follow_the_clock(backend: MemoryBackend) -> None:
    (before,) = new_ids(backend, "utc_id", 1)
    backend.clock.advance(60)
    (after,) = new_ids(backend, "utc_id", 1)
    assert int(after, 16) - int(before, 16) == 60_000_001


def test_document_without_an_id_gets_one_of_the_algorithm(backend: MemoryBackend) -> None:
    backend.config.update({"uuids/algorithm": "utc_id", "uuids/utc_id_suffix": "x"})
    ask(backend, "PUT", "/db")
    _, made = ask(backend, "POST", "/db/_bulk_docs", {"docs": [{}]})
    assert isinstance(made, list)
    assert re.fullmatch("[0-9a-f]{14}x", made[0]["id"])


def test_plus_sign_in_a_path_is_a_space_unless_it_is_configured(backend: MemoryBackend) -> None:
    """The proxy sends a space for a plus sign, so that the recording does not pass through it."""
    ask(backend, "PUT", "/db")
    assert ask(backend, "PUT", "/db/a+b", {})[0] == 201
    assert ask(backend, "GET", "/db/a%20b")[0] == 200
    backend.config["chttpd/decode_plus_to_space"] = "false"
    assert ask(backend, "GET", "/db/a+b") == (404, {"error": "not_found", "reason": "missing"})
    assert ask(backend, "GET", "/db/a%20b")[0] == 200
    assert ask(backend, "PUT", "/db/a+b", {})[0] == 201
    assert ask(backend, "GET", "/db/a%2Bb")[0] == 200
    _, rows = ask(backend, "GET", "/db/_all_docs?key=%22a+b%22")
    assert isinstance(rows, dict)
    assert [row["id"] for row in rows["rows"]] == ["a b"]
    assert ask(backend, "GET", "/db/a+%zz") == (400, {"error": "bad_request", "reason": "invalid_url_encoding"})
    backend.config["chttpd/decode_plus_to_space"] = "no"
    assert ask(backend, "GET", "/db/a+b")[0] == 200


def test_origins_are_configured_for_the_host_of_a_request(backend: MemoryBackend) -> None:
    backend.config["chttpd/enable_cors"] = "true"
    backend.config["cors/origins"] = "http://all.example"
    backend.config["cors/credentials"] = "true"
    backend.config["cors:db.example/origins"] = "http://one.example"

    def allowed(origin: str, **headers: str) -> tuple[str | None, str | None]:
        sent = {"origin": origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
        found = backend.send(Request("GET", "/", headers=sent)).headers
        return found.get("access-control-allow-origin"), found.get("access-control-allow-credentials")

    assert allowed("http://all.example") == ("http://all.example", "true")
    assert allowed("http://one.example") == (None, None)
    # What the section of a host does not set, the section of all hosts does.
    assert allowed("http://one.example", host="db.example:5984") == ("http://one.example", "true")
    assert allowed("http://all.example", host="db.example:5984") == (None, None)
    assert allowed("http://one.example", host="other", x_forwarded_host="db.example") == ("http://one.example", "true")


def database_of(backend: MemoryBackend, user: str) -> object:
    status, value = ask(backend, "GET", f"/userdb-{user.encode().hex()}/_security")
    return value if status == 200 else status


def owned_by(*names: str) -> dict[str, object]:
    return {name: {"roles": ["_admin"], "names": list(names)} for name in ("members", "admins")}


def test_each_user_gets_a_database_if_it_is_configured(backend: MemoryBackend) -> None:
    # As recorded from a CouchDB, which makes these databases a moment later.
    backend.config["chttpd_auth/iterations"] = "10"
    user = {"type": "user", "name": "ann", "roles": [], "password": "pw"}
    ask(backend, "PUT", "/_users/org.couchdb.user:ann", user)
    assert database_of(backend, "ann") == 404
    backend.config["couch_peruser/q"] = "2"
    backend.config["couch_peruser/enable"] = "true"
    assert database_of(backend, "ann") == owned_by("ann")
    assert ask(backend, "GET", "/userdb-616e6e", user=("ann", "pw"))[0] == 200
    _, info = ask(backend, "GET", "/userdb-616e6e")
    assert isinstance(info, dict)
    assert info["cluster"]["q"] == 2
    docs = [{"_id": f"org.couchdb.user:{name}", **user, "name": name} for name in ("él", "bob")]
    ask(backend, "POST", "/_users/_bulk_docs", {"docs": [*docs, {"_id": "_design/x"}]})
    assert database_of(backend, "él") == owned_by("él")
    assert database_of(backend, "bob") == owned_by("bob")


def test_database_of_a_deleted_user_stays_unless_it_is_configured(backend: MemoryBackend) -> None:
    backend.config["chttpd_auth/iterations"] = "10"
    backend.config["couch_peruser/enable"] = "true"
    path = "/_users/org.couchdb.user:ann"
    _, written = ask(backend, "PUT", path, {"type": "user", "name": "ann", "roles": [], "password": "pw"})
    assert isinstance(written, dict)
    ask(backend, "PUT", "/userdb-616e6e/_security", {"admins": {"names": ["x", "ann"]}, "members": {}})
    ask(backend, "DELETE", f"{path}?rev={written['rev']}")
    assert database_of(backend, "ann") == {"admins": {"names": ["x"]}, "members": {}}
    backend.config["couch_peruser/delete_dbs"] = "true"
    _, written = ask(backend, "PUT", path, {"type": "user", "name": "ann", "roles": [], "password": "pw"})
    assert isinstance(written, dict)
    assert database_of(backend, "ann") == {"admins": {"names": ["ann", "x"]}, "members": {"names": ["ann"]}}
    ask(backend, "DELETE", f"{path}?rev={written['rev']}")
    assert database_of(backend, "ann") == 404


def test_users_database_has_the_design_document_of_couchdb(backend: MemoryBackend) -> None:
    path = "/_users/_design/_auth"
    status, design = ask(backend, "GET", path)
    assert status == 200
    assert isinstance(design, dict)
    assert (design["_rev"], design["language"]) == ("1-625dc565328e800ce8dfe08fff750098", "javascript")
    _, info = ask(backend, "GET", "/_users")
    assert isinstance(info, dict)
    assert (info["doc_count"], info["update_seq"].partition("-")[0]) == (1, "1")
    assert ask(backend, "DELETE", path, user=("nobody", "x"))[0] == 401
    assert backend.server.databases["_users"].indexes.validators(backend.server.databases["_users"]) == ()


REFUSED = [
    {"type": "x"},
    {"name": ""},
    {"roles": None},
    {"roles": {}},
    {"roles": [1]},
    {"name": "b"},
    {"password_sha": "x"},
    {"password_scheme": "x"},
    {"password_scheme": "pbkdf2"},
    {"password_scheme": "pbkdf2", "iterations": 1},
    {"roles": ["_admin"]},
    {"name": "_a"},
    {"name": "a:b"},
]


def test_rules_of_the_design_document_are_those_that_are_checked_without_javascript(backend: MemoryBackend) -> None:
    answers = []
    for is_changed in (False, True):
        if is_changed:
            _, design = ask(backend, "GET", "/_users/_design/_auth")
            assert isinstance(design, dict)
            assert ask(backend, "PUT", "/_users/_design/_auth", {**design, "changed": True})[0] == 201
        for change in ({}, *REFUSED):
            user = {"type": "user", "name": f"a{is_changed}", "roles": [], **change}
            doc_id = user["name"] if user["name"] not in ("", "b") else "c"
            status, value = ask(backend, "PUT", f"/_users/org.couchdb.user:{doc_id}", user)
            answers.append(status if status == 201 else value)
    half = len(answers) // 2
    assert answers[:half] == answers[half:]
    assert [answer for answer in answers if answer == 201] == [201, 201]


def test_users_are_not_checked_without_the_design_document(backend: MemoryBackend) -> None:
    ask(backend, "GET", "/_users/_design/_auth")
    assert ask(backend, "DELETE", "/_users/_design/_auth?rev=1-625dc565328e800ce8dfe08fff750098")[0] == 200
    assert ask(backend, "PUT", "/_users/anything", {"type": "other"})[0] == 201


def test_login_upgrades_the_hash_of_a_password(backend: MemoryBackend) -> None:
    # As recorded from a CouchDB, which writes the document a moment later.
    backend.config["chttpd_auth/iterations"] = "10"
    path, login = "/_users/org.couchdb.user:ann", ("ann", "pw")
    old = {"password_scheme": "simple", "salt": "abc", "password_sha": sha1(b"pwabc").hexdigest()}
    ask(backend, "PUT", path, {"type": "user", "name": "ann", "roles": ["r"], "x": 1, **old})
    assert ask(backend, "GET", "/_session", user=("ann", "wrong"))[0] == 401

    def found() -> dict[str, object]:
        _, value = ask(backend, "GET", path)
        assert isinstance(value, dict)
        return value

    assert found()["password_scheme"] == "simple"
    assert ask(backend, "GET", "/_session", user=login)[0] == 200
    key = "2c98cb0de234191cb892f2f467172154c9ca79ebc74477911f35f7b0b5f40e7f"
    hashed = {"password_scheme": "pbkdf2", "pbkdf2_prf": "sha256", "salt": "abc", "iterations": 10, "derived_key": key}
    known = {"_id": "org.couchdb.user:ann", "type": "user", "name": "ann", "roles": ["r"], "x": 1}
    assert found() == {**known, **hashed, "_rev": found()["_rev"]}
    assert str(found()["_rev"]).startswith("2-")
    rev = found()["_rev"]
    assert ask(backend, "POST", "/_session", {"name": "ann", "password": "pw"}, user=login)[0] == 200
    assert found()["_rev"] == rev
    backend.config["chttpd_auth/upgrade_hash_on_auth"] = "false"
    backend.config["chttpd_auth/iterations"] = "11"
    assert ask(backend, "GET", "/_session", user=login)[0] == 200
    assert found()["_rev"] == rev


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "sqlite"])
def test_reset_forgets_what_was_configured(tmp_path: Path, *, stored: bool) -> None:
    def opened() -> MemoryBackend:
        admin = ("me", "secret")
        return SqliteBackend(tmp_path / "data.db", admin=admin) if stored else MemoryBackend(admin=admin)

    backend = opened()
    backend.config["private/level"] = "1"
    backend.config["couchdb/max_document_size"] = "100"
    backend.config["admins/other"] = "secret"
    backend.reset()
    for turn in range(2):
        assert "private/level" not in backend.config, turn
        assert backend.config.get("couchdb/max_document_size") is None
        assert [*backend.server.admins] == ["me"]
        assert ask(backend, "PUT", f"/db{turn}", user=("me", "secret"))[0] == 201
        assert ask(backend, "PUT", f"/db{turn}/long", {"text": "a" * 200}, ("me", "secret"))[0] == 201
        if stored:
            backend.close()
            backend = opened()
