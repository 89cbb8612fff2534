"""The tables of a data file, and the changes from one version of its format to the next.

A document's key is the number of its database, followed by its update sequence in 40 bits. So the rows of ``docs`` lie
in the order of changes. Ids are UTF-8, so that they sort as in CouchDB. A checksum covers the id and the data of a row.
"""

from __future__ import annotations

#: Marks SQLite files that couchdal made: "couc".
APPLICATION_ID = 0x636F7563
#: The version of the format. A file of a later version is refused; an earlier one is changed by ``MIGRATIONS``.
FORMAT = 1
SEQ_BITS = 40

TABLES = (
    # One row for each value of the server: its name, and the value as JSON.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE databases (
        db INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, settings TEXT NOT NULL,
        update_seq INTEGER NOT NULL, doc_count INTEGER NOT NULL, doc_del_count INTEGER NOT NULL,
        design_version INTEGER NOT NULL, purge_seq INTEGER NOT NULL)""",
    # ``head`` is the revision tree, ``body`` the body of the winner.
    """CREATE TABLE docs (
        key INTEGER PRIMARY KEY, id BLOB NOT NULL, head BLOB NOT NULL, body BLOB NOT NULL,
        checksum INTEGER NOT NULL)""",
    """CREATE TABLE ids (
        db INTEGER NOT NULL, id BLOB NOT NULL, key INTEGER NOT NULL, live INTEGER NOT NULL,
        PRIMARY KEY (db, id)) WITHOUT ROWID""",
    # The bodies of the other revisions. ``address`` is the revision.
    """CREATE TABLE bodies (
        db INTEGER NOT NULL, id BLOB NOT NULL, address TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (db, id, address)) WITHOUT ROWID""",
    # Attachments in parts. ``address`` is their digest, length and encoding, so revisions of a document share them.
    """CREATE TABLE attachments (
        db INTEGER NOT NULL, id BLOB NOT NULL, address TEXT NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (db, id, address, part))""",
    """CREATE TABLE locals (
        db INTEGER NOT NULL, id BLOB NOT NULL, revision TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (db, id)) WITHOUT ROWID""",
    """CREATE TABLE purges (
        db INTEGER NOT NULL, purge_seq INTEGER NOT NULL, id BLOB NOT NULL, revisions TEXT NOT NULL,
        PRIMARY KEY (db, purge_seq)) WITHOUT ROWID""",
)
#: The tables whose rows belong to a database.
OF_DATABASES = ("ids", "bodies", "attachments", "locals", "purges")

#: The statements that change a file of each earlier version into the next one.
MIGRATIONS: dict[int, tuple[str, ...]] = {}
