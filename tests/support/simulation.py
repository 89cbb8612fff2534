"""A world in one thread: two nodes, a proxy, a second server, their clients, and all that goes wrong.

``simulate(seed)`` runs it and returns what was found. The same seed gives the same bytes at the same times.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from unittest import mock

from simulated_clients import SPOOF, Doc, Follower, HttpClient, Judge, Replicator, Writer
from simulated_network import Address, Fate, Network, Stuck, VirtualLoop, adapt_http_client

import couchdal.backends.served
import couchdal.backends.tasks
import couchdal.backends.threads
import couchdal.proxy.retries
from couchdal import AsyncCouchBackend, AsyncCouchDAL, MemoryBackend
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.errors import BackendError, CouchError
from couchdal.http.messages import Request, Response
from couchdal.proxy.proxy import Proxy
from couchdal.server import framing
from couchdal.server.application import Application
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options

NODES = ("127.2.0.1", "127.2.0.2")
PROXY = "127.3.0.1"
COPY = "127.4.0.1"
WRITERS = 6
# How long a world may need to come to rest after its last fault.
REST_S = 1500.0

Break = Callable[["World"], object]


@dataclass
class Outcome:
    """What one seed did and what was wrong."""

    seed: int
    wrong: list[str]
    requests: int
    faults: Counter[str]
    simulated_s: float
    writes: int
    digest: str
    answers: Counter[int] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


class World:
    """The servers and clients of one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        # The ids of requests are numbered, and belong to the bytes that a seed repeats.
        framing._numbers = count(1)
        self.loop = VirtualLoop()
        self.network = Network(self.loop, Random(self.chance.random()), self._fate)
        self.judge = Judge()
        self.backend = self._emulator()
        self.copy = self._emulator()
        self.quiet = False
        #: Nodes that answer every request with 503.
        self.unavailable: set[str] = set()
        self.applications: list[Application] = []
        #: Replace an attribute until the world ends.
        self.patch: Callable[[object, str, object], object] = setattr
        self.proxy: Proxy | None = None

    def _emulator(self) -> MemoryBackend:
        backend = MemoryBackend(server=Server(clock=Clock(monotonic=self.loop.time, date=self.loop.time)))
        backend.send(Request("PUT", "/db"))
        return backend

    def _fate(self, address: Address) -> Fate:
        """Decide what goes wrong with a new connection."""
        chance = self.network.chance
        if self.quiet:
            return Fate()
        fate = Fate(slowness=chance.choice((1.0, 1.0, 1.0, 10.0, 200.0)))
        if address[0] in NODES and chance.random() < 0.1:
            fate.surplus = SURPLUS
        if chance.random() < 0.6:
            # Early bytes are as likely as all later ones together.
            fate.after = chance.randrange(40) if chance.random() < 0.3 else int(chance.expovariate(1 / 4000))
            fate.upwards = chance.random() < 0.5
            fate.end = chance.choice(("reset", "reset", "eof", "silence"))
            if fate.end == "silence" and address[0] == PROXY and chance.random() < 0.8:
                # A client whose own connection is silent does little until it gives up.
                fate.end = "reset"
        return fate

    def serve(self, **flags: str) -> None:
        """Start all servers. ``flags`` are further options of the proxy."""
        for node in NODES:
            application = Application(self.backend)
            self.patch(application.backend, "send", self._sometimes_unavailable(node, application.backend.send))
            self._serve(node, application)
        self._serve(COPY, Application(self.copy))
        options: Mapping[str, object] = {
            "backend": "couch",
            "upstream": [f"http://{node}:5984" for node in NODES],
            "max_connections": "8",
            **flags,
        }
        application = build_application(read_options(options, {}), lambda _: None)
        assert isinstance(application.backend, Proxy)
        self.proxy = application.backend
        for node in self.proxy.nodes.nodes:
            node.breaker._monotonic = self.loop.time
        self._serve(PROXY, application)

    def _serve(self, host: str, application: Application) -> None:
        self.applications.append(application)
        self.network.serve(host, application)

    def _sometimes_unavailable(
        self, host: str, send: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if host not in self.unavailable:
                return await send(request)
            self.network.faults["node answers 503"] += 1
            return Response(503, {"content-type": "application/json"}, body=b'{"error":"x","reason":"x"}\n')

        return answer

    async def disturb(self) -> None:
        """Kill servers, make them silent or unavailable, and bring them back."""
        chance, network = self.chance, self.network
        while True:
            await asyncio.sleep(chance.expovariate(1 / 12))
            if chance.random() < 0.2:
                self.unavailable = {chance.choice(NODES)}
                await asyncio.sleep(chance.expovariate(1 / 3))
                self.unavailable = set()
                continue
            host = chance.choice((*NODES, *NODES, COPY, PROXY))
            network.faults["server killed" if host != PROXY else "connections of clients broken off"] += 1
            network.reset_all(host)
            if host != PROXY and chance.random() < 0.7:
                network.down[host] = chance.choice(("refused", "silence"))
                await asyncio.sleep(chance.expovariate(1 / 6))
                network.down.pop(host, None)

    def changed_between(self, first: int, last: int) -> list[str]:
        """Return the documents whose last change lies between two update sequences."""
        records = self.backend.server.databases["db"].storage.changes(first, last - 1)
        return [record.doc_id for record in records]

    def handle(self, host: str) -> AsyncCouchDAL:
        return AsyncCouchDAL(AsyncCouchBackend(f"http://{host}:5984", timeout=100.0), database="db")

    async def live(self, seconds: float) -> None:
        """Run all clients while things go wrong, then let everything come to rest, and judge."""
        assert self.proxy is not None
        attending = asyncio.create_task(self.proxy.attend())
        everything: dict[str, Doc] = {}

        def http(name: str, number: int) -> HttpClient:
            chance = Random(self.chance.random()) if name == "w" else None
            return HttpClient(self.network, self.judge, f"127.9.{number}.1", PROXY, chance)

        writers = [
            Writer(f"w{number}", http("w", number), Random(self.chance.random()), everything)
            for number in range(WRITERS)
        ]
        followers = [
            Follower(http("f", 50 + number), feed, self.changed_between)
            for number, feed in enumerate(("continuous", "longpoll"))
        ]
        source, target = self.handle(PROXY), self.handle(COPY)
        replicator = Replicator(source, target, Random(self.chance.random()))
        busy = [asyncio.create_task(one.run()) for one in (*writers, replicator)]
        following = [asyncio.create_task(one.run()) for one in followers]
        disturbing = asyncio.create_task(self.disturb())
        await asyncio.sleep(seconds)
        disturbing.cancel()
        self.quiet = True
        self.network.down.clear()
        self.unavailable = set()
        for writer in writers:
            writer.http.chance = None
        for link in list(self.network.links):
            link.fate = Fate(slowness=link.fate.slowness)
        for task in busy:
            task.cancel()
        for result in await asyncio.gather(*busy, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                self.judge.complain(f"a client ended: {result!r}")
        # Silent connections are found by time limits, and the breakers close again.
        await asyncio.sleep(250.0)
        await self._finish(writers, followers, replicator)
        for task in (*following, attending):
            task.cancel()
        for result in await asyncio.gather(*following, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                self.judge.complain(f"a follower ended: {result!r}")
        for client in (*writers, *followers):
            client.http.close()
        await asyncio.sleep(400.0)
        self._judge_servers()
        await source.close()
        await target.close()
        await self.proxy.aclose()
        await asyncio.sleep(10.0)
        if self.network.links:
            self.judge.complain(f"{len(self.network.links)} connections are still open")

    async def _finish(self, writers: list[Writer], followers: list[Follower], replicator: Replicator) -> None:
        """Check that everything works again, and that everybody sees the same documents."""
        for writer in writers:
            # A connection that fell silent earlier may still look open.
            writer.http.close()
            answer = await writer.http.ask("GET", "/db")
            if answer.status != 200:
                self.judge.complain(f"the proxy still answers {answer.status} after all faults: {answer.body[:200]!r}")
            for doc_id, doc in writer.docs.items():
                writer.judge_read(doc_id, doc, await writer.http.ask("GET", f"/db/{doc_id}"), own=True)
            await writer.put_new()
        # The first request may go over a connection that fell silent earlier and still looks open.
        for again in (True, True, False):
            try:
                await replicator.replicate()
                break
            except (BackendError, CouchError):
                if not again:
                    raise
        await asyncio.sleep(60.0)
        records = list(self.backend.server.databases["db"].storage.changes())
        stored = {record.doc_id: record.winner.rev for record in records}
        for follower in followers:
            if follower.state != stored:
                differing = {
                    doc_id: (follower.state.get(doc_id), stored.get(doc_id))
                    for doc_id in follower.state.keys() | stored.keys()
                    if follower.state.get(doc_id) != stored.get(doc_id)
                }
                self.judge.complain(f"a {follower.feed} feed missed changes: {dict(sorted(differing.items())[:3])}")
        leaves = {record.doc_id: sorted(leaf.rev for leaf in record.tree) for record in records}
        copied = {
            record.doc_id: sorted(leaf.rev for leaf in record.tree)
            for record in self.copy.server.databases["db"].storage.changes()
        }
        if copied != leaves:
            differing = sorted(
                doc_id for doc_id in leaves.keys() | copied.keys() if leaves.get(doc_id) != copied.get(doc_id)
            )
            self.judge.complain(f"the replicated database differs: {differing[:5]}")
        self._count_tokens()

    def _count_tokens(self) -> None:
        """Check that each acknowledged write is there once, and that no other is there twice."""
        found: Counter[str] = Counter()
        for record in self.backend.server.databases["db"].storage.changes():
            seen = set()
            for leaf in record.tree:
                for node in leaf.path():
                    token = (node.body or {}).get("token")
                    # Attachments are written to a document without changing its token.
                    if isinstance(token, str) and token not in seen:
                        seen.add(token)
                        found[token] += 1
        for token, acknowledged in self.judge.outcomes.items():
            times = found[token]
            if acknowledged and times != 1:
                self.judge.complain(f"the acknowledged write {token} is there {times} times")
            elif acknowledged is False and times:
                self.judge.complain(f"the refused write {token} is there {times} times")
            elif times > 1:
                self.judge.complain(f"the write {token}, whose outcome is unknown, is there {times} times")

    def _judge_servers(self) -> None:
        for backend in (self.backend, self.copy):
            self.judge.wrong += backend.check()
            watchers = sum(len(database.watchers) for database in backend.server.databases.values())
            if watchers:
                self.judge.complain(f"{watchers} feeds have no reader any more")
        assert self.proxy is not None
        for node in self.proxy.nodes.nodes:
            for opened in node.backend._clients.values():  # type: ignore[attr-defined]
                busy = [
                    connection
                    for client in opened.values()
                    for connection in client._transport._pool.connections
                    if not connection.is_idle() and not connection.is_closed()
                ]
                if busy:
                    self.judge.complain(f"the proxy still uses connections to {node.backend.name}: {busy}")
        for application in self.applications:
            clients = (application._clients.busy, application._feed_clients.busy)
            if application.requests or application.feeds or any(clients):
                counts = (application.requests, application.feeds, *clients)
                self.judge.complain(f"{application.backend!r} still counts requests: {counts}")


SURPLUS_BODY = b'{"_id":"%b","id":"%b","ok":true}\n' % (SPOOF.encode(), SPOOF.encode())
SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(SURPLUS_BODY),
    SURPLUS_BODY,
)


class _Errors(logging.Handler):
    """Keeps what servers log as their own failures."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += ": " + "".join(traceback.format_exception(*record.exc_info))
        self.messages.append(text)


@contextmanager
def deterministic(world: World) -> Iterator[_Errors]:
    """Take chance and time from the world, wherever the code has its own."""
    errors = _Errors()
    quiet = logging.getLogger("couchdal.proxy")
    root, level = logging.getLogger(), quiet.level
    collects = gc.isenabled()
    with ExitStack() as patches:

        def patch(holder: object, name: str, value: object) -> None:
            patches.enter_context(mock.patch.object(holder, name, value))

        world.patch = patch
        adapt_http_client(patch)
        patch(couchdal.proxy.retries, "random", world.chance.random)
        # Work that takes long moves to a thread, by real time. Here it takes none, and threads are turns of the loop.
        patch(couchdal.backends.served, "monotonic", world.loop.time)
        patch(couchdal.backends.tasks, "monotonic", world.loop.time)
        patch(couchdal.backends.threads, "monotonic", world.loop.time)
        patch(couchdal.backends.threads.Threads, "run", lambda _, job: world.loop.call_soon(job))
        patch(uuid, "uuid4", lambda: uuid.UUID(int=world.chance.getrandbits(128)))
        root.addHandler(errors)
        quiet.setLevel(logging.ERROR)
        # Finalizers would run at moments that depend on everything else in the process.
        gc.disable()
        try:
            yield errors
        finally:
            root.removeHandler(errors)
            quiet.setLevel(level)
            if collects:
                gc.enable()


def simulate(seed: int, seconds: float = 60.0, broken: Break | None = None) -> Outcome:
    """Run the world of a seed. ``broken`` spoils it on purpose."""
    world = World(seed)
    with deterministic(world) as errors:
        asyncio.set_event_loop(world.loop)
        try:
            world.serve()
            if broken is not None:
                broken(world)
                world.judge.stop = world.loop.stop
            try:
                world.loop.run_until_complete(asyncio.wait_for(world.live(seconds), seconds + REST_S))
            except TimeoutError:
                world.judge.complain("the world did not come to rest")
            except Stuck:
                world.judge.complain("everybody waits for something that never happens")
            except Exception as error:
                # A broken world stops the loop at the first fault that is found.
                if broken is None or not world.judge.wrong:
                    world.judge.complain(f"{type(error).__name__}: {error}")
            world.judge.wrong += [f"logged: {text}" for text in errors.messages]
            world.judge.wrong += [f"event loop: {text}" for text in world.loop.errors]
        finally:
            world.judge.stop = lambda: None
            _end(world.loop)
    judge, network = world.judge, world.network
    return Outcome(
        seed=seed,
        wrong=judge.wrong,
        requests=judge.requests,
        faults=network.faults,
        simulated_s=world.loop.time() - 1000.0,
        writes=len(judge.outcomes),
        digest=network.digest.hexdigest(),
        answers=judge.answers,
        trace=[f"{when:.6f} {link} {way} {host} {piece!r}" for when, link, way, host, piece in network.trace],
    )


def _end(loop: VirtualLoop) -> None:
    # The judge may have stopped the loop once more while it was ending.
    loop.stop()
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 1000.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
    gc.collect()
