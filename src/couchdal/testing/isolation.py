"""Isolation of tests: what each test, class, module and session changes on the memory server is undone at its end.

It keeps a snapshot for each scope that is open. It looks at the emulator only where something has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from couchdal.backends.memory import MemoryBackend
    from couchdal.emulator.engine.server.snapshot import Snapshot
    from couchdal.testing.live import LiveDatabases


def default_backend() -> MemoryBackend | None:
    """Return the memory server that ``CouchDAL()`` uses, if there is one yet."""
    memory = sys.modules.get("couchdal.backends.memory")
    return memory.existing_default_backend() if memory is not None else None


class Scope:
    """One scope that is open: a test, or what its fixtures belong to, and the state that its end returns to."""

    def __init__(self, node: pytest.Item | pytest.Collector, snapshot: Snapshot | None) -> None:
        self.node = node
        self.created: set[str] | None = None
        # None is the state of a server that was not there yet.
        self.snapshot = snapshot


class Isolation:
    """The scopes that are open, the widest first."""

    def __init__(self, prepare: Callable[[pytest.Item], None], live: LiveDatabases | None = None) -> None:
        self._scopes: list[Scope] = []
        # What is done when a test begins, before its own fixtures are set up.
        self._prepare = prepare
        self._live = live

    def open(self, node: pytest.Item | pytest.Collector) -> None:
        """Have the end of a node's scope undo what happens from now on, after the finalizers of its fixtures."""
        if any(scope.node is node for scope in self._scopes):
            return
        place = len(self._scopes)
        while place and _lies_within(self._scopes[place - 1].node, node):
            place -= 1
        # Where a narrower scope is open already, the state before it is the state before this one.
        narrower = self._scopes[place].snapshot if place < len(self._scopes) else _snapshot()
        scope = Scope(node, narrower)
        self._scopes.insert(place, scope)
        node.addfinalizer(lambda: self.close(node))
        if self._live is not None:
            scope.created = self._live.begin(place)
        if isinstance(node, pytest.Item):
            self._prepare(node)

    def close(self, node: pytest.Item | pytest.Collector) -> None:
        """Undo what happened since a node's scope was opened."""
        place = next(place for place, scope in enumerate(self._scopes) if scope.node is node)
        ended = self._scopes[place:]
        del self._scopes[place:]
        _restore(ended[0].snapshot)
        for scope in ended:
            if self._live is not None and scope.created is not None:
                self._live.end(scope.created)

    @contextmanager
    def setting_up(self, node: pytest.Item | pytest.Collector) -> Iterator[None]:
        """Keep what a fixture of a wide scope does, although narrower scopes were opened before it."""
        self.open(node)
        narrower = [scope for scope in self._scopes if scope.node is not node and _lies_within(scope.node, node)]
        if not narrower:
            yield
            return
        before = _snapshot()
        yield
        for scope in narrower:
            # Where there was no server before this fixture, all that there is now is the fixture's.
            scope.snapshot = _with_changes_since(before, scope.snapshot) if before is not None else _snapshot()


def _lies_within(inner: pytest.Item | pytest.Collector, outer: pytest.Item | pytest.Collector) -> bool:
    return inner is not outer and outer in inner.listchain()


def _snapshot() -> Snapshot | None:
    backend = default_backend()
    return None if backend is None else backend.snapshot()


def _with_changes_since(before: Snapshot, kept: Snapshot | None) -> Snapshot:
    if kept is None:
        # The server was made within the narrower scope: it was empty before.
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
