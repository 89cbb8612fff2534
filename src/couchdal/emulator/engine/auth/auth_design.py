"""``_design/_auth``: the design document that CouchDB writes into a new users database. Source: ``chttpd_auth_cache``.

Its function has the rules for user documents. As long as the document is unchanged, ``user_rules`` checks these rules
without running JavaScript. The text of the function is couchdal's own. The document's revision is CouchDB's, so a
replication of users finds nothing to copy.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from couchdal.emulator.engine.documents.document import Document, DocumentRecord
from couchdal.emulator.engine.documents.document_tree import merged_replicas
from couchdal.emulator.engine.indexes.indexes import AUTH_DESIGN, AUTH_REVISION, is_auth_design
from couchdal.errors import Forbidden

if TYPE_CHECKING:
    from couchdal.emulator.engine.server.database import Database

_FUNCTION: Final = """function (user, before, caller, security) {
  function refuse(reason) { throw {forbidden: reason}; }
  const admins = (security && security.admins) || {};
  const isAdmin = caller.roles.includes("_admin") || (admins.names || []).includes(caller.name)
    || caller.roles.some((role) => (admins.roles || []).includes(role));
  if (user._deleted === true) {
    if (caller.roles.includes("_admin") || (before && before.name === caller.name)) return;
    refuse("Only admins may delete other user docs.");
  }
  if (user.type !== "user") refuse("doc.type must be user");
  if (!user.name) refuse("doc.name is required");
  if (!user.roles) refuse("doc.roles must exist");
  if (!isArray(user.roles)) refuse("doc.roles must be an array");
  if (user.roles.some((role) => typeof role !== "string")) refuse("doc.roles can only contain strings");
  if (user._id !== "org.couchdb.user:" + user.name) refuse("Doc ID must be of the form org.couchdb.user:name");
  if (before && before.name !== user.name) refuse("Usernames can not be changed.");
  if (user.password_sha && !user.salt) {
    refuse("Users with password_sha must have a salt.See /_utils/script/couch.js for example code.");
  }
  const scheme = user.password_scheme;
  if (scheme && !["simple", "pbkdf2", "simple+pbkdf2"].includes(scheme)) {
    refuse("Password scheme `" + scheme + "` not supported.");
  }
  if (scheme === "pbkdf2") {
    if (typeof user.iterations !== "number") refuse("iterations must be a number.");
    if (typeof user.derived_key !== "string") refuse("derived_key must be a string.");
  }
  if (!isAdmin && before && caller.name !== user.name) refuse("You may only update your own user document.");
  const roles = [...user.roles].sort(), earlier = before ? [...(before.roles || [])].sort() : [];
  if (!isAdmin && roles.join() !== earlier.join()) {
    refuse(before ? "Only _admin may edit roles" : "Only _admin may set roles");
  }
  if (roles.some((role) => role[0] === "_" && role !== "_metrics")) {
    refuse("No system roles (starting with underscore) in users db.");
  }
  if (user.name[0] === "_") refuse("Username may not start with underscore.");
  if (user.name.indexOf(":") >= 0) refuse("Character `:` is not allowed in usernames.");
}"""


def ensure_auth_design(db: Database) -> None:
    """Write the document into a users database that nobody has written to. The caller holds the server's lock."""
    if db.update_seq or db.writer is not None:
        return
    body: dict[str, object] = {"language": "javascript", "validate_doc_update": _FUNCTION}
    position, rev = AUTH_REVISION
    tree = merged_replicas((), [(Document(AUTH_DESIGN, body, position=position, ids=(rev,)), ())])
    with suppress(Forbidden):  # the database is in a file that is only read
        db.commit([(None, DocumentRecord(AUTH_DESIGN, tree, 1))], 1, (), unload=True)


def has_rules(db: Database) -> bool:
    """Return whether a users database has CouchDB's rules. It has them until somebody changes the document."""
    record = db.get(AUTH_DESIGN)
    return record is None or is_auth_design(record)
