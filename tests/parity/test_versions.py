"""Replay on each emulated version what that version of CouchDB answered, and prove the table of switches."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from couchdal import CouchDAL, MemoryBackend, Request
from couchdal.api.versions import NEWEST, RELEASES, SWITCHES, Switch, parse_version
from couchdal.transcripts.scenario import RECORDED_ADMIN, Player, parse_scenario

VERSIONS = Path(__file__).parent / "versions"
FILES = {f"{file.parent.name}/{file.stem}": file for file in sorted(VERSIONS.glob("*/*.json"))}
# What differs between these versions, but not in the emulator. The step of a scenario is the key.
NOT_EMULATED = {
    ("3.3/find_operators", 18): "a crash in place of 404",
    ("3.3/listings", 13): "keys with one key are read as one key",
    ("3.3/listings", 20): "keys with one key are read as one key",
    ("3.3/changes_pending", 5): "pending with the filter _design",
    ("3.3/paths", 2): "another error for an unknown path",
    ("3.3/paths", 10): "an error without a reason",
    ("3.3/paths", 11): "a crash in place of 400",
    ("3.3/paths", 17): "a crash in place of 400",
}


@pytest.mark.parametrize("name", FILES)
def test_version_answers_as_recorded(name: str) -> None:
    scenario = parse_scenario(FILES[name].read_text())
    backend = MemoryBackend(admin=RECORDED_ADMIN, version=name.partition("/")[0])
    player = Player(backend, f"parity{uuid.uuid4().hex[:12]}", pause=backend.clock.advance)
    for number, played in enumerate(player.play(scenario)):
        agrees = played.expected() == played.actual()
        assert agrees != ((name, number) in NOT_EMULATED), f"step {number}\n{played.expected()}\n{played.actual()}"


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.summary)
def test_switch_is_proved_by_recordings_that_differ_or_by_a_change_of_couchdb(switch: Switch) -> None:
    names = re.findall(r"[a-z]+(?:_[a-z]+)*", switch.proof)
    assert names or re.search(r"#[0-9]+", switch.proof)
    series = [*RELEASES]
    before = series[series.index(switch.since) - 1]
    for name in names:
        old, new = (parse_scenario(FILES[f"{version}/{name}"].read_text()) for version in (before, switch.since))
        assert [step.response for step in old.steps] != [step.response for step in new.steps]


def test_versions_are_named_by_series_or_patch_release() -> None:
    assert [parse_version(text).number for text in ("3.3", "3.4", " 3.5 ", "3.4.1")] == [
        "3.3.3",
        "3.4.3",
        "3.5.0",
        "3.4.1",
    ]
    assert parse_version("3.5") == NEWEST


@pytest.mark.parametrize("text", ["", "3", "3.2", "3.6", "4.0", "3.4.", "3.4.x", "3.4.1.2", "three"])
def test_unknown_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of: 3\.3, 3\.4, 3\.5"):
        parse_version(text)


def test_handle_uses_the_version_of_its_backend() -> None:
    backend = MemoryBackend(version="3.4.2")
    assert backend.server.version.series == "3.4"
    welcome = Request("GET", "/")
    for one in (backend, backend.fork(), CouchDAL(backend, database="tasks").backend):
        assert one.send(welcome).value()["version"] == "3.4.2"  # type: ignore[index, call-overload]
    with pytest.raises(ValueError, match=r"the version of CouchDB is '3\.2'; it must be one of"):
        MemoryBackend(version="3.2")
