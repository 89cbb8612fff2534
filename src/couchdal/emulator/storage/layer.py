"""Storage of writes that are made while readers need the storage below unchanged. Later they move into that storage."""

from __future__ import annotations

from itertools import islice

from couchdal.emulator.storage.base import R, Storage
from couchdal.emulator.storage.memory import MemoryStorage
from couchdal.emulator.storage.overlay import OverlayStorage


class Layer(OverlayStorage[R]):
    """An overlay whose differences move into the storage below, a few at a time.

    After each move, the layer and the storage below it hold the same documents as before.
    """

    __slots__ = ()

    def __init__(self, below: Storage[R]) -> None:
        super().__init__(below)
        # Unlike an overlay, keep a storage below that has no changes: it will get those of this layer.
        self.below = below

    def next_moves(self, most: int) -> list[tuple[R | None, R | None]]:
        """Return the next writes to move, in the order of their update sequences."""
        moves: list[tuple[R | None, R | None]] = [
            (self._hidden.get(record.doc_id), record) for record in islice(self._own.changes(), most)
        ]
        if len(moves) < most:
            removed = (record for record in self._hidden.values() if self._own.get(record.doc_id) is None)
            moves += ((record, None) for record in islice(removed, most - len(moves)))
        return moves

    def move(self, moves: list[tuple[R | None, R | None]]) -> None:
        """Move these writes to the storage below."""
        self._move_replaced()
        for old, new in moves:
            self.below.write(old, new)
            if new is not None:
                self._own.write(new, None)
            if old is not None:
                del self._hidden[old.doc_id]
                self._hidden_seqs.remove(old.seq)
                if not old.deleted:
                    self._hidden_ids.remove(old.doc_id)
        self._move_locals()

    def recover_move(self, moves: list[tuple[R | None, R | None]]) -> None:
        """Finish a call of ``move`` that an exception ended at any point. This can itself be repeated."""
        self.below.recover(moves)
        ids = {known.doc_id for old, new in moves if (known := old or new) is not None}
        self._hidden = {doc_id: record for doc_id, record in self._hidden.items() if doc_id not in ids}
        self._own.recover([(new, None) for _, new in moves if new is not None])
        self.recover(())
        self._move_replaced()
        self._move_locals()

    def _move_replaced(self) -> None:
        for record in list(self._replaced.values()):
            known = self.below.get(record.doc_id)
            if known is not None and known.seq == record.seq:
                self.below.replace(record)
        self._replaced = {}

    def _move_locals(self) -> None:
        for doc_id, document in list(self._locals.items()):
            self.below.write_local(doc_id, document)
        self._locals = {}

    def alone(self) -> Storage[R] | None:
        """Return a storage with all documents and nothing below it, if the storage below is empty."""
        below = self.below
        if not isinstance(below, MemoryStorage) or below.records or self._hidden:
            return None
        for doc_id, document in {**dict(below.locals()), **self._locals}.items():
            self._own.write_local(doc_id, document)
        return self._own
