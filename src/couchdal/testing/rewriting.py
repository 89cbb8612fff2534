"""Streams whose lines are changed while they are read."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeAlias

#: Returns the replacement of a line. It may raise ``LastLine``.
Rewrite: TypeAlias = Callable[[bytes], bytes]


class LastLine(Exception):
    """Ends a stream after a last text."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text: bytes = text


def rewritten(
    stream: Iterable[bytes] | AsyncIterable[bytes], rewrite: Rewrite
) -> Iterable[bytes] | AsyncIterable[bytes]:
    """Return a stream with its lines rewritten. A line may come in several chunks."""
    return _RewrittenAsync(stream, rewrite) if isinstance(stream, AsyncIterable) else _Rewritten(stream, rewrite)


class _Lines:
    """Joins chunks to lines."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._rest = b""
        self.has_ended = False

    def of(self, chunk: bytes) -> bytes:
        """Return the rewritten lines that a chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return self._rewritten([line + b"\n" for line in lines])

    def end(self) -> bytes:
        """Return the rest, which has no newline."""
        rest, self._rest = self._rest, b""
        return self._rewritten([rest] if rest else [])

    def _rewritten(self, lines: list[bytes]) -> bytes:
        done: list[bytes] = []
        try:
            for line in lines:
                done.append(self._rewrite(line))
        except LastLine as last:
            done.append(last.text)
            self.has_ended = True
        return b"".join(done)


class _Rewritten:
    def __init__(self, stream: Iterable[bytes], rewrite: Rewrite) -> None:
        self._stream = stream
        self._lines = _Lines(rewrite)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if data := self._lines.of(chunk):
                yield data
            if self._lines.has_ended:
                break
        else:
            if rest := self._lines.end():
                yield rest
        self.close()

    def close(self) -> None:
        """Close the stream. Closing twice is safe."""
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class _RewrittenAsync:
    def __init__(self, stream: AsyncIterable[bytes], rewrite: Rewrite) -> None:
        self._stream = stream
        self._lines = _Lines(rewrite)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if data := self._lines.of(chunk):
                yield data
            if self._lines.has_ended:
                break
        else:
            if rest := self._lines.end():
                yield rest
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream. Closing twice is safe."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
