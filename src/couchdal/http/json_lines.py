"""The lines of CouchDB's long answers, which have a row on each. Some clients read them line by line.

Sources: ``couch_mrview_http:view_cb``, ``chttpd_db:changes_callback``, ``mango_httpd:handle_doc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias, cast

from couchdal.http.json_text import encode_in_pieces, encode_json
from couchdal.pace import here, paced

#: Makes the text of an answer from its value.
Layout: TypeAlias = Callable[[object], bytes]
_Members: TypeAlias = "Mapping[str, object]"
# A piece of an answer that is made while it is sent has more bytes or so many rows.
_PIECE, _MOST_ROWS = 65536, 200


def lay_out_rows(value: object) -> bytes:
    """Return the text of a listing or a view: the other members, then a row on each line."""
    return _listed(cast("_Members", value), b"\r\n]}\n")


def lay_out_queries(value: object) -> bytes:
    """Return the text of several listings."""
    listings = cast("Iterable[_Members]", cast("_Members", value)["results"])
    return b'{"results":[\r\n' + b",\r\n".join(map(_listed, listings)) + b"\r\n]}\n"


def lay_out_changes(value: object) -> bytes:
    """Return the text of a feed that was read once: the rows, and then the other members."""
    members = cast("_Members", value)
    rest = encode_json({name: member for name, member in members.items() if name != "results"})
    return b"".join((b'{"results":[\n', _rows(members["results"]), b"\n],\n", rest[1:], b"\n\n"))


def lay_out_documents(value: object) -> bytes:
    """Return the text of a query's answer: the documents, and then each other member on a line."""
    members = cast("_Members", value)
    parts = [b'{"docs":[\r\n', _rows(members["docs"]), b"\r\n]" if members["docs"] else b"]"]
    parts += [
        b",\r\n" + encode_json(name) + b": " + encode_json(member) for name, member in members.items() if name != "docs"
    ]
    return b"".join((*parts, b"}\r\n\n"))


def rows_in_pieces(members: _Members) -> Iterator[bytes]:
    """Yield the text of a listing in pieces, and read its rows meanwhile."""
    yield _head(members)
    yield from in_pieces(cast("Iterable[object]", members["rows"]))
    yield b"\r\n]}\n"


def changes_in_pieces(rows: Iterable[object], end: Callable[[], _Members]) -> Iterator[bytes]:
    """Yield the text of a feed that is read once. ``end`` returns the other members after the last row."""
    yield b'{"results":[\n'
    yield from in_pieces(rows)
    yield b"\n],\n" + encode_json(end())[1:] + b"\n\n"


def in_pieces(rows: Iterable[object]) -> Iterator[bytes]:
    """Yield the text of rows, some at a time."""
    separator, waiting, size = b"", list[bytes](), 0
    for row in rows:
        waiting.append(encode_json(row))
        size += len(waiting[-1])
        if size > _PIECE or len(waiting) >= _MOST_ROWS:
            yield separator + b",\r\n".join(waiting)
            separator, waiting, size = b",\r\n", [], 0
    if waiting:
        yield separator + b",\r\n".join(waiting)


def _listed(members: _Members, end: bytes = b"\r\n]}") -> bytes:
    """Return the text of one listing. CouchDB writes an empty line if it has no rows."""
    # In one step, because a copy of the rows may take much memory.
    return b"".join((_head(members), _rows(members["rows"]), end))


def _head(members: _Members) -> bytes:
    rest = encode_json({name: member for name, member in members.items() if name != "rows"})[:-1]
    return rest + b',"rows":[\r\n' if len(rest) > 1 else b'{"rows":[\r\n'


def _rows(rows: object) -> bytes:
    pace = here.pace
    encode = encode_json if pace is None or not pace.is_large else encode_in_pieces
    return b",\r\n".join([encode(row) for row in paced(cast("Iterable[object]", rows), 8)])
