"""Regular expressions as CouchDB runs them: PCRE over the bytes of UTF-8, searched by the ``regex`` package.

This module does not know selectors. For every pattern, compiling it and searching one text take bounded time. Source:
Erlang's ``re``, which CouchDB calls without options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TypeAlias

from couchdal.emulator.engine.mango.pcre import Pattern, split_verbs
from couchdal.errors import NotSupported
from couchdal.pace import begin_long, waiting

Search: TypeAlias = Callable[[str], bool]

# The limit for one pattern on one text. PCRE gives up after ten million steps, which take 0.2 to 3 seconds.
TIMEOUT_S = 1.0
# Patterns without groups and with at most one repetition. Their worst case is the square of the text's length, so the
# standard library can search texts of moderate length without a timeout. It takes a fifth of the time.
_SIMPLE = re.compile(r"(?:\(\?[is]+\))?\^?[^\\\[\](){}*+?|^$]*(?:\\[dws.])?[*+?]?[^\\\[\](){}*+?|^$]*\$?\Z")
_QUICK_TEXT = 2000
_AT_ONCE_S = 0.005
# Patterns that are longer, or that the package makes longer, take some time to compile.
_LONG = 500
# The most characters of a text times groups of a pattern. This many need about 250 MB.
_MOST_STATE = 4_000_000
# For longer patterns, few compiled ones are cached.
_SHORT = 2000


def compile_regex(pattern: str) -> Search | None:
    """Return a function that searches a text for a pattern, or None if PCRE refuses the pattern.

    Without the verb ``(*UTF8)``, a dot matches one byte, so ``^..$`` matches "é". A search that takes longer than
    ``TIMEOUT_S`` finds nothing. Raise ``NotSupported`` for patterns that the emulator cannot search for.
    """
    return _compile_short(pattern) if len(pattern) <= _SHORT else _compile_long(pattern)


@lru_cache(maxsize=256)
def _compile_short(pattern: str) -> Search | None:
    return _compile(pattern)


@lru_cache(maxsize=2)
def _compile_long(pattern: str) -> Search | None:
    # A query compiles its patterns twice: once to check them, and once to search.
    return _compile(pattern)


def _compile(pattern: str) -> Search | None:
    if len(pattern) > _LONG:
        begin_long()
    try:
        rest, utf = split_verbs(pattern)
        # Without the verb, each character of the translated pattern represents one byte.
        parsed = Pattern(rest if utf else _bytes_as_characters(rest), utf=utf)
    except ValueError:
        return None
    if parsed.cost > _LONG:
        begin_long()
    import regex  # 15 to 30 ms, and few queries need it

    try:
        # The package's own cache has no limit for the size of patterns.
        search = regex.compile(parsed.text, cache_pattern=False).search
    except (regex.error, OverflowError, RecursionError, ValueError):
        raise NotSupported("the emulator does not support this $regex") from None
    is_simple = len(pattern) <= _SHORT and _SIMPLE.match(pattern)
    quick = re.compile(parsed.text).search if is_simple else None
    longest = _MOST_STATE // parsed.repeated_groups if parsed.repeated_groups else None
    return _limited(search, quick, str if utf else _bytes_as_characters, longest)


def _bytes_as_characters(text: str) -> str:
    return text if text.isascii() else text.encode().decode("latin-1")


def _limited(
    search: Callable[..., object],
    quick: Callable[[str], object] | None,
    prepare: Callable[[str], str],
    longest: int | None,
) -> Search:
    def find(value: str) -> bool:
        text = prepare(value)
        if longest is not None and len(text) > longest:
            raise NotSupported(
                f"the emulator searches texts of at most {longest} bytes for a $regex of this many groups"
            )
        if quick is not None and len(text) <= _QUICK_TEXT:
            return quick(text) is not None
        # Most searches end at once. Longer ones let other requests work meanwhile.
        with suppress(TimeoutError):
            return search(text, timeout=_AT_ONCE_S, concurrent=True) is not None
        begin_long()
        try:
            with waiting():
                return search(text, timeout=TIMEOUT_S, concurrent=True) is not None
        except TimeoutError:
            # CouchDB does not report that PCRE reached its limit.
            return False

    return find
