"""A hook of mkdocs: put the pages' Markdown into the site, as ``llms.txt`` links it, and all of it into one file."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

_pages: dict[str, str] = {}


def on_page_markdown(markdown: str, page: Page, **_: object) -> None:
    """Keep the text of a page."""
    _pages[page.file.src_uri] = markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write the texts."""
    site = Path(config.site_dir)
    for name, text in _pages.items():
        (site / name).write_text(text, "utf-8")
    (site / "llms-full.txt").write_text("\n".join(_pages.values()), "utf-8")
