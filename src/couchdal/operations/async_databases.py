"""Calls for a database and its server.

Generated from ``databases.py`` by ``tools/make_async_operations.py``: edit that module instead.

A parameter that is ``None`` is not sent. CouchDB's documentation says what each one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from couchdal.operations.operation import AsyncOperations, Operation, as_list, query

if TYPE_CHECKING:
    from couchdal.types import DatabaseInfo, Ok, PurgeResult, Security, SessionInfo, Uuids


class AsyncDatabaseOperations(AsyncOperations):
    """Creates, describes and configures databases, and asks the server."""

    async def info(self) -> DatabaseInfo:
        """Return information about the database. Raise ``NotFound`` if it does not exist.

        >>> (await db.info())["doc_count"]
        0
        """
        return await self._run(Operation("GET", "/"))

    async def create_database(self, name: str | None = None, *, partitioned: bool | None = None) -> Ok:
        """Create this handle's database, or another one on the server. Raise ``FileExists`` if it exists.

        >>> await db.create_database("archive")
        {'ok': True}
        """
        return await self._run(Operation("PUT", "/" + query(partitioned=partitioned), database=name))

    async def delete_database(self, name: str | None = None) -> Ok:
        """Delete this handle's database, or another one on the server. Raise ``NotFound`` if it does not exist.

        >>> created = await db.create_database("archive")
        >>> await db.delete_database("archive")
        {'ok': True}
        """
        return await self._run(Operation("DELETE", "/", database=name))

    async def get_security(self) -> Security:
        """Return the security object: the database's admins and members.

        >>> (await db.get_security())["members"]
        {'roles': ['_admin']}
        """
        return await self._run(Operation("GET", "/_security"))

    async def put_security(self, security: Security | Mapping[str, object]) -> Ok:
        """Replace the security object.

        >>> await db.put_security({"members": {"names": [], "roles": ["staff"]}})
        {'ok': True}
        """
        return await self._run(Operation("PUT", "/_security", security))

    async def get_revs_limit(self) -> int:
        """Return how many revisions of each document the database remembers.

        >>> await db.get_revs_limit()
        1000
        """
        return await self._run(Operation("GET", "/_revs_limit"))

    async def put_revs_limit(self, limit: int) -> Ok:
        """Set how many revisions of each document the database remembers.

        >>> await db.put_revs_limit(100)
        {'ok': True}
        """
        return await self._run(Operation("PUT", "/_revs_limit", limit))

    async def purge(self, revisions: Mapping[str, Iterable[str]]) -> PurgeResult:
        """Remove leaves without a trace. Unlike a deletion, this is not replicated.

        >>> rev = (await db.put_document("a", {}))["rev"]
        >>> list((await db.purge({"a": [rev]}))["purged"])
        ['a']
        """
        return await self._run(
            Operation("POST", "/_purge", {doc_id: as_list(revs) for doc_id, revs in revisions.items()})
        )

    async def compact(self) -> Ok:
        """Start a compaction: the server frees the space of old revisions.

        >>> await db.compact()
        {'ok': True}
        """
        # CouchDB requires the content type although the request has no body.
        return await self._run(Operation("POST", "/_compact", headers={"content-type": "application/json"}))

    async def all_dbs(self) -> list[str]:
        """Return the names of all databases on the server.

        >>> created = await db.create_database("archive")
        >>> "archive" in await db.all_dbs()
        True
        """
        return await self._run(Operation("GET", "/_all_dbs"))

    async def session(self) -> SessionInfo:
        """Return the session: the user that the server takes the caller for.

        >>> (await db.session())["userCtx"]["roles"]
        ['_admin']
        """
        return await self._run(Operation("GET", "/_session"))

    async def uuids(self, count: int | None = None) -> Uuids:
        """Return ids that the server generated.

        >>> len((await db.uuids(3))["uuids"])
        3
        """
        return await self._run(Operation("GET", "/_uuids" + query(count=count)))
