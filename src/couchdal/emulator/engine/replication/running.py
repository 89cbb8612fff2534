"""What the scheduler holds of a job while it runs."""

from __future__ import annotations

from contextlib import ExitStack

from couchdal.emulator.engine.replication.replicator import Watch
from couchdal.emulator.engine.replication.run import Run


class Running:
    """A job at work: its run, and what its source looked like when the run had read everything."""

    def __init__(self, run: Run, resources: ExitStack) -> None:
        self.run = run
        self.resources = resources
        self.seen: object = None
        #: Waits for changes of a source on another server.
        self.watch: Watch | None = None

    def close(self) -> None:
        """Release what the job holds."""
        if self.watch is not None:
            self.watch.close()
        self.resources.close()
