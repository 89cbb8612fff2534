"""The command ``couchdal``: its output, its errors, what it serves, and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from processes import ask, couchdal_serve, environment

import couchdal
from couchdal.backends.memory import MemoryBackend
from couchdal.cli import SUBCOMMANDS, main
from couchdal.transcripts.scenario import RECORDED_ADMIN


def test_serve_starts_an_empty_couchdb_on_the_port_that_it_prints() -> None:
    with couchdal_serve() as (url, _):
        assert ask(url)[1]["couchdb"] == "Welcome"
        assert ask(f"{url}/db", "PUT") == (201, {"ok": True})
        assert ask(f"{url}/db")[1]["doc_count"] == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_server_at_once_with_feeds_open(ended_by: signal.Signals) -> None:
    with couchdal_serve() as (url, process), ExitStack() as open_feeds:
        ask(f"{url}/db", "PUT")
        port = int(url.rpartition(":")[2])
        feeds = [open_feeds.enter_context(closing(socket.create_connection(("127.0.0.1", port)))) for _ in range(100)]
        for number, feed in enumerate(feeds):
            kind = ("continuous", "eventsource", "longpoll")[number % 3]
            feed.sendall(f"GET /db/_changes?feed={kind}&heartbeat=60000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert feed.recv(12) == b"HTTP/1.1 200"
        if ended_by == signal.SIGINT:
            half = open_feeds.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            half.sendall(b"PUT /db/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        open_feeds.enter_context(closing(socket.create_connection(("127.0.0.1", port)))).sendall(b"PUT /db/a HT")
        begun = time.monotonic()
        process.send_signal(ended_by)
        status = process.wait(10)
        assert time.monotonic() - begun < 1
        assert status == (0 if ended_by == signal.SIGINT else -signal.SIGTERM)
        assert process.stderr
        assert process.stderr.read() == ""
        for feed in feeds:
            # The server ended the feed properly: it sent the last chunk.
            feed.settimeout(5)
            answer = b""
            while more := feed.recv(65536):
                answer += more
            assert answer.endswith(b"0\r\n\r\n")


def test_serve_with_an_admin_requires_credentials() -> None:
    with couchdal_serve("--admin", "root:p:w") as (url, _):
        assert ask(f"{url}/_up")[0] == 200
        assert ask(f"{url}/db", "PUT") == (401, {"error": "unauthorized", "reason": "You are not a server admin."})
        assert ask(f"{url}/db", "PUT", ("root", "p:w"))[0] == 201
        assert ask(f"{url}/_all_dbs", "GET", ("root", "wrong"))[1]["error"] == "unauthorized"


def test_serve_proxies_a_couchdb(served_address: str) -> None:
    user, password = RECORDED_ADMIN
    configured = {"COUCHDB_URL": served_address, "COUCHDB_USER": user, "COUCHDB_PASSWORD": password}
    with couchdal_serve("--backend", "couch", "--allow", "/{db}", **configured) as (url, _):
        assert ask(f"{url}/through", "PUT") == (201, {"ok": True})
        assert ask(f"{served_address}/through", "GET", RECORDED_ADMIN)[1]["db_name"] == "through"
        assert ask(f"{url}/_session")[1]["userCtx"]["name"] == user  # type: ignore[index,call-overload]
        assert ask(f"{url}/_session", "GET", ("nobody", "wrong"))[0] == 200
        assert ask(f"{url}/_session", "DELETE")[1]["error"] == "forbidden"
        assert ask(f"{url}/through", "DELETE")[0] == 200


def test_proxy_answers_502_when_couchdb_is_unreachable() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with couchdal_serve("--backend", "couch", COUCHDB_URL=f"http://u:secret@127.0.0.1:{port}") as (url, _):
        status, body = ask(f"{url}/_up")
    assert (status, body["error"]) == (502, "bad_gateway")
    assert "secret" not in str(body)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--backend", "couch"], "COUCHDB_URL"),
        (["serve", "--backend", "couch", "--admin", "a:b"], "--admin is for the emulator"),
        (["serve", "--upstream", "http://h:1"], "--upstream is for --backend couch: add --backend couch, or remove"),
        (["serve", "--read-only"], "--read-only is for --backend couch: add --backend couch, or remove --read-only"),
        (["serve", "--backend", "memory", "--databases", "a"], "--databases is for --backend couch"),
        (["serve", "--allow", "PUT /{db}"], "--allow is for --backend couch"),
        (["serve", "--auth", "proxy"], "--auth is for --backend couch"),
        (["serve", "--max-connections", "5"], "--max-connections is for --backend couch"),
        (["serve", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1 port 5984"),
    ],
)
def test_serve_reports_a_problem_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COUCHDB_URL", raising=False)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("couchdal serve: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (
            [],
            {"COUCHDB_URL": "http://h:1"},
            "COUCHDB_URL is for --backend couch: add --backend couch, or --backend mem",
        ),
        ([], {"COUCHDAL_READ_ONLY": "true"}, "COUCHDAL_READ_ONLY is for --backend couch"),
        (["--backend", "memory"], {"COUCHDAL_READ_ONLY": "true"}, "COUCHDAL_READ_ONLY is for --backend couch"),
        (
            ["--backend", "couch", "--upstream", "http://h:1"],
            {"COUCHDAL_ADMIN": "a:b"},
            "COUCHDAL_ADMIN is for the emu",
        ),
        # A backend that is named on purpose need not use the variables that other programs use too.
        (["--backend", "memory"], {"COUCHDB_URL": "http://h:1", "COUCHDB_USER": "u"}, None),
    ],
)
def test_serve_ignores_no_variable(
    arguments: list[str],
    variables: dict[str, str],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("COUCHDB_URL", "COUCHDB_USER", "COUCHDB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("couchdal.server.listener.serve", lambda *_, **__: None)
    assert main(["serve", "--port", "0", *arguments]) == (1 if said else 0)
    assert (said or "") in capsys.readouterr().err


def test_option_of_the_proxy_in_a_file_needs_the_proxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "couchdal.toml"
    file.write_text("read_only = true")
    assert main(["serve", "--port", "0", "--config", str(file)]) == 1
    assert "read_only is for --backend couch: add --backend couch, or remove read_only" in capsys.readouterr().err


def test_health_of_a_proxy_for_nobody_is_never_ok() -> None:
    with couchdal_serve("--backend", "couch", "--upstream", "http://127.0.0.1:1") as (url, _):
        for _ in range(20):
            status, body = ask(f"{url}/_couchdal/health")
            assert (status, body["nodes_up"]) == (503, 0)
            assert body["status"] in ("starting", "failing")
            time.sleep(0.02)
        assert body["status"] == "failing"


def test_serve_reports_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
        port = taken.getsockname()[1]
    error = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use; choose another with --port" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["serve", "--backend", "mongo"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "x"],
        ["serve", "--admin", "hunter2"],
        ["serve", "--admin", ":hunter2"],
    ],
)
def test_wrong_arguments_are_refused_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("usage: couchdal")
    assert "hunter2" not in printed


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert SUBCOMMANDS[name].purpose in capsys.readouterr().out


def test_version_names_the_version_and_the_collation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    collation = MemoryBackend().collation
    assert capsys.readouterr().out == f"couchdal {couchdal.__version__} (strings are sorted by {collation})\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["config", "--database", "x"], "unknown option --database; did you mean --databases?"),
        (["serve", "--max-feed=3"], "unknown option --max-feed; did you mean --max-feeds?"),
        (["serve", "--qqq"], "unknown option --qqq\n"),
        (["--verson"], "unknown option --verson; did you mean --version?"),
        (["record", "x.json", "--ur", "http://admin:hunter2@localhost"], "unknown option --ur; did you mean --url?"),
        (["openapi", "hunter2"], "unexpected argument"),
        (["serve", "--admin", "root:p", "hunter2"], "unexpected argument"),
    ],
)
def test_unknown_option_is_refused_with_a_suggestion(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "hunter2" not in printed
    assert printed.count("\n") <= 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has other pipes")
@pytest.mark.parametrize("arguments", [["config"], ["openapi"], ["serve", "--help"]], ids=" ".join)
def test_closed_pipe_ends_the_command_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "couchdal.cli", *arguments]
    try:
        ended = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment(), timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert ended.stderr == ""
    # Argparse itself ignores the closed pipe where output is not buffered.
    assert ended.returncode in (0, 141)


def test_help_and_version_load_no_client_and_no_server() -> None:
    code = "import sys, couchdal.cli\ntry: couchdal.cli.main([sys.argv[1]])\nexcept SystemExit: print(*sys.modules)"
    for argument in ("--help", "--version"):
        printed = subprocess.run(
            [sys.executable, "-c", code, argument], capture_output=True, text=True, env=environment(), check=True
        ).stdout
        loaded = printed.splitlines()[-1].split()
        assert "couchdal.cli" in loaded
        unwanted = ("httpx2", "uvicorn", "asyncio", "importlib.metadata", "dataclasses", "couchdal.backends")
        assert not {*unwanted} & {*loaded}


@pytest.mark.parametrize(("flags", "rarer"), [([], True), (["--backend", "couch", "--upstream", "http://h:1"], False)])
def test_serve_collects_garbage_more_rarely_on_the_emulator(
    flags: list[str], rarer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    seen: list[tuple[int, ...]] = []

    class Server:
        def __init__(self, *_: object, **__: object) -> None:
            seen.append(gc.get_threshold())

        def run(self, _: object) -> None:
            pass

    monkeypatch.setattr("couchdal.server.listener.new_server", Server)
    try:
        assert main(["serve", "--port", "0", *flags]) == 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        sys.setswitchinterval(interval)
    assert seen == [(*before[:2], 1_000_000_000) if rarer else before]
