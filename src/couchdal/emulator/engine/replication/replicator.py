"""Replications of a server: each is opened, run and closed here.

They run without the server's lock. ``Peers`` says how their requests get to this server and to others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from couchdal.emulator.engine.replication.checkpoint import Log
from couchdal.emulator.engine.replication.endpoint import Endpoint
from couchdal.emulator.engine.replication.peer import Peer
from couchdal.emulator.engine.replication.replication import Replication, failed
from couchdal.emulator.engine.replication.replication_id import VERSION, replication_id
from couchdal.emulator.engine.replication.run import Run
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import CouchError


class Peers(Protocol):
    """Opens databases, on this server or on others."""

    def open(self, side: Endpoint, *, retries: int, timeout_s: float) -> Peer:
        """Return a database as a replicator sees it."""

    def close(self, peer: Peer) -> None:
        """Release what ``open`` took."""

    def own_name(self, side: Endpoint) -> str | None:
        """Return the name of a database of this server, or None for one of another server."""


@contextmanager
def opened(replication: Replication, peers: Peers) -> Iterator[tuple[Peer, Peer]]:
    """Yield the source and the target."""
    retries, timeout_s = replication.number("retries_per_request"), replication.number("connection_timeout") / 1000
    source, target = (peers.open(side, retries=retries, timeout_s=timeout_s) for side in replication.sides)
    try:
        yield source, target
    finally:
        peers.close(source)
        peers.close(target)


def replicate(server: Server, replication: Replication, peers: Peers, uuid: str) -> Log:
    """Run a replication to its end, and return the members of the answer. Raise ``CouchError``."""
    started = server.clock.now()
    with opened(replication, peers) as (source, target):
        ids = find_ids(replication, uuid, source)
        session = server.next_id()
        run = Run(replication, source, target, ids=ids, session=session, now=server.clock.now, started=started)
        run.open()
        for _ in run.steps():
            pass
        run.save()
    return run.result()


def find_ids(replication: Replication, uuid: str, source: Peer) -> list[str]:
    """Return the ids of a replication, the present one first. Raise ``CouchError``."""
    found: list[str] = []

    def fetch(design: str, name: str) -> str:
        # One id per version, but one request.
        if not found:
            found.append(fetch_filter(source, design, name))
        return found[0]

    return [replication_id(replication, uuid, fetch, version) for version in (VERSION, VERSION - 1)]


def fetch_filter(source: Peer, design: str, name: str) -> str:
    """Return the text of a filter function of the source. Raise ``CouchError``."""
    try:
        source.open()
    except CouchError as error:
        url = error.reason.rpartition(" ")[2]
        why = f'Could not open source database `{source.url}`: {{{error.error},<<"{url}">>}}'
        raise failed("not_found", why, status=404) from None
    document = source.ask("GET", f"_design/{design}")
    value = document.value()
    if document.status != 200 or not isinstance(value, dict):
        word = value.get("error") if isinstance(value, dict) else "not_found"
        why = f'Couldn\'t open document `_design/{design}` from source database `{source.url}`: {{error,<<"{word}">>}}'
        raise failed("not_found", why, status=404)
    filters = value.get("filters")
    text = filters.get(name) if isinstance(filters, dict) else None
    if not isinstance(text, str):
        key = name if isinstance(filters, dict) else "filters"
        why = f"Couldn't parse filter code from document {design} on `{source.url}`  Error:"
        raise failed("not_found", f'{why} {{not_found,<<"missing json key: {key}">>}}', status=404)
    return text
