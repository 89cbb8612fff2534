"""``couchdal record``: runs scenarios on a live server and writes its answers to transcripts.

Each scenario runs twice, and is refused if the answers differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from couchdal.backends.base import BaseBackend
from couchdal.errors import BackendError, CouchError
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.urls import unquote_userinfo
from couchdal.transcripts.normal_form import canonical_text, in_order
from couchdal.transcripts.scenario import Credentials, Player, Scenario, basic_credentials, parse_scenario


class NotDeterministic(Exception):
    """Two runs of a scenario gave different answers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenarios", metavar="SCENARIOS", nargs="+", type=Path, help="scenario files, or folders of them"
    )
    parser.add_argument(
        "--url", required=True, help="the server's address with its admin, such as http://admin:password@host:5984"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="the folder to write to (default: overwrite the scenario files)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Record every scenario. Print those that cannot be recorded, and return 1 if there are any."""
    try:
        backend, admin = open_server(arguments.url)
        version = _version(backend, admin)
        refused = [
            source
            for source, target in _files(arguments.scenarios, arguments.out)
            if not _recorded(source, target, backend, admin, version)
        ]
    except (BackendError, CouchError) as error:
        print(f"couchdal record: {error}", file=sys.stderr)
        return 1
    backend.close()
    return 1 if refused else 0


def open_server(url: str) -> tuple[BaseBackend, Credentials]:
    """Return the backend of an address, and the admin that it names. The backend has no credentials of its own."""
    from couchdal.backends.couch import CouchBackend  # only commands on a live server need the HTTP client

    parts = urlsplit(url)
    admin = (unquote_userinfo(parts.username or "admin"), unquote_userinfo(parts.password or ""))
    return CouchBackend(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"), admin


def _recorded(source: Path, target: Path, backend: BaseBackend, admin: Credentials, version: str) -> bool:
    try:
        transcript = record(parse_scenario(source.read_text("utf-8")), backend, admin, version)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(transcript, indent=1) + "\n", "utf-8")
    except (OSError, ValueError, NotDeterministic) as problem:
        print(f"couchdal record: {source}: {problem}", file=sys.stderr)
        return False
    print(target)
    return True


def record(scenario: Scenario, backend: BaseBackend, admin: Credentials, version: str) -> dict[str, JSON]:
    """Return the transcript of a scenario. Raise ``NotDeterministic`` if a second run gives another answer."""
    runs = [list(Player(backend, f"record{uuid.uuid4().hex[:12]}", admin).play(scenario)) for _ in range(2)]
    steps: list[JSON] = []
    for number, (first, second) in enumerate(zip(*runs, strict=True)):
        step, answer = first.step, first.recorded()
        texts = [canonical_text(in_order(played.recorded(), step.unordered)) for played in (first, second)]
        if texts[0] != texts[1]:
            raise NotDeterministic(
                f"step {number}, {first.request.method} {first.step.request['path']}, is answered differently each time"
                f' (name what changes under "ignore" or "unordered"):\n  {texts[0]}\n  {texts[1]}'
            )
        steps.append({**{name: value for name, value in step.source.items() if name != "response"}, "response": answer})
    return {"name": scenario.name, "about": "", **scenario.document, "couchdb": version, "steps": steps}


def _version(backend: BaseBackend, admin: Credentials) -> str:
    welcome = backend.send(Request("GET", "/", headers={"authorization": basic_credentials(*admin)})).result()
    return str(welcome.get("version")) if isinstance(welcome, dict) else "unknown"


def _files(scenarios: Sequence[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Return each scenario file and its transcript's path. Subfolders are kept below ``out``."""
    found = []
    for given in scenarios:
        for source in sorted(given.rglob("*.json")) if given.is_dir() else [given]:
            place = source.relative_to(given) if given.is_dir() else Path(source.name)
            found.append((source, out / place if out else source))
    return found
