"""PouchDB in a browser: a page syncs with a server of another origin only if the server's CORS settings allow it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlencode

import pytest
from raw_http import Served

from couchdal.http.cors import Cors
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options

HERE = Path(__file__).parent
POUCHDB = HERE / "node_modules" / "pouchdb" / "dist" / "pouchdb.min.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)
SECONDS = 60
ACCOUNT = "admin:secret"
ALONE = "/_all_docs?startkey=%22alone-%22&endkey=%22alone-z%22"


@pytest.fixture(scope="module")
def browser() -> str:
    """The path of a browser. Without one these tests are skipped, but fail in CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found and POUCHDB.is_file():
        return found
    lack = "Chromium is not installed" if not found else "PouchDB is not installed: run `make setup`"
    if os.environ.get("CI"):
        pytest.fail(lack)
    pytest.skip(lack)


class Origin:
    """The origin of a page: a file server that also receives the page's error messages."""

    def __init__(self) -> None:
        self.reports: SimpleQueue[Any] = SimpleQueue()
        reports = self.reports

        class Files(SimpleHTTPRequestHandler):
            def guess_type(self, path: object) -> str:
                return "text/html" if str(path).endswith(".html") else "text/javascript"

            def translate_path(self, path: str) -> str:
                name = path.partition("?")[0].strip("/")
                return str(POUCHDB if name == POUCHDB.name else HERE / name)

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with closing(Origin()) as origin:
        yield origin


def serve(options: dict[str, Any], cors: Cors | None = None) -> str:
    """Start a thread that serves, and return the address."""
    application = build_application(read_options(options, {}))
    application.cors = cors
    served = Served.__new__(Served)
    served.start(application)
    return f"http://127.0.0.1:{served.port}"


class Remote:
    """A database on a server that accepts one origin: the emulator, or a proxy in front of one."""

    def __init__(self, accepted: str, reports: SimpleQueue[Any], server: str = "memory") -> None:
        self._reports = reports
        embedded, cors = {"backend": "memory", "admin": ACCOUNT}, Cors((accepted,), credentials=True)
        if server == "memory":
            address = serve(embedded, cors)
        else:
            address = serve({"backend": "couch", "upstream": [serve(embedded)], "allow": ["PUT /{db}"]}, cors)
        self.address = f"{address}/db"
        self._end = time.monotonic() + SECONDS
        self.ask("", "PUT")

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """Return the answer. Raise ``urllib.error.HTTPError``."""
        token = base64.b64encode(ACCOUNT.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json", "Accept": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", content, headers, method=method)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def wait_for(self, doc_id: str) -> Any:
        """Return a document as soon as it exists. Fail if the page reports an error, or after a time limit."""
        since = "0"
        while True:
            try:
                return self.ask(f"/{doc_id}")
            except urllib.error.HTTPError as missing:
                if missing.code != 404:
                    raise
            since = self.wait_for_change(since)

    def wait_for_change(self, since: str = "now") -> str:
        """Return the sequence of the next change, or the given one if none comes within a second."""
        assert self._reports.empty(), self._reports.get()
        assert time.monotonic() < self._end, f"this is all that came: {self.ask('/_all_docs')}"
        last_seq: str = self.ask(f"/_changes?feed=longpoll&timeout=1000&since={since}")["last_seq"]
        return last_seq

    def let(self, number: int, task: str, **details: Any) -> Any:
        """Write a document that makes the page do something, and return the outcome."""
        self.ask(f"/task-{number}", "PUT", {"task": task, **details})
        done = self.wait_for(f"done-{number}")
        assert "error" not in done, done
        return done.get("result")

    def trees(self) -> Any:
        """Return every document's leaves, in the form of the page's ``trees``."""
        found = {}
        for row in self.ask("/_changes?style=all_docs")["results"]:
            if not row["id"].startswith(("task-", "done-")):
                revs = json.dumps([change["rev"] for change in row["changes"]], separators=(",", ":"))
                leaves = [answer["ok"] for answer in self.ask(f"/{row['id']}?revs=true&open_revs={revs}")]
                found[row["id"]] = sorted(map(_leaf, leaves))
        return found


def _leaf(doc: Any) -> list[Any]:
    digests = [[name, stub["digest"]] for name, stub in doc.get("_attachments", {}).items()]
    return [doc["_rev"], doc["_revisions"]["ids"], digests]


@pytest.fixture
def visit(browser: str, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A function that opens the page of an origin in a browser."""
    opened: list[subprocess.Popen[bytes]] = []

    def open_page(origin: Origin, remote: str, **how: str) -> None:
        query = urlencode({"remote": remote, "account": ACCOUNT, **how})
        command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{origin.address}/page.html?{query}"]
        opened.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    yield open_page
    for process in opened:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("server", ["memory", "proxy"])
@pytest.mark.parametrize("how", [{}, {"session": "true"}], ids=["basic", "session"])
def test_page_syncs_live_with_a_server_of_another_origin(
    visit: Callable[..., None], origin: Origin, how: dict[str, str], server: str
) -> None:
    remote = Remote(origin.address, origin.reports, server)
    remote.ask("/old", "PUT", {"n": 1})
    visit(origin, remote.address, **how)
    assert remote.wait_for("done-ready")["origin"] == origin.address
    let = remote.let

    # Both ways, one after the other.
    assert let(1, "put", doc={"_id": "new", "n": 1})["rev"] == remote.wait_for("new")["_rev"]
    let(2, "update", id="old", change={"n": 2})
    old = remote.ask("/old")
    assert (old["n"], old["_rev"][:2]) == (2, "2-")

    # Attachments of both sides.
    let(3, "attach", id="new", name="page.txt", content="from the page é")
    new = remote.ask("/new")
    assert new["_attachments"]["page.txt"]["length"] == len("from the page é".encode())
    inline = {"data": base64.b64encode(b"from the server").decode(), "content_type": "application/octet-stream"}
    remote.ask("/given", "PUT", {"_attachments": {"server.txt": inline}})
    assert let(4, "read", id="given", name="server.txt") == "from the server"

    # Both sides update the same revision while nothing is synced.
    remote.ask("/task-5", "PUT", {"task": "updateAlone", "id": "old", "change": {"n": "page"}, "until": "resume"})
    while not (alone := [row["id"] for row in remote.ask(ALONE)["rows"]]):
        remote.wait_for_change()
    ours = remote.ask("/old", "PUT", {"_rev": old["_rev"], "n": "server"})["rev"]
    remote.ask("/resume", "PUT", {})
    theirs = remote.wait_for("done-5")["result"]
    assert alone == [f"alone-{theirs}"]
    loser, winner = sorted((ours, theirs))
    seen = remote.ask("/old?conflicts=true")
    assert (seen["_rev"], seen["_conflicts"]) == (winner, [loser])
    assert let(6, "conflicts", id="old") == [loser]

    trees = remote.trees()
    assert let(7, "trees") == trees
    assert trees.keys() == {"alone-" + theirs, "given", "new", "old", "resume"}
    assert [len(leaf[1]) for leaf in trees["old"]] == [3, 3]
    assert origin.reports.empty()


def test_page_of_an_origin_that_is_not_accepted_learns_nothing(visit: Callable[..., None], origin: Origin) -> None:
    remote = Remote("https://app.example", origin.reports)
    visit(origin, remote.address)
    try:
        report = origin.reports.get(timeout=SECONDS)
    except Empty:
        pytest.fail("the page told nothing")
    assert "Failed to fetch" in report["error"]
    assert remote.ask("")["update_seq"].startswith("0-")
