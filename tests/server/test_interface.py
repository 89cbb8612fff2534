"""The web interface: the files of a folder, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from couchdal.errors import MethodNotAllowed, NotConfigured
from couchdal.http.answers import AnswerSettings
from couchdal.http.messages import Request, Response
from couchdal.server.assembly import build_application
from couchdal.server.interface import Interface
from couchdal.server.options import read_options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "www"
    (folder / "deep").mkdir(parents=True)
    (folder / "index.html").write_text("<html>")
    (folder / "app.js").write_text("let a;")
    (folder / "deep" / "index.html").write_text("deep")
    (folder / "a b.css").write_text("a {}")
    (tmp_path / "www2").mkdir()
    (tmp_path / "www2" / "index.html").write_text("other")
    os.symlink(tmp_path / "secret.txt", folder / "link.txt")
    return folder


def ask(folder: Path, path: str, method: str = "GET", **headers: str) -> Response:
    sent = {"host": "db:5984", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Interface(str(folder)).answer(Request(method, path, "", sent))


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/_utils/", "text/html; charset=utf-8", b"<html>"),
        ("/_utils/index.html", "text/html; charset=utf-8", b"<html>"),
        ("/_utils/app.js", "text/javascript; charset=utf-8", b"let a;"),
        ("/_utils/deep/", "text/html; charset=utf-8", b"deep"),
        ("/_utils/a%20b.css", "text/css; charset=utf-8", b"a {}"),
        ("/_utils/deep/../app.js", "text/javascript; charset=utf-8", b"let a;"),
    ],
)
def test_file_is_answered_with_its_type_and_a_policy(folder, path, kind, body):
    answer = ask(folder, path)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)
    assert answer.headers["content-security-policy"].startswith("child-src 'self' data: blob:; default-src 'self';")
    assert answer.headers["cache-control"] == "private, must-revalidate"


@pytest.mark.parametrize(
    "path",
    [
        "/_utils/missing",
        "/_utils/../secret.txt",
        "/_utils/..%2Fsecret.txt",
        "/_utils/%2e%2e/secret.txt",
        "/_utils/deep/../../secret.txt",
        "/_utils/..%5Csecret.txt",
        "/_utils//etc/passwd",
        "/_utils/%2Fetc%2Fpasswd",
        "/_utils/../www2/index.html",
        "/_utils/..",
        "/_utils/link.txt",
        "/_utils/%00",
        "/_utils/%zz",
        "/_utils/" + "a" * 5000,
    ],
)
def test_nothing_outside_of_the_folder_is_read(folder, path):
    answer = ask(folder, path)
    assert (answer.status, answer.body) == (404, b"Not found.")


def test_path_without_slash_is_redirected(folder):
    answer = ask(folder, "/_utils")
    assert (answer.status, answer.headers["location"]) == (301, "http://db:5984/_utils/")


def test_file_that_has_not_changed_is_304(folder):
    first = ask(folder, "/_utils/app.js")
    again = ask(folder, "/_utils/app.js", if_modified_since=first.headers["last-modified"])
    assert (again.status, again.body) == (304, b"")


def test_other_methods_are_refused(folder):
    with pytest.raises(MethodNotAllowed):
        ask(folder, "/_utils/app.js", "PUT")


def test_option_names_the_folder(folder):
    application = build_application(read_options({"utils": str(folder)}, {}))
    assert application.interface is not None
    with pytest.raises(NotConfigured, match="not a folder"):
        build_application(read_options({"utils": str(folder / "missing")}, {}))


def test_policy_of_the_interface_is_configured(folder):
    settings = AnswerSettings()
    interface = Interface(str(folder), lambda: settings)

    def policy() -> str | None:
        return interface.answer(Request("GET", "/_utils/", "", {"host": "db"})).headers.get("content-security-policy")

    settings.utils_csp = "default-src 'self'"
    assert policy() == "default-src 'self'"
    settings.utils_csp_enable = False
    # The setting of older versions still counts.
    assert str(policy()).startswith("child-src 'self' data: blob:;")
    settings.older_utils_csp = "sandbox"
    assert policy() == "sandbox"
    settings.older_utils_csp_enable = False
    assert policy() is None


def test_served_interface_obeys_the_configuration_of_the_emulator(folder):
    options = {"utils": str(folder), "set": ["csp/utils_header_value=sandbox"]}
    application = build_application(read_options(options, {}))
    assert application.interface is not None
    answer = application.interface.answer(Request("GET", "/_utils/", "", {"host": "db"}))
    assert answer.headers["content-security-policy"] == "sandbox"


def test_served_interface_obeys_cors_of_the_configuration(folder):
    origin = "https://app.test"
    options = {"utils": str(folder), "set": ["chttpd/enable_cors=true", f"cors/origins={origin}"]}
    interface = build_application(read_options(options, {})).interface
    assert interface is not None

    def headers(method: str, path: str, **given: str) -> tuple[int, str | None]:
        sent = {name.replace("_", "-"): value for name, value in given.items()}
        answer = interface.answer(Request(method, path, "", {"host": "db", **sent}))
        return answer.status, answer.headers.get("access-control-allow-origin")

    assert headers("GET", "/_utils/app.js", origin=origin) == (200, origin)
    assert headers("GET", "/_utils/missing.js", origin=origin) == (404, origin)
    assert headers("PUT", "/_utils/app.js", origin=origin) == (405, origin)
    assert headers("GET", "/_utils/app.js", origin="https://other.test") == (200, None)
    assert headers("GET", "/_utils/app.js") == (200, None)
    preflight = headers("OPTIONS", "/_utils/app.js", origin=origin, access_control_request_method="GET")
    assert preflight == (204, origin)
