"""The mark ``dal``: its allowed arguments, and the backend that it chooses for a test."""

from __future__ import annotations

import pytest

#: The backends that a test can choose.
CHOICES = ("memory", "couch")


def check_marks(item: pytest.Item) -> None:
    """Raise ``pytest.UsageError`` for a mark ``dal`` with wrong arguments."""
    for mark in item.iter_markers("dal"):
        wrong = sorted(set(mark.kwargs) - {"seed", "database", "emulator", "backend"})
        if mark.args or wrong:
            given = ", ".join(wrong) or "positional arguments"
            raise pytest.UsageError(
                f"{item.nodeid}: the mark dal takes seed=, database=, emulator= and backend=, not {given}"
            )
        seed, database = mark.kwargs.get("seed", ()), mark.kwargs.get("database", "")
        names = seed if isinstance(seed, (list, tuple)) else [seed]
        if not all(isinstance(name, str) for name in [*names, database]):
            raise pytest.UsageError(
                f"{item.nodeid}: the mark dal takes names: seed= a file or a list of files, database= a database"
            )
        if not isinstance(mark.kwargs.get("emulator", False), bool):
            raise pytest.UsageError(f"{item.nodeid}: the mark dal takes emulator=True or emulator=False")
        if mark.kwargs.get("backend") not in (None, *CHOICES):
            named = " or ".join(f"backend={name!r}" for name in CHOICES)
            raise pytest.UsageError(f"{item.nodeid}: the mark dal takes {named}, not {mark.kwargs['backend']!r}")
    if needs_emulator(item) and marked_backend(item) == "couch":
        raise pytest.UsageError(f"{item.nodeid}: the mark dal takes emulator=True or backend='couch', not both")


def marked_backend(item: pytest.Item) -> str | None:
    """Return the backend that the nearest mark of a test names; ``None`` if no mark names one."""
    for mark in item.iter_markers("dal"):
        named: str | None = mark.kwargs.get("backend")
        if named is not None:
            return named
    return None


def needs_emulator(item: pytest.Item) -> bool:
    """Return whether a test needs the emulator, by the nearest mark that names a backend or the emulator."""
    for mark in item.iter_markers("dal"):
        if "emulator" in mark.kwargs:
            return bool(mark.kwargs["emulator"])
    return False
