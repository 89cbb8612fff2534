"""The interface of a server to its background replications. ``replication.scheduler`` implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Replications(ABC):
    """The replications of a server. ``state`` is a value, so that a snapshot can keep it."""

    state: object

    @abstractmethod
    def discard(self) -> None:
        """Release their resources. The object is not used any more."""
