"""The ids of replications. By these ids, two servers with the same uuid find each other's checkpoints.

Source: ``couch_replicator_ids``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import md5
from typing import NamedTuple

from couchdal.emulator.engine.erlang.external_term import binary, encode_term, integer
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm
from couchdal.emulator.engine.mango.selector import InvalidSelector, normalize_selector
from couchdal.emulator.engine.replication.endpoint import Endpoint
from couchdal.emulator.engine.replication.failures import malformed
from couchdal.emulator.engine.replication.replication import Replication, filter_names

VERSION = 4
_BY_UUID = 3
_BY_PORT = 2
_SPACES = re.compile(r"^ *(.*?) *$")


class Place(NamedTuple):
    """The server that replicates: its id and, for versions before 3, the name of its machine and its port."""

    uuid: str
    machine: str
    port: int


def replication_id(
    replication: Replication, place: Place, fetch_filter: Callable[[str, str], str], version: int = VERSION
) -> str:
    """Return the id, without its extension. ``fetch_filter`` returns the text of a filter function of the source."""
    endpoint = _endpoint if version == VERSION else _older_endpoint
    parts = [*_place(place, version), *map(endpoint, replication.sides), *_filter(replication, fetch_filter)]
    if replication.is_set("winning_revs_only"):
        parts.append(binary(b"winning_revs_only"))
    return md5(b"\x83" + _list(parts), usedforsecurity=False).hexdigest()


def _place(place: Place, version: int) -> list[bytes]:
    if version >= _BY_UUID:
        return [binary(place.uuid.encode())]
    return [_text(place.machine), *([integer(place.port)] if version == _BY_PORT else [])]


def _filter(replication: Replication, fetch_filter: Callable[[str, str], str]) -> list[bytes]:
    if replication.doc_ids is not None:
        return [_list([binary(str(doc_id).encode()) for doc_id in replication.doc_ids])]
    selector = normalized(replication)
    if selector is not None:
        return [encode_term(selector)]
    if replication.filter is None:
        return []
    params = encode_term(replication.members("query_params") or {})
    names = None if replication.filter.startswith("_") else filter_names(replication.filter)
    if names is None:
        return [binary(replication.filter.encode()), params]
    return [binary(_SPACES.sub(r"\1", fetch_filter(*names), count=1).encode()), params]


def normalized(replication: Replication) -> object:
    """Return the selector in normal form, with sorted members; None without one. Raise ``ServerError``."""
    selector = replication.members("selector")
    if selector is None:
        return None
    try:
        return _sorted(normalize_selector(selector))
    except InvalidSelector as error:
        term = TupleTerm((Atom("mango_error"), Atom("mango_selector"), TupleTerm(error.term)))
        raise malformed(term, is_thrown=True) from None


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=lambda name: name.encode())}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _endpoint(side: Endpoint) -> bytes:
    port = _atom("default") if side.custom_port is None else integer(side.custom_port)
    place = [_text(side.host), port, _text(side.path)]
    if side.port < 0:
        place[1:] = [_atom("undefined"), _atom("undefined")]
    user = _atom("undefined") if side.user is None else encode_term(list(side.user.encode("latin-1")))
    parts = (_atom("remote"), user, *place, _headers(side), _atom("undefined"))
    return b"h\x07" + b"".join(parts)


def _older_endpoint(side: Endpoint) -> bytes:
    return b"h\x03" + _atom("remote") + _text(side.url) + _headers(side)


def _headers(side: Endpoint) -> bytes:
    return _list([b"h\x02" + _text(name) + _text(value) for name, value in side.custom_headers])


def _atom(name: str) -> bytes:
    return b"d" + len(name).to_bytes(2, "big") + name.encode()


def _text(text: str) -> bytes:
    """Return a text as Erlang's list of bytes."""
    return encode_term(list(text.encode()))


def _list(items: list[bytes]) -> bytes:
    return b"l" + len(items).to_bytes(4, "big") + b"".join(items) + b"j" if items else b"j"
