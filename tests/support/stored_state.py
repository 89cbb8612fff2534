"""The data of an emulated server as plain values, to compare two servers."""

from __future__ import annotations

from couchdal.emulator.engine.auth.admins import is_hashed
from couchdal.emulator.engine.documents.attachment import Attachment
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.emulator.engine.server.configured import configuration_of
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server


def state_of(server: Server) -> dict[str, object]:
    """Return everything that a data file keeps of a server."""
    return {
        "databases": {name: _database(database) for name, database in server.databases.items()},
        "admins": {name: value for name, value in server.admins.items() if is_hashed(value)},
        "config": configuration_of(server).saved,
        "generation": server.generation,
        "secret": server.ids.named("secret"),
    }


def _database(database: Database) -> dict[str, object]:
    storage = database.storage
    return {
        **database.settings(),
        **database.numbers()._asdict(),
        "documents": [
            (one.doc_id, one.seq, one.deleted, [_line(leaf) for leaf in one.tree]) for one in storage.changes()
        ],
        "ids": [one.doc_id for one in storage.live()],
        "locals": storage.locals(),
        "purges": database.purges,
    }


def _line(leaf: Node) -> list[object]:
    # The text also tells -0.0 from 0.0, and the order of members.
    return [
        (node.position, node.id, node.deleted, repr(node.body), [_attached(one) for one in node.attachments])
        for node in leaf.path()
    ]


def _attached(one: Attachment) -> tuple[object, ...]:
    return one.name, one.content_type, one.revpos, one.length, one.encoding, one.digest, one.packed, one.data
