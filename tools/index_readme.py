"""The README for a package index, which has no files to link to: a metadata hook of hatchling.

Links into the repository become the names of the files, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n\n", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)")


def for_index(readme: str) -> str:
    """Return the README's text without pictures and relative links."""
    return _LINK.sub(_name, _PICTURE.sub("", readme))


def _name(link: re.Match[str]) -> str:
    text, target = link.groups()
    return f"`{target}`" if text == target else f"{text} (`{target}`)"


class Readme(MetadataHookInterface):
    """Set the project's ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text)}
