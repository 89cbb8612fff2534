"""The clients of the simulation. Each knows what it wrote, and judges every answer that it gets."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from simulated_network import Network, SimulatedTransport

from couchdal import AsyncCouchDAL
from couchdal.errors import BackendError, CouchError

# A client waits longer than the proxy may take: three attempts, each with its time limit.
PATIENCE_S = 200.0
SPOOF = "spoof"
# What the proxy answers when it has no answer of CouchDB, and what both answer when they are full.
UNANSWERED = frozenset((500, 502, 503, 504))


class Broken(Exception):
    """No answer came: the outcome of the request is unknown."""


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Judge:
    """What was written and what was wrong."""

    #: By token: ``True`` if the write was acknowledged, ``False`` if it was refused. Otherwise its outcome is unknown.
    outcomes: dict[str, bool | None] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    #: Called at each complaint.
    stop: Callable[[], object] = field(default=lambda: None)

    def complain(self, text: str) -> None:
        self.wrong.append(text)
        self.stop()


class HttpClient:
    """One connection at a time, parsed strictly. With ``chance``, it sometimes disconnects early or reads late."""

    def __init__(self, network: Network, judge: Judge, address: str, host: str, chance: Random | None = None) -> None:
        self.network = network
        self.judge = judge
        self.address = address
        self.host = host
        self.chance = chance
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            self.close()
            reader = asyncio.StreamReader(limit=1 << 22)
            protocol = asyncio.StreamReaderProtocol(reader)
            try:
                async with asyncio.timeout(20):
                    transport, _ = await self.network.connect((self.host, 5984), lambda: protocol, self.address)
            except (OSError, TimeoutError):
                raise Broken from None
            self._reader = reader
            self._writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        return self._reader, self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def ask(self, method: str, target: str, payload: object = None, **headers: str) -> Answer:
        """Return the answer to one request. Raise ``Broken``."""
        (answer,) = await self.ask_all([(method, target, payload, headers)])
        return answer

    async def ask_all(self, requests: list[tuple[str, str, object, dict[str, str]]]) -> list[Answer]:
        """Send requests without waiting for answers, and return the answers in order. Raise ``Broken``."""
        reader, writer = await self.open()
        self.judge.requests += len(requests)
        transport = writer.transport
        assert isinstance(transport, SimulatedTransport)
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(b"".join(_encode(*request) for request in requests))
                if self.chance is not None:
                    await self._misbehave(self.chance, transport)
                answers = []
                for method, *_ in requests:
                    answers.append(answer := await self._receive(reader, method))
                    self.judge.answers[answer.status] += 1
                    if answer.headers.get("connection") == "close":
                        self.close()
                        break
        except TimeoutError:
            if not transport.is_cut():
                self.judge.complain(f"no answer within {PATIENCE_S:g} s: {requests[0][:2]}")
            self.close()
            raise Broken from None
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise Broken from None
        except asyncio.CancelledError:
            # The answer may still come, and must not be taken for the next one's.
            self.close()
            raise
        if len(answers) < len(requests):
            raise Broken
        return answers

    async def _misbehave(self, chance: Random, transport: SimulatedTransport) -> None:
        """Disconnect before the answer, or read it later."""
        kind = chance.random()
        if kind < 0.02:
            self.network.faults["client gone before its answer"] += 1
            await asyncio.sleep(chance.expovariate(300.0))
            raise ConnectionResetError
        if kind < 0.05:
            self.network.faults["client that reads late"] += 1
            transport.pause_reading()
            await asyncio.sleep(chance.expovariate(0.3))
            transport.resume_reading()

    async def _receive(self, reader: asyncio.StreamReader, method: str) -> Answer:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head[:-4].split("\r\n")
            version, status, *_ = status_line.split(" ", 2)
            if version != "HTTP/1.1" or not status.isdigit():
                self.judge.complain(f"not a status line: {status_line!r}")
                raise OSError
            if status != "100":
                break
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        if method != "HEAD" and int(status) not in (204, 304):
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
                await reader.readexactly(2)
            else:
                body = await reader.readexactly(int(headers["content-length"]))
        if SPOOF.encode() in body:
            self.judge.complain(f"bytes behind an answer answered the next request: {body[:80]!r}")
        return Answer(int(status), headers, body)


def _encode(method: str, target: str, payload: object, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x"]
    body = payload if isinstance(payload, bytes) else b"" if payload is None else json.dumps(payload).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        given.setdefault("Content-Type", "application/json")
        if given.pop("chunked", None):
            given["Transfer-Encoding"] = "chunked"
            half = len(body) // 2 or 1
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
            body += b"0\r\n\r\n"
        else:
            given["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Doc:
    """What its only writer knows about a document."""

    #: The revision and the token of the last acknowledged write; no revision before the first.
    rev: str | None = None
    token: str | None = None
    #: Tokens of later writes whose outcome is unknown. ``None`` stands for a deletion.
    possible: list[str | None] = field(default_factory=list)
    deleted: bool = False


class Writer:
    """Writes documents that nobody else writes, reads them back, and reads those of others."""

    def __init__(self, name: str, http: HttpClient, chance: Random, everything: dict[str, Doc]) -> None:
        self.name = name
        self.http = http
        self.judge = http.judge
        self.chance = chance
        self.docs: dict[str, Doc] = {}
        #: The documents of all writers.
        self.everything = everything
        self._count = 0
        self._local: int | None = 0

    async def run(self) -> None:
        acts: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self.put_new),
            (6, self.update),
            (2, self.delete),
            (4, self.post),
            (3, self.bulk),
            (2, self.bulk_of_revisions),
            (2, self.attach),
            (2, self.write_local),
            (6, self.read_own),
            (4, self.read_other),
            (2, self.read_pipelined),
            (2, self.list_own),
            (1, self.find_own),
            (1, self.read_head),
        ]
        weights = [weight for weight, _ in acts]
        while True:
            await asyncio.sleep(self.chance.expovariate(4.0))
            (_, act) = self.chance.choices(acts, weights)[0]
            with suppress(Broken):
                await act()

    def token(self) -> str:
        self._count += 1
        token = f"{self.name}.{self._count}"
        self.judge.outcomes[token] = None
        return token

    def judge_write(self, answer: Answer, *tokens: str) -> bool:
        """Note what an answer says about writes. Return whether they were acknowledged."""
        if answer.status == 500:
            self.judge.complain(f"an error of the server: {answer.body[:200]!r}")
        if answer.status not in UNANSWERED and answer.status != 408:
            for token in tokens:
                self.judge.outcomes[token] = answer.status < 300
        return answer.status < 300

    async def _write(self, doc_id: str, doc: Doc, token: str | None, *asked: Any, **headers: str) -> None:
        """Send a write of one document, and note its outcome."""
        doc.possible.append(token)
        answer = await self.http.ask(*asked, **headers)
        tokens = () if token is None else (token,)
        acknowledged = self.judge_write(answer, *tokens)
        if acknowledged:
            found = answer.json()
            if found.get("id") != doc_id:
                self.judge.complain(f"the answer to a write of {doc_id} is {found}")
            doc.rev, doc.token, doc.deleted, doc.possible = found["rev"], token, token is None, []
        elif answer.status not in UNANSWERED and answer.status != 408:
            *earlier, _ = doc.possible
            # An earlier write or deletion, whose outcome is unknown, may have happened.
            expected = (answer.status == 409 and earlier) or (answer.status == 404 and None in earlier)
            if not expected:
                self.judge.complain(f"{asked[:2]} was refused: {answer.status} {answer.body[:200]!r}")
            doc.possible = earlier

    async def put_new(self) -> None:
        token = self.token()
        doc_id = f"{self.name}-{token.rpartition('.')[2]}"
        doc = self.docs[doc_id] = self.everything[doc_id] = Doc()
        body = {"token": token, "filler": "x" * self.chance.choice((0, 10, 1000, 70_000))}
        chunked = {"chunked": "1"} if self.chance.random() < 0.2 else {}
        await self._write(doc_id, doc, token, "PUT", f"/db/{doc_id}", body, **chunked)

    def _live(self) -> tuple[str, Doc] | None:
        """Return one of this writer's documents that exists."""
        found = [(doc_id, doc) for doc_id, doc in self.docs.items() if doc.rev is not None and not doc.deleted]
        return self.chance.choice(found[-20:]) if found else None

    async def update(self) -> None:
        if found := self._live():
            doc_id, doc = found
            token = self.token()
            await self._write(doc_id, doc, token, "PUT", f"/db/{doc_id}?rev={doc.rev}", {"token": token})

    async def delete(self) -> None:
        if found := self._live():
            doc_id, doc = found
            await self._write(doc_id, doc, None, "DELETE", f"/db/{doc_id}?rev={doc.rev}")

    async def attach(self) -> None:
        if found := self._live():
            doc_id, doc = found
            token = doc.token
            data = self.chance.randbytes(self.chance.choice((10, 3000, 150_000)))
            # The document keeps its token, so this write is not counted by it.
            before = list(doc.possible)
            doc.possible.append(token)
            target = f"/db/{doc_id}/file?rev={doc.rev}"
            answer = await self.http.ask("PUT", target, data, Content_Type="application/octet-stream")
            if self.judge_write(answer):
                doc.rev, doc.possible = answer.json()["rev"], []
                got = await self.http.ask("GET", f"/db/{doc_id}/file?rev={doc.rev}")
                if got.status == 200 and got.body != data:
                    self.judge.complain(f"the attachment of {doc_id} has other bytes")
            elif answer.status not in UNANSWERED and answer.status != 408:
                if answer.status != 409 or not before:
                    self.judge.complain(f"PUT {target} was refused: {answer.status} {answer.body[:200]!r}")
                doc.possible = before

    async def post(self) -> None:
        token = self.token()
        answer = await self.http.ask("POST", "/db", {"token": token})
        if self.judge_write(answer, token) and not answer.json()["id"]:
            self.judge.complain("a POST was answered without an id")

    async def bulk(self) -> None:
        tokens = [self.token() for _ in range(self.chance.randrange(1, 6))]
        answer = await self.http.ask("POST", "/db/_bulk_docs", {"docs": [{"token": token} for token in tokens]})
        if self.judge_write(answer, *tokens) and [row.get("ok") for row in answer.json()] != [True] * len(tokens):
            self.judge.complain(f"rows of _bulk_docs: {answer.body[:200]!r}")

    async def bulk_of_revisions(self) -> None:
        """Replicated revisions. The proxy may repeat these: they stay one revision."""
        token = self.token()
        doc_id = f"{self.name}-r{token.rpartition('.')[2]}"
        ids = [f"{self.chance.getrandbits(128):032x}" for _ in range(3)]
        doc = {"_id": doc_id, "_revisions": {"start": 3, "ids": ids}, "token": token}
        answer = await self.http.ask("POST", "/db/_bulk_docs", {"docs": [doc], "new_edits": False})
        self.judge_write(answer, token)
        if answer.status == 201:
            known = self.everything[doc_id] = self.docs[doc_id] = Doc(f"3-{ids[0]}", token)
            await self._read(doc_id, known)

    async def write_local(self) -> None:
        number = self._local = self.chance.getrandbits(40)
        # After an unknown outcome, any number may be there.
        self._local = None
        answer = await self.http.ask("PUT", f"/db/_local/{self.name}", {"number": number})
        if answer.status == 409:
            # CouchDB demands the revision of a local document that exists.
            got = await self.http.ask("GET", f"/db/_local/{self.name}")
            if got.status == 200:
                body = {"number": number, "_rev": got.json()["_rev"]}
                answer = await self.http.ask("PUT", f"/db/_local/{self.name}", body)
        if answer.status == 201:
            got = await self.http.ask("GET", f"/db/_local/{self.name}")
            if got.status == 200 and got.json()["number"] != number:
                self.judge.complain(f"_local/{self.name} does not have the acknowledged number")

    async def read_own(self) -> None:
        if self.docs:
            doc_id = self.chance.choice(list(self.docs)[-30:])
            await self._read(doc_id, self.docs[doc_id])

    async def _read(self, doc_id: str, doc: Doc) -> None:
        before = Doc(doc.rev, doc.token, list(doc.possible), doc.deleted)
        answer = await self.http.ask("GET", f"/db/{doc_id}")
        self.judge_read(doc_id, before, answer, own=True)
        if answer.status == 200 and before.possible and doc.possible == before.possible:
            found = answer.json()
            if found["_rev"] != doc.rev:
                # An unknown write has happened.
                doc.rev, doc.token = found["_rev"], found["token"]

    def judge_read(self, doc_id: str, before: Doc, answer: Answer, *, own: bool) -> None:
        """Check a document that was read against what was acknowledged before the read began."""
        if answer.status in UNANSWERED:
            self.judge_write(answer)
            return
        if answer.status == 404:
            if answer.json() not in (
                {"error": "not_found", "reason": "missing"},
                {"error": "not_found", "reason": "deleted"},
            ):
                self.judge.complain(f"reading {doc_id}: {answer.body[:200]!r}")
            if own and before.rev is not None and not before.deleted and None not in before.possible:
                self.judge.complain(f"{doc_id} is missing, although {before.rev} was acknowledged")
            return
        if answer.status != 200:
            self.judge.complain(f"reading {doc_id}: {answer.status} {answer.body[:200]!r}")
            return
        found = answer.json()
        if found.get("_id") != doc_id:
            self.judge.complain(f"the answer for {doc_id} is another document: {answer.body[:100]!r}")
            return
        if not own:
            return
        if before.deleted:
            self.judge.complain(f"{doc_id} is there, although its deletion was acknowledged")
        elif found["_rev"] != before.rev and found["token"] not in before.possible:
            self.judge.complain(f"{doc_id} has {found['_rev']}, although {before.rev} was acknowledged")

    async def read_other(self) -> None:
        if self.everything:
            doc_id = self.chance.choice(list(self.everything)[-60:])
            self.judge_read(doc_id, Doc(), await self.http.ask("GET", f"/db/{doc_id}"), own=False)

    async def read_pipelined(self) -> None:
        ids = [self.chance.choice(list(self.everything)[-60:]) for _ in range(4)] if self.everything else []
        if ids:
            answers = await self.http.ask_all([("GET", f"/db/{doc_id}", None, {}) for doc_id in ids])
            for doc_id, answer in zip(ids, answers, strict=True):
                self.judge_read(doc_id, Doc(), answer, own=False)

    async def list_own(self) -> None:
        known = {doc_id: Doc(doc.rev, doc.token, list(doc.possible), doc.deleted) for doc_id, doc in self.docs.items()}
        keys = list(known)[-20:]
        if not keys:
            return
        answer = await self.http.ask("POST", "/db/_all_docs?include_docs=true", {"keys": keys})
        if answer.status != 200:
            self.judge_write(answer)
            return
        rows = answer.json()["rows"]
        if [row["key"] for row in rows] != keys:
            self.judge.complain(f"_all_docs answered for other keys: {rows[:3]}")
            return
        for row in rows:
            found = row.get("doc")
            status = 404 if found is None else 200
            body = {"error": "not_found", "reason": "missing"} if found is None else found
            self.judge_read(row["key"], known[row["key"]], Answer(status, {}, json.dumps(body).encode()), own=True)

    async def find_own(self) -> None:
        if found := self._live():
            doc_id, doc = found
            before = Doc(doc.rev, doc.token, list(doc.possible), doc.deleted)
            answer = await self.http.ask("POST", "/db/_find", {"selector": {"_id": doc_id}})
            if answer.status != 200:
                self.judge_write(answer)
                return
            docs = answer.json()["docs"]
            status = 200 if docs else 404
            body = docs[0] if docs else {"error": "not_found", "reason": "missing"}
            self.judge_read(doc_id, before, Answer(status, {}, json.dumps(body).encode()), own=True)

    async def read_head(self) -> None:
        if found := self._live():
            answer = await self.http.ask("HEAD", f"/db/{found[0]}")
            if answer.body:
                self.judge.complain("an answer to HEAD has a body")


class Follower:
    """Follows the changes of the database, and resumes after the last row when a feed ends."""

    def __init__(self, http: HttpClient, feed: str, between: Callable[[int, int], list[str]]) -> None:
        self.http = http
        self.judge = http.judge
        self.feed = feed
        #: The documents whose last change lies between two update sequences.
        self._between = between
        self.since = "0"
        self.state: dict[str, str] = {}
        self.rows = 0

    async def run(self) -> None:
        while True:
            with suppress(Broken, OSError, asyncio.IncompleteReadError, TimeoutError):
                await (self._longpoll() if self.feed == "longpoll" else self._continuous())
            if self.feed != "longpoll":
                self.http.close()
            await asyncio.sleep(1.0)

    async def _longpoll(self) -> None:
        answer = await self.http.ask("GET", f"/db/_changes?feed=longpoll&timeout=20000&since={self.since}")
        if answer.status == 200:
            found = answer.json()
            for row in found["results"]:
                self._take(row)
            self.since = found["last_seq"]
        elif answer.status not in UNANSWERED:
            self.judge.complain(f"a feed was refused: {answer.status} {answer.body[:200]!r}")

    async def _continuous(self) -> None:
        reader, writer = await self.http.open()
        self.judge.requests += 1
        target = f"/db/_changes?feed=continuous&heartbeat=5000&since={self.since}"
        writer.write(_encode("GET", target, None, {}))
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 200:
            if status not in UNANSWERED:
                self.judge.complain(f"a feed was refused: {head!r}")
            raise Broken
        text = b""
        while True:
            # A heartbeat comes at least every five seconds, unless the network is slow.
            async with asyncio.timeout(PATIENCE_S):
                size = int(await reader.readuntil(b"\r\n"), 16)
                text += await reader.readexactly(size)
                await reader.readexactly(2)
            *lines, text = text.split(b"\n")
            for line in lines:
                if line.strip():
                    row = json.loads(line)
                    if "id" in row:
                        self._take(row)
            if not size:
                return

    def _take(self, row: Any) -> None:
        before, after = number_of(self.since), number_of(row["seq"])
        if after <= before:
            self.judge.complain(f"a feed went back from {before} to {after}")
        elif missed := self._between(before, after):
            self.judge.complain(f"a feed left out {missed[:3]} between {before} and {after}")
        self.since = row["seq"]
        self.rows += 1
        self.state[row["id"]] = row["changes"][0]["rev"]


def number_of(seq: str | int) -> int:
    return int(str(seq).partition("-")[0])


class Replicator:
    """A one-way replication by the client's public calls, with a checkpoint on both sides."""

    def __init__(self, source: AsyncCouchDAL, target: AsyncCouchDAL, chance: Random) -> None:
        self.source = source
        self.target = target
        self.chance = chance
        self.copied = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.chance.expovariate(0.5))
            with suppress(BackendError, CouchError):
                await self.replicate()

    async def replicate(self) -> None:
        """Copy all revisions that the target does not have."""
        since = await self._checkpoint()
        while True:
            found = await self.source.changes(since=since, style="all_docs", limit=50)
            rows = found["results"]
            if not rows:
                return
            missing = await self.target.revs_diff({row["id"]: [leaf["rev"] for leaf in row["changes"]] for row in rows})
            wanted = [{"id": doc_id, "rev": rev} for doc_id, revs in missing.items() for rev in revs["missing"]]
            if wanted:
                answer = await self.source.bulk_get(wanted, revs=True, attachments=True)
                docs = [doc["ok"] for result in answer["results"] for doc in result["docs"] if "ok" in doc]
                failed = await self.target.bulk_docs(docs, new_edits=False)
                assert not failed, failed
                self.copied += len(docs)
            since = found["last_seq"]
            await self._save(since)

    async def _checkpoint(self) -> str:
        seqs = []
        for side in (self.source, self.target):
            try:
                seqs.append(str((await side.get_local("_local/checkpoint"))["seq"]))
            except CouchError as error:
                if error.status != 404:
                    raise
                return "0"
        return min(seqs, key=number_of)

    async def _save(self, seq: object) -> None:
        for side in (self.source, self.target):
            body: dict[str, object] = {"seq": seq}
            try:
                body["_rev"] = (await side.get_local("_local/checkpoint"))["_rev"]
            except CouchError as error:
                if error.status != 404:
                    raise
            await side.put_local("_local/checkpoint", body)
