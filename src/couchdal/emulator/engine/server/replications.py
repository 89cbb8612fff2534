"""What a server knows of the replications that it runs by itself. ``replication.scheduler`` runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Replications(ABC):
    """The replications of a server. ``state`` is a value, so that a snapshot can keep it."""

    state: object

    @abstractmethod
    def discard(self) -> None:
        """Release what they hold. The object is not used any more."""
