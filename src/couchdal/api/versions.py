"""The versions of CouchDB that the emulator can answer as, and one table of their differences.

The emulator answers as the last patch release of a version does. Each ``Switch`` names its proof: a folder of
recordings in ``tests/parity``, or the release notes of CouchDB, by the number of the change.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: The versions, oldest first, and the patch releases whose answers were recorded.
RELEASES: Final = {"3.3": "3.3.3", "3.4": "3.4.3", "3.5": "3.5.0"}
_FORM = re.compile(r"(3\.[0-9]+)(?:\.[0-9]+)?\Z")


class Switch(NamedTuple):
    """A behaviour that differs between versions. ``since`` is the first version that has it."""

    since: str
    summary: str
    proof: str


class Version(NamedTuple):
    """A version of CouchDB: its ``series``, such as ``3.4``, and the ``number`` that it answers, such as ``3.4.3``."""

    series: str
    number: str

    def has(self, switch: Switch) -> bool:
        """Return whether this version has a behaviour."""
        # As long as minor versions have one digit, their texts sort as they do.
        return switch.since <= self.series

    def __str__(self) -> str:
        return self.series


def parse_version(text: str) -> Version:
    """Return the version that a text names: ``3.4``, or a patch release such as ``3.4.2``, which answers as ``3.4``.

    Raise ``ValueError`` for any other text.

    >>> parse_version("3.4").number, parse_version("3.4.2").number
    ('3.4.3', '3.4.2')
    """
    found = _FORM.match(text.strip())
    if found is None or found[1] not in RELEASES:
        raise ValueError(f"must be one of: {', '.join(RELEASES)}")
    return Version(found[1], RELEASES[text.strip()] if text.strip() in RELEASES else text.strip())


#: The version that the emulator answers as by default.
NEWEST: Final = Version("3.5", RELEASES["3.5"])

RANKED_REDUCES: Final = Switch(
    "3.5", "the reduce functions `_top_N`, `_bottom_N`, `_first` and `_last`", "reduces; #5494, #5498"
)
WIDE_LIMITS: Final = Switch(
    "3.5",
    "`query_limit` and `partition_query_limit` may be `infinity`, which is the default (before: 268435456), and also"
    " limit `_all_docs`",
    "listings; #5515",
)
FIND_CHECKS_PARTITION: Final = Switch(
    "3.5", "`_find` refuses `partition` in other databases as listings do: `query_parse_error`", "find_operators"
)
SIMPLE_PBKDF2: Final = Switch("3.5", "the password scheme `simple+pbkdf2`", "passwords; #5429")
UPGRADED_HASHES: Final = Switch(
    "3.5", "`upgrade_hash_on_auth` is true unless it is configured; version 3.3 does not have it", "#5526"
)
BLOG_FRAMES: Final = Switch("3.5", "pages below `/_utils/` may show the blog of CouchDB in a frame", "#5527")
BEGINS_WITH: Final = Switch("3.4", "Mango's operator `$beginsWith`", "find_operators; #4810")
ALLOW_FALLBACK: Final = Switch("3.4", "`allow_fallback` in the body of `_find` and `_explain`", "find_operators")
EXPLAIN_DETAILS: Final = Switch(
    "3.4", "`_explain` answers `index_candidates`, `selector_hints` and `covering`", "find_operators; #4662"
)
COVERING_INDEXES: Final = Switch(
    "3.4",
    "`total_keys_examined` in `execution_stats`, and indexes that answer a query without reading documents",
    "find_operators; #4512, #4569",
)
TEXT_KEYS: Final = Switch(
    "3.4", "`_all_docs` has no rows for a key that is not a string; before, it ignored the key", "listings; #4524"
)
DESIGN_KEYS: Final = Switch("3.4", "`_design_docs` with `keys` returns design documents only", "listings; #4682")
EXACT_PENDING: Final = Switch(
    "3.4", "`pending` of a descending feed counts the changes that are left; before, it was negative",
    "changes_pending; #4716",
)  # fmt: skip
PURGED_INFOS: Final = Switch("3.4", "`GET /{db}/_purged_infos`", "paths; #4703")
SMOOSH_STATUS: Final = Switch("3.4", "`GET /_node/{node}/_smoosh/status`", "paths; #4766")
CHECKED_COPIES: Final = Switch("3.4", "`COPY` checks the id of the new document", "paths; #5117")
SHA256_PASSWORDS: Final = Switch(
    "3.4",
    "passwords are hashed by PBKDF2 with SHA-256 and 600,000 iterations; before, with SHA-1 and 10",
    "passwords; #4814",
)
LOCKOUT: Final = Switch("3.4", "accounts are locked after wrong passwords", "passwords; #5032")
EXPIRING_TOKENS: Final = Switch("3.4", "JSON web tokens need the claim `exp` unless it is configured", "#5046")

#: What differs between versions, in the order of the documentation.
SWITCHES: Final = (
    *(RANKED_REDUCES, WIDE_LIMITS, FIND_CHECKS_PARTITION, SIMPLE_PBKDF2, UPGRADED_HASHES, BLOG_FRAMES, BEGINS_WITH),
    *(
        ALLOW_FALLBACK,
        EXPLAIN_DETAILS,
        COVERING_INDEXES,
        TEXT_KEYS,
        DESIGN_KEYS,
        EXACT_PENDING,
        PURGED_INFOS,
        SMOOSH_STATUS,
    ),
    *(CHECKED_COPIES, SHA256_PASSWORDS, LOCKOUT, EXPIRING_TOKENS),
)
