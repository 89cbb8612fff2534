"""Replay every transcript of a real CouchDB on the emulator, or on the server that ``COUCHDB_URL`` names."""

from __future__ import annotations

import os
import tomllib
import uuid
from pathlib import Path
from typing import Any

import pytest
from targets import CLIENT_NAMES, Target

from couchdal.transcripts.scenario import Player, parse_scenario

HERE = Path(__file__).parent
FILES = {f"{file.parent.name}/{file.stem}": file for file in sorted(HERE.glob("transcripts/*/*.json"))}
WAYS = ["live"] if os.environ.get("COUCHDB_URL") else ["memory", "workers", "socket", "http", "proxy"]
# Only these differ when JavaScript runs in worker processes.
WITH_FUNCTIONS = {name for name, file in FILES.items() if "function" in file.read_text()}
KNOWN_DIFFERENCES = {
    name: difference["reason"]
    for difference in tomllib.loads((HERE / "known_differences.toml").read_text()).get("difference", [])
    for name in difference["scenarios"]
}


def known_difference(way: str, name: str) -> list[pytest.MarkDecorator]:
    if way == "live" or name not in KNOWN_DIFFERENCES:
        return []
    return [pytest.mark.xfail(reason=KNOWN_DIFFERENCES[name], strict=True)]


# These clients correct wrong escapes in an address before they send it.
CORRECTED = {"database/url_encoding_errors", "documents/bad_percent_encoding_and_slashes"}
# Their forms come from a page on another host, which a header names that the proxy does not forward.
ANOTHER_HOST = {"attachments/form_syntax", "attachments/form_with_attachments"}
SOAK = bool(os.environ.get("SOAK"))


def is_long(number: int) -> bool:
    """Quick tests send every third scenario through one of the clients, in turns. Long ones send all through each."""
    return bool(number % (3 * len(CLIENT_NAMES)))


THROUGH_CLIENTS = [
    pytest.param(
        f"intercepted-{client}",
        name,
        id=f"intercepted-{client}-{name}",
        marks=[*known_difference("intercepted", name), *([pytest.mark.soak] if is_long(number + turn) else [])],
    )
    for turn, client in enumerate(CLIENT_NAMES)
    for number, name in enumerate(FILES)
    if WAYS != ["live"]
    and (SOAK or not is_long(number + turn))
    and not (client in ("requests", "urllib3") and name in CORRECTED)
]
# The quick tests run each scenario on memory, and on one of these in turn. The long ones run all on each.
TURNS = {"http": 0, "socket": 1, "proxy": 2, "sqlite": 0}


def marks(way: str, number: int, name: str) -> list[pytest.MarkDecorator]:
    is_turn = number % 3 == TURNS.get(way, number % 3)
    return [*known_difference(way, name), *([] if is_turn else [pytest.mark.soak])]


ON_SQLITE = [
    pytest.param(
        "sqlite",
        name,
        id=f"sqlite-{name}",
        marks=marks("sqlite", number, name),
    )
    for number, name in enumerate(FILES)
    if WAYS != ["live"]
]

# Scenarios whose indexes are read from the disk by each request.
REOPENED = [
    pytest.param(
        "reopened",
        name,
        id=f"reopened-{name}",
        marks=[*known_difference("reopened", name), *([pytest.mark.soak] if number % 9 else [])],
    )
    for number, name in enumerate(FILES)
    if WAYS != ["live"] and name.startswith(("find/", "indexes/", "partitions/", "selectors_elsewhere/", "views/"))
]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        pytest.param(
            way,
            name,
            id=f"{way}-{name}",
            marks=marks(way, number, name),
        )
        for way in WAYS
        for number, name in enumerate(FILES)
        if (way != "workers" or name in WITH_FUNCTIONS) and not (way == "proxy" and name in ANOTHER_HOST)
    ]
    + ON_SQLITE
    + REOPENED
    + THROUGH_CLIENTS,
    indirect=["target"],
)
def test_answers_as_recorded(target: Target, name: str, record_property: Any) -> None:
    scenario = parse_scenario(FILES[name].read_text())
    player = Player(target.backend, f"parity{uuid.uuid4().hex[:12]}", target.admin, target.pause)
    differences, agreed = [], 0
    if target.emulator is not None:
        # Failed logins of another scenario would lock accounts.
        target.emulator.server.failures.clear()
    try:
        for number, played in enumerate(player.play(scenario)):
            if not played.agrees():
                request = f"{played.request.method} {played.request.path}?{played.request.query}"
                differences.append(
                    f"step {number}: {request}\n  recorded {played.expected()}\n  answered {played.actual()}"
                )
            agreed = number + 1 - len(differences)
    finally:
        record_property("parity", (target.way, name.partition("/")[0], agreed, len(scenario.steps)))
    assert not differences, "\n".join(differences)
