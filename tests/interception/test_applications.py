"""Whole applications on intercepted clients, through the test clients of their frameworks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import django
import flask
import httpx
import pytest
import requests
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

import couchdal

# What an application has in its settings.
COUCHDB = "http://couchdb.example:5984"

# Made at import, as applications do.
session = requests.Session()
flask_app = flask.Flask("tasks")
fastapi_app = FastAPI()


@flask_app.put("/tasks/<task_id>")
def put_task(task_id: str) -> tuple[Any, int]:
    answer = session.put(f"{COUCHDB}/tasks/{task_id}", json=flask.request.get_json())
    return answer.json(), answer.status_code


@flask_app.get("/tasks/<task_id>")
async def get_task(task_id: str) -> tuple[Any, int]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{COUCHDB}/tasks/{task_id}")
    return answer.json(), answer.status_code


@fastapi_app.put("/tasks/{task_id}")
def put_task_in_a_thread(task_id: str, body: dict[str, Any]) -> Any:
    return session.put(f"{COUCHDB}/tasks/{task_id}", json=body).json()


@fastapi_app.get("/tasks/{task_id}")
async def get_task_on_the_loop(task_id: str) -> Any:
    async with aiohttp.ClientSession() as client, client.get(f"{COUCHDB}/tasks/{task_id}") as answer:
        return await answer.json()


@fastapi_app.get("/changes")
async def get_changes() -> StreamingResponse:
    async def rows() -> AsyncIterator[bytes]:
        url = f"{COUCHDB}/tasks/_changes?feed=continuous&limit=1"
        async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return StreamingResponse(rows())


def put_django_task(request: HttpRequest, task_id: str) -> JsonResponse:
    answer = session.put(f"{COUCHDB}/tasks/{task_id}", data=request.body)
    return JsonResponse(answer.json(), status=answer.status_code)


async def get_django_task(request: HttpRequest, task_id: str) -> JsonResponse:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{COUCHDB}/tasks/{task_id}")
    return JsonResponse(answer.json(), status=answer.status_code)


urlpatterns = [path("put/<task_id>", put_django_task), path("get/<task_id>", get_django_task)]


@pytest.fixture
def db() -> Iterator[couchdal.CouchDAL]:
    backend = couchdal.MemoryBackend()
    with couchdal.intercept(COUCHDB, backend=backend):
        handle = couchdal.CouchDAL(backend, database="tasks")
        handle.create_database()
        yield handle


@pytest.fixture
def stored(db: couchdal.CouchDAL) -> couchdal.CouchDAL:
    db.put_document("a", {"title": "write"})
    return db


def test_flask_application(db: couchdal.CouchDAL) -> None:
    client = flask_app.test_client()
    assert client.put("/tasks/a", json={"title": "write"}).status_code == 201
    assert db.get_document("a")["title"] == "write"
    assert client.put("/tasks/a", json={}).json["error"] == "conflict"  # type: ignore[index]
    assert client.get("/tasks/a").json["title"] == "write"  # type: ignore[index]
    assert client.get("/tasks/none").status_code == 404


def test_fastapi_application(db: couchdal.CouchDAL) -> None:
    with TestClient(fastapi_app) as client:
        assert client.put("/tasks/a", json={"title": "write"}).json()["rev"].startswith("1-")
        assert client.get("/tasks/a").json()["title"] == "write"
        assert '"id":"a"' in client.get("/changes").text
    assert db.get_document("a")["title"] == "write"


def test_fastapi_application_on_an_event_loop(stored: couchdal.CouchDAL) -> None:
    async def work() -> Any:
        transport = httpx.ASGITransport(app=fastapi_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return (await client.get("/tasks/a")).json()

    assert asyncio.run(work())["title"] == "write"


@pytest.fixture
def _django() -> None:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], SECRET_KEY="test", DATABASES={})
        django.setup()
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": urlpatterns})


@pytest.mark.usefixtures("_django")
def test_django_application(db: couchdal.CouchDAL) -> None:
    client = Client()
    assert client.put("/put/a", data={"title": "write"}, content_type="application/json").status_code == 201
    assert client.get("/get/a").json()["title"] == "write"
    assert client.get("/get/none").status_code == 404
    assert db.get_document("a")["title"] == "write"


@pytest.mark.usefixtures("_django")
def test_django_application_on_an_event_loop(stored: couchdal.CouchDAL) -> None:
    async def work() -> Any:
        return (await AsyncClient().get("/get/a")).json()

    assert asyncio.run(work())["title"] == "write"


def test_emulator_answers_by_hand_as_an_asgi_application() -> None:
    """Without interception: the ASGI application in the process, for a client that is given its transport."""
    backend = couchdal.MemoryBackend()

    async def work() -> Any:
        transport = httpx.ASGITransport(app=couchdal.Application(backend))
        async with httpx.AsyncClient(transport=transport, base_url=COUCHDB) as client:
            assert (await client.put("/tasks")).status_code == 201
            assert (await client.put("/tasks/a", json={"title": "write"})).status_code == 201
            return (await client.get("/tasks/a")).json()

    assert asyncio.run(work())["title"] == "write"
