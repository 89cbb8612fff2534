"""The tables of a data file, and the changes from one version of its format to the next.

A document's key is the number of its database, followed by its update sequence in 40 bits. So the rows of ``docs`` are
in the order of changes. Ids are UTF-8, so that they sort as in CouchDB. A checksum covers the id and the data of a row.
"""

from __future__ import annotations

#: Marks SQLite files that couchdal made: "couc".
APPLICATION_ID = 0x636F7563
#: The version of the format. A file of a later version is refused; an earlier one is changed by ``MIGRATIONS``.
FORMAT = 4
SEQ_BITS = 40
#: A block's key is the number of its index, followed by its own number in so many bits.
BLOCK_BITS = 32
#: The number of update sequences in a block, for each level, as a power of two.
SEQ_BLOCK_BITS = (6, 13)
#: The least number of ids in a block that was split, for each level.
ID_BLOCKS = [512, 16_384]

_COUNTS = (
    # How many rows of ``docs`` lie in each block: the keys without the bits of the level.
    """CREATE TABLE seq_counts (
        level INTEGER NOT NULL, block INTEGER NOT NULL, n INTEGER NOT NULL,
        PRIMARY KEY (level, block)) WITHOUT ROWID""",
    # How many live documents, and how many rows of ``ids``, lie in the block of ids that begins with ``first``.
    """CREATE TABLE id_counts (
        db INTEGER NOT NULL, level INTEGER NOT NULL, first BLOB NOT NULL, live INTEGER NOT NULL,
        entries INTEGER NOT NULL, PRIMARY KEY (db, level, first)) WITHOUT ROWID""",
)

_LEFTOVERS = (
    # Rows that are no longer needed, and are removed in steps: the attachments at an address, or with an empty address
    # all rows of a database.
    """CREATE TABLE leftovers (
        db INTEGER NOT NULL, id BLOB NOT NULL, address TEXT NOT NULL,
        PRIMARY KEY (db, id, address)) WITHOUT ROWID""",
)

_INDEXES = (
    # ``state`` says how far the index has come, and which of its blocks are the roots. Database 0 has indexes that
    # nobody needs any more.
    """CREATE TABLE indexes (
        idx INTEGER PRIMARY KEY AUTOINCREMENT, db INTEGER NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
        UNIQUE (db, name))""",
    "CREATE TABLE index_blocks (key INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER NOT NULL)",
)

TABLES = (
    # One row for each value of the server: its name, and the value as JSON.
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE databases (
        db INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, settings TEXT NOT NULL,
        update_seq INTEGER NOT NULL, doc_count INTEGER NOT NULL, doc_del_count INTEGER NOT NULL,
        design_version INTEGER NOT NULL, purge_seq INTEGER NOT NULL,
        external INTEGER, trees INTEGER, old INTEGER, checksum INTEGER)""",
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
    *_COUNTS,
    *_LEFTOVERS,
    *_INDEXES,
)
#: The tables whose rows belong to a database.
OF_DATABASES = ("ids", "id_counts", "bodies", "attachments", "locals", "purges")

#: The statements that change a file of each earlier version into the next one.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    # Format 2 has counts, and the sizes of databases. The sizes of older databases are unknown.
    1: (
        *(f"ALTER TABLE databases ADD COLUMN {name} INTEGER" for name in ("external", "trees", "old")),
        *_COUNTS,
        *(
            f"INSERT INTO seq_counts SELECT {level}, key >> {bits}, count(*) FROM ids GROUP BY key >> {bits}"
            for level, bits in enumerate(SEQ_BLOCK_BITS)
        ),
        *(
            f"""INSERT INTO id_counts
                SELECT db, {level}, CASE n WHEN 0 THEN x'' ELSE min(id) END, sum(live), count(*) FROM (
                    SELECT db, id, live, (row_number() OVER (PARTITION BY db ORDER BY id) - 1) / {size} AS n FROM ids)
                GROUP BY db, n"""
            for level, size in enumerate(ID_BLOCKS)
        ),
    ),
    # Format 3 has a checksum of counts and sequences, which follows with the next write, and a list of leftovers.
    2: ("ALTER TABLE databases ADD COLUMN checksum INTEGER", *_LEFTOVERS),
    # Format 4 has indexes, and attachments with addresses of their own.
    3: _INDEXES,
}
