"""The databases of a test run on a live CouchDB: finds the private database of a name in the current scope.

Each database belongs to the scope (a test, class, module or session) that created it, and is deleted at its end. A
narrower scope changes the databases of wider ones only after they were copied: at its end the copy takes their place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import RLock

from couchdal.backends.base import BaseBackend
from couchdal.backends.couch_server import CouchServer
from couchdal.errors import BackendError, CouchError
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.urls import quote
from couchdal.testing.copying import Mark, ask, copy_changes, copy_database, mark
from couchdal.testing.names import PREFIX, PrivateNames, has_ended, run_of
from couchdal.testing.system import SYSTEM_DATABASES, Kept, System


class LiveScope:
    """An open scope, and the changes that its end undoes."""

    def __init__(
        self, number: int, known: Collection[str], tokens: Collection[object], *, within: LiveScope | None = None
    ) -> None:
        self.number = number
        #: For a wide fixture that is being set up: the scope that gets its changes.
        self.within: LiveScope | None = within
        #: The databases of narrower scopes that such a fixture changes, each with its earlier state.
        self.late: dict[str, Mark] = {}
        #: Private databases that the scope may have created.
        self.touched: set[str] = set()
        #: The databases that the scope changed, each with the private name that replaces it at the end.
        self.outer: dict[str, str | None] = {}
        #: The databases that were created on first use earlier: default ones, and those of handles with
        #: ``create=True``.
        self.provided: set[str] = set(known)
        self.tokens: set[object] = set(tokens)
        #: The scope's changes to CouchDB's own databases and configuration, by lock.
        self.kept: dict[str, Kept] = {}
        #: The limits that tests gave to CouchDB's own databases, by name. On the server they stay as they are.
        self.limits: dict[str, JSON] = {}
        #: Replications to cancel at its end.
        self.replications: list[dict[str, object]] = []


class LiveDatabases:
    """The databases of this process on a live server.

    ``default`` and the databases of the setting ``dal_databases`` exist, and ``untouched`` are used as they are.
    """

    def __init__(
        self, backend: BaseBackend, *, default: str, existing: Collection[str] = (), untouched: Collection[str] = ()
    ) -> None:
        self.names: PrivateNames = PrivateNames()
        self.default = default
        self.existing: tuple[str, ...] = tuple(existing)
        self.untouched: frozenset[str] = frozenset(untouched)
        self.lock: RLock = RLock()
        # Its requests pass no middleware: no fault hits them, and no log counts them.
        self.backend = backend
        self.system: System = System(backend, self.names)
        self._private: dict[str, str] = {}
        self._owners: dict[str, LiveScope] = {}
        self._provided: set[str] = set()
        self._count = 0
        self._scopes: list[LiveScope] = []
        self._cleaned = False
        self.begin(0)

    @property
    def current(self) -> LiveScope:
        """The scope that new databases belong to."""
        return self._scopes[-1]

    def begin(self, place: int) -> LiveScope:
        """Open a scope. ``place`` is the number of wider scopes."""
        with self.lock:
            self._count += 1
            if place < len(self._scopes):
                inner = self._scopes[place]
                scope = LiveScope(self._count, inner.provided, inner.tokens)
            else:
                scope = LiveScope(self._count, self._provided, CouchServer.provided)
            self._scopes.insert(place, scope)
            return scope

    def end(self, scope: LiveScope) -> None:
        """Close a scope: delete the databases that it created, and restore those that it changed."""
        with self.lock:
            self._scopes.remove(scope)
            for replication in scope.replications:
                with suppress(CouchError, BackendError):
                    ask(self.backend, "POST", "/_replicate", {**replication, "cancel": True})
            self.system.end(scope, self._scopes)
            for name, private in scope.outer.items():
                self._owners.pop(self._private.pop(name, ""), None)
                if private is not None:
                    self._private[name] = private
            for private in sorted(scope.touched):
                self.backend.send(Request("DELETE", f"/{quote(private)}"))
            self._provided = scope.provided
            CouchServer.provided.intersection_update(scope.tokens)

    def stop(self) -> None:
        """Close all scopes and the connections."""
        while self._scopes:
            self.end(self._scopes[-1])
        self.backend.close()

    @contextmanager
    def setting_up(self, scope: LiveScope) -> Iterator[None]:
        """Assign the databases that a fixture creates and changes to its wide scope, even if narrower scopes are open.

        If the fixture raises, undo it.
        """
        with self.lock:
            setup = self.begin(len(self._scopes))
            setup.within = scope
        completed = False
        try:
            yield
            completed = True
        finally:
            if not completed:
                self.end(setup)
        with self.lock:
            self._scopes.remove(setup)
            for name, before in setup.outer.items():
                self._hand_over(name, before, setup, scope)
            scope.touched |= setup.touched
            scope.replications += setup.replications
            scope.limits |= setup.limits
            narrower = self._scopes[self._scopes.index(scope) + 1 :]
            self.system.hand_over(setup, scope, narrower)
            for inner in narrower:
                inner.provided |= self._provided - setup.provided
                inner.tokens |= CouchServer.provided - setup.tokens
                for name in setup.limits:
                    inner.limits.pop(name, None)

    def private(self, name: str, *, writes: bool = False, provide: bool = False) -> str:
        """Return the private name that a database has now.

        ``writes`` says that the request may change it; ``provide`` that it creates the default database on first use.
        """
        with self.lock:
            self._clean()
            scope = self.current
            if name not in self._provided and (name in self.existing or (provide and name == self.default)):
                self._provided.add(name)
                if name not in self._private:
                    self.backend.send(Request("PUT", f"/{quote(self.will_create(name))}"))
                    self.created(name)
            private = self._private.get(name)
            if private is None:
                return self.names.private(name, scope.number)
            if writes and self._owners[private] is not scope:
                self._take(name, private, scope)
            return private

    def skip_default(self, name: str) -> None:
        """Note that a test created or deleted the default database itself, so that first use does not create it."""
        if name == self.default:
            self._provided.add(name)

    def provide_all(self) -> None:
        """Create the databases of the setting."""
        for name in self.existing:
            self.private(name)

    def will_create(self, name: str) -> str:
        """Return the private name of a database that is about to be created. The scope's end deletes it."""
        with self.lock:
            private = self._private.get(name) or self.names.private(name, self.current.number)
            self.current.touched.add(private)
            return private

    def created(self, name: str) -> None:
        """Note that a database was created."""
        with self.lock:
            if name not in self._private:
                scope, private = self.current, self.names.private(name, self.current.number)
                self._private[name] = private
                self._owners[private] = scope
                scope.outer.setdefault(name, None)

    def deleted(self, name: str) -> None:
        """Note that a database was deleted."""
        with self.lock:
            self._owners.pop(self._private.pop(name, ""), None)

    def _take(self, name: str, private: str, scope: LiveScope) -> None:
        """Make a scope the owner of a database. A wider owner keeps a copy."""
        owner = self._owners[private]
        if scope.within is not None and self._is_narrower(owner, scope.within):
            scope.late[name] = mark(self.backend, private)
        self._count += 1
        copy = self.names.private(name, self._count)
        owner.touched.add(copy)
        if not copy_database(self.backend, private, copy):
            return
        owner.touched.discard(private)
        self._owners[copy] = owner
        scope.outer.setdefault(name, copy)
        scope.touched.add(private)
        self._owners[private] = scope

    def _is_narrower(self, one: LiveScope, other: LiveScope) -> bool:
        return self._scopes.index(one) > self._scopes.index(other)

    def _hand_over(self, name: str, before: str | None, setup: LiveScope, scope: LiveScope) -> None:
        """Give a database that a fixture changed to its scope. ``before`` is the copy that its owner kept, if any."""
        private = self._private.get(name)
        owner = self._owners[before] if before is not None else None
        if private is not None:
            self._owners[private] = scope
        if owner is None or before is None:
            scope.outer.setdefault(name, None)
        elif self._is_narrower(owner, scope):
            # Otherwise the end of the owner would undo the fixture's changes.
            if private is not None:
                self._owners[private] = owner
                owner.touched.add(private)
                setup.touched.discard(private)
                self._carry_over(name, private, setup.late[name], owner, scope)
        elif owner is not scope:
            scope.outer.setdefault(name, before)
            return
        if before is not None:
            del self._owners[before]

    def _carry_over(self, name: str, private: str, before: Mark, owner: LiveScope, scope: LiveScope) -> None:
        """Keep, for a wide scope, the changes that its late fixture made to a database of a narrower scope."""
        while self._is_narrower(owner, scope):
            outer = owner.outer.get(name)
            if outer is None:
                self._count += 1
                outer = owner.outer[name] = self.names.private(name, self._count)
                scope.touched.add(outer)
                scope.outer.setdefault(name, None)
                self._owners[outer] = scope
                ask(self.backend, "PUT", f"/{quote(outer)}")
            elif self._is_narrower(scope, self._owners[outer]):
                self._take(name, outer, scope)
            copy_changes(self.backend, private, before, outer)
            owner = self._owners[outer]

    def present(self) -> dict[str, str]:
        """Return the private names of the databases that tests have created, by the names that tests use."""
        return dict(self._private)

    def exists(self, name: str) -> bool:
        """Return whether a database exists for the current test, even if only its first use creates it."""
        return name in self._private or (name in self.existing and name not in self._provided)

    def is_visible(self, private: str) -> bool:
        """Return whether tests may see a database: one that an open scope may have created, or a shared one."""
        return (
            private in SYSTEM_DATABASES
            or private in self.untouched
            or any(private in scope.touched for scope in self._scopes)
        )

    def limit(self, name: str) -> JSON:
        """Return the ``_revs_limit`` that tests gave to one of CouchDB's own databases, or ``None``."""
        with self.lock:
            return next((scope.limits[name] for scope in reversed(self._scopes) if name in scope.limits), None)

    def keeps(self, path: str) -> bool:
        """Return whether an open scope has changed a document of one of CouchDB's own databases."""
        return any(kept.path == path for scope in self._scopes for kept in scope.kept.values())

    def _clean(self) -> None:
        """Remove the leftovers of killed runs, before the first request of this run."""
        if self._cleaned:
            return
        self._cleaned = True
        with suppress(CouchError, BackendError):
            names = self._left_over()
            self.system.restore_ended(names)
            ended = {run for run in map(run_of, names) if run is not None and has_ended(run)}
            if not ended:
                return
            # A replication would create its target anew.
            self.system.cancel_replications(ended)
            for name in self._left_over():
                if run_of(name) in ended:
                    self.backend.send(Request("DELETE", f"/{quote(name)}"))

    def _left_over(self) -> list[str]:
        """Return the private databases of all runs."""
        listed = ask(self.backend, "GET", "/_all_dbs", query=f"start_key=%22{PREFIX}%22&end_key=%22{PREFIX}~%22")
        return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
