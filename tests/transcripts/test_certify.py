"""``--dal-record-requests`` and ``couchdal certify``, as a suite's authors use them."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_runs import run
from processes import couchdal_serve

from couchdal import MemoryBackend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.cli import main
from couchdal.http.messages import Request
from couchdal.middleware.chain import Steps, with_middleware
from couchdal.middleware.known import KnownDifference
from couchdal.transcripts.certify import NotCertified, certify, check

ADMIN = ("admin", "pw")
SUITE = """
    import pytest

    def test_writes(dal):
        dal.put_document("a", {"n": 1, "note": "private"})
        dal.put_document("a", {**dal.get_document("a"), "n": 2})
        dal.get("/_find", "POST", {"selector": {"n": {"$gt": 0}}})

    def test_writes_again(dal):
        dal.put_document("b", {"n": 5, "note": "secret"})

    def test_users(dal):
        dal.get("/_users/org.couchdb.user:ann", "PUT",
            {"name": "ann", "password": "x", "roles": [], "type": "user"})
        with pytest.raises(Exception):
            dal.get("/_bad")

    def test_forms(dal):
        dal.request("POST", "/_session", body=b"name=a&password=b",
            headers={"content-type": "application/x-www-form-urlencoded"})
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("suite")
    printed = run(folder, "--dal-record-requests=requests.json", "-n2", test_suite=textwrap.dedent(SUITE))
    assert "4 passed" in printed
    assert "test_forms: POST /_session has a body of type application/x-www-form-urlencoded" in printed
    assert "6 different requests of 2 tests written to" in printed
    return (folder / "requests.json").read_bytes()


def test_a_suite_is_recorded_without_its_data_and_certified(recording: bytes) -> None:
    assert b"private" not in recording
    backend = MemoryBackend(ADMIN)
    report = certify(recording, backend, ADMIN)
    assert report["differences"] == []
    assert report["agreed"] == report["requests"] == 6
    assert report["shapes"] == 6
    assert sorted(backend.server.databases) == ["_replicator", "_users"]
    # CouchDB's own design document is there.
    assert backend.server.databases["_users"].doc_count <= 1


def test_a_difference_is_reported_with_its_test(recording: bytes) -> None:
    backend = MemoryBackend(ADMIN)

    def wrong(one: BaseBackend | AsyncBackend, request: Request) -> Steps:
        response = yield request
        if request.path.endswith("/_find"):
            response.status = 500
        return response

    failing = with_middleware(backend, wrong)
    report = certify(recording, failing, ADMIN)
    known = certify(recording, failing, ADMIN, [KnownDifference("no queries", endpoint="/{db}/_find")])
    assert isinstance(report["differences"], list)
    (difference,) = report["differences"]
    assert "test_writes\n" in str(difference)
    assert "status is 500 on CouchDB, 200 on the emulator" in str(difference)
    assert known["differences"] == []
    assert known["known"] == {"no queries": 1}
    assert known["agreed"] == 5


def test_a_report_certifies_only_its_requests_and_only_for_a_time(recording: bytes) -> None:
    report = certify(recording, MemoryBackend(ADMIN), ADMIN)
    now = datetime.datetime.now(datetime.UTC)
    check(report, recording, now, None)
    check(report, recording, now, 1)
    with pytest.raises(NotCertified, match="2\\.0 days old"):
        check(report, recording, now + datetime.timedelta(days=2), 1)
    with pytest.raises(NotCertified, match="other requests"):
        check(report, recording + b" ", now, None)


@pytest.fixture
def server() -> Iterator[str]:
    with couchdal_serve("--admin", "admin:pw") as (address, _):
        yield address.replace("://", "://admin:pw@")


def test_the_command_writes_and_checks_a_report(
    recording: bytes, tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report, requests = tmp_path / "report.json", str(tmp_path / "requests.json")
    Path(requests).write_bytes(recording)
    assert main(["certify", requests, "--report", str(report), "--url", server]) == 0
    assert "6 of 6 requests agree (6 different ones)" in capsys.readouterr().out
    assert main(["certify", requests, "--report", str(report), "--check", "--max-age", "1"]) == 0
    content = json.loads(report.read_text())
    report.write_text(json.dumps({**content, "differences": ["a difference"]}))
    assert main(["certify", requests, "--report", str(report), "--check"]) == 1
    assert "a difference" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "requests.json"
    file.write_text("{}")
    assert main(["certify", str(file)]) == 1
    assert "name the CouchDB with --url" in capsys.readouterr().err
    assert main(["certify", str(file), "--url", "http://127.0.0.1:1"]) == 1
    assert "couchdal certify: " in capsys.readouterr().err
    assert main(["certify", str(tmp_path / "none.json"), "--check"]) == 1
    assert "none.json" in capsys.readouterr().err
