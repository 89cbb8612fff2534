"""Replications of a server: this module opens, runs and closes them.

They run without the server's lock. ``Peers`` sends their requests to this server and to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term
from couchdal.emulator.engine.replication.checkpoint import Log
from couchdal.emulator.engine.replication.endpoint import Endpoint
from couchdal.emulator.engine.replication.failures import Failed, failed
from couchdal.emulator.engine.replication.peer import Peer
from couchdal.emulator.engine.replication.replication import Replication
from couchdal.emulator.engine.replication.replication_id import VERSION, Place, replication_id
from couchdal.emulator.engine.replication.run import Run
from couchdal.emulator.engine.server.configured import configuration_of
from couchdal.emulator.engine.server.server import Server
from couchdal.http.json_text import JSON
from couchdal.http.messages import Response
from couchdal.http.urls import quote


class Watch(Protocol):
    """A request for changes that waits in the background. ``is_over`` says that it has been answered, or failed."""

    is_over: bool

    def close(self) -> None:
        """End the request."""


class Peers(Protocol):
    """Opens databases, on this server or on others. ``machine`` is the name of this server's machine."""

    machine: str

    def open(self, side: Endpoint, *, retries: int, timeout_s: float) -> Peer:
        """Return a database as a replicator sees it."""

    def close(self, peer: Peer) -> None:
        """Release the resources that ``open`` took."""

    def watch(self, send: Callable[[], Response]) -> Watch | None:
        """Send a request that waits for changes, in the background. Return None if nobody works there."""

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


def replicate(server: Server, replication: Replication, peers: Peers) -> Log:
    """Run a replication to its end, and return the members of the answer. Raise ``CouchError``."""
    started = server.clock.now()
    with opened(replication, peers) as (source, target):
        ids = find_ids(replication, place_of(server, peers), source)
        session = server.next_id()
        run = Run(replication, source, target, ids=ids, session=session, now=server.clock.now, started=started)
        run.open()
        for _ in run.steps():
            pass
        run.save()
    return run.result()


def replicator_setting(server: Server, name: str) -> str | None:
    """Return a value of the configuration's section ``replicator``."""
    return server.settings.replicator.get(name)


def replicator_number(server: Server, name: str, default: int) -> int:
    """Return a number of the configuration's section ``replicator``, or the default if it is not a number."""
    number = parse_integer(server.settings.replicator.get(name, ""))
    return default if number is None else number


def place_of(server: Server, peers: Peers) -> Place:
    """Return what the ids of a server's replications contain of it."""
    with server.lock:
        config = configuration_of(server)
        port = parse_integer(config.get("httpd", "port") or "")
        return Place(config.get("couchdb", "uuid") or "", peers.machine, 5984 if port is None else port)


def find_ids(replication: Replication, place: Place, source: Peer) -> list[str]:
    """Return the ids of a replication, the present one first. Raise ``CouchError``."""
    found: list[str] = []

    def fetch(design: str, name: str) -> str:
        # Each version has its own id, but all need only one request.
        if not found:
            found.append(fetch_filter(source, design, name))
        return found[0]

    return [replication_id(replication, place, fetch, version) for version in range(VERSION, 0, -1)]


def fetch_filter(source: Peer, design: str, name: str) -> str:
    """Return the text of a filter function of the source. Raise ``CouchError``."""
    try:
        source.open()
    except Failed as error:
        why = f"Could not open source database `{source.url}`: {pretty_term(error.term)}"
        raise failed("not_found", why, status=404) from None
    value: JSON = None
    try:
        document = source.ask("GET", f"_design/{quote(design)}")
        value = document.value()
        word = value.get("error") if document.status != 200 and isinstance(value, dict) else None
        term: object = TupleTerm((Atom("error"), word))
    except Failed as error:
        word, term = "", error.term
    if word is not None or not isinstance(value, dict):
        place = f"document `_design/{design}` from source database `{source.url}`"
        raise failed("not_found", f"Couldn't open {place}: {pretty_term(term)}", status=404)
    filters = value.get("filters")
    text = filters.get(name) if isinstance(filters, dict) else None
    if isinstance(filters, dict) and name in filters and not isinstance(text, str):
        raise failed("not_found", f"{_no_code(source, design)} badarg", status=404)
    if not isinstance(text, str):
        key = name if isinstance(filters, dict) else "filters"
        raise failed("not_found", f'{_no_code(source, design)} {{not_found,<<"missing json key: {key}">>}}', status=404)
    return text


def _no_code(source: Peer, design: str) -> str:
    return f"Couldn't parse filter code from document {design} on `{source.url}`  Error:"
