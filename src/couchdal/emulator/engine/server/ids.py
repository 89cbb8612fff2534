"""Ids and secrets of an emulated server, the same for each seed."""

from __future__ import annotations

from hashlib import md5


class Ids:
    """Document ids and secrets of 32 hex digits. The same seed gives the same run of ids.

    Like CouchDB's ids, those of one run share a prefix and rise, so that documents sort in the order of creation.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed: int = seed
        #: The seed of the current run, the number of ids it has given, and the prefix of the next ones. It is one
        #: tuple, so that it changes in one step.
        self.position: tuple[int, int, str]
        self.begin()

    def begin(self, seed: int | None = None) -> None:
        """Begin the run of ids of a seed, or the first run again. Secrets do not change, so logins stay valid."""
        run_seed = self.seed if seed is None else seed
        self.position = run_seed, 0, _beginning(run_seed, 0)

    def next(self) -> str:
        run_seed, count, shared = self.position
        count += 1
        run, number = divmod(count, 1 << 24)
        if number == 0:
            shared = _beginning(run_seed, run)
        self.position = run_seed, count, shared
        return f"{shared}{number:06x}"

    def next_of(self, algorithm: str, now: float, suffix: str) -> str:
        """Return the next id of one of CouchDB's other algorithms. Source: ``couch_uuids``.

        Two of them begin with the time in microseconds, which the number of the id makes unique.
        """
        run_seed, count, shared = self.position
        self.position = run_seed, count + 1, shared
        if algorithm == "random":
            return _digest(run_seed, f"random {count}")
        time = f"{int(now * 1_000_000) + count:014x}"
        return time + (suffix if algorithm == "utc_id" else _digest(run_seed, f"utc {count}")[:18])

    def named(self, purpose: str) -> str:
        """Return the id for one purpose. It is the same at every call."""
        return _digest(self.seed, purpose)


def _beginning(seed: int, run: int) -> str:
    return _digest(seed, f"run {run}")[:26]


def _digest(seed: int, purpose: str) -> str:
    return md5(f"{seed}/{purpose}".encode(), usedforsecurity=False).hexdigest()
