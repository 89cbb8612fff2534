"""Test isolation: at the end of each test, class, module and session, the memory server returns to its state before.

There is one snapshot for each open scope. The emulator is used only if the test run has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from couchdal.backends.memory import MemoryBackend
    from couchdal.emulator.engine.server.snapshot import Snapshot
    from couchdal.testing.live import LiveDatabases, LiveScope


def default_backend() -> MemoryBackend | None:
    """Return the memory server of ``CouchDAL()``, or ``None`` if nothing has used it yet."""
    memory = sys.modules.get("couchdal.backends.memory")
    return memory.existing_default_backend() if memory is not None else None


class Scope:
    """An open scope (a test, class, module or session) and the state to restore at its end."""

    def __init__(self, node: pytest.Item | pytest.Collector, snapshot: Snapshot | None) -> None:
        self.node = node
        self.live: LiveScope | None = None
        # ``None`` if the server did not exist yet.
        self.snapshot = snapshot


class _Setup:
    """A fixture of a wide scope while it is set up, and the state to restore if it raises."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.snapshot = snapshot


class Isolation:
    """The open scopes, the widest first."""

    def __init__(
        self,
        prepare: Callable[[pytest.Item], None],
        databases: Sequence[str] = (),
        live: LiveDatabases | None = None,
    ) -> None:
        #: The databases of the live server, if tests use one.
        self.live: LiveDatabases | None = live
        #: Databases that exist on the memory server in every test.
        self.databases: Sequence[str] = databases
        self._scopes: list[Scope] = []
        # The fixtures that are being set up. Each of them requested the next one.
        self._setups: list[_Setup] = []
        # Called when a test begins, before its own fixtures are set up.
        self._prepare = prepare

    def open(self, node: pytest.Item | pytest.Collector) -> None:
        """Open the scope of a node. Its end undoes all later changes, after the finalizers of its fixtures."""
        if any(scope.node is node for scope in self._scopes):
            return
        if self.databases and not self._scopes:
            _create(self.databases)
        place = len(self._scopes)
        while place and _lies_within(self._scopes[place - 1].node, node):
            place -= 1
        # If a narrower scope is open already, the state before it is also the state before this one.
        narrower = self._scopes[place].snapshot if place < len(self._scopes) else _snapshot()
        scope = Scope(node, narrower)
        self._scopes.insert(place, scope)
        node.addfinalizer(lambda: self.close(node))
        if self.live is not None:
            # The widest scope of a live run is the run itself.
            scope.live = self.live.begin(place + 1)
        if isinstance(node, pytest.Item):
            self._prepare(node)

    def close(self, node: pytest.Item | pytest.Collector) -> None:
        """Undo the changes since a node's scope was opened."""
        place = next(place for place, scope in enumerate(self._scopes) if scope.node is node)
        ended = self._scopes[place:]
        del self._scopes[place:]
        _restore(ended[0].snapshot)
        for scope in reversed(ended):
            if self.live is not None and scope.live is not None:
                self.live.end(scope.live)

    @contextmanager
    def setting_up(self, node: pytest.Item | pytest.Collector) -> Iterator[None]:
        """Keep the changes of a fixture of a wide scope, even if narrower scopes were opened before it.

        If the fixture raises, its changes are undone, but not those of fixtures that it requested.
        """
        self.open(node)
        place = next(place for place, scope in enumerate(self._scopes) if scope.node is node)
        live, narrower = self._scopes[place].live, self._scopes[place + 1 :]
        if isinstance(node, pytest.Item):
            # The scope is about to end, so nothing needs to be kept.
            yield
            return
        with nullcontext() if self.live is None or live is None else self.live.setting_up(live):
            setup = _Setup(_snapshot())
            self._setups.append(setup)
            completed = False
            try:
                yield
                completed = True
            finally:
                self._setups.pop()
                if not completed:
                    _restore(setup.snapshot)
            before = setup.snapshot
            others: list[Scope | _Setup] = [*narrower, *self._setups]
            for outer in others:
                # If there was no server before this fixture, everything on it now belongs to the fixture.
                outer.snapshot = _with_changes_since(before, outer.snapshot) if before is not None else _snapshot()


def _lies_within(inner: pytest.Item | pytest.Collector, outer: pytest.Item | pytest.Collector) -> bool:
    return inner is not outer and outer in inner.listchain()


def _create(names: Sequence[str]) -> None:
    """Create databases on the memory server, unless they exist. All snapshots are later, so rollbacks keep them."""
    # Most test runs name no databases.
    from couchdal.backends.memory import default_backend as shared_backend
    from couchdal.http.messages import Request
    from couchdal.http.urls import quote

    for name in names:
        if name not in shared_backend().server.databases:
            shared_backend().send(Request("PUT", f"/{quote(name)}"))


def _snapshot() -> Snapshot | None:
    backend = default_backend()
    return None if backend is None else backend.snapshot()


def _with_changes_since(before: Snapshot, kept: Snapshot | None) -> Snapshot:
    if kept is None:
        # The server was created within the narrower scope, so it was empty before.
        now = _snapshot()
        _restore(None)
        kept = _snapshot()
        _restore(now)
    assert kept is not None
    return kept.with_changes_since(before)


def _restore(snapshot: Snapshot | None) -> None:
    backend = default_backend()
    if snapshot is not None:
        snapshot.restore()
    elif backend is not None:
        backend.reset()
