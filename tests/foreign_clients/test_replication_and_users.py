"""Replications and user accounts, by each of the Python clients, served and intercepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import couchdb
import couchdb3
import pycouchdb
import pytest
from aiocouch import CouchDB
from ibm_cloud_sdk_core.authenticators import BasicAuthenticator
from ibmcloudant.cloudant_v1 import CloudantV1, ReplicationDatabase, ReplicationDocument

IS_PYTHON = True
# aiocouch passes credentials to its HTTP client in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:(BasicAuth|The 'auth' parameter) is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _not_a_proxy(server: Any) -> None:
    if server.url != server.behind:
        pytest.skip("by default, a proxy refuses these requests")


def cloudant(server: Any, user: str, password: str) -> CloudantV1:
    service = CloudantV1(authenticator=BasicAuthenticator(user, password))
    service.set_service_url(server.url)
    return service


def in_aiocouch(server: Any, work: Callable[[CouchDB], Awaitable[None]], **account: str) -> None:
    async def run() -> None:
        account.setdefault("user", server.user)
        account.setdefault("password", server.password)
        async with CouchDB(server.url, **account) as couch:
            await work(couch)

    asyncio.run(run())


def replicate_by_pycouchdb(server: Any, source: str, target: str, job: str) -> None:
    assert pycouchdb.Server(server.with_credentials + "/").replicate(source, target)["ok"]


def replicate_by_couchdb_python(server: Any, source: str, target: str, job: str) -> None:
    assert couchdb.Server(server.with_credentials).replicate(source, target)["ok"]


def replicate_by_couchdb3(server: Any, source: str, target: str, job: str) -> None:
    couch = couchdb3.Server(server.url, user=server.user, password=server.password)
    assert couch.replicate({"url": source}, {"url": target})["ok"]


def replicate_by_ibmcloudant(server: Any, source: str, target: str, job: str) -> None:
    document = ReplicationDocument(source=ReplicationDatabase(url=source), target=ReplicationDatabase(url=target))
    service = cloudant(server, server.user, server.password)
    service.put_replication_document(doc_id=job, replication_document=document)
    wait_for_job(lambda: service.get_scheduler_document(doc_id=job).get_result()["state"])


def replicate_by_aiocouch(server: Any, source: str, target: str, job: str) -> None:
    async def work(couch: CouchDB) -> None:
        document = await (await couch["_replicator"]).create(job)
        document.update({"source": source, "target": target})
        await document.save()

    in_aiocouch(server, work)
    wait_for_job(lambda: server.look(f"/_scheduler/docs/_replicator/{job}")["state"])


def wait_for_job(state: Callable[[], str | None]) -> None:
    deadline = time.monotonic() + 30
    while state() != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def job(server: Any, name: str) -> Iterator[str]:
    """The id of a replication document. After the test the document is deleted."""
    doc_id = f"job-{name}"
    yield doc_id
    delete(server, f"/_replicator/{doc_id}")


def delete(server: Any, path: str) -> None:
    found = server.look(path)
    if isinstance(found, dict):
        server.look(f"{path}?rev={found['_rev']}", "DELETE")


@pytest.mark.parametrize(
    "replicate",
    [
        replicate_by_pycouchdb,
        replicate_by_couchdb_python,
        replicate_by_couchdb3,
        replicate_by_ibmcloudant,
        replicate_by_aiocouch,
    ],
)
def test_database_is_replicated(
    server: Any, db: str, job: str, replicate: Callable[[Any, str, str, str], None]
) -> None:
    server.look(f"/{db}/a", "PUT", {"n": 1})
    server.look(f"/{db}-copy", "PUT")
    try:
        replicate(server, f"{server.with_credentials}/{db}", f"{server.with_credentials}/{db}-copy", job)
        assert server.look(f"/{db}-copy/a") == server.look(f"/{db}/a")
    finally:
        server.look(f"/{db}-copy", "DELETE")


def account(name: str) -> dict[str, Any]:
    return {"name": name, "password": "secret", "roles": ["clerk"], "type": "user"}


def add_by_pycouchdb(server: Any, name: str) -> None:
    users = pycouchdb.Server(server.with_credentials + "/").database("_users")
    users.save({"_id": f"org.couchdb.user:{name}", **account(name)})


def add_by_couchdb_python(server: Any, name: str) -> None:
    couchdb.Server(server.with_credentials).add_user(name, "secret", ["clerk"])


def add_by_couchdb3(server: Any, name: str) -> None:
    couch = couchdb3.Server(server.url, user=server.user, password=server.password)
    couch.save_user(name, password="secret", roles=["clerk"])


def add_by_ibmcloudant(server: Any, name: str) -> None:
    service = cloudant(server, server.user, server.password)
    assert service.put_document("_users", f"org.couchdb.user:{name}", account(name)).get_result()["ok"]


def add_by_aiocouch(server: Any, name: str) -> None:
    async def work(couch: CouchDB) -> None:
        user = await (await couch["_users"]).create(f"org.couchdb.user:{name}")
        user.update(account(name))
        await user.save()

    in_aiocouch(server, work)


def log_in_by_aiocouch(server: Any, name: str) -> None:
    async def work(couch: CouchDB) -> None:
        await couch.check_credentials()

    in_aiocouch(server, work, user=name, password="secret")


ADD = [add_by_pycouchdb, add_by_couchdb_python, add_by_couchdb3, add_by_ibmcloudant, add_by_aiocouch]
# How each client shows that it is that user.
LOG_IN: list[Callable[[Any, str], object]] = [
    lambda server, name: pycouchdb.Server(server.with_account(name) + "/").info(),
    lambda server, name: couchdb.Server(server.url).login(name, "secret"),
    lambda server, name: couchdb3.Server(server.url, user=name, password="secret").check(),
    lambda server, name: cloudant(server, name, "secret").get_session_information().get_result(),
    log_in_by_aiocouch,
]


@pytest.mark.parametrize(("add", "log_in"), list(zip(ADD, LOG_IN, strict=True)), ids=[add.__name__ for add in ADD])
def test_user_is_created_and_logs_in(
    server: Any, name: str, add: Callable[[Any, str], None], log_in: Callable[[Any, str], object]
) -> None:
    path = f"/_users/org.couchdb.user:{name}"
    try:
        add(server, name)
        assert server.look(path)["roles"] == ["clerk"]
        log_in(server, name)
        session = cloudant(server, name, "secret").get_session_information().get_result()
        assert session["userCtx"] == {"name": name, "roles": ["clerk"]}
    finally:
        delete(server, path)
