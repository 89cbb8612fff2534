"""The names that CouchDB accepts for databases. Source: ``fabric:create_db``, ``couch_server``."""

from __future__ import annotations

import re

from couchdal.errors import BadRequest, IllegalDatabaseName

# A shard's name ends with its time stamp. CouchDB ignores the suffix ".couch".
_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*(\.[0-9]{10,})?(\.couch)?\Z")
_SYSTEM_NAMES = ("_users", "_replicator", "_global_changes", "_metadata", "_nodes", "_dbs")
_UNPARTITIONED = ("_users", "_replicator")
# A file name may have 255 bytes. The last segment's file name also has a time stamp and an extension.
_MAX_SEGMENT_LENGTH = 255
_MAX_LAST_SEGMENT_LENGTH = 238


def validate_name(name: str) -> None:
    """Raise ``IllegalDatabaseName`` or ``BadRequest`` for a name that CouchDB does not accept."""
    prefix, slash, last = name.rpartition("/")
    if last in _SYSTEM_NAMES and (not slash or _NAME.match(prefix)):
        return
    if not _NAME.match(name):
        raise IllegalDatabaseName(
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters"
            " _, $, (, ), +, -, and / are allowed. Must begin with a letter."
        )
    if len(last) > _MAX_LAST_SEGMENT_LENGTH or any(len(part) > _MAX_SEGMENT_LENGTH for part in prefix.split("/")):
        raise BadRequest(f"At least one path segment of `{name}` is too long.", error="database_name_too_long")


def check_name(name: str, *, partitioned: bool) -> None:
    """Raise ``IllegalDatabaseName`` or ``BadRequest`` if a new database cannot have this name."""
    validate_name(name)
    if partitioned and (name in _SYSTEM_NAMES or name.rpartition("/")[2] in _UNPARTITIONED):
        raise BadRequest("Cannot partition a system database")
