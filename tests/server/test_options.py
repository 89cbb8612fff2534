"""The options of ``couchdal serve``: their sources, which source wins, errors, and ``couchdal config``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from couchdal.cli import main
from couchdal.errors import NotConfigured
from couchdal.http.messages import Request
from couchdal.server.assembly import build_application
from couchdal.server.options import OPTIONS, format_options, read_options

SECRET = "hunter2"


def write(folder: Path, text: str) -> str:
    path = folder / "couchdal.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_command_line_overrides_environment_which_overrides_file(tmp_path: Path) -> None:
    file = write(tmp_path, "port = 1\nmax_feeds = 2\nmax_requests = 3\n")
    environ = {"COUCHDAL_MAX_FEEDS": "20", "COUCHDAL_MAX_REQUESTS": "30"}
    found = read_options({"max_requests": "300"}, environ, file)
    assert found["port"] == (1, "file")
    assert found["max_feeds"] == (20, "environment")
    assert found["max_requests"] == (300, "flag")
    assert found["host"] == ("127.0.0.1", "default")


def test_lists_are_lists_in_every_source(tmp_path: Path) -> None:
    file = write(tmp_path, 'allow = ["PUT /{db}", "GET /_all_dbs"]\n')
    assert read_options({}, {}, file)["allow"].value == ("PUT /{db}", "GET /_all_dbs")
    assert read_options({}, {"COUCHDAL_ALLOW": "PUT /{db}, GET /_all_dbs"})["allow"].value == (
        "PUT /{db}",
        "GET /_all_dbs",
    )
    assert read_options({"allow": ["PUT /{db}"]}, {})["allow"].value == ("PUT /{db}",)


def test_upstream_options_use_couchdbs_variables() -> None:
    found = read_options(
        {}, {"COUCHDB_URL": "http://a:5984,http://b:5984", "COUCHDB_USER": "u", "COUCHDB_TIMEOUT": "3"}
    )
    assert found["upstream"].value == ("http://a:5984", "http://b:5984")
    assert (found["user"].value, found["timeout"].value) == ("u", 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "line 1: unknown option `prot`; did you mean `port`?"),
        ("\n[upstreams]\nx = 1", "line 2: unknown option `upstreams`; did you mean `upstream`?"),
        ("host = '::1'\n'zzz' = 1", "line 2: unknown option `zzz`"),
        ("# port = 1\n\n port = 70000", "line 3: port must be a whole number from 0 to 65535"),
        ('port = "x"', "line 1: port must be a whole number from 0 to 65535"),
        ("max_connections = 0", "line 1: max_connections must be a whole number from 1 to 1000000000000000"),
        ('retries = "1000000000000001"', "line 1: retries must be a whole number from 0 to 1000000000000000"),
        ("read_only = 2", "line 1: read_only must be true or false"),
        ("timeout = -1", "line 1: timeout must be a positive number of seconds"),
        ('backend = "mongo"', "line 1: backend must be one of: memory, sqlite, couch"),
        ('databases = "*,db"', "line 1: databases must be one value, so without a comma"),
        ("port = [1]", "line 1: port must be a single value"),
        ("port = 1\nhost = localhost", "line 2, column 8: not valid TOML: Invalid value"),
        (f'password = "{SECRET}', ": not valid TOML: Unterminated string (at end of document)"),
        (f"password = {SECRET}", "line 1, column 12: not valid TOML: Invalid value"),
        (f'admin = "{SECRET}"', "line 1: admin must be user:password"),
    ],
)
def test_error_in_a_file_names_the_line_and_no_value(text: str, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(NotConfigured) as refused:
        read_options({}, {}, file)
    assert str(refused.value) in (f"{file}, {said}", f"{file}{said}")
    assert SECRET not in str(refused.value)


def test_error_in_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "couchdal.toml"
    file.write_bytes(b"port = 1\nhost = '\xff'\n")
    with pytest.raises(NotConfigured, match=r"couchdal\.toml, line 2: not UTF-8\Z"):
        read_options({}, {}, str(file))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="cannot be read"):
        read_options({}, {}, str(tmp_path / "none.toml"))


def test_error_in_a_variable_names_the_variable() -> None:
    with pytest.raises(NotConfigured, match="COUCHDAL_MAX_FEEDS must be a whole number"):
        read_options({}, {"COUCHDAL_MAX_FEEDS": "many"})


def test_config_prints_a_file_of_all_options_with_secrets_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, f'backend = "couch"\nread_only = true\nproxy_secret = "{SECRET}"\n')
    monkeypatch.setenv("COUCHDB_URL", f"https://proxy:{SECRET}@couch:6984/prefix,http://other:5984")
    monkeypatch.setenv("COUCHDB_PASSWORD", SECRET)
    assert main(["config", "--config", file, "--max-feeds", "7", "--admin", f"root:{SECRET}"]) == 0
    printed = capsys.readouterr().out
    assert SECRET not in printed
    for line in (
        'backend = "couch"  # file',
        "read_only = true  # file",
        'proxy_secret = "***"  # file',
        'upstream = ["https://***@couch:6984/prefix", "http://other:5984"]  # environment',
        'password = "***"  # environment',
        "max_feeds = 7  # flag",
        'admin = "***"  # flag',
        "# upstream_ca is not set",
    ):
        assert line in printed.splitlines()
    assert tomllib.loads(printed)["max_feeds"] == 7


def test_variable_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUCHDAL_CONFIG", write(tmp_path, "max_feeds = 9"))
    assert main(["config"]) == 0
    assert "max_feeds = 9  # file" in capsys.readouterr().out


def test_wrong_configuration_is_one_line_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("config", "serve"):
        assert main([command, "--config", write(tmp_path, "nothing = 1")]) == 1
        error = capsys.readouterr().err
        assert "line 1: unknown option `nothing`" in error
        assert error.count("\n") == 1


def test_printed_configuration_can_be_read_again(tmp_path: Path) -> None:
    flags = {"allow": ['GET /{db}/"quoted"', "PUT /{db}"], "timeout": "2.5", "read_only": True, "host": "::1"}
    found = read_options(flags, {})
    again = read_options({}, {}, write(tmp_path, "\n".join(format_options(found))))
    assert {key: setting.value for key, setting in again.items()} == {key: s.value for key, s in found.items()}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_equals_its_parsed_text(option: object) -> None:
    default = option.default  # type: ignore[attr-defined]
    if default not in (None, ()):
        assert read_options({option.key: str(default)}, {})[option.key].value == default  # type: ignore[attr-defined]


def test_version_of_couchdb_is_an_option() -> None:
    application = build_application(read_options({"couchdb_version": "3.4.1"}, {}))
    backend = getattr(application.backend, "wrapped", application.backend)
    welcome = backend.send(Request("GET", "/"))
    assert (welcome.value()["version"], welcome.headers["server"]) == ("3.4.1", "CouchDB/3.4.1 (couchdal)")
    with pytest.raises(NotConfigured, match=r"--couchdb-version must be one of: 3\.3, 3\.4, 3\.5"):
        read_options({"couchdb_version": "2.3"}, {})
