"""The rules of ``rewrites`` in a design document: they give a request another path and query.

This module does not know requests or databases. Source: ``chttpd_rewrite``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import quote_plus

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import iolist, pretty_term
from couchdal.errors import NotFound, ServerError, thrown
from couchdal.http.json_text import decode_request, encode_json
from couchdal.pace import paced

Bindings: TypeAlias = "list[tuple[str, object]]"

_JSON = frozenset(("key", "startkey", "start_key", "endkey", "end_key", "keys"))
# CouchDB refuses rules with more steps up (``..``) than these: they would lead out of the database.
_MOST_UP = 2


class _Variable(str):
    """A part of a path that stands for any text, or ``*`` for all that remain."""

    __slots__ = ()


class _Rule(NamedTuple):
    method: object
    source: Sequence[str]
    target: Sequence[str]
    query: Mapping[str, object]
    formats: Mapping[str, object]


def target_of(rules: Sequence[object], method: str, parts: Sequence[str], params: Sequence[tuple[str, str]]) -> str:
    """Return the path and query that the first matching rule gives, relative to the design document.

    Raise ``NotFound`` if no rule matches, and ``CouchError`` if any rule is invalid.
    """
    given: Bindings = [(name, decode_request(_bytes(text)) if name in _JSON else text) for name, text in params]
    for rule in [_rule(one) for one in paced(rules) if isinstance(one, dict)]:
        if rule.method not in ("*", method):
            continue
        matched = _matched(rule.source, parts)
        if matched is None:
            continue
        found, rest = matched
        known = [*reversed(found), *given]
        query = [(name, _filled(value, known, rule.formats)) for name, value in reversed([*rule.query.items()])]
        own = dict(query)
        bindings = [*((name, value) for name, value in known if name not in own), *query]
        path = "/".join(quote_plus(part, errors="surrogateescape") for part in _path(rule.target, bindings, rest))
        encoded = [(key, _encoded(key, value)) for key, value in reversed(bindings) if key != "*"]
        text = "&".join(f"{quote_plus(name, errors='surrogateescape')}={quote_plus(value)}" for name, value in encoded)
        return f"{path}?{text}" if bindings else path
    raise NotFound("missing")


def normalized(prefix: str, path: str) -> str:
    """Return an absolute path without ``.`` and ``..``. A relative one starts at the prefix."""
    relative = _safe(path)
    segments: list[str] = []
    for segment in f"{prefix}/{path if relative is None else relative}".split("/"):
        if segment == ".." and segments and segments[-1] != "..":
            segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)


def _safe(path: str) -> str | None:
    """Return a relative path without ``..``, or None if it is not below its start."""
    if path.startswith("/") or "\\" in path:
        return None
    segments: list[str] = []
    parts = path.split("/")
    for place, part in enumerate(parts):
        if part == "":
            if place < len(parts) - 1:
                return None
        elif part != "..":
            segments.append(part)
        elif segments:
            segments.pop()
        else:
            return None
    return "/".join(segments)


def _rule(rule: Mapping[str, object]) -> _Rule:
    query = _members(rule.get("query"))
    source = _parsed(rule.get("from", "*"))
    if "to" not in rule:
        raise thrown("error", "invalid_rewrite_target")
    return _Rule(rule.get("method", "*"), source, _parsed(rule["to"]), query, _members(rule.get("formats")))


def _members(value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ServerError(pretty_term(value), error="case_clause")
    return value


def _parsed(path: object) -> list[str]:
    try:
        text = iolist(path).decode("utf-8", "replace")
    except ValueError:
        raise ServerError("badarg", error="unknown_error") from None
    parts = [_Variable(part.removeprefix(":")) if part == "*" or part[:1] == ":" else part for part in text.split("/")]
    if parts.count("..") > _MOST_UP:
        raise thrown("insecure_rewrite_rule", "too many ../.. segments")
    return [part for part in parts if part or isinstance(part, _Variable)]


def _matched(source: Sequence[str], parts: Sequence[str]) -> tuple[Bindings, Sequence[str]] | None:
    """Return the values of the variables and the remaining parts, or None if the path differs."""
    found: Bindings = []
    for place, token in enumerate(source):
        if token == "*" and isinstance(token, _Variable) and place == len(source) - 1:
            return found, parts[place:]
        if place >= len(parts):
            return None
        if isinstance(token, _Variable):
            found.append((str(token), parts[place]))
        elif token != parts[place]:
            return None
    return (found, ()) if len(source) == len(parts) else None


def _filled(value: object, known: Bindings, formats: Mapping[str, object]) -> object:
    """Return a value of a rule's query, in which variables are replaced."""
    if isinstance(value, list):
        return [_filled(one, known, formats) if isinstance(one, str) and one[:1] == ":" else one for one in value]
    if not isinstance(value, str) or not (value == "*" or value.startswith(":")):
        return value
    name = value.removeprefix(":")
    return _formatted(formats.get(name), next((found for key, found in known if key == name), value))


def _formatted(kind: object, value: object) -> object:
    if not isinstance(value, str):
        return value
    if kind == "int":
        number = parse_integer(value)
        return value if number is None else number
    if kind == "bool" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _path(target: Sequence[str], bindings: Bindings, rest: Sequence[str]) -> list[str]:
    path: list[str] = []
    for part in target:
        if not isinstance(part, _Variable):
            path.append(part)
        elif part == "*":
            return [*path, *rest]
        else:
            path.append(_text(next((value for name, value in bindings if name == part), "undefined")))
    return path


def _encoded(name: str, value: object) -> bytes:
    return encode_json(value) if name in _JSON else _bytes(_text(value))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return iolist(value).decode("utf-8", "surrogateescape")
    except ValueError:
        # CouchDB crashes at numbers here, even at those that come from its own ``formats``.
        raise ServerError("badarg", error="unknown_error") from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
