"""The API coverage as one HTML page that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from couchdal.coverage.collect import KINDS, Coverage, summary
from couchdal.coverage.report import requests

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #65707c; --line: #dfe3e8; --page: #fbfbf9; --card: #fff;
  --good: #1f7a4d; --good-back: #e3f4ea; --bad: #8a5a00; --error: #9b2c3a; --error-back: #fbe7ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ad; --line: #333b44; --page: #15191d;
  --card: #1c2127; --good: #7fd6a6; --good-back: #173426; --bad: #e4bd6a; --error: #f1a3ad;
  --error-back: #3d1a20; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
p { margin: 0 0 1.5rem; color: var(--soft); }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: 1rem; margin: 0 0 2rem; }
.total, section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; }
.total b { display: block; font-size: 1.6rem; }
.total span { color: var(--soft); }
.bar { height: .4rem; margin: .6rem 0 0; border-radius: 1rem; background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--good); }
section { margin: 0 0 .75rem; }
ul { columns: 22rem; margin: 0; padding: 0; list-style: none; }
li { margin: 0 0 .4rem; overflow-wrap: anywhere; font: .9rem/1.4 ui-monospace, monospace; }
h3 { margin: 2rem 0 .75rem; font-size: 1.1rem; }
h2 { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; margin: 0; font-size: 1rem;
  font-weight: 600; overflow-wrap: anywhere; }
h2 code { font: 600 1rem/1.4 ui-monospace, monospace; }
h2 small { font-weight: 400; color: var(--soft); }
dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .4rem 1rem; margin: .75rem 0 0; }
dt { color: var(--soft); }
dd { display: flex; flex-wrap: wrap; gap: .35rem; margin: 0; }
.chip { padding: 0 .5rem; border-radius: 1rem; font: .85rem/1.6 ui-monospace, monospace; white-space: nowrap; }
.seen { color: var(--good); background: var(--good-back); }
.chip small { opacity: .75; margin-left: .35rem; }
.never { color: var(--bad); border: 1px dashed; padding: 0 calc(.5rem - 1px); line-height: calc(1.6em - 2px); }
.unlisted { color: var(--soft); background: var(--line); }
.error { color: var(--error); background: var(--error-back); white-space: normal; }
.key { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: 0 0 1rem; color: var(--soft); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: .2rem; } dd { margin-bottom: .5rem; } }
"""


def page(coverage: Coverage) -> str:
    """Return the page."""
    found = summary(coverage)
    body = "\n".join(_sections(found))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Coverage of the data-access layer</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _sections(found: Mapping[str, Any]) -> Iterator[str]:
    yield "<h1>Coverage of the data-access layer</h1>"
    yield "<p>The endpoints, methods, parameters, operators and errors of CouchDB that the tests have used.</p>"
    errors = sum(len(entry["seen"]["errors"]) for entry in found["endpoints"].values())
    count = sum(entry["requests"] for entry in found["endpoints"].values())
    yield '<div class="totals">'
    yield _total(found["endpoints_seen"], found["endpoints_total"], "endpoints")
    yield _total(found["seen"], found["total"], "methods, parameters, operators, errors")
    yield f'<div class="total"><b>{errors}</b><span>kinds of errors, in {requests(count)}</span></div>'
    yield "</div>"
    yield '<div class="key"><span class="chip seen">seen<small>how often</small></span>'
    yield '<span class="chip error">error that was seen<small>how often</small></span>'
    yield '<span class="chip never">never seen</span><span class="chip unlisted">seen, but not listed</span></div>'
    entries = sorted(found["endpoints"].items(), key=lambda item: -item[1]["requests"])
    for endpoint, entry in entries:
        if entry["requests"]:
            yield from _section(endpoint, entry)
    unseen = [endpoint for endpoint, entry in found["endpoints"].items() if not entry["requests"]]
    if unseen:
        yield f"<h3>Endpoints that were never seen: {len(unseen)}</h3><section><ul>"
        yield from (f"<li>{escape(endpoint)}</li>" for endpoint in unseen)
        yield "</ul></section>"


def _total(seen: int, total: int, what: str) -> str:
    share = 100 * seen / total if total else 0
    return (
        f'<div class="total"><b>{seen} of {total}</b><span>{what}</span>'
        f'<div class="bar"><i style="width:{share:.1f}%"></i></div></div>'
    )


def _section(endpoint: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{escape(endpoint)}</code><small>{requests(entry['requests'])}</small></h2><dl>"
    for kind in KINDS:
        seen, never, unlisted = entry["seen"][kind], entry["never"][kind], entry["unlisted"].get(kind, ())
        if seen or never:
            css = "error" if kind == "errors" else "seen"
            chips = [_chip("unlisted" if name in unlisted else css, name, count) for name, count in seen.items()]
            chips += [_chip("never", name) for name in never]
            yield f"<dt>{kind}</dt><dd>{''.join(chips)}</dd>"
    yield "</dl></section>"


def _chip(css: str, name: str, count: int | None = None) -> str:
    often = "" if count is None else f"<small>{count}</small>"
    return f'<span class="chip {css}">{escape(name)}{often}</span>'
