"""Rules for new passwords: the regular expressions of the setting ``password_regexp``, which is an Erlang term.

Source: ``couch_users_db:validate_password``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.errors import BadRequest, Forbidden, ServerError

UNABLE = "Server cannot hash passwords at this time."
_REFUSED = "Password does not conform to requirements."
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([\[\]{},.])|([0-9a-z_A-Z-]+))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "d": "\x7f", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "s": " ", "t": "\t", "v": "\v"}
_MOST_DEEP = 50

# A string, or the items of a list or a tuple. None stands for a term that a rule may not contain.
_Term: TypeAlias = "str | list[_Term] | tuple[_Term, ...] | None"


def check_new_password(password: str, rules: str) -> None:
    """Raise ``BadRequest`` if a rule refuses a password, and ``Forbidden`` if the rules are malformed."""
    if rules in ("", "[]"):
        return
    try:
        terms = _parse(rules)
    except ValueError:
        raise Forbidden(UNABLE) from None
    if not isinstance(terms, list):
        # For Erlang, a string is a list of numbers, and a number is not a rule.
        raise Forbidden(UNABLE)
    for rule in terms:
        pattern, reason = _rule(rule)
        search = compile_regex(pattern)
        if search is None:
            raise ServerError("badarg", error="unknown_error")
        if not search(password):
            raise BadRequest(reason)


def _rule(term: _Term) -> tuple[str, str]:
    """Return the expression of a rule, and the reason for what it refuses."""
    if isinstance(term, tuple) and len(term) in (1, 2) and isinstance(term[0], str):
        reason = term[1] if len(term) == 2 else None
        return term[0], f"{_REFUSED} {reason}" if isinstance(reason, str) and reason else _REFUSED
    if not isinstance(term, str):
        raise Forbidden(UNABLE)
    return term, _REFUSED


def _parse(text: str) -> _Term:
    """Return an Erlang term of strings, lists and tuples. Raise ``ValueError``."""
    tokens = _tokens(text)
    term = _term(next(tokens, ""), tokens, 0)
    if next(tokens, None) is not None:
        raise ValueError("more than one term")
    return term


def _tokens(text: str) -> Iterator[str]:
    """Yield punctuation marks, words, and strings. A quote precedes each string."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            if not text[place:].strip():
                return
            raise ValueError("not a term")
        place = match.end()
        string, mark, word = match.groups()
        yield mark or word or '"' + _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), string)


def _term(token: str, tokens: Iterator[str], depth: int) -> _Term:
    if depth > _MOST_DEEP:
        raise ValueError("nested too deeply")
    if token.startswith('"'):
        return token[1:]
    if token not in ("[", "{"):
        if token in ("", "]", "}", ",", "."):
            raise ValueError("not a term")
        return None
    items: list[_Term] = []
    end = "]" if token == "[" else "}"
    token = next(tokens, "")
    while token != end:
        items.append(_term(token, tokens, depth + 1))
        token = next(tokens, "")
        if token == ",":
            token = next(tokens, "")
            if token == end:
                raise ValueError("a comma too many")
        elif token != end:
            raise ValueError("a comma is missing")
    return items if end == "]" else tuple(items)
