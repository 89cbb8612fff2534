"""A web interface below ``/_utils/``: the files of one folder, such as a build of Fauxton.

Source: ``chttpd_misc:handle_utils_dir_req``.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from mimetypes import guess_type
from pathlib import Path
from typing import Final, TypeAlias

from couchdal.errors import BadRequest, MethodNotAllowed
from couchdal.http.answers import AnswerSettings, absolute_uri, error_response
from couchdal.http.messages import Request, Response
from couchdal.http.urls import unquote

INTERFACE: Final = "/_utils"
Finish: TypeAlias = "Callable[[Request, Response], Response]"


class Interface:
    """Answers requests for the files of a folder. It never reads a file outside the folder.

    ``settings`` returns the current settings of the server, and ``finish`` changes an answer as they say. Raise
    ``NotADirectoryError`` if the folder does not exist.
    """

    def __init__(
        self,
        folder: str,
        settings: Callable[[], AnswerSettings] = AnswerSettings,
        finish: Finish | None = None,
    ) -> None:
        self._settings = settings
        self._finish = finish
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise NotADirectoryError(folder)

    def answer(self, request: Request) -> Response:
        """Return the answer for a path that begins with ``/_utils``. Raise ``MethodNotAllowed``."""
        if self._finish is None:
            return self._answer(request)
        try:
            response = self._answer(request)
        except MethodNotAllowed as error:
            response = error_response(error, request, self._settings())
        return self._finish(request, response)

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
        if request.path == INTERFACE:
            return Response(301, {"location": absolute_uri(request, INTERFACE + "/")})
        always = {"cache-control": "private, must-revalidate"}
        policy = self._settings().interface_policy
        if policy is not None:
            always["content-security-policy"] = policy
        file = self._file(request.path.removeprefix(INTERFACE + "/"))
        if file is None:
            return Response(404, {**always, "content-type": "text/plain"}, body=b"Not found.")
        changed = formatdate(file.stat().st_mtime, usegmt=True)
        headers = {**always, "last-modified": changed}
        if request.headers.get("if-modified-since") == changed:
            return Response(304, headers)
        return Response(200, {**headers, "content-type": _type_of(file)}, body=file.read_bytes())

    def _file(self, path: str) -> Path | None:
        """Return the file for a percent-encoded path, or None. A folder has an ``index.html``."""
        try:
            # Links are followed first, so a link that leads out of the folder is refused, too.
            file = (self._folder / unquote(path).lstrip("/")).resolve()
            if file.is_dir():
                file = (file / "index.html").resolve()
            return file if file.is_relative_to(self._folder) and file.is_file() else None
        except (BadRequest, ValueError, OSError, RuntimeError):
            # The path cannot be decoded, holds a null character, is too long, or follows links in a circle.
            return None


def _type_of(file: Path) -> str:
    kind = guess_type(file.name)[0] or "text/plain"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind.endswith("javascript") else kind
