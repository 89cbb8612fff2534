"""CouchDB's own databases and configuration, which a live server has only once: saves old values and restores them.

Each document, setting and configuration key is read before its first change and written back at the end of the scope
that changed it. Until then a small database on the server, the lock, holds the old value. Other runs that want to
change the same value wait meanwhile. If this run is killed, the next one restores the value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple, Protocol

from couchdal.backends.base import BaseBackend
from couchdal.errors import BackendError, CouchError
from couchdal.http.json_text import JSON
from couchdal.http.urls import quote, unquote
from couchdal.testing.copying import ask, member, objects, write_leaves, write_local
from couchdal.testing.names import PREFIX, PrivateNames, has_ended

#: Databases that CouchDB uses itself. Tests share them with everybody.
SYSTEM_DATABASES = ("_users", "_replicator", "_global_changes")
_KEPT = PREFIX + "kept-"
_OWNER = "/owner"
# How long to wait until another run restores a value, and for a run that was killed before it named itself in its lock.
_WAIT_S = 60.0
_POLL_S = 0.05
# How long another run may claim a lock to examine it.
_CLAIMED_S = 5.0
# The kind of a claim: its run has changed nothing.
_NOTHING = "nothing"
_HASHED_S = 10.0
# How long CouchDB may take to notice a deleted replication.
_NOTICED_S = 5.0
# CouchDB lists 25 jobs if nobody names a number.
_MOST_JOBS = 100_000


class Kept(NamedTuple):
    """A value that tests changed, as it was before.

    ``kind`` is ``document``, ``local``, ``setting``, ``config`` or ``database``. The server is asked for ``path``.
    """

    kind: str
    path: str
    value: JSON

    @property
    def lock(self) -> str:
        """The database that holds the old value meanwhile."""
        return lock_of(self.kind, self.path)


def lock_of(kind: str, path: str) -> str:
    return _KEPT + sha256(f"{kind} {path}".encode()).hexdigest()[:32]


class Keeping(Protocol):
    """The part of a scope that this module uses."""

    kept: dict[str, Kept]


class System:
    """Reads old values before they change, and restores them."""

    def __init__(self, backend: BaseBackend, names: PrivateNames) -> None:
        self._backend = backend
        self._run = names.prefix
        self._held: set[str] = set()
        self._user: JSON = None

    def keep(self, scope: Keeping, kind: str, paths: Iterable[str]) -> None:
        """Read the values that a test is about to change, unless the scope has them already.

        Raise ``BackendError`` if another test run does not stop changing the same values.
        """
        for path in paths:
            lock = lock_of(kind, path)
            if lock in scope.kept:
                continue
            kept = (
                Kept(kind, path, _read(self._backend, kind, path)) if lock in self._held else self._held_by(kind, path)
            )
            scope.kept[lock] = kept

    def _held_by(self, kind: str, path: str) -> Kept:
        """Read a value while its lock is held, and write it into the lock."""
        lock = lock_of(kind, path)
        deadline = time.monotonic() + _WAIT_S
        while True:
            self._acquire(lock, path, deadline)
            kept = Kept(kind, path, _read(self._backend, kind, path))
            if self._own(lock, kept):
                self._held.add(lock)
                return kept

    def _own(self, lock: str, kept: Kept) -> bool:
        """Write the owner and the value to restore into a lock. Return ``False`` if another run has the lock by now."""
        deadline = time.monotonic() + _CLAIMED_S
        while True:
            try:
                ask(self._backend, "PUT", f"/{lock}{_OWNER}", self._owner(kept))
            except CouchError as error:
                if error.status not in (404, 409):
                    raise
                # 404: another run has removed the lock, because it had no owner for too long. 409: a run examines it.
                if error.status == 404 or time.monotonic() > deadline:
                    return False
                time.sleep(_POLL_S)
            else:
                return True

    def _owner(self, kept: Kept) -> dict[str, JSON]:
        return {"run": self._run, "kind": kept.kind, "path": kept.path, "value": kept.value}

    def user(self) -> JSON:
        """Return the name of the account that the test run uses."""
        if self._user is None:
            self._user = member(member(ask(self._backend, "GET", "/_session"), "userCtx"), "name")
        return self._user

    def end(self, scope: Keeping, outer: Iterable[Keeping]) -> None:
        """Restore the values that a scope changed. ``outer`` are the scopes that stay open."""
        still_held = {lock for other in outer for lock in other.kept}
        for lock, kept in reversed(scope.kept.items()):
            _put_back(self._backend, kept)
            if lock not in still_held:
                ask(self._backend, "DELETE", f"/{lock}")
                self._held.discard(lock)
        scope.kept.clear()

    def hand_over(self, setup: Keeping, scope: Keeping, narrower: Sequence[Keeping]) -> None:
        """Leave to a scope what its fixture changed. ``narrower`` scopes may have changed the same before."""
        for lock, kept in setup.kept.items():
            before = [inner for inner in narrower if lock in inner.kept]
            scope.kept.setdefault(lock, before[0].kept[lock] if before else kept)
            now = _read(self._backend, kept.kind, kept.path) if before else None
            for inner in before:
                # Their ends leave what the fixture wrote.
                inner.kept[lock] = kept._replace(value=now)

    def cancel_replications(self, runs: Collection[str]) -> None:
        """Cancel the replications that killed runs asked for and did not write into a database."""
        for job in _jobs(self._backend):
            text = json.dumps(job)
            if job.get("doc_id") is None and any(run in text for run in runs):
                with suppress(CouchError):
                    ask(self._backend, "POST", "/_replicate", {"replication_id": job["id"], "cancel": True})

    def restore_ended(self, names: Iterable[str]) -> None:
        """Restore the values that killed runs changed. ``names`` are databases of the server."""
        for name in names:
            if name.startswith(_KEPT):
                self._release_ended(name)

    def _acquire(self, lock: str, path: str, deadline: float) -> None:
        while True:
            try:
                ask(self._backend, "PUT", f"/{lock}")
                return
            except CouchError as error:
                if error.status != 412:
                    raise
            if self._release_ended(lock):
                continue
            if time.monotonic() > deadline:
                raise BackendError(
                    f"another test run is changing {unquote(path)}, and has not restored it for {_WAIT_S:g} s; let one"
                    " worker run the tests that change it (xdist_group), or change it in tests, not in wider fixtures",
                    self._backend.name,
                )
            time.sleep(_POLL_S)

    def _release_ended(self, lock: str) -> bool:
        """Restore an old value that a killed run left. Return whether there was one."""
        try:
            owner = ask(self._backend, "GET", f"/{lock}{_OWNER}")
        except CouchError:
            return self._remove_nameless(lock)
        if not isinstance(owner, dict) or not has_ended(str(owner["run"])):
            return False
        try:
            # If several runs find the ended one, only one restores the value: the others get 409, or 404.
            ask(self._backend, "PUT", f"/{lock}{_OWNER}", {**owner, "run": self._run})
        except CouchError:
            return False
        kept = Kept(str(member(owner, "kind")), str(member(owner, "path")), member(owner, "value"))
        if kept.kind != _NOTHING:
            _put_back(self._backend, kept)
        ask(self._backend, "DELETE", f"/{lock}")
        return True

    def _remove_nameless(self, lock: str) -> bool:
        """Remove a lock whose run was killed before it named itself in it. Return whether this was one."""
        created = self._created(lock)
        if created is None or time.time() - created <= _WAIT_S:
            # The run may be about to name itself.
            return False
        try:
            # If several runs find it, only one claims it: the others get 409, or 404.
            claim = ask(self._backend, "PUT", f"/{lock}{_OWNER}", self._owner(Kept(_NOTHING, "", [])))
        except CouchError:
            return False
        if self._created(lock) != created:
            # This is another lock: a second run removed the old one, and a third run has created this one.
            with suppress(CouchError):
                ask(self._backend, "DELETE", f"/{lock}{_OWNER}", query=f"rev={member(claim, 'rev')}")
            return False
        ask(self._backend, "DELETE", f"/{lock}")
        return True

    def _created(self, lock: str) -> int | None:
        """Return when a lock was created, in seconds; ``None`` if it does not exist."""
        try:
            return int(str(member(ask(self._backend, "GET", f"/{lock}"), "instance_start_time")))
        except CouchError:
            return None


def _read(backend: BaseBackend, kind: str, path: str) -> JSON:
    """Return a value: the leaves of a document, a list with a local document, a setting, or a list with a key."""
    try:
        if kind == "document":
            found = ask(backend, "GET", path, query="open_revs=all&revs=true&attachments=true")
            return [leaf["ok"] for leaf in objects(found) if "ok" in leaf]
        value = ask(backend, "GET", path)
    except CouchError as error:
        if error.status == 404:
            return []
        raise
    return value if kind == "setting" else [value]


def _put_back(backend: BaseBackend, kept: Kept) -> None:
    now = _read(backend, kept.kind, kept.path)
    if "/_config/admins/" in kept.path:
        deadline = time.monotonic() + _HASHED_S
        # CouchDB writes the hash of a password a while after the password, even if that was deleted meanwhile.
        while _is_plain_password(now) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            now = _read(backend, kept.kind, kept.path)
    if now == kept.value:
        return
    if kept.kind == "document":
        _put_back_document(backend, kept)
    elif kept.kind == "local":
        _put_back_local(backend, kept, now)
    elif kept.kind == "database":
        if not kept.value:
            ask(backend, "DELETE", kept.path)
    elif kept.kind == "config":
        values = kept.value if isinstance(kept.value, list) else []
        # An administrator's value is a hash already.
        raw = "raw=true" if "/_config/admins/" in kept.path else ""
        if values:
            ask(backend, "PUT", kept.path, values[0], raw)
        else:
            ask(backend, "DELETE", kept.path)
    else:
        ask(backend, "PUT", kept.path, kept.value)


def _is_plain_password(value: JSON) -> bool:
    return isinstance(value, list) and any(not str(password).startswith("-") for password in value)


def _put_back_document(backend: BaseBackend, kept: Kept) -> None:
    database = kept.path.split("/")[1]
    known = {str(leaf["_rev"]) for leaf in objects(kept.value)}
    leaves = objects(_read(backend, "document", kept.path))
    if database.endswith("_replicator"):
        # Only a deletion ends a replication. A purge does not.
        for leaf in leaves:
            if str(leaf["_rev"]) not in known and leaf.get("_deleted") is not True:
                with suppress(CouchError):
                    ask(backend, "DELETE", kept.path, query=f"rev={leaf['_rev']}")
                    _wait_for_end(backend, database, str(leaf["_id"]))
        leaves = objects(_read(backend, "document", kept.path))
    added = [leaf for leaf in leaves if str(leaf["_rev"]) not in known]
    if added:
        doc_id = str(added[0]["_id"])
        ask(backend, "POST", f"/{database}/_purge", {doc_id: [str(leaf["_rev"]) for leaf in added]})
    write_leaves(backend, database, objects(kept.value))


def _wait_for_end(backend: BaseBackend, database: str, doc_id: str) -> None:
    """Wait until CouchDB has noticed that a replication's document was deleted."""
    deadline = time.monotonic() + _NOTICED_S
    # It reads its documents from the changes feed, where a purged one is missing.
    while any((job["database"], job["doc_id"]) == (database, doc_id) for job in _jobs(backend)):
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)


def _jobs(backend: BaseBackend) -> list[dict[str, JSON]]:
    return objects(member(ask(backend, "GET", "/_scheduler/jobs", query=f"limit={_MOST_JOBS}"), "jobs"))


def _put_back_local(backend: BaseBackend, kept: Kept, now: JSON) -> None:
    if kept.value:
        write_local(backend, kept.path.split("/")[1], objects(kept.value))
        return
    for document in objects(now):
        ask(backend, "DELETE", kept.path, query=f"rev={quote(str(document['_rev']))}")
