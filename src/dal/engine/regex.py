"""Regular expressions as CouchDB runs them: PCRE's, over the bytes of UTF-8, with what Python's own can do of it.

A pattern is compiled once a query. Source: Erlang's ``re``, which CouchDB calls without options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

Search: TypeAlias = Callable[[str], bool]

_POSIX = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "word": r"\w",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}
_POSIX_CLASS = re.compile(r"\[:(\^?)(\w+):\]")
_ESCAPES = {r"\z": r"\Z", r"\Z": r"(?=\n?\Z)", r"\h": r"[ \t]", r"\R": r"(?:\r\n|[\n-\r])", r"\e": r"\x1b"}
_TOKEN = re.compile(r"\\Q(.*?)(?:\\E|\Z)|\\.|\(\?<(?=[A-Za-z_])|\(\?P?'(\w+)'", re.DOTALL)
_INNER_FLAGS = re.compile(r"\(\?([imsx]+)\)")
_UTF8_VERBS = ("(*UTF8)", "(*UTF)")


@lru_cache(maxsize=256)
def compile_regex(pattern: str) -> Search | None:
    """Return a function that searches a text for a pattern; None for a pattern that is ill-formed.

    Without the verb ``(*UTF8)`` a dot is one byte, so that ``^..$`` matches "é".
    """
    verb = next((verb for verb in _UTF8_VERBS if pattern.startswith(verb)), "")
    try:
        translated = _translate(pattern.removeprefix(verb))
        if verb:
            search = re.compile(translated, re.ASCII).search
            return lambda text: search(text) is not None
        search_bytes = re.compile(translated.encode()).search
        return lambda text: search_bytes(text.encode()) is not None
    except (re.error, OverflowError, RecursionError):
        return None


def _translate(pattern: str) -> str:
    """Rewrite what PCRE spells in another way than Python."""
    flags = _INNER_FLAGS.match(pattern)
    head = flags.group() if flags else ""
    body = _TOKEN.sub(_token, pattern[len(head) :])
    # Flags in the middle hold from there on; Python has them only for a group.
    parts = _INNER_FLAGS.split(body)
    text = parts[0]
    for letters, rest in zip(parts[1::2], parts[2::2], strict=True):
        text += f"(?{letters}:{rest})"
    return head + _POSIX_CLASS.sub(_posix_class, text)


def _token(match: re.Match[str]) -> str:
    text = match.group()
    if text.startswith(r"\Q"):
        return re.escape(match.group(1))
    if text == "(?<":
        return "(?P<"
    if match.group(2):
        return f"(?P<{match.group(2)}>"
    return _ESCAPES.get(text, text)


def _posix_class(match: re.Match[str]) -> str:
    members = _POSIX.get(match.group(2))
    if members is None or match.group(1):
        raise re.error(f"unknown class {match.group()}")
    return members
