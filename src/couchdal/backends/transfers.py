"""Long bodies behind a web server: attachments that are stored while they arrive, and answers that threads read.

The work is done in short pieces in threads of the server, so that slow clients hold nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from couchdal.emulator.dispatch import Endpoint, prepare
from couchdal.emulator.endpoints.attachments import begin_upload, write, write_uploaded
from couchdal.emulator.engine.documents.upload import Upload
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.http.answering import refuse
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import Request, Response

_T = TypeVar("_T")

# How many bytes of a body go to a thread at once.
_STEP = 1 << 20


class InThread(Protocol):
    """Runs work in a thread of the server."""

    def __call__(self, work: Callable[[], _T]) -> Awaitable[_T]: ...


async def answer_upload(
    server: Server,
    request: Request,
    in_thread: InThread,
    answer: Callable[[Request, Endpoint | None], Awaitable[Response]],
) -> Response:
    """Answer a request whose body is a stream.

    ``answer`` gets the request without the stream, and the endpoint that writes an attachment which was stored.
    """
    assert request.stream is not None
    upload: Upload | None = None
    try:
        upload = await in_thread(partial(_begin, server, request))
        if upload is None:
            return await answer(request.with_body(body=b"".join([data async for data in request.stream])), None)
        waiting = bytearray()
        async for data in request.stream:
            waiting += data
            if len(waiting) >= _STEP:
                await in_thread(partial(upload.add, bytes(waiting)))
                waiting.clear()
        await in_thread(partial(upload.add, bytes(waiting)))
        return await answer(request.with_body(), partial(write_uploaded, upload=upload))
    except CouchError as error:
        server.journal.counts[request.method, error.status] += 1
        return refuse(server.settings, request, error)
    finally:
        if upload is not None:
            await in_thread(partial(_end, upload))


def _begin(server: Server, request: Request) -> Upload | None:
    with server.exclusively():
        endpoint, call = prepare(server, request)
        keeper = server.journal.keeper
        return begin_upload(call, keeper) if endpoint is write and keeper is not None else None


def _end(upload: Upload) -> None:
    with suppress(BackendError, CouchError):
        upload.end()


async def read_in_threads(response: Response, in_thread: InThread) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of a blocking stream, each read in a thread."""
    chunks = iter(response.chunks())
    try:
        while True:
            reading = asyncio.ensure_future(in_thread(partial(next, chunks, None)))
            try:
                chunk = await asyncio.shield(reading)
            except asyncio.CancelledError:
                # A stream cannot be closed while a thread reads it.
                await asyncio.wait((reading,))
                raise
            if chunk is None:
                return
            yield chunk
    finally:
        response.close()
