"""A small HTTP API for tasks that are documents in CouchDB.

uvicorn proxy:app                       uses the CouchDB that COUCHDB_URL names
DAL_BACKEND=memory uvicorn proxy:app    uses the emulator
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from couchdal import AsyncCouchDAL, Conflict, CouchError, FileExists, Unreachable

db = AsyncCouchDAL(database="tasks", create=True)

INDEX = {"index": {"fields": ["state", "due"]}, "ddoc": "tasks", "name": "by-state-and-due"}


class Task(BaseModel):
    title: str
    due: str
    state: Literal["open", "done"] = "open"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with suppress(FileExists):
        await db.create_database()
    await db.get("/_index", "POST", INDEX)
    yield


app = FastAPI(title="tasks", lifespan=lifespan)


@app.exception_handler(CouchError)
async def answer_as_couchdb(request: Request, error: CouchError) -> JSONResponse:
    return JSONResponse(dict(error.body), error.status)


@app.exception_handler(Unreachable)
async def answer_bad_gateway(request: Request, error: Unreachable) -> JSONResponse:
    return JSONResponse({"error": "bad_gateway", "reason": "the database does not answer"}, 502)


@app.post("/tasks", status_code=201)
async def add(task: Task) -> dict[str, Any]:
    return dict(await db.post_document(task.model_dump()))


@app.get("/tasks")
async def list_open(limit: int = 25) -> list[dict[str, Any]]:
    selector = {"state": "open", "due": {"$gt": None}}
    found = await db.find(selector, sort=["state", "due"], limit=limit)
    return [dict(document) for document in found["docs"]]


@app.get("/tasks/{task_id}")
async def read(task_id: str) -> dict[str, Any]:
    return dict(await db.get_document(task_id))


@app.post("/tasks/{task_id}/done")
async def finish(task_id: str) -> dict[str, Any]:
    """Mark a task as done. Try again if somebody else changes it at the same time."""
    for attempt in range(3):
        task = dict(await db.get_document(task_id))
        try:
            return dict(await db.put_document(task_id, {**task, "state": "done"}))
        except Conflict:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")
