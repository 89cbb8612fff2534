"""Replace the hash of a password at login, if new hashes are of another kind. Source: ``couch_password_hasher``.

CouchDB does this a moment after the login.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from couchdal.emulator.engine.auth.users import ID_PREFIX, USERS, hash_password
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_update import update_documents
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import CouchError


def is_outdated(properties: Mapping[str, object], settings: Settings) -> bool:
    """Return whether the hash in a user document differs in kind from the hashes of new passwords."""
    known = tuple(map(properties.get, ("password_scheme", "pbkdf2_prf", "iterations")))
    return settings.password_scheme == "pbkdf2" and known != ("pbkdf2", settings.pbkdf2_prf, settings.iterations)


def upgrade_hash(server: Server, name: str, password: str) -> None:
    """Replace the hash in a user's document. The salt stays, so cookies stay valid."""
    users = server.databases.get(server.settings.authentication_db or USERS)
    record = users.get(ID_PREFIX + name) if users is not None else None
    if users is None or record is None or record.deleted:
        return
    position, rev = record.winner.revision
    body = {**record.body, "password": password, "preserve_salt": True}
    document = Document(record.doc_id, body, position=position, ids=(rev,), attachments=record.winner.attachments)
    # A password that the current rules refuse keeps its old hash.
    with suppress(CouchError):
        hashed = hash_password(document, "", server.settings, server.known_passwords)
        with server.holding():
            # Hashing takes long. Meanwhile somebody may have changed the document, or begun to.
            if users.writer is None and users.get(record.doc_id) is record:
                update_documents(users, [hashed])
