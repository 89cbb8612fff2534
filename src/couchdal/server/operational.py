"""Health, metrics and OpenAPI under ``/_couchdal/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from couchdal.errors import MethodNotAllowed, NotFound
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response

PREFIX = "/_couchdal/"
_JSON = {"content-type": "application/json"}


class Service:
    """Answers GET and HEAD for ``health``, ``openapi.json`` and, if ``metrics`` is given, ``metrics``.

    ``health`` returns ``ok`` if the server can answer requests, or another word, and figures about it. ``metrics``
    returns a body and its content type.
    """

    def __init__(
        self,
        health: Callable[[], tuple[str, Mapping[str, JSON]]],
        metrics: Callable[[], tuple[bytes, str]] | None = None,
    ) -> None:
        self._health = health
        self._answers: dict[str, Callable[[], Response]] = {"health": self._answer_health, "openapi.json": _answer_api}
        if metrics is not None:
            self._answers["metrics"] = lambda: _answer_metrics(metrics)

    def answer(self, request: Request) -> Response:
        """Return the answer. Raise ``NotFound`` or ``MethodNotAllowed``."""
        answer = self._answers.get(request.path.removeprefix(PREFIX))
        if answer is None:
            raise NotFound("missing")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
        return answer()

    def _answer_health(self) -> Response:
        word, figures = self._health()
        return Response(200 if word == "ok" else 503, dict(_JSON), json={"status": word, **figures})


def _answer_metrics(metrics: Callable[[], tuple[bytes, str]]) -> Response:
    text, content_type = metrics()
    return Response(200, {"content-type": content_type}, body=text)


def _answer_api() -> Response:
    from couchdal.api.openapi import describe  # few clients ask for it

    return Response(200, dict(_JSON), json=describe())
