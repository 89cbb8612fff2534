"""Regular expressions as CouchDB runs them: PCRE's, over the bytes of UTF-8, by the ``regex`` package.

It knows nothing of selectors. A pattern is compiled once a query, and a search that takes too long ends in an error:
the standard library's could not be ended. Source: Erlang's ``re``, which CouchDB calls without options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import TypeAlias

from dal.errors import ServerError

Search: TypeAlias = Callable[[str], bool]

# Seconds for one pattern on one text.
TIMEOUT_S = 1.0
# With it, a pattern is matched against characters, and knows the case of all letters.
_UTF8_VERBS = ("(*UTF8)", "(*UTF)")
_TOKEN = re.compile(r"\\Q(.*?)(?:\\E|\Z)|\\x\{([0-9A-Fa-f]+)\}|\\k[<{'](\w+)[>}']|\\.", re.DOTALL)
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
# PCRE refuses patterns that grow too large when their repetitions are written out; so does this, before it tries.
_MAX_REPEATED = 65535
_INNER_FLAGS = re.compile(r"\(\?([imsx]+)\)")
_ASCII_CLASSES = {
    r"\w": "[A-Za-z0-9_]",
    r"\W": "[^A-Za-z0-9_]",
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\s": r"[\t-\r ]",
    r"\S": r"[^\t-\r ]",
}
# In Python ``\Z`` is PCRE's ``\z``.
_ESCAPES = {r"\z": r"\Z", r"\Z": r"(?=\n?\Z)", r"\h": r"[ \t]", r"\R": r"(?:\r\n|[\n-\r])", r"\e": r"\x1b"}


@lru_cache(maxsize=256)
def compile_regex(pattern: str) -> Search | None:
    """Return a function that searches a text for a pattern; None for a pattern that is ill-formed.

    Without the verb ``(*UTF8)`` a dot is one byte, so that ``^..$`` matches "é". The function raises ``ServerError``
    (``regex_timeout``) for a text on which the pattern takes more than ``TIMEOUT_S``.
    """
    import regex  # slow to import, and needed by this one operator

    if prod(max(int(low), int(high or 0), 1) for low, high in _COUNT.findall(pattern)) > _MAX_REPEATED:
        return None
    verb = next((verb for verb in _UTF8_VERBS if pattern.startswith(verb)), "")
    text = _translate(pattern.removeprefix(verb), characters=bool(verb))
    try:
        if verb:
            return _searching(regex.compile(text).search, lambda value: value, pattern)
        return _searching(regex.compile(text.encode()).search, str.encode, pattern)
    except (regex.error, OverflowError, RecursionError, ValueError):
        return None


def _searching(search: Callable[..., object], prepare: Callable[[str], object], pattern: str) -> Search:
    def find(value: str) -> bool:
        try:
            return search(prepare(value), timeout=TIMEOUT_S) is not None
        except TimeoutError:
            reason = f"the pattern {pattern!r} takes longer than {TIMEOUT_S} s on one text"
            raise ServerError(reason, error="regex_timeout") from None

    return find


def _translate(pattern: str, *, characters: bool) -> str:
    """Rewrite what PCRE spells in another way than Python."""

    def token(match: re.Match[str]) -> str:
        text = match.group()
        if text.startswith(r"\Q"):
            return re.escape(match.group(1))
        if match.group(2):
            code = int(match.group(2), 16)
            return re.escape(chr(code)) if characters or code < 128 else f"\\x{code & 0xFF:02x}"
        if match.group(3):
            return f"(?P={match.group(3)})"
        # PCRE knows other letters and digits than ASCII's only where it is told to.
        return _ESCAPES.get(text) or (_ASCII_CLASSES.get(text) if characters else None) or text

    head = _INNER_FLAGS.match(pattern)
    start = head.end() if head else 0
    # Flags in the middle hold from there on; Python has them only for a group.
    parts = _INNER_FLAGS.split(_TOKEN.sub(token, pattern[start:]))
    text = parts[0]
    for letters, rest in zip(parts[1::2], parts[2::2], strict=True):
        text += f"(?{letters}:{rest})"
    return pattern[:start] + text
