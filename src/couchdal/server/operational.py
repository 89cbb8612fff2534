"""What a server tells of itself below ``/_couchdal/``: whether it is well, its metrics, and the API that it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from couchdal.errors import MethodNotAllowed, NotFound
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response

_JSON = {"content-type": "application/json"}


class Service:
    """Answers GET and HEAD of ``health``, ``openapi.json`` and, where ``metrics`` is given, ``metrics``.

    ``health`` gives the state of what the server asks, and whether it can be asked at all.
    """

    prefix = "/_couchdal/"

    def __init__(
        self,
        health: Callable[[], tuple[bool, Mapping[str, JSON]]],
        metrics: Callable[[], tuple[bytes, str]] | None = None,
    ) -> None:
        self._health = health
        self._paths: dict[str, Callable[[], Response]] = {"health": self._tell_health, "openapi.json": _tell_api}
        if metrics is not None:
            self._paths["metrics"] = lambda: _tell_metrics(metrics)

    def answer(self, request: Request) -> Response:
        """Return the answer; raises ``NotFound`` and ``MethodNotAllowed``."""
        tell = self._paths.get(request.path.removeprefix(self.prefix))
        if tell is None:
            raise NotFound("missing")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
        return tell()

    def _tell_health(self) -> Response:
        well, state = self._health()
        return Response(200 if well else 503, dict(_JSON), json={"status": "ok" if well else "failing", **state})


def _tell_metrics(metrics: Callable[[], tuple[bytes, str]]) -> Response:
    text, kind = metrics()
    return Response(200, {"content-type": kind}, body=text)


def _tell_api() -> Response:
    from couchdal.api.openapi import describe  # few ask

    return Response(200, dict(_JSON), json=describe())
