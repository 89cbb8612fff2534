"""``couchdal certify``: replays the requests of a test suite on a CouchDB and on the emulator, and reports differences.

``pytest --dal-record-requests=FILE`` writes the requests: their shapes, not their data.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from couchdal.backends.base import BaseBackend
from couchdal.backends.memory import MemoryBackend
from couchdal.errors import BackendError, CouchError
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.middleware.chain import installed
from couchdal.middleware.comparison import Comparison
from couchdal.middleware.known import KnownDifference, read_known_differences
from couchdal.transcripts.normal_form import as_object
from couchdal.transcripts.record import open_server
from couchdal.transcripts.scenario import Credentials, Player, basic_credentials, parse_scenario

_SECONDS_A_DAY: Final = 86400
_OTHER_DATABASES: Final = tuple(
    KnownDifference("the server has other databases", endpoint=endpoint) for endpoint in ("/_all_dbs", "/_dbs_info")
)


class NotCertified(Exception):
    """Why a report does not certify a suite."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "requests", metavar="REQUESTS", type=Path, help="the file that pytest --dal-record-requests has written"
    )
    parser.add_argument("--url", help="the CouchDB with its admin, such as http://admin:password@host:5984")
    parser.add_argument(
        "--report", metavar="FILE", type=Path, default=Path("couchdal-report.json"), help="the report to write or check"
    )
    parser.add_argument("--known", metavar="FILE", type=Path, help="a TOML file of known differences")
    parser.add_argument(
        "--check", action="store_true", help="send nothing; fail unless the report certifies these requests"
    )
    parser.add_argument(
        "--max-age", metavar="DAYS", type=float, help="with --check: fail if the report is older than DAYS"
    )


def run(arguments: argparse.Namespace, version: str) -> int:
    """Write a report, or check one. Return 1 if answers differ, or if the report does not certify the requests."""
    try:
        requests = arguments.requests.read_bytes()
        if arguments.check:
            report = as_object(json.loads(arguments.report.read_text("utf-8")))
            check(report, requests, datetime.datetime.now(datetime.UTC), arguments.max_age)
        else:
            if not arguments.url:
                raise NotCertified("name the CouchDB with --url, or check a report with --check")
            known = read_known_differences(arguments.known) if arguments.known else []
            report = {**certify(requests, *open_server(arguments.url), known), "couchdal": version}
            arguments.report.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    except (NotCertified, OSError, ValueError, TypeError, BackendError, CouchError) as error:
        print(f"couchdal certify: {error}", file=sys.stderr)
        return 1
    for difference in _listed(report["differences"]):
        print(difference, end="\n\n")
    print(
        f"CouchDB {report['couchdb']}: {report['agreed']} of {report['requests']} requests agree"
        f" ({report['shapes']} different ones), {report['date']}"
    )
    return 1 if report["differences"] else 0


def certify(
    content: bytes, backend: BaseBackend, admin: Credentials, known: Sequence[KnownDifference] = ()
) -> dict[str, JSON]:
    """Replay recorded requests on both servers and return the report.

    Raise ``ValueError`` if ``content`` is not a file of requests. Every database is new and deleted afterwards.
    """
    recorded = as_object(json.loads(content))
    welcome = backend.send(Request("GET", "/", headers={"authorization": basic_credentials(*admin)})).result()
    requests = agreed = 0
    excused: dict[str, int] = {}
    differences: list[JSON] = []
    for scenario in map(as_object, _listed(recorded.get("scenarios"))):
        sent, comparison = _replay(scenario, backend, admin, known)
        requests += sent
        agreed += comparison.compared - comparison.excused.total() - (comparison.difference is not None)
        for reason, count in comparison.excused.items():
            excused[reason] = excused.get(reason, 0) + count
        if comparison.difference is not None:
            differences.append(f"{scenario['name']}\n{comparison.difference}")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "couchdb": str(welcome.get("version")) if isinstance(welcome, dict) else "unknown",
        "recording": _digest(content),
        "shapes": recorded.get("shapes"),
        "requests": requests,
        "agreed": agreed,
        "known": dict(excused),
        "differences": differences,
    }


def _replay(
    scenario: Mapping[str, JSON], backend: BaseBackend, admin: Credentials, known: Sequence[KnownDifference]
) -> tuple[int, Comparison]:
    """Return how many requests were sent, and the comparison of their answers."""
    twin = MemoryBackend(admin)
    comparison = Comparison(twin, lambda one: one.server_key is backend.server_key, (*known, *_OTHER_DATABASES))
    player = Player(backend, f"certify{uuid.uuid4().hex[:12]}", admin)
    parsed = parse_scenario(json.dumps(scenario))
    twin.server.create(player.database)
    player.create({})
    try:
        for sent, step in enumerate(parsed.steps, 1):
            with installed(comparison.compare, backend.server_key):
                player.send(step)
            if comparison.difference is not None:
                return sent, comparison
    finally:
        player.remove()
    return len(parsed.steps), comparison


def check(report: Mapping[str, JSON], requests: bytes, now: datetime.datetime, max_age_days: float | None) -> None:
    """Raise ``NotCertified`` unless a report is about these requests, new enough and without differences."""
    if report["recording"] != _digest(requests):
        raise NotCertified(
            "the report is about other requests: the suite has changed since. Run couchdal certify again"
        )
    age_days = (now - datetime.datetime.fromisoformat(str(report["date"]))).total_seconds() / _SECONDS_A_DAY
    if max_age_days is not None and age_days > max_age_days:
        raise NotCertified(f"the report is {age_days:.1f} days old. Run couchdal certify again")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _listed(value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise ValueError("this is not a file of recorded requests")
    return value
