"""Streams that call a function with all of their content when they end."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator


def observed(
    stream: Iterable[bytes] | AsyncIterable[bytes], judge: Callable[[bytes], None]
) -> Iterable[bytes] | AsyncIterable[bytes]:
    """Return a stream that passes on its chunks, and calls ``judge`` with all of them at its end."""
    return _ObservedAsync(stream, judge) if isinstance(stream, AsyncIterable) else _Observed(stream, judge)


class _Observed:
    def __init__(self, stream: Iterable[bytes], judge: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._judge = judge
        self._seen: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._seen.append(chunk)
            yield chunk
        self.close()

    def close(self) -> None:
        """Close the stream. Closing twice is safe."""
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()
        seen, self._seen = b"".join(self._seen), []
        if seen:
            self._judge(seen)


class _ObservedAsync:
    def __init__(self, stream: AsyncIterable[bytes], judge: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._judge = judge
        self._seen: list[bytes] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._seen.append(chunk)
            yield chunk
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream. Closing twice is safe."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
        seen, self._seen = b"".join(self._seen), []
        if seen:
            self._judge(seen)
