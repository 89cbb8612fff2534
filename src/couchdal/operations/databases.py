"""Calls for a database and its server.

A parameter that is ``None`` is not sent. CouchDB's documentation says what each one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from couchdal.operations.operation import Operation, Operations, as_list, query

if TYPE_CHECKING:
    from couchdal.types import DatabaseInfo, Ok, PurgeResult, Security, SessionInfo, Uuids


class DatabaseOperations(Operations):
    """Creates, describes and configures databases, and asks the server."""

    def info(self) -> DatabaseInfo:
        """Return information about the database. Raise ``NotFound`` if it does not exist.

        >>> db.info()["doc_count"]
        0
        """
        return self._run(Operation("GET", "/"))

    def create_database(self, name: str | None = None, *, partitioned: bool | None = None) -> Ok:
        """Create this handle's database, or another one on the server. Raise ``FileExists`` if it exists.

        >>> db.create_database("archive")
        {'ok': True}
        """
        return self._run(Operation("PUT", "/" + query(partitioned=partitioned), database=name))

    def delete_database(self, name: str | None = None) -> Ok:
        """Delete this handle's database, or another one on the server. Raise ``NotFound`` if it does not exist.

        >>> created = db.create_database("archive")
        >>> db.delete_database("archive")
        {'ok': True}
        """
        return self._run(Operation("DELETE", "/", database=name))

    def get_security(self) -> Security:
        """Return the security object: the database's admins and members.

        >>> db.get_security()["members"]
        {'roles': ['_admin']}
        """
        return self._run(Operation("GET", "/_security"))

    def put_security(self, security: Security | Mapping[str, object]) -> Ok:
        """Replace the security object.

        >>> db.put_security({"members": {"names": [], "roles": ["staff"]}})
        {'ok': True}
        """
        return self._run(Operation("PUT", "/_security", security))

    def get_revs_limit(self) -> int:
        """Return how many revisions of each document the database remembers.

        >>> db.get_revs_limit()
        1000
        """
        return self._run(Operation("GET", "/_revs_limit"))

    def put_revs_limit(self, limit: int) -> Ok:
        """Set how many revisions of each document the database remembers.

        >>> db.put_revs_limit(100)
        {'ok': True}
        """
        return self._run(Operation("PUT", "/_revs_limit", limit))

    def purge(self, revisions: Mapping[str, Iterable[str]]) -> PurgeResult:
        """Remove leaves without a trace. Unlike a deletion, this is not replicated.

        >>> rev = db.put_document("a", {})["rev"]
        >>> list(db.purge({"a": [rev]})["purged"])
        ['a']
        """
        return self._run(Operation("POST", "/_purge", {doc_id: as_list(revs) for doc_id, revs in revisions.items()}))

    def compact(self) -> Ok:
        """Start a compaction: the server frees the space of old revisions.

        >>> db.compact()
        {'ok': True}
        """
        # CouchDB requires the content type although the request has no body.
        return self._run(Operation("POST", "/_compact", headers={"content-type": "application/json"}))

    def all_dbs(self) -> list[str]:
        """Return the names of all databases on the server.

        >>> created = db.create_database("archive")
        >>> "archive" in db.all_dbs()
        True
        """
        return self._run(Operation("GET", "/_all_dbs"))

    def session(self) -> SessionInfo:
        """Return the session: the user that the server takes the caller for.

        >>> db.session()["userCtx"]["roles"]
        ['_admin']
        """
        return self._run(Operation("GET", "/_session"))

    def uuids(self, count: int | None = None) -> Uuids:
        """Return ids that the server generated.

        >>> len(db.uuids(3)["uuids"])
        3
        """
        return self._run(Operation("GET", "/_uuids" + query(count=count)))
