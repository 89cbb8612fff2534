"""The servers that foreign clients are tested against: the emulator, a proxy in front of one, an intercepted one.

And Node.js, in which PouchDB runs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

import pytest

from couchdal import MemoryBackend, intercept

HERE = Path(__file__).parent
ADMIN, PASSWORD = "admin", "secret"
# If COUCHDB_URL names a CouchDB, the tests run on it too. This shows that they expect what CouchDB does.
SERVERS = ("memory", "proxy", *(("couch",) if os.environ.get("COUCHDB_URL") else ()))


def command(server: str) -> list[str]:
    """Return the arguments of ``couchdal serve`` for a server. A proxy reads its CouchDB from the environment."""
    if server == "memory":
        return ["--backend", "memory", "--admin", f"{ADMIN}:{PASSWORD}"]
    rules = ("PUT /{db}", "DELETE /{db}", "GET /_all_dbs", "/{db}/_security", "/{db}/_design/{name}/_view/{view}")
    return ["--backend", "couch", *(part for rule in rules for part in ("--allow", rule))]


@dataclass(frozen=True)
class Server:
    """A server's address, and ``behind``, the address of its documents without the proxy."""

    url: str
    behind: str
    user: str = ADMIN
    password: str = PASSWORD

    @property
    def with_credentials(self) -> str:
        return self.url.replace("://", f"://{self.user}:{self.password}@")

    def with_account(self, user: str, password: str = "secret") -> str:
        return self.url.replace("://", f"://{user}:{password}@")

    def look(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Return the answer of the server behind, or the status of an error."""
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(f"{self.behind}{path}", content, headers, method=method)
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code
        return json.loads(text) if answer.headers["content-type"].startswith("application/json") else text


@contextmanager
def served(*arguments: str, **variables: str) -> Iterator[str]:
    """Run ``couchdal serve`` and yield its address."""
    told = {name: text for name, text in os.environ.items() if not name.startswith(("COUCHD", "DAL_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "couchdal.cli", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**told, **variables, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout
            address = next(found for line in process.stdout if (found := re.search(r"http://[\w.]+:\d+", line)))
            yield address[0]
        finally:
            process.terminate()


# What Python's clients are tested on, too: the emulator in their own process.
IN_PROCESS = "intercepted"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("parametrize")
    if "server" in metafunc.fixturenames and not any(mark.args[0] == "server" for mark in marks):
        more = (IN_PROCESS,) if getattr(metafunc.module, "IS_PYTHON", False) else ()
        metafunc.parametrize("server", (*SERVERS, *more), indirect=True, scope="module")


# Other modules must not be intercepted, nor count the failed logins of this one.
@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == IN_PROCESS:
        url = "http://couchdb.example:5984"
        with intercept(url, backend=MemoryBackend(admin=(ADMIN, PASSWORD))):
            yield Server(url, url)
        return
    if request.param == "couch":
        parts = urlsplit(os.environ["COUCHDB_URL"])
        url = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        yield Server(url, url, parts.username or "", parts.password or "")
        return
    with served(*command("memory")) as behind:
        if request.param == "memory":
            yield Server(behind, behind)
        else:
            with served(*command("proxy"), COUCHDB_URL=behind) as url:
                yield Server(url, behind)


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """The name of a database that does not exist. After the test the database is deleted."""
    name = f"clients{uuid.uuid4().hex[:12]}"
    yield name
    server.look(f"/{name}", "DELETE")


@pytest.fixture
def db(server: Server, name: str) -> str:
    """The name of a new, empty database."""
    assert server.look(f"/{name}", "PUT") == {"ok": True}
    return name


@contextmanager
def run_node(program: str, limit_s: float = 120.0) -> Iterator[Callable[..., Any]]:
    """Run a program in Node.js. Yield a function that sends it a command and returns the result."""
    node = shutil.which("node")
    if not (node and (HERE / "node_modules" / "pouchdb").is_dir()):
        lack = "PouchDB or Node.js 18 or later is missing: run `make setup`"
        if os.environ.get("CI"):
            pytest.fail(lack)
        pytest.skip(lack)
    with subprocess.Popen(
        [node, program], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(**command: Any) -> Any:
            assert process.stdin
            assert process.stdout
            late = Timer(limit_s, process.kill)
            late.start()
            try:
                process.stdin.write(json.dumps(command) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            finally:
                late.cancel()
            assert line, f"Node.js ended with {process.wait()}"
            answer = json.loads(line)
            assert "error" not in answer, answer
            return answer["result"]

        try:
            yield ask
        finally:
            process.kill()


@pytest.fixture(scope="session")
def node() -> Iterator[Callable[[str], Callable[..., Any]]]:
    """A function that starts a program in Node.js, which ends with the tests."""
    with ExitStack() as running:
        yield lambda program: running.enter_context(run_node(program))
