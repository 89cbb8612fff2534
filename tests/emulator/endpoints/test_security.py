from __future__ import annotations

import pytest

OPEN = {"members": {}, "admins": {}}
CLOSED = {"error": "unauthorized", "reason": "You are not authorized to access this db."}
NOT_SERVER_ADMIN = {"error": "unauthorized", "reason": "You are not a server admin."}


@pytest.fixture
def db(send):
    assert send("PUT", "/db").status == 201
    return "/db"


def test_new_database_is_closed_to_the_anonymous_at_every_path(send, db):
    for method, path in (("GET", ""), ("GET", "/doc"), ("PUT", "/doc"), ("POST", "/_bulk_docs"), ("PATCH", "/x")):
        response = send(method, db + path, user=None)
        assert (response.status, response.value()) == (401, CLOSED)


def test_user_who_is_not_a_member_is_forbidden(send, add_user, db):
    response = send("GET", db, user=add_user("reader"))
    reason = "You are not allowed to access this db."
    assert (response.status, response.value()) == (403, {"error": "forbidden", "reason": reason})


@pytest.mark.parametrize("security", [{"members": {"names": ["reader"]}}, {"members": {"roles": ["dev"]}}, OPEN, {}])
def test_member_reads_and_writes(send, add_user, db, security):
    user = add_user("reader", ["dev"])
    assert send("PUT", f"{db}/_security", security).value() == {"ok": True}
    assert send("PUT", f"{db}/doc", {}, user=user).status == 201
    assert send("GET", f"{db}/doc", user=user).status == 200


def test_member_may_not_write_design_documents(send, add_user, db):
    user = add_user("reader")
    send("PUT", f"{db}/_security", OPEN)
    rows = send("POST", f"{db}/_bulk_docs", {"docs": [{"_id": "_design/d"}, {"_id": "a"}]}, user=user).value()
    assert (rows[0]["error"], rows[0]["reason"]) == ("forbidden", "You are not a db or server admin.")
    assert rows[1]["ok"] is True


def test_database_administrator_changes_settings_but_neither_purges_nor_deletes(send, add_user, db):
    user = add_user("reader")
    send("PUT", f"{db}/_security", {"admins": {"names": ["reader"]}, "members": {"roles": ["none"]}})
    assert send("PUT", f"{db}/_revs_limit", 9, user=user).value() == {"ok": True}
    assert send("POST", f"{db}/_compact", {}, user=user).status == 202
    for method, path in (("POST", "/_purge"), ("DELETE", ""), ("PUT", "/_purged_infos_limit")):
        response = send(method, db + path, {}, user=user)
        assert (response.status, response.value()) == (401, NOT_SERVER_ADMIN)


def test_settings_fail_with_500_without_the_right(send, db):
    send("PUT", f"{db}/_security", OPEN)
    response = send("PUT", f"{db}/_security", {}, user=None)
    assert (response.status, response.value()) == (500, {"error": "error", "reason": "no_majority"})
    response = send("PUT", f"{db}/_revs_limit", 5, user=None)
    assert (response.status, response.value()["error"]) == (500, "badmatch")
    assert send("GET", f"{db}/_revs_limit").value() == 1000


@pytest.mark.parametrize("value", [[], 5, {"admins": []}, {"admins": {"names": "x"}}, {"members": {"roles": [1]}}])
def test_malformed_security_object_changes_nothing(send, db, value):
    before = send("GET", f"{db}/_security").value()
    response = send("PUT", f"{db}/_security", value)
    assert (response.status, response.value()) == (500, {"error": "error", "reason": "no_majority"})
    assert send("GET", f"{db}/_security").value() == before


def test_security_object_is_returned_as_a_copy(send, db):
    send("PUT", f"{db}/_security", {"members": {"names": ["reader"]}})
    send("GET", f"{db}/_security").value()["members"]["names"].append("writer")
    assert send("GET", f"{db}/_security").value() == {"members": {"names": ["reader"]}}


@pytest.mark.parametrize("value", [0, -1, "5", 2.5, None, {}, True])
def test_revs_limit_is_500_unless_it_is_a_positive_integer(send, db, value):
    response = send("PUT", f"{db}/_revs_limit", value)
    assert response.status == 500
    assert response.value() == {"error": "unknown_error", "reason": "function_clause", "ref": 0}


def test_security_of_the_users_database_cannot_be_changed(send):
    response = send("PUT", "/_users/_security", {})
    reason = "You can't edit the security object of the user database."
    assert (response.status, response.value()) == (403, {"error": "forbidden", "reason": reason})


@pytest.mark.parametrize("path", ["/_all_dbs", "/_active_tasks", "/_dbs_info", "/_up/x", "/_membership", "/_nope"])
def test_server_paths_need_an_administrator(send, path):
    response = send("GET", path, user=None)
    assert (response.status, response.value()) == (401, NOT_SERVER_ADMIN)


@pytest.mark.parametrize("path", ["/", "/_up", "/_uuids", "/_session"])
def test_some_paths_are_open_to_all(send, path):
    assert send("GET", path, user=None).status == 200
