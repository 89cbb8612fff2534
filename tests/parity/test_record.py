"""Recording: a transcript can be replayed, and a scenario whose answers differ between runs is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from couchdal.backends.couch import CouchBackend
from couchdal.cli import main
from couchdal.transcripts.scenario import RECORDED_ADMIN, Player, parse_scenario

STEPS = [
    {"request": {"method": "PUT", "path": "/a", "body": {"n": 1}}, "save": {"r": "rev"}},
    {"request": {"method": "GET", "path": "/a", "query": {"rev": "${r}"}}},
    {"request": {"method": "POST", "path": "/", "body": {}}, "save": {"made": "id"}},
    {"request": {"method": "GET", "path": "/_changes", "query": {"feed": "continuous", "timeout": 10}}},
    {"request": {"method": "GET", "path": "/", "auth": None}},
    {"request": {"method": "GET", "path": "/_session", "scope": "server"}},
]


@pytest.fixture
def url(served_address: str) -> str:
    return served_address.replace("//", f"//{':'.join(RECORDED_ADMIN)}@")


def write(file: Path, steps: list[Any], **more: Any) -> Path:
    file.write_text(json.dumps({"name": file.stem, "about": "", "steps": steps, **more}))
    return file


def test_recorded_scenario_agrees_when_it_is_replayed(tmp_path: Path, url: str, served_address: str) -> None:
    write(tmp_path / "made.json", STEPS)
    assert main(["record", str(tmp_path), "--url", url, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "made.json").read_text()
    first, second, third, feed, refused, _ = (step["response"] for step in json.loads(text)["steps"])
    assert first["body"] == {"ok": True, "id": "a", "rev": "${r}"}
    assert first["headers"]["etag"] == '"${r}"'
    assert second["body"] == {"_id": "a", "_rev": "${r}", "n": 1}
    assert third["headers"]["location"] == "/{db}/${made}"
    assert [row["seq"] for row in feed["lines"] if row and "id" in row] == ["<seq:1>", "<seq:2>"]
    assert (refused["status"], refused["body"]["error"]) == (401, "unauthorized")
    player = Player(CouchBackend(served_address), "replayed")
    assert all(played.agrees() for played in player.play(parse_scenario(text)))


def test_scenario_is_recorded_in_place_without_an_output_folder(tmp_path: Path, url: str) -> None:
    file = write(tmp_path / "made.json", STEPS[:1])
    assert main(["record", str(file), "--url", url]) == 0
    assert json.loads(file.read_text())["steps"][0]["response"]["status"] == 201


def test_scenario_is_refused_when_two_runs_differ(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"request": {"method": "POST", "path": "/", "body": {}}}
    file = write(tmp_path / "made.json", [step])
    assert main(["record", str(file), "--url", url]) == 1
    assert "step 0, POST /, is answered differently each time" in capsys.readouterr().err
    assert "response" not in json.loads(file.read_text())["steps"][0]
    write(file, [{**step, "ignore": ["body.id", "headers.location"]}])
    assert main(["record", str(file), "--url", url]) == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x", "steps": [{}]}'])
def test_file_is_refused_when_it_is_not_a_scenario(
    tmp_path: Path, url: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made.json").write_text(text)
    assert main(["record", str(tmp_path), "--url", url]) == 1
    assert "made.json" in capsys.readouterr().err


def test_unreachable_server_is_reported_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "made.json", STEPS)
    assert main(["record", str(file), "--url", "http://admin:hidden@127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert "http://127.0.0.1:1" in told
    assert "hidden" not in told


def test_replay_finds_every_kind_of_difference(served_address: str) -> None:
    """A comparison that misses a difference would report agreement everywhere."""
    request = {"method": "PUT", "path": "/a", "body": {"n": 1.0, "list": [1, 2]}}
    body = {"ok": True, "id": "a", "rev": "1-c3d84ab4ba2ba3ba2ba3ba2ba3ba2ba3"}
    recorded = [
        {"status": 200, "headers": {"content-type": "application/json"}, "body": {"n": 1, "list": [1, 2]}},
        {"status": 201, "headers": {}, "body": body},
        {"status": 201, "body": None},
        {"status": 201},
    ]
    for response in recorded:
        text = json.dumps({"name": "x", "steps": [{"request": request, "response": response}]})
        (played,) = Player(CouchBackend(served_address), "differences").play(parse_scenario(text))
        assert not played.agrees()
