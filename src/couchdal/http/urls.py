"""Percent-encoding: paths and query strings to text and back.

There are two rules of decoding because CouchDB has two. Paths and queries are decoded strictly: a bad ``%zz`` is a 400.
Forms and the Destination header are decoded leniently: a bad ``%zz`` is kept.
This module does not use ``urllib.parse``, because importing that takes as long as importing the engine.
"""

from __future__ import annotations

import re

from couchdal.errors import BadRequest

_ESCAPE = re.compile(b"%([0-9A-Fa-f]{2})")
_RESERVED = re.compile(b"[^A-Za-z0-9._~-]")
_RESERVED_BY_COUCHDB = re.compile(b"[^A-Za-z0-9_.:-]")
# Strings, which Python compiles on first use: few requests need them.
_BAD_PERCENT = r"%(?![0-9A-Fa-f]{2})"
# Characters that a request line cannot carry. A "#" is among them because servers cut a path off there.
_UNSENDABLE = '[^!-"$-~]+'


def quote(segment: str, errors: str = "strict") -> str:
    """Percent-encode a path segment or a part of a query.

    The result is always one segment that names the same thing. With ``errors="surrogateescape"``, bytes that are not
    UTF-8 keep their values.
    """
    if segment.isalnum() and segment.isascii():
        return segment
    if segment in (".", ".."):
        # Clients and gateways resolve these unless they are escaped; CouchDB decodes the escapes to dots.
        return segment.replace(".", "%2E")
    return _RESERVED.sub(_escape, segment.encode("utf-8", errors)).decode("ascii")


def quote_path(path: str) -> str:
    """Percent-encode a decoded path, segment by segment."""
    return "/".join(map(quote, path.split("/")))


def quote_like_couchdb(text: str) -> str:
    """Percent-encode as CouchDB does in its answers: it keeps ``:`` and escapes ``~``.

    Source: ``couch_util:url_encode``.
    """
    if text.isalnum() and text.isascii():
        return text
    return _RESERVED_BY_COUCHDB.sub(_escape, text.encode("utf-8", "surrogateescape")).decode("ascii")


def quote_unsendable(path: str) -> str:
    """Percent-encode only what a request line cannot carry: spaces, control characters, ``#`` and non-ASCII text."""
    # This finds the same characters as the expression, in a third of the time.
    if path.isascii() and path.isprintable() and " " not in path and "#" not in path:
        return path
    return re.sub(_UNSENDABLE, lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), path)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def check_encoding(text: str) -> None:
    """Raise ``BadRequest("invalid_url_encoding")`` for a percent sign without two hex digits."""
    if "%" in text and re.search(_BAD_PERCENT, text):
        raise BadRequest("invalid_url_encoding")


def unquote(text: str) -> str:
    """Decode a path segment or a part of a query; ``+`` is a space.

    Raise ``BadRequest("invalid_url_encoding")``.
    """
    check_encoding(text)
    return unquote_form(text)


def unquote_form(text: str, errors: str = "surrogateescape") -> str:
    """Decode a part of a form as ``unquote`` does, but keep a bad ``%zz``."""
    return _unescape(text.replace("+", " "), errors)


def unquote_userinfo(text: str) -> str:
    """Decode the user or the password in a server's address; ``+`` stays, and so does a bad ``%zz``."""
    return _unescape(text, "replace")


def _unescape(text: str, errors: str) -> str:
    if "%" not in text:
        return text
    data = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", errors)


def split_path(path: str, *, plus_is_space: bool = True) -> list[str]:
    """Return the decoded segments of a raw path, without empty ones, as CouchDB does.

    A setting of CouchDB says whether a plus sign is a space. Raise ``BadRequest("invalid_url_encoding")``.
    """
    segments = path.strip("/").split("/")
    if "" in segments:
        segments = [*filter(None, segments)]
    if not plus_is_space:
        check_encoding(path)
        return [_unescape(segment, "surrogateescape") for segment in segments]
    return list(map(unquote, segments)) if "%" in path or "+" in path else segments


def parse_query(query: str) -> list[tuple[str, str]]:
    """Return the decoded pairs of a query string, in order; ``;`` separates them as ``&`` does.

    Raise ``BadRequest("invalid_url_encoding")``.
    """
    pairs = []
    for part in query.replace(";", "&").split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote(name), unquote(value)))
    return pairs
